//! The transfers under way: limits, and requests that are asked again.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All transfers under way.
#[derive(Debug)]
pub(super) struct Registry {
    transfers_max: usize,
    per_peer_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    transfers: HashMap<SocketAddr, Entry>,
    per_peer: HashMap<IpAddr, usize>,
    count: usize,
}

#[derive(Debug)]
struct Entry {
    request: Vec<u8>,
    signals: Arc<Signals>,
}

/// What listener and transfer tell each other.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Set by the transfer: the client has acknowledged something.
    progressed: AtomicBool,
    /// Set by the listener: the client has begun anew from the same port.
    superseded: AtomicBool,
    /// Set by the listener: the same request came again before any progress.
    repeated: AtomicBool,
}

/// A place among the transfers; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    registry: Arc<Registry>,
    peer: SocketAddr,
    pub(super) signals: Arc<Signals>,
}

/// What to do with a request.
#[derive(Debug)]
pub(super) enum Admission {
    /// Serve it.
    Start(Place),
    /// The same request again while its first answer is on the way: that transfer's own timer
    /// repeats the answer.
    Repeated,
    /// Too many in all.
    Full,
    /// Too many for this address.
    PeerFull,
}

impl Registry {
    pub(super) fn new(transfers_max: usize, per_peer_max: usize) -> Arc<Self> {
        Arc::new(Self {
            transfers_max,
            per_peer_max,
            inner: Mutex::default(),
        })
    }

    /// Decides on a read request. One client port has one transfer: another request from the same
    /// port ends the older one (EDK2 asks for the size first and reuses its port).
    pub(super) fn admit(self: &Arc<Self>, peer: SocketAddr, request: &[u8]) -> Admission {
        let mut inner = self.lock();
        if let Some(running) = inner.transfers.get(&peer) {
            let signals = &running.signals;
            if running.request == request && !signals.progressed.load(Ordering::Relaxed) {
                signals.repeated.store(true, Ordering::Relaxed);
                return Admission::Repeated;
            }
            signals.superseded.store(true, Ordering::Relaxed);
        }
        if inner.count >= self.transfers_max {
            return Admission::Full;
        }
        let of_peer = inner.per_peer.entry(peer.ip()).or_default();
        if *of_peer >= self.per_peer_max {
            return Admission::PeerFull;
        }
        *of_peer += 1;
        inner.count += 1;
        let signals = Arc::new(Signals::default());
        let entry = Entry {
            request: request.to_vec(),
            signals: Arc::clone(&signals),
        };
        inner.transfers.insert(peer, entry);
        Admission::Start(Place {
            registry: Arc::clone(self),
            peer,
            signals,
        })
    }

    /// Transfers under way.
    pub(super) fn count(&self) -> usize {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signals {
    pub(super) fn note_progress(&self) {
        self.progressed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Relaxed)
    }

    /// True if the same request came again since this was last asked.
    pub(super) fn take_repeated(&self) -> bool {
        self.repeated.swap(false, Ordering::Relaxed)
    }
}

impl Place {
    /// True while no other transfer is under way.
    pub(super) fn is_alone(&self) -> bool {
        self.registry.count() <= 1
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        inner.count -= 1;
        if let Some(of_peer) = inner.per_peer.get_mut(&self.peer.ip()) {
            *of_peer -= 1;
            if *of_peer == 0 {
                inner.per_peer.remove(&self.peer.ip());
            }
        }
        let own = inner
            .transfers
            .get(&self.peer)
            .is_some_and(|entry| Arc::ptr_eq(&entry.signals, &self.signals));
        if own {
            inner.transfers.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(admission: Admission) -> Place {
        match admission {
            Admission::Start(place) => place,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_repeated_request_is_passed_over_until_there_is_progress_and_then_restarts() {
        let registry = Registry::new(10, 10);
        let peer = "10.0.0.1:2000".parse().unwrap();
        let first = started(registry.admit(peer, b"r"));
        assert!(matches!(registry.admit(peer, b"r"), Admission::Repeated));
        assert!(!first.signals.is_superseded());
        first.signals.note_progress();
        let second = started(registry.admit(peer, b"r"));
        assert!(first.signals.is_superseded());
        drop(first);
        assert!(matches!(registry.admit(peer, b"r"), Admission::Repeated));
        let third = started(registry.admit(peer, b"another"));
        assert!(second.signals.is_superseded());
        drop((second, third));
        assert_eq!(registry.count(), 0);
    }

    #[test]
    fn limits_hold_for_all_and_for_one_address_and_places_come_back() {
        let registry = Registry::new(3, 2);
        let peer = |host: u8, port| SocketAddr::from(([10, 0, 0, host], port));
        let first = started(registry.admit(peer(1, 1), b"r"));
        let _second = started(registry.admit(peer(1, 2), b"r"));
        assert!(matches!(
            registry.admit(peer(1, 3), b"r"),
            Admission::PeerFull
        ));
        let _third = started(registry.admit(peer(2, 1), b"r"));
        assert!(matches!(registry.admit(peer(3, 1), b"r"), Admission::Full));
        drop(first);
        started(registry.admit(peer(1, 3), b"r"));
        assert_eq!(registry.count(), 2);
        assert_eq!(registry.lock().per_peer.len(), 2);
    }
}
