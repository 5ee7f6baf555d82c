//! More connections than anybody needs.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::support::raw::{Raw, Shot};
use crate::support::service::use_all_files;
use crate::support::victim::{MIB, Victim};

/// Connections of one attack.
const CROWD: u32 = 10_000;
/// Files that this process needs besides.
const OTHER_FILES: u64 = 300;
/// Most connections of one peer, and of all, that have not logged in.
const HALF_OPEN_PER_PEER: usize = 64;
const HALF_OPEN: usize = 512;
/// Most memory for peers that have not logged in.
const GROWTH_MAX: u64 = 32 * MIB;
/// A login of somebody else meanwhile, with three connects that may each have to be repeated
/// after a second, as the queue of the kernel is full.
const LOGIN_WITHIN: Duration = Duration::from_secs(10);

fn one_peer(_: u32) -> Ipv4Addr {
    Ipv4Addr::new(127, 66, 0, 1)
}

/// 1000 peers.
fn many_peers(number: u32) -> Ipv4Addr {
    Ipv4Addr::new(127, 67, (number % 10) as u8, (number / 10 % 100) as u8 + 1)
}

/// Makes all connections, as many at once as this process may have open, each of which says
/// `greeting` and waits. Those of the last wave are returned.
fn crowd(victim: &Victim, peer: fn(u32) -> Ipv4Addr, greeting: &[u8]) -> Vec<Raw> {
    let at_once = use_all_files().saturating_sub(OTHER_FILES) as usize;
    let mut open = Vec::new();
    for number in 0..CROWD {
        if open.len() == at_once {
            open.clear();
        }
        // The target may have closed before the connection is even ours.
        if let Ok(mut raw) = Raw::connect(peer(number), victim.site.portal) {
            raw.send(greeting);
            open.push(raw);
        }
    }
    open
}

fn attack(peer: fn(u32) -> Ipv4Addr, greeting: &[u8], half_open_max: usize) {
    let victim = Victim::start();
    let held = crowd(&victim, peer, greeting);
    victim.wait_for_connections(half_open_max);
    // The well-behaved client comes from another address.
    let login = victim.time_of_a_login();
    assert!(login < LOGIN_WITHIN, "{login:?}");
    println!("{} open, a login took {login:?}", held.len());
    victim.wait_for_warning("too many connections");
    drop(held);
    victim.assert_unharmed(GROWTH_MAX);
}

/// The first request of a login that never goes on.
fn half_a_login() -> Vec<u8> {
    let text = "InitiatorName=iqn.2026-01.test:pc2\0TargetName=iqn.2026-01.test:disk2\0\
                SessionType=Normal\0AuthMethod=CHAP\0";
    Shot::login(0x00, text).bytes()
}

#[test]
fn ten_thousand_silent_connections_of_one_peer() {
    attack(one_peer, &[], HALF_OPEN_PER_PEER);
}

#[test]
fn ten_thousand_silent_connections_of_a_thousand_peers() {
    attack(many_peers, &[], HALF_OPEN);
}

#[test]
fn ten_thousand_half_open_logins_of_one_peer() {
    attack(one_peer, &half_a_login(), HALF_OPEN_PER_PEER);
}

#[test]
fn ten_thousand_half_open_logins_of_a_thousand_peers() {
    attack(many_peers, &half_a_login(), HALF_OPEN);
}
