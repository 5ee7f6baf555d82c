//! Packet traces in simulated time.

mod boot;
mod doubt;
mod lease;
mod proxy;
mod service_probe;

use super::*;
use crate::option::Options;
use dess_model::{
    AddressRange, BootPolicy, ClientEntry, ClientId, DhcpPhase, DiskId, DiskIdentity, ImageId,
    IscsiIdentity, Registration, SNAPSHOT_FORMAT, Secret, ServerEntry, SiteSnapshot, Subnet,
    VersionRef,
};
use uuid::Uuid;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
/// Registered, with a reservation, an image and approval.
const SEAT: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 1]);
/// Registered and approved, without a reservation or an image.
const BARE: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 2]);
/// Registered, waits for approval.
const HELD: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 3]);
const STRANGER: MacAddr = MacAddr([0x52, 0x54, 0, 0x99, 0, 1]);

const PXE_BIOS: &[(u8, &[u8])] = &[
    (60, b"PXEClient:Arch:00000:UNDI:002001"),
    (93, &[0, 0]),
    (94, &[1, 2, 1]),
    (
        97,
        &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
    ),
];
const PXE_X64: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00007:UNDI:003001"), (93, &[0, 7])];
const HTTP_X64: &[(u8, &[u8])] = &[(60, b"HTTPClient:Arch:00016:UNDI:003001"), (93, &[0, 16])];
const IPXE: &[(u8, &[u8])] = &[
    (60, b"PXEClient:Arch:00000:UNDI:002001"),
    (93, &[0, 0]),
    (77, b"iPXE"),
    (175, &[0xb1, 5, 1, 0x80, 0x86, 0x10, 0x0e]),
];
const EDK2_ISCSI: &[(u8, &[u8])] = &[(55, &[1, 3, 6, 17])];
const DHCLIENT: &[(u8, &[u8])] = &[(12, b"pc"), (55, &[1, 28, 2, 3, 15, 6, 119, 12])];

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

fn client(mac: MacAddr, address: Option<Ipv4Addr>) -> ClientEntry {
    let number = mac.0[5];
    ClientEntry {
        id: ClientId(Uuid::from_u128(number.into())),
        mac,
        seat: number.into(),
        name: format!("seat-{number}"),
        approved: mac != HELD,
        address,
        version: (mac == SEAT).then(|| VersionRef {
            image: ImageId(Uuid::from_u128(1)),
            number: 1,
        }),
        policy: BootPolicy::Volatile,
        reset_epoch: 0,
        boot_file: None,
        iscsi: IscsiIdentity {
            target_iqn: format!("iqn.2026-01.test.dess:seat-{number}"),
            initiator_iqn: format!("iqn.2026-01.test.dess:initiator-{number}"),
            chap_user: "user".into(),
            chap_secret: Secret::new("0123456789ab"),
        },
        disk: DiskIdentity {
            id: DiskId(Uuid::from_u128(1)),
            serial: "1".into(),
            naa: 3 << 60,
        },
        data_disks: Vec::new(),
        group: None,
        limits: Default::default(),
        overlay_limits: Default::default(),
    }
}

/// 10.77.0.0/24 is local with the pool .100 to .103; 10.78.0.0/24 is behind a relay agent.
fn snapshot(mode: DhcpMode) -> SiteSnapshot {
    let subnet = |third: u8, first: u8, last: u8| Subnet {
        network: format!("10.{third}.0.0/24").parse().unwrap(),
        mode,
        pool: (mode == DhcpMode::Server).then_some(AddressRange {
            first: Ipv4Addr::new(10, third, 0, first),
            last: Ipv4Addr::new(10, third, 0, last),
        }),
        router: Some(Ipv4Addr::new(10, third, 0, 254)),
        dns: vec![Ipv4Addr::new(10, 77, 0, 53), Ipv4Addr::new(10, 77, 0, 54)],
        lease_secs: 3600,
    };
    SiteSnapshot {
        format: SNAPSHOT_FORMAT,
        revision: 1,
        compiled_at: Timestamp(0),
        site_name: "test".into(),
        registration: Registration::Auto,
        server: ServerEntry {
            address: SERVER,
            interfaces: vec!["eth0".into()],
            http_port: 8069,
            portals: vec![SocketAddrV4::new(SERVER, 3260)],
        },
        subnets: vec![subnet(77, 100, 103), subnet(78, 10, 20)],
        clients: vec![
            client(SEAT, Some(ip(10))),
            client(BARE, None),
            client(HELD, None),
        ],
        versions: vec![],
        groups: vec![],
        pool: Default::default(),
    }
}

/// An exchange with a clock, and clients that speak to it.
struct Room {
    exchange: Exchange,
    now: Timestamp,
}

impl Room {
    fn new() -> Self {
        Self::with(snapshot(DhcpMode::Server))
    }

    fn with(snapshot: SiteSnapshot) -> Self {
        let mut exchange = Exchange::new(LeaseTable::default());
        exchange.adopt(Arc::new(SiteIndex::new(Arc::new(snapshot), [])));
        Self {
            exchange,
            now: Timestamp(1_000_000),
        }
    }

    /// The server process dies; only the journal's records are left.
    fn restart(&mut self, journal: Vec<Binding>, snapshot: SiteSnapshot) {
        self.exchange = Exchange::new(LeaseTable::from_records(journal));
        self.adopt(snapshot);
    }

    fn adopt(&mut self, snapshot: SiteSnapshot) {
        self.exchange
            .adopt(Arc::new(SiteIndex::new(Arc::new(snapshot), [])));
    }

    fn wait(&mut self, secs: i64) {
        self.now.0 += secs * 1000;
    }

    fn arrival(&self, port: u16) -> Arrival<'static> {
        Arrival {
            now: self.now,
            interface: "eth0",
            local: &[SERVER],
            source: SocketAddrV4::new(ANY, CLIENT_PORT),
            port,
        }
    }

    fn send(&mut self, message: &Message) -> Outcome {
        self.send_to(SERVER_PORT, message)
    }

    fn send_to(&mut self, port: u16, message: &Message) -> Outcome {
        let mut datagram = Vec::new();
        message.encode(1472, &mut datagram).unwrap();
        let mut arrival = self.arrival(port);
        if !message.ciaddr.is_unspecified() {
            arrival.source = SocketAddrV4::new(message.ciaddr, CLIENT_PORT);
        }
        self.exchange.handle_datagram(arrival, &datagram)
    }

    /// The whole four-way exchange; the address leased and the record for the journal.
    fn lease(&mut self, mac: MacAddr, marks: &[(u8, &[u8])]) -> (Ipv4Addr, Binding) {
        let offer = reply(&self.send(&discover(mac, marks))).expect("an offer");
        let outcome = self.send(&select(mac, marks, offer.yiaddr));
        let ack = reply(&outcome).expect("an answer");
        assert_eq!(ack.message_type, Some(MessageType::Ack));
        assert_eq!(ack.yiaddr, offer.yiaddr);
        (ack.yiaddr, outcome.records[0])
    }

    fn offered(&mut self, mac: MacAddr, marks: &[(u8, &[u8])]) -> Option<Ipv4Addr> {
        reply(&self.send(&discover(mac, marks))).map(|offer| offer.yiaddr)
    }
}

fn message(kind: MessageType, mac: MacAddr, marks: &[(u8, &[u8])]) -> Message {
    let mut options = Options::default();
    for (code, value) in marks {
        options.set(*code, *value);
    }
    Message {
        op: Operation::Request,
        message_type: Some(kind),
        hops: 0,
        xid: 0xdead_beef,
        secs: 4,
        broadcast: false,
        ciaddr: ANY,
        yiaddr: ANY,
        siaddr: ANY,
        giaddr: ANY,
        chaddr: mac,
        sname: vec![],
        file: vec![],
        options,
    }
}

fn discover(mac: MacAddr, marks: &[(u8, &[u8])]) -> Message {
    message(MessageType::Discover, mac, marks)
}

/// REQUEST in state SELECTING.
fn select(mac: MacAddr, marks: &[(u8, &[u8])], address: Ipv4Addr) -> Message {
    let mut request = init_reboot(mac, marks, address);
    request.options.set_address(code::SERVER_IDENTIFIER, SERVER);
    request
}

/// REQUEST in state INIT-REBOOT.
fn init_reboot(mac: MacAddr, marks: &[(u8, &[u8])], address: Ipv4Addr) -> Message {
    let mut request = message(MessageType::Request, mac, marks);
    request
        .options
        .set_address(code::REQUESTED_ADDRESS, address);
    request
}

/// REQUEST in state RENEWING or REBINDING.
fn renew(mac: MacAddr, address: Ipv4Addr) -> Message {
    let mut request = message(MessageType::Request, mac, DHCLIENT);
    request.ciaddr = address;
    request
}

fn reply(outcome: &Outcome) -> Option<Message> {
    let transmit = outcome.transmit.as_ref()?;
    Some(Message::decode(&transmit.payload).expect("what we send can be read"))
}

fn kind(outcome: &Outcome) -> Option<MessageType> {
    reply(outcome)?.message_type
}

fn destination(outcome: &Outcome) -> String {
    let transmit = outcome.transmit.as_ref().expect("an answer");
    transmit.destination.to_string()
}

fn text(message: &Message, code: u8) -> Option<String> {
    let value = message.options.value(code)?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}
