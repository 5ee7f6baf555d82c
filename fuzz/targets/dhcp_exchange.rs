//! The exchange takes any datagrams in any order of time: no address is given to two, none outside
//! of the site, and what it remembers is bounded by the site and not by what is sent.
//!
//! Each step is a byte for its kind, one for the time that passes, and arguments after them: well
//! formed requests of a few clients, so that states are reached, and raw datagrams.
#![no_main]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use dess_dhcp::option::code;
use dess_dhcp::{
    Arrival, CLIENT_PORT, Exchange, LeaseTable, MESSAGE_BYTES_MAX, Message, MessageType, Operation,
    Options, PROXY_PORT, SERVER_PORT, SiteIndex,
};
use dess_model::{
    AddressRange, BootPolicy, ClientEntry, ClientId, DhcpMode, DiskId, DiskIdentity, IscsiIdentity,
    MacAddr, Registration, SNAPSHOT_FORMAT, Secret, ServerEntry, SiteSnapshot, Subnet, Timestamp,
};
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const RESERVED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);
/// Addresses that can be given: eight of the pool and the reserved one.
const ADDRESSES: usize = 9;
const FIRST: u8 = 100;
const LAST: u8 = 107;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, mut rest)) = data.split_first() else { return };
    let mode = if choice & 1 == 0 { DhcpMode::Server } else { DhcpMode::Proxy };
    let mut exchange = Exchange::new(LeaseTable::default());
    exchange.adopt(Arc::new(SiteIndex::new(Arc::new(site(mode)), [])));
    let mut now = Timestamp(1_000_000);
    while let [kind, pause, arguments @ ..] = rest {
        now.0 += i64::from(*pause) * i64::from(*pause) * 10;
        rest = step(&mut exchange, now, *kind, arguments);
        let known = exchange.leases().iter().count();
        assert!(known <= ADDRESSES, "{known} bindings");
    }
    exchange.handle_timeout(now);
});

/// One step; the input that is left.
fn step<'a>(exchange: &mut Exchange, now: Timestamp, kind: u8, input: &'a [u8]) -> &'a [u8] {
    let port = if kind & 0x80 == 0 { SERVER_PORT } else { PROXY_PORT };
    match kind & 7 {
        0 => {
            let [length, rest @ ..] = input else { return &[] };
            let (datagram, rest) = rest.split_at((usize::from(*length) * 4).min(rest.len()));
            check(exchange, now, port, datagram);
            rest
        }
        1 => {
            let [length, rest @ ..] = input else { return &[] };
            let (datagram, rest) = rest.split_at((usize::from(*length) * 4).min(rest.len()));
            exchange.handle_overheard(arrival(now, CLIENT_PORT), datagram, None);
            rest
        }
        2 => {
            for (at, address) in exchange.poll_probes(now, &[SERVER]).into_iter().enumerate() {
                let occupant = (kind >> 3 == 1 && at == 0).then_some(mac(200));
                exchange.handle_probe(now, address, occupant);
            }
            exchange.handle_timeout(now);
            input
        }
        _ => {
            let [who, what, requested, own, rest @ ..] = input else { return &[] };
            let request = request(kind, *who, *what, *requested, *own);
            let mut datagram = Vec::new();
            if request.encode(MESSAGE_BYTES_MAX, &mut datagram).is_ok() {
                check(exchange, now, port, &datagram);
            }
            rest
        }
    }
}

/// Handles a datagram and looks at the answer.
fn check(exchange: &mut Exchange, now: Timestamp, port: u16, datagram: &[u8]) {
    let before = exchange.leases().clone();
    let outcome = exchange.handle_datagram(arrival(now, port), datagram);
    assert!(outcome.records.len() <= 1 && outcome.events.len() <= 3);
    let Some(transmit) = outcome.transmit else { return };
    let answer = Message::decode(&transmit.payload).expect("what we send, we can read");
    assert_eq!(answer.op, Operation::Reply);
    let given = answer.yiaddr;
    if given.is_unspecified() {
        return;
    }
    let last = given.octets()[3];
    assert!(given == RESERVED || (FIRST..=LAST).contains(&last), "{given} is none of ours");
    let held = before.by_address(given);
    assert!(
        held.is_none_or(|held| held.mac == answer.chaddr || !held.is_live(now)),
        "{given} was given to two"
    );
    let holds = exchange.leases().by_mac(answer.chaddr).map(|held| held.address);
    assert_eq!(holds, Some(given), "what is given is remembered");
}

fn arrival(now: Timestamp, port: u16) -> Arrival<'static> {
    Arrival {
        now,
        interface: "eth0",
        local: &[SERVER],
        source: SocketAddrV4::new(ANY, CLIENT_PORT),
        port,
    }
}

fn request(kind: u8, who: u8, what: u8, requested: u8, own: u8) -> Message {
    use MessageType::{Decline, Discover, Inform, Release, Request};
    let kinds = [Discover, Request, Request, Request, Decline, Release, Inform, Discover];
    let mut options = Options::default();
    if requested != 0 {
        options.set_address(code::REQUESTED_ADDRESS, local(requested));
    }
    if what & 8 == 8 {
        let foreign = what & 0x10 == 0x10;
        options.set_address(code::SERVER_IDENTIFIER, if foreign { local(66) } else { SERVER });
    }
    match what >> 5 {
        0 | 1 => {}
        2 => options.set(code::USER_CLASS, *b"iPXE"),
        3 => options.set(code::VENDOR_CLASS, *b"HTTPClient:Arch:00016:UNDI:003001"),
        _ => options.set(code::VENDOR_CLASS, *b"PXEClient:Arch:00007:UNDI:003001"),
    }
    Message {
        op: Operation::Request,
        message_type: Some(kinds[usize::from(what & 7)]),
        hops: 0,
        xid: 1,
        secs: 0,
        broadcast: false,
        ciaddr: if own == 0 { ANY } else { local(own) },
        yiaddr: ANY,
        siaddr: ANY,
        giaddr: if kind & 0x40 == 0 { ANY } else { local(254) },
        chaddr: mac(who),
        sname: Vec::new(),
        file: Vec::new(),
        options,
    }
}

fn local(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

fn mac(last: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0x77, 0, last])
}

fn site(mode: DhcpMode) -> SiteSnapshot {
    SiteSnapshot {
        format: SNAPSHOT_FORMAT,
        revision: 1,
        compiled_at: Timestamp(0),
        site_name: "fuzz".into(),
        registration: Registration::Auto,
        server: ServerEntry {
            address: SERVER,
            interfaces: vec!["eth0".into()],
            http_port: 80,
            portals: Vec::new(),
        },
        subnets: vec![Subnet {
            network: "10.77.0.0/24".parse().expect("a network"),
            mode,
            pool: (mode == DhcpMode::Server).then_some(AddressRange {
                first: local(FIRST),
                last: local(LAST),
            }),
            router: Some(local(254)),
            dns: vec![local(53)],
            lease_secs: 3600,
        }],
        clients: vec![client(1, Some(RESERVED)), client(2, None)],
        versions: Vec::new(),
    groups: vec![],
    pool: Default::default(),
}
}

fn client(number: u8, address: Option<Ipv4Addr>) -> ClientEntry {
    ClientEntry {
        id: ClientId(Uuid::from_u128(number.into())),
        mac: mac(number),
        seat: number.into(),
        name: format!("PC-{number:02}"),
        approved: true,
        address,
        version: None,
        policy: BootPolicy::Volatile,
        reset_epoch: 0,
        boot_file: None,
        iscsi: IscsiIdentity {
            target_iqn: format!("iqn.2026-11.io.dess:target.{number}"),
            initiator_iqn: format!("iqn.2026-11.io.dess:initiator.{number}"),
            chap_user: "user".into(),
            chap_secret: Secret::new("0123456789ab"),
        },
        disk: DiskIdentity {
            id: DiskId(Uuid::from_u128(number.into())),
            serial: number.to_string(),
            naa: 3 << 60,
        },
        data_disks: Vec::new(),
        group: None,
        limits: Default::default(),
        overlay_limits: Default::default(),
    }
}
