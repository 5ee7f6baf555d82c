use super::*;
use crate::lease::LeaseTable;

const LEASE_MS: i64 = 600_000;
const HOLD_MS: i64 = 30_000;

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

/// What an ACK at that time promises.
fn lease(address: u8, owner: u8, told_at: i64) -> Binding {
    Binding {
        address: ip(address),
        mac: mac(owner),
        state: BindingState::Leased,
        expires_at: Timestamp(told_at + LEASE_MS),
    }
}

/// The offer of an address at that time.
fn offer(address: u8, owner: u8, at: i64) -> Ahead {
    Ahead {
        lease: lease(address, owner, at + HOLD_MS),
        held_until: Some(Timestamp(at + HOLD_MS)),
    }
}

/// A ledger and what the journal was told to write.
#[derive(Default)]
struct Books {
    ledger: Ledger,
    written: Vec<Binding>,
}

impl Books {
    fn offer(&mut self, at: i64, ahead: Ahead) -> Option<Position> {
        let noted = self.ledger.note_ahead(Timestamp(at), ahead)?;
        self.written.extend(noted.write);
        Some(noted.at)
    }

    fn note(&mut self, at: i64, record: Binding) -> Noted {
        let noted = self.ledger.note(Timestamp(at), record);
        self.written.extend(noted.write);
        noted
    }

    fn end_untaken(&mut self, at: i64) {
        while let Some(noted) = self.ledger.end_untaken(Timestamp(at), Timestamp(at)) {
            self.written.extend(noted.write);
        }
    }

    fn replayed(&self) -> LeaseTable {
        LeaseTable::from_records(self.written.iter().copied())
    }

    /// True if a restart would keep the address for the client until the end it was told.
    fn keeps(&self, promised: Binding) -> bool {
        self.replayed()
            .by_address(promised.address)
            .is_some_and(|kept| {
                kept.mac == promised.mac
                    && kept.state == BindingState::Leased
                    && kept.expires_at >= promised.expires_at
            })
    }
}

#[test]
fn a_request_after_its_offer_waits_for_the_offers_write_and_writes_nothing() {
    let mut books = Books::default();
    let offered = books.offer(0, offer(1, 1, 0)).unwrap();
    let promised = lease(1, 1, 1000);
    let noted = books.note(1000, promised);
    assert_eq!((noted.write, noted.at), (None, offered));
    assert!(!books.ledger.is_durable(noted.at));
    books.ledger.reached(offered);
    assert!(books.ledger.is_durable(noted.at));
    assert!(books.keeps(promised));
    // Even at the last moment of the hold.
    let latest = lease(1, 1, HOLD_MS);
    assert_eq!(books.note(HOLD_MS, latest).write, None);
    assert!(books.keeps(latest));
    books.end_untaken(HOLD_MS);
    assert_eq!(books.written.len(), 1, "a lease taken up is not ended");
}

#[test]
fn an_offer_not_taken_up_is_ended_when_its_hold_is_over() {
    let mut books = Books::default();
    books.offer(0, offer(1, 1, 0));
    books.end_untaken(HOLD_MS - 1);
    assert_eq!(books.written.len(), 1);
    books.end_untaken(HOLD_MS);
    let replayed = books.replayed();
    assert!(replayed.is_free_for(ip(1), mac(2), Timestamp(HOLD_MS)));
    // The client comes late and is granted the address all the same: that is a new promise.
    let promised = lease(1, 1, HOLD_MS + 1);
    assert!(books.note(HOLD_MS + 1, promised).write.is_some());
    assert!(books.keeps(promised));
    books.end_untaken(i64::MAX);
    assert!(books.keeps(promised));
}

#[test]
fn a_client_that_discovers_again_is_held_for_from_the_last_time() {
    let mut books = Books::default();
    books.offer(0, offer(1, 1, 0));
    books.offer(10, offer(1, 1, 10));
    books.end_untaken(HOLD_MS + 5);
    let promised = lease(1, 1, HOLD_MS + 8);
    books.note(HOLD_MS + 8, promised);
    assert!(books.keeps(promised));
    books.end_untaken(i64::MAX);
    assert!(books.keeps(promised));
}

#[test]
fn the_offer_of_an_address_that_the_client_has_ends_no_lease() {
    let mut books = Books::default();
    // After a restart the ledger knows nothing of the client's lease.
    let promised = lease(1, 1, 0);
    books.written.push(promised);
    let again = Ahead {
        held_until: None,
        ..offer(1, 1, 5000)
    };
    books.offer(5000, again);
    books.end_untaken(i64::MAX);
    assert!(books.keeps(promised));
    // From then on it costs no write, for an hour or the lease's length.
    assert_eq!(books.note(6000, lease(1, 1, 6000)).write, None);
    assert_eq!(books.offer(9000, again), None);
}

#[test]
fn a_client_that_takes_another_address_than_offered_keeps_that_one() {
    let mut books = Books::default();
    books.offer(0, offer(2, 1, 0));
    let promised = lease(1, 1, 1000);
    books.note(1000, promised);
    books.end_untaken(i64::MAX);
    assert!(books.keeps(promised), "{:?}", books.written);
}

#[test]
fn an_address_offered_to_another_client_is_not_ended_for_the_first_one() {
    let mut books = Books::default();
    books.offer(0, offer(1, 1, 0));
    books.offer(HOLD_MS, offer(1, 2, HOLD_MS));
    let promised = lease(1, 2, HOLD_MS + 1);
    assert_eq!(books.note(HOLD_MS + 1, promised).write, None);
    books.end_untaken(i64::MAX);
    assert!(books.keeps(promised));
}

#[test]
fn a_release_or_a_quarantine_makes_the_next_lease_a_new_write() {
    let mut books = Books::default();
    let offered = books.offer(0, offer(1, 1, 0)).unwrap();
    books.ledger.reached(offered);
    for state in [BindingState::Leased, BindingState::Quarantined] {
        let ended = Binding {
            state,
            expires_at: Timestamp(1),
            ..lease(1, 1, 0)
        };
        books.note(1, ended);
        let promised = lease(1, 1, 2);
        let noted = books.note(2, promised);
        assert!(noted.write.is_some() && !books.ledger.is_durable(noted.at));
        assert!(books.keeps(promised));
    }
}

#[test]
fn after_a_failed_write_nothing_counts_as_written() {
    let mut books = Books::default();
    let offered = books.offer(0, offer(1, 1, 0)).unwrap();
    books.ledger.forget_all();
    books.ledger.reached(offered);
    assert!(books.note(1, lease(1, 1, 1)).write.is_some());
    books.ledger.forget(ip(1));
    assert!(books.note(2, lease(1, 1, 2)).write.is_some());
}

#[test]
fn a_flood_of_discovers_writes_no_more_than_its_share_per_hold() {
    let mut books = Books::default();
    for at in 0..HOLD_MS {
        let [_, b, c, d] = u32::try_from(at).unwrap().to_be_bytes();
        let mut flood = offer(0, 0, at);
        flood.lease.address = Ipv4Addr::new(11, b, c, d);
        flood.lease.mac = MacAddr([6, 0, 0, b, c, d]);
        books.offer(at, flood);
    }
    assert_eq!(books.written.len(), UNTAKEN_MAX);
    // A real client among them is served, by a write of its own.
    let real = lease(1, 1, HOLD_MS);
    assert!(books.note(HOLD_MS, real).write.is_some());
    books.end_untaken(2 * HOLD_MS);
    assert_eq!(books.written.len(), 2 * UNTAKEN_MAX + 1);
    assert!(books.keeps(real));
    // When the flood is over, offers are written ahead again.
    assert!(books.offer(2 * HOLD_MS, offer(2, 2, 2 * HOLD_MS)).is_some());
}
