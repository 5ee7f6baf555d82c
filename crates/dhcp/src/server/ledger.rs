//! What the journal says of each address, and how much of that the disk has.
//!
//! The tasks that answer clients note here what must be written, in the order in which it then is
//! written; the journal's thread tells up to where the disk has it. A lease that the disk has
//! already needs no write, and its answer no wait.
//!
//! A lease is written before it is asked for, when the address is offered ([`Ahead`]). Its record
//! is that of a lease, since nothing more is written before the ACK: a restart cannot know
//! whether one had left. So a crash makes leases of the offers then held, [`UNTAKEN_MAX`] at
//! most; an offer that its client lets go is ended by a second record as soon as its hold is over.
//!
//! ```text
//!            offer                 request
//! unknown ----------> offered -----------------> leased <--+
//!    |                   | hold over                |      | request, later end than written
//!    |                   v                          +------+
//!    | request         ended (address: former)
//!    +-----------------------------------------> leased
//! ```

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use dess_model::{MacAddr, Timestamp};

use crate::lease::{Ahead, Binding, BindingState};

/// How much longer than told a lease is written, in milliseconds; at most its own length.
const WRITTEN_AHEAD_MS: i64 = 3_600_000;
/// Most offers written ahead that nobody took up yet: what a flood of DISCOVERs can make the disk
/// write per hold of an offer. Leases offered beyond are written when they are asked for.
const UNTAKEN_MAX: usize = 256;

/// A place in the order of writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(u64);

/// The latest word on every address in use; grows with their number.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: HashMap<Ipv4Addr, Entry>,
    /// One lease per network card, as in the table that the records make ([`LeaseTable::put`]).
    ///
    /// [`LeaseTable::put`]: crate::LeaseTable::put
    by_mac: HashMap<MacAddr, Ipv4Addr>,
    /// Offers written ahead and not taken up, by the end of their hold.
    untaken: BTreeSet<(Timestamp, Ipv4Addr)>,
    last: Position,
    durable: Position,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    written: Binding,
    at: Position,
    /// End of the offer's hold; none once it is taken up.
    held_until: Option<Timestamp>,
}

/// What is to be done for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    /// To be written; none if what was written before says it already.
    pub(crate) write: Option<Binding>,
    /// The answer may leave when the disk has all up to here.
    pub(crate) at: Position,
}

impl Ledger {
    /// Notes a change that its answer promises.
    pub(crate) fn note(&mut self, now: Timestamp, record: Binding) -> Noted {
        if let Some(entry) = self.entries.get_mut(&record.address)
            && entry.covers(now, &record)
        {
            let at = entry.at;
            if let Some(until) = entry.held_until.take() {
                self.untaken.remove(&(until, record.address));
            }
            return Noted { write: None, at };
        }
        let written = written_ahead(now, record);
        let at = self.enter(written, None);
        Noted {
            write: Some(written),
            at,
        }
    }

    /// Notes a lease that is about to be asked for; none if there is nothing to write.
    pub(crate) fn note_ahead(&mut self, now: Timestamp, ahead: Ahead) -> Option<Noted> {
        let lease = ahead.lease;
        if let Some(entry) = self.entries.get_mut(&lease.address)
            && entry.covers(now, &lease)
        {
            if let (Some(former), Some(until)) = (entry.held_until, ahead.held_until) {
                entry.held_until = Some(until);
                self.untaken.remove(&(former, lease.address));
                self.untaken.insert((until, lease.address));
            }
            return None;
        }
        if ahead.held_until.is_some() && self.untaken.len() >= UNTAKEN_MAX {
            return None;
        }
        let written = written_ahead(now, lease);
        let at = self.enter(written, ahead.held_until);
        Some(Noted {
            write: Some(written),
            at,
        })
    }

    /// The next offer that is held no longer than `by` and was not taken up: what ends it.
    pub(crate) fn end_untaken(&mut self, now: Timestamp, by: Timestamp) -> Option<Noted> {
        let &(until, address) = self.untaken.first().filter(|(until, _)| *until <= by)?;
        let offered = self.entries.get(&address)?.written;
        let ended = Binding {
            expires_at: until.min(now),
            ..offered
        };
        let at = self.enter(ended, None);
        Some(Noted {
            write: Some(ended),
            at,
        })
    }

    /// The disk has everything up to there.
    pub(crate) fn reached(&mut self, at: Position) {
        self.durable = self.durable.max(at);
    }

    /// True if the disk has everything up to there.
    pub(crate) fn is_durable(&self, at: Position) -> bool {
        at <= self.durable
    }

    /// Nothing is known of this address: its record was not written.
    pub(crate) fn forget(&mut self, address: Ipv4Addr) {
        let Some(entry) = self.entries.remove(&address) else {
            return;
        };
        let mac = entry.written.mac;
        if self.by_mac.get(&mac) == Some(&address) {
            self.by_mac.remove(&mac);
        }
        if let Some(until) = entry.held_until {
            self.untaken.remove(&(until, address));
        }
    }

    /// Nothing is known of what the journal holds: a write failed, or it is being compacted.
    pub(crate) fn forget_all(&mut self) {
        self.entries.clear();
        self.by_mac.clear();
        self.untaken.clear();
    }

    fn enter(&mut self, written: Binding, held_until: Option<Timestamp>) -> Position {
        self.forget(written.address);
        // What the card had before is forgotten by the record itself: nothing may end it later.
        if written.state == BindingState::Leased
            && let Some(former) = self.by_mac.insert(written.mac, written.address)
        {
            self.forget(former);
        }
        self.last = Position(self.last.0 + 1);
        if let Some(until) = held_until {
            self.untaken.insert((until, written.address));
        }
        let entry = Entry {
            written,
            at: self.last,
            held_until,
        };
        self.entries.insert(written.address, entry);
        self.last
    }
}

impl Entry {
    /// True if this is the lease in question, with an end that is no earlier.
    fn covers(&self, now: Timestamp, record: &Binding) -> bool {
        record.state == BindingState::Leased
            && record.is_live(now)
            && self.written.state == record.state
            && self.written.mac == record.mac
            && self.written.expires_at >= record.expires_at
    }
}

/// The record as it is written: a lease that lasts longer than its client was told.
fn written_ahead(now: Timestamp, record: Binding) -> Binding {
    if record.state != BindingState::Leased || !record.is_live(now) {
        return record;
    }
    let told = record.expires_at.0.saturating_sub(now.0);
    let expires_at = record
        .expires_at
        .0
        .saturating_add(told.min(WRITTEN_AHEAD_MS));
    Binding {
        expires_at: Timestamp(expires_at),
        ..record
    }
}

#[cfg(test)]
mod tests;
