use super::*;
use crate::lease::{Binding, BindingState};
use dess_model::MacAddr;
use proptest::prelude::*;

const RANGE: AddressRange = AddressRange {
    first: Ipv4Addr::new(10, 0, 0, 10),
    last: Ipv4Addr::new(10, 0, 0, 29),
};

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn lease(pool: &mut Pool, leases: &mut LeaseTable, last: u8, until: i64) {
    let binding = Binding {
        address: address(last),
        mac: MacAddr([2, 0, 0, 0, 0, last]),
        state: BindingState::Leased,
        expires_at: Timestamp(until),
    };
    let from = leases.by_address(address(last)).map(|b| b.expires_at);
    leases.put(binding);
    pool.reschedule(address(last), from, binding.expires_at);
}

fn take(pool: &mut Pool, leases: &LeaseTable, now: i64) -> Option<(u8, bool)> {
    let taken = pool.take(Timestamp(now), leases, |_| true)?;
    Some((taken.address.octets()[3], taken.probed))
}

#[test]
fn never_used_addresses_go_first_then_the_one_unused_for_longest() {
    let mut leases = LeaseTable::default();
    let mut pool = Pool::new(RANGE, &leases);
    for last in 10..30 {
        assert_eq!(take(&mut pool, &leases, 0), Some((last, false)));
        lease(&mut pool, &mut leases, last, 2000 - i64::from(last));
    }
    assert_eq!(take(&mut pool, &leases, 1000), None);
    assert_eq!(take(&mut pool, &leases, 1971), Some((29, false)));
    assert_eq!(take(&mut pool, &leases, 1971), None);
    lease(&mut pool, &mut leases, 28, 5000);
    assert_eq!(take(&mut pool, &leases, 1990), Some((27, false)));
}

#[test]
fn a_pool_built_over_known_leases_passes_over_them() {
    let mut leases = LeaseTable::default();
    let mut scratch = Pool::new(RANGE, &leases);
    lease(&mut scratch, &mut leases, 10, 500);
    lease(&mut scratch, &mut leases, 12, 400);
    let mut pool = Pool::new(RANGE, &leases);
    assert_eq!(take(&mut pool, &leases, 1000), Some((11, false)));
    for last in 13..30 {
        assert_eq!(take(&mut pool, &leases, 1000), Some((last, false)));
    }
    assert_eq!(take(&mut pool, &leases, 1000), Some((12, false)));
    assert_eq!(take(&mut pool, &leases, 1000), Some((10, false)));
    assert_eq!(take(&mut pool, &leases, 1000), None);
}

#[test]
fn probed_addresses_go_first_while_their_result_is_fresh() {
    let leases = LeaseTable::default();
    let large = AddressRange {
        last: address(109),
        ..RANGE
    };
    let mut pool = Pool::new(large, &leases);
    let wanted = pool.wanted_probes(Timestamp(0), &leases, |_| true);
    assert_eq!(wanted.len(), READY_MAX);
    assert!(
        pool.wanted_probes(Timestamp(0), &leases, |_| true)
            .is_empty()
    );
    assert_eq!(take(&mut pool, &leases, 1), Some((74, false)));
    assert!(pool.probed_free(Timestamp(1000), address(11)));
    assert!(pool.probed_free(Timestamp(1000), address(10)));
    assert!(pool.probed_used(address(12)));
    assert!(!pool.probed_free(Timestamp(1000), address(12)));
    assert_eq!(take(&mut pool, &leases, 1001), Some((11, true)));
    // The other result is too old; the address goes to the end of the supply.
    assert!(!pool.take_ready(Timestamp(1000 + READY_MS), address(10)));
    assert_eq!(take(&mut pool, &leases, 1000 + READY_MS), Some((75, false)));
}

#[test]
fn a_room_that_powers_on_at_once_gets_probed_addresses() {
    let leases = LeaseTable::default();
    let large = AddressRange {
        last: address(209),
        ..RANGE
    };
    let mut pool = Pool::new(large, &leases);
    for wanted in pool.wanted_probes(Timestamp(0), &leases, |_| true) {
        pool.probed_free(Timestamp(1000), wanted);
    }
    for _ in 0..60 {
        assert!(take(&mut pool, &leases, 1001).is_some_and(|(_, probed)| probed));
    }
    let again = pool.wanted_probes(Timestamp(1002), &leases, |_| true);
    assert_eq!(again.len(), 60, "what was taken is replaced");
}

#[test]
fn an_address_under_probe_is_given_when_nothing_else_is_left() {
    let leases = LeaseTable::default();
    let small = AddressRange {
        last: address(11),
        ..RANGE
    };
    let mut pool = Pool::new(small, &leases);
    assert_eq!(pool.wanted_probes(Timestamp(0), &leases, |_| true).len(), 2);
    let mut got = [take(&mut pool, &leases, 1), take(&mut pool, &leases, 1)].map(Option::unwrap);
    got.sort_unstable();
    assert_eq!(got, [(10, false), (11, false)]);
    assert_eq!(take(&mut pool, &leases, 1), None);
}

#[test]
fn a_probe_without_result_is_given_up_and_its_address_is_probed_again() {
    let leases = LeaseTable::default();
    let small = AddressRange {
        last: address(10),
        ..RANGE
    };
    let mut pool = Pool::new(small, &leases);
    let mut probes = |now| pool.wanted_probes(Timestamp(now), &leases, |_| true);
    assert_eq!(probes(0), [address(10)]);
    assert!(probes(PROBE_MS_MAX - 1).is_empty());
    assert_eq!(probes(PROBE_MS_MAX), [address(10)]);
}

#[test]
fn unusable_addresses_are_never_given_and_the_range_may_end_at_the_last_address() {
    let leases = LeaseTable::default();
    let range = AddressRange {
        first: Ipv4Addr::new(255, 255, 255, 254),
        last: Ipv4Addr::BROADCAST,
    };
    let mut pool = Pool::new(range, &leases);
    let usable = |address: Ipv4Addr| !address.is_broadcast();
    let first = pool.take(Timestamp(0), &leases, usable).unwrap();
    assert_eq!(first.address, range.first);
    assert_eq!(pool.take(Timestamp(0), &leases, usable), None);
}

#[derive(Clone, Debug)]
enum Step {
    Lease,
    Release(u8),
    Probe,
    Probed(bool),
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Lease),
        2 => (10_u8..30).prop_map(Step::Release),
        1 => Just(Step::Probe),
        1 => any::<bool>().prop_map(Step::Probed),
        2 => (1_u32..400_000).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn no_live_address_is_given_twice_and_none_is_lost(steps in prop::collection::vec(step(), 1..200)) {
        let mut leases = LeaseTable::default();
        let mut pool = Pool::new(RANGE, &leases);
        let mut now = 0_i64;
        let mut probing = Vec::new();
        for step in steps {
            match step {
                Step::Lease => {
                    let live = leases.iter().filter(|b| b.is_live(Timestamp(now))).count();
                    match take(&mut pool, &leases, now) {
                        Some((last, _)) => {
                            let held = leases.by_address(address(last));
                            prop_assert!(held.is_none_or(|b| !b.is_live(Timestamp(now))));
                            lease(&mut pool, &mut leases, last, now + 300_000);
                        }
                        None => prop_assert_eq!(live, 20),
                    }
                }
                Step::Release(last) => {
                    if leases.by_address(address(last)).is_some_and(|b| b.is_live(Timestamp(now))) {
                        lease(&mut pool, &mut leases, last, now);
                    }
                }
                Step::Probe => {
                    probing.extend(pool.wanted_probes(Timestamp(now), &leases, |_| true));
                }
                Step::Probed(free) => {
                    if let Some(address) = probing.pop() {
                        if free {
                            pool.probed_free(Timestamp(now), address);
                        } else if pool.probed_used(address) {
                            pool.recycle(address, Timestamp(now));
                        }
                    }
                }
                Step::Wait(ms) => now += i64::from(ms),
            }
        }
    }
}
