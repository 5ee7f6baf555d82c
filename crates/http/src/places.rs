//! How many connections each peer has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::CONNECTIONS_PER_PEER_MAX;

/// Connections by peer.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    peers: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    peer: IpAddr,
}

impl Places {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            peers: Mutex::default(),
        }
    }

    pub(crate) fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let own = peers.get(&peer).copied().unwrap_or(0);
        if own >= CONNECTIONS_PER_PEER_MAX || peers.values().sum::<usize>() >= self.max {
            return None;
        }
        peers.insert(peer, own + 1);
        Some(Place {
            places: Arc::clone(self),
            peer,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let peers = &self.places.peers;
        let mut peers = peers.lock().unwrap_or_else(PoisonError::into_inner);
        match peers.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                peers.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn one_peer_cannot_take_all_places_and_gives_its_own_back() {
        let places = Arc::new(Places::new(512));
        let peer = |number: u8| IpAddr::V4(Ipv4Addr::new(192, 0, 2, number));
        let mut held: Vec<_> = (0..CONNECTIONS_PER_PEER_MAX)
            .map(|_| places.take(peer(1)).unwrap())
            .collect();
        assert!(places.take(peer(1)).is_none());
        let other = places.take(peer(2));
        assert!(other.is_some(), "another peer still gets in");
        held.pop();
        assert!(places.take(peer(1)).is_some());
        drop((held, other));
        assert!(places.peers.lock().unwrap().is_empty(), "nothing is kept");
    }

    #[test]
    fn all_peers_together_have_a_limit() {
        let places = Arc::new(Places::new(512));
        let held: Vec<_> = (0..512)
            .map(|number: u32| places.take(IpAddr::V4((number / 32).into())).unwrap())
            .collect();
        assert!(places.take(Ipv4Addr::LOCALHOST.into()).is_none());
        drop(held);
        assert!(places.take(Ipv4Addr::LOCALHOST.into()).is_some());
    }
}
