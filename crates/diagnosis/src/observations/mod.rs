//! What was seen of the site, as far as a diagnosis needs it. "Not observed" is told apart from
//! "observed, and well".

mod seat;
mod service;
mod signal;
mod traffic;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dess_model::{
    ClientCounters, ClientId, Event, EventKind, MacAddr, PoolLevel, SessionStatus, Timestamp,
    VersionRef,
};

pub(crate) use seat::{BootFacts, SeatFacts};
pub(crate) use service::ServiceFacts;
pub use service::{ServiceCondition, ServiceSeen};
pub(crate) use signal::Signal;
pub(crate) use traffic::Traffic;

use crate::Change;
use crate::case::limits::SIGNALS_MAX;

/// A registered client, as the site snapshot has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatEntry {
    /// Which.
    pub client: ClientId,
    /// What it boots; none if nothing is assigned.
    pub version: Option<VersionRef>,
    /// True if what it writes outlives a power-on.
    pub keeps_writes: bool,
    /// True while somebody makes a new version on it.
    pub maintains: bool,
}

/// How full the space for clients' writes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSeen {
    /// How far.
    pub level: PoolLevel,
    /// Percent in use.
    pub used_percent: u8,
}

/// What was seen of the site so far.
#[derive(Clone, Debug)]
pub struct Observations {
    /// Since when events are listened to.
    pub(crate) since: Timestamp,
    /// None while nobody tells.
    pub(crate) services: Option<BTreeMap<String, ServiceFacts>>,
    /// Network cards of the server, and since when each has no link.
    pub(crate) links: Option<BTreeMap<String, Option<Timestamp>>>,
    /// None while the clients are not known.
    pub(crate) seats: Option<BTreeMap<ClientId, SeatFacts>>,
    pub(crate) pool: Option<(Timestamp, PoolSeen)>,
    pub(crate) rogues: BTreeMap<Ipv4Addr, Signal<(Option<MacAddr>, String)>>,
    pub(crate) conflicts: BTreeMap<Ipv4Addr, Signal<Option<MacAddr>>>,
    pub(crate) exhausted: BTreeMap<String, Signal<()>>,
    /// A client found nobody at the disk service's port.
    pub(crate) refusing: Option<Signal<ClientId>>,
    pub(crate) traffic: Traffic,
}

impl Observations {
    /// Nothing seen yet, from now on.
    pub fn new(since: Timestamp) -> Self {
        Self {
            since,
            services: None,
            links: None,
            seats: None,
            pool: None,
            rogues: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            exhausted: BTreeMap::new(),
            refusing: None,
            traffic: Traffic::default(),
        }
    }

    /// Tells which clients are registered.
    pub fn seats_set(&mut self, entries: impl IntoIterator<Item = SeatEntry>) {
        let mut before = self.seats.take().unwrap_or_default();
        let seats = entries.into_iter().map(|entry| {
            let mut facts = before.remove(&entry.client).unwrap_or_default();
            facts.adopt(entry);
            (entry.client, facts)
        });
        self.seats = Some(seats.collect());
    }

    /// Takes what folding made of an event, or of time that passed.
    pub fn changes_seen(&mut self, changes: &[Change]) {
        for change in changes {
            let attempt = &change.attempt;
            let seats = self.seats.as_mut();
            let client = attempt.client;
            if let Some(facts) = seats.zip(client).and_then(|(all, id)| all.get_mut(&id)) {
                facts.attempt_seen(attempt);
            }
        }
    }

    /// Takes an event, after its changes. `client` is whose it is, if folding can tell.
    pub fn event_seen(&mut self, event: &Event, client: Option<ClientId>) {
        let at = event.at;
        match &event.kind {
            EventKind::RogueDhcp {
                server,
                mac,
                interface,
            } => note(&mut self.rogues, *server, at, (*mac, interface.clone())),
            EventKind::AddressConflict {
                address, used_by, ..
            } => note(&mut self.conflicts, *address, at, *used_by),
            EventKind::NoFreeAddress { network, .. } => {
                note(&mut self.exhausted, network.clone(), at, ());
            }
            kind => {
                let seats = self.seats.as_mut();
                let Some((id, facts)) = seats
                    .zip(client)
                    .and_then(|(all, id)| Some((id, all.get_mut(&id)?)))
                else {
                    return;
                };
                if facts.event_seen(at, kind) {
                    Signal::renew(&mut self.refusing, at, id);
                }
            }
        }
    }

    /// Takes the services as they are now; none if nobody tells.
    pub fn services_seen(&mut self, now: Timestamp, seen: Option<Vec<ServiceSeen>>) {
        let Some(seen) = seen else {
            self.services = None;
            return;
        };
        let mut before = self.services.take().unwrap_or_default();
        let after = seen.into_iter().map(|service| {
            let mut facts = before.remove(&service.name).unwrap_or_default();
            let name = service.name.clone();
            facts.observe(now, service);
            (name, facts)
        });
        self.services = Some(after.collect());
    }

    /// Takes whether each network card of the server has a link.
    pub fn links_seen(&mut self, now: Timestamp, seen: impl IntoIterator<Item = (String, bool)>) {
        let before = self.links.take().unwrap_or_default();
        let after = seen.into_iter().map(|(name, up)| {
            let down_since = before.get(&name).copied().flatten().unwrap_or(now);
            let down_since = (!up).then_some(down_since);
            (name, down_since)
        });
        self.links = Some(after.collect());
    }

    /// Takes how full the space for clients' writes is; none if nobody tells.
    pub fn pool_seen(&mut self, now: Timestamp, seen: Option<PoolSeen>) {
        let since = match (self.pool, seen) {
            (Some((since, before)), Some(seen)) if before.level == seen.level => since,
            _ => now,
        };
        self.pool = seen.map(|seen| (since, seen));
    }

    /// Takes the open sessions and the clients' counters, as the iSCSI service has them.
    pub fn disks_seen(
        &mut self,
        now: Timestamp,
        sessions: &[SessionStatus],
        counters: &[ClientCounters],
    ) {
        self.traffic.observe(now, sessions, counters);
    }

    /// The facts of a seat.
    pub(crate) fn seat(&self, client: ClientId) -> Option<&SeatFacts> {
        self.seats.as_ref()?.get(&client)
    }

    /// The seats that boot a version.
    pub(crate) fn seats_of(
        &self,
        version: VersionRef,
    ) -> impl Iterator<Item = (ClientId, &SeatFacts)> {
        let seats = self.seats.iter().flatten();
        seats
            .filter(move |(_, facts)| facts.version() == Some(version))
            .map(|(id, facts)| (*id, facts))
    }
}

/// Notes a signal; the one that was heard of longest ago makes room if there are too many.
fn note<K: Ord + Clone, T>(signals: &mut BTreeMap<K, Signal<T>>, key: K, at: Timestamp, what: T) {
    if signals.len() >= SIGNALS_MAX && !signals.contains_key(&key) {
        let oldest = signals.iter().min_by_key(|(_, signal)| signal.last);
        if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
            signals.remove(&oldest);
        }
    }
    let mut signal = signals.remove(&key);
    Signal::renew(&mut signal, at, what);
    signals.extend(signal.map(|signal| (key, signal)));
}
