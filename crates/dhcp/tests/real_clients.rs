//! The real service in a network namespace, judged by clients and servers that others wrote.
//! Needs root.

#![cfg(feature = "server")]
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod room;

use std::collections::HashMap;
use std::fs;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dess_dhcp::BindingState;
use dess_dhcp::record::{RECORD_BYTES, Session, decode_session, encode_session};
use dess_model::host::EventReceiver;
use dess_model::{AddressRange, DhcpMode, DhcpPhase, EventKind, MacAddr};
use room::{Room, SERVER, crowd, event, serve_if_told, site, until};

/// udhcpc's options that make it look like a BIOS PXE ROM.
const AS_PXE: &[&str] = &["-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000"];

fn room(test: &str, nodes: &[&str]) -> Room {
    let room = Room::new(test, nodes);
    room.add_address("server", "10.99.0.1/24");
    room
}

/// A program that ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A dnsmasq that gives the addresses .200 to .210.
fn dnsmasq(room: &Room, node: &str) -> Program {
    let mut command = room.on(node, &["dnsmasq", "-d", "-C", "/dev/null", "-p", "0"]);
    command.args(["--no-ping", "--dhcp-leasefile=/dev/null", "--user=root"]);
    command.arg("--dhcp-range=10.99.0.200,10.99.0.210,1h");
    Program(command.stderr(Stdio::null()).spawn().unwrap())
}

/// One lease by ISC dhclient; the text of its lease file.
fn dhclient(room: &Room, node: &str) -> String {
    let [leases, pid, script] = ["dh.leases", "dh.pid", "dh.sh"].map(|name| room.file(name));
    fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    room::make_executable(&script);
    let [lf, pf, sf] = [&leases, &pid, &script].map(|path| path.to_str().unwrap());
    let command = [
        "dhclient", "-4", "-1", "-v", "-lf", lf, "-pf", pf, "-sf", sf, "eth0",
    ];
    let output = room
        .on(node, &command)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(output.unwrap().success(), "dhclient got no lease");
    room.run_on(
        node,
        &[
            "dhclient", "-4", "-x", "-lf", lf, "-pf", pf, "-sf", sf, "eth0",
        ],
    );
    fs::read_to_string(leases).unwrap()
}

#[test]
fn dhclient_udhcpc_and_a_restart_by_kill_agree_on_one_address() {
    serve_if_told();
    let room = room("a", &["server", "pc", "crowd"]);
    room.publish(&site(DhcpMode::Server));
    let name = "dhclient_udhcpc_and_a_restart_by_kill_agree_on_one_address";
    let server = room.start(name);

    let firmware = room.udhcpc("pc", AS_PXE).expect("a lease");
    let address = firmware.value("ip").unwrap().to_owned();
    assert_eq!(firmware.value("siaddr"), Some("10.99.0.1"));
    assert_eq!(firmware.value("boot_file"), Some("undionly.kpxe"));
    assert_eq!(firmware.value("router"), None);

    let system = room.udhcpc("pc", &[]).expect("a lease");
    assert_eq!(system.value("ip"), Some(&address[..]));
    assert_eq!(system.value("serverid"), Some("10.99.0.1"));
    assert_eq!(system.value("mask"), Some("24"));
    assert_eq!(system.value("router"), Some("10.99.0.254"));
    assert_eq!(system.value("dns"), Some("10.99.0.53"));
    assert_eq!(system.value("lease"), Some("600"));
    assert_eq!(system.value("boot_file"), None);

    let leases = dhclient(&room, "pc");
    assert!(
        leases.contains(&format!("fixed-address {address};")),
        "{leases}"
    );
    assert!(leases.contains("option routers 10.99.0.254;"), "{leases}");

    drop(server);
    let _server = room.start(name);
    // dhclient now verifies the lease of its file (INIT-REBOOT); another card gets another address.
    let leases = dhclient(&room, "pc");
    let addresses: Vec<_> = leases.matches("fixed-address").collect();
    let same = leases.matches(&format!("fixed-address {address};")).count();
    assert!(same > 0 && same == addresses.len(), "{leases}");
    let other = room.udhcpc("crowd", &[]).expect("a lease");
    assert_ne!(other.value("ip"), Some(&address[..]));

    room.add_address("crowd", "10.99.0.2/24");
    let output = room.run_on(
        "crowd",
        &[
            "perfdhcp",
            "-W",
            "500000",
            "-4",
            "-r",
            "100",
            "-n",
            "60",
            "-R",
            "20",
            "-l",
            "eth0",
            "10.99.0.1",
        ],
    );
    let report = String::from_utf8_lossy(&output.stdout);
    assert_eq!(report.matches("drops: 0").count(), 2, "{report}");
    assert_eq!(
        report.matches("received packets: 60").count(),
        2,
        "{report}"
    );
}

#[test]
fn an_address_that_somebody_uses_without_a_lease_is_never_given() {
    serve_if_told();
    let room = room("b", &["server", "squatter", "pc"]);
    room.add_address("squatter", "10.99.0.100/24");
    room.publish(&site(DhcpMode::Server));
    let _server = room.start("an_address_that_somebody_uses_without_a_lease_is_never_given");
    let early = room
        .udhcpc("pc", &[])
        .expect("a lease, without waiting for the probe");
    assert_ne!(early.value("ip"), Some("10.99.0.100"));
    let squatted = Ipv4Addr::new(10, 99, 0, 100);
    let found = until("the squatter is found", || {
        let records = room.journal();
        records
            .into_iter()
            .find(|binding| binding.address == squatted)
    });
    assert_eq!(found.state, BindingState::Quarantined);
    assert_eq!(found.mac, MacAddr([0x52, 0x54, 0, 0x99, 0, 2]));
    let wish = room.udhcpc("pc", &["-r", "10.99.0.100"]).expect("a lease");
    assert_ne!(wish.value("ip"), Some("10.99.0.100"));
}

#[test]
fn steps_and_foreign_servers_are_told_to_node() {
    serve_if_told();
    let room = room("c", &["server", "rogue", "pc"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut events = {
        let _context = runtime.enter();
        EventReceiver::bind(&room.paths().events()).unwrap()
    };
    room.publish(&site(DhcpMode::Server));
    let _server = room.start("steps_and_foreign_servers_are_told_to_node");
    let pc = MacAddr([0x52, 0x54, 0, 0x99, 0, 3]);

    let lease = room.udhcpc("pc", AS_PXE).expect("a lease");
    let address: Ipv4Addr = lease.value("ip").unwrap().parse().unwrap();
    let unknown = event(&runtime, &mut events, room::PATIENCE, |kind| match kind {
        EventKind::UnknownClient { mac, address, .. } => Some((*mac, *address)),
        _ => None,
    });
    assert_eq!(unknown, Some((pc, Some(address))));
    let acknowledged = event(&runtime, &mut events, room::PATIENCE, |kind| match kind {
        EventKind::DhcpAck { mac, phase, .. } => Some((*mac, *phase)),
        _ => None,
    });
    assert_eq!(acknowledged, Some((pc, DhcpPhase::Firmware)));

    room.add_address("rogue", "10.99.0.66/24");
    let rogue_server = dnsmasq(&room, "rogue");
    let heard = (0..10).find_map(|_| {
        room.udhcpc("pc", &["-B"]);
        event(
            &runtime,
            &mut events,
            Duration::from_secs(1),
            |kind| match kind {
                EventKind::RogueDhcp { server, .. } => Some(*server),
                _ => None,
            },
        )
    });
    drop(rogue_server);
    assert_eq!(heard, Some(Ipv4Addr::new(10, 99, 0, 66)));
}

/// Router advertisements that the machine's kernel has received.
fn advertisements(room: &Room, node: &str) -> u32 {
    let output = room.run_on(node, &["cat", "/proc/net/snmp6"]);
    let counters = String::from_utf8(output.stdout).unwrap();
    let line = counters
        .lines()
        .find(|line| line.starts_with("Icmp6InRouterAdvertisements"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn a_booting_client_that_looks_for_ipv6_routers_is_answered_and_no_other() {
    serve_if_told();
    let room = room("d", &["server", "pc", "other"]);
    room.publish(&site(DhcpMode::Server));
    let _server =
        room.start("a_booting_client_that_looks_for_ipv6_routers_is_answered_and_no_other");
    room.udhcpc("pc", AS_PXE).expect("a lease");
    room.udhcpc("other", &[]).expect("a lease");
    // A kernel solicits when its link comes up.
    for node in ["pc", "other"] {
        for state in ["down", "up"] {
            room.run_on(node, &["ip", "link", "set", "eth0", state]);
        }
    }
    until("the advertisement arrives", || {
        (advertisements(&room, "pc") > 0).then_some(())
    });
    assert_eq!(advertisements(&room, "other"), 0);
}

#[test]
fn as_proxy_it_stays_silent_for_systems_and_a_taken_port_is_named() {
    serve_if_told();
    let room = room("e", &["server", "pc"]);
    room.publish(&site(DhcpMode::Proxy));
    let name = "as_proxy_it_stays_silent_for_systems_and_a_taken_port_is_named";
    let _server = room.start(name);
    assert!(room.udhcpc("pc", &[]).is_none());
    assert!(room.journal().is_empty());
    let twin = room.file("twin");
    fs::create_dir(&twin).unwrap();
    fs::copy(room.paths().snapshot(), twin.join("site.json")).unwrap();
    let program = std::env::current_exe().unwrap();
    let output = room
        .on(
            "server",
            &[program.to_str().unwrap(), "--exact", name, "--nocapture"],
        )
        .env("DESS_DHCP_TEST_DIRECTORY", &twin)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("PortTaken"), "{complaint}");
    assert!(
        complaint.contains("port: 67") && complaint.contains("(pid"),
        "{complaint}"
    );
    assert_eq!(site(DhcpMode::Proxy).server.address, SERVER);
}

#[test]
fn a_changed_interface_list_and_a_replaced_interface_are_served_without_a_restart() {
    serve_if_told();
    let room = room("f", &["server", "pc"]);
    let mut snapshot = site(DhcpMode::Server);
    room.publish(&snapshot);
    let _server = room
        .start("a_changed_interface_list_and_a_replaced_interface_are_served_without_a_restart");
    snapshot.revision = 2;
    snapshot.server.interfaces = vec!["eth0".into(), "typo0".into()];
    room.publish(&snapshot);
    assert!(room.udhcpc("pc", &[]).is_some());

    // Machines swap their cables: `pc` gets the new interface's peer.
    snapshot.revision = 3;
    snapshot.server.interfaces = vec!["eth0".into()];
    room.publish(&snapshot);
    let [server, pc] = ["server", "pc"].map(|node| room.namespace(node));
    room.run_on("server", &["ip", "link", "del", "eth0"]);
    room.run_on("pc", &["ip", "link", "del", "eth0"]);
    room::run(&[
        "ip", "-n", &server, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0",
        "netns", &pc,
    ]);
    room.add_address("server", "10.99.0.1/24");
    for node in [&server, &pc] {
        room::run(&["ip", "-n", node, "link", "set", "eth0", "up"]);
    }
    until("the new interface is served", || room.udhcpc("pc", &[]));
}

#[test]
fn as_proxy_it_leaves_the_addresses_to_the_sites_own_dnsmasq() {
    serve_if_told();
    let room = room("g", &["server", "own", "pc"]);
    room.add_address("own", "10.99.0.2/24");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut events = {
        let _context = runtime.enter();
        EventReceiver::bind(&room.paths().events()).unwrap()
    };
    room.publish(&site(DhcpMode::Proxy));
    let _server = room.start("as_proxy_it_leaves_the_addresses_to_the_sites_own_dnsmasq");
    let _own = dnsmasq(&room, "own");
    let lease = until("dnsmasq gives an address", || room.udhcpc("pc", &["-B"]));
    assert_eq!(lease.value("serverid"), Some("10.99.0.2"));
    assert!(lease.value("ip").unwrap().starts_with("10.99.0.2"));
    // udhcpc is no PXE ROM (it takes even an offer without an address), but it asks like one.
    let mut options = AS_PXE.to_vec();
    options.push("-B");
    room.udhcpc("pc", &options);
    let offer = event(&runtime, &mut events, room::PATIENCE, |kind| match kind {
        EventKind::DhcpOffer {
            address, boot_file, ..
        } => Some((*address, boot_file.clone())),
        _ => None,
    });
    assert_eq!(offer, Some((None, Some("undionly.kpxe".into()))));
    // The overheard answers are looked at ten times a second; a report would be there by now.
    let rogue = event(
        &runtime,
        &mut events,
        Duration::from_secs(1),
        |kind| match kind {
            EventKind::RogueDhcp { server, .. } => Some(*server),
            _ => None,
        },
    );
    assert_eq!(rogue, None);
    assert!(room.journal().is_empty());
}

/// A small file system over the room's directory, gone with the test.
struct SmallDisk(String);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.0]).status();
    }
}

#[test]
fn a_full_disk_keeps_no_pc_from_booting() {
    serve_if_told();
    let room = room("h", &["server", "pc"]);
    let directory = room.directory.path().to_str().unwrap().to_owned();
    room::run(&[
        "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", &directory,
    ]);
    let disk = SmallDisk(directory);
    room.publish(&site(DhcpMode::Server));
    // What the test's own client needs is there before the rest is filled.
    let script = room.file("udhcpc.sh");
    fs::write(&script, "#!/bin/sh\necho \"$1 $ip\"\n").unwrap();
    room::make_executable(&script);
    let filled = fs::write(room.file("filler"), vec![1; 64 * 1024]);
    assert!(filled.is_err(), "the disk is meant to be full");
    let server = room.start("a_full_disk_keeps_no_pc_from_booting");
    let fixed = [
        "busybox", "udhcpc", "-i", "eth0", "-f", "-n", "-q", "-T", "1", "-s",
    ];
    let output = room.on("pc", &fixed).arg(script).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("bound 10.99.0.1"), "{told}");
    assert!(room.journal().is_empty(), "the disk was meant to refuse");
    drop(server);
    drop(disk);
}

#[test]
fn a_client_behind_a_real_relay_agent_gets_an_address_of_its_own_network() {
    serve_if_told();
    let room = room("i", &["server", "relay", "pc"]);
    let [relay, pc] = ["relay", "pc"].map(|node| room.namespace(node));
    room.add_address("relay", "10.99.0.2/24");
    // The PC moves from the switch to a cable behind the relay agent.
    room.run_on("pc", &["ip", "link", "del", "eth0"]);
    for command in [
        format!("-n {relay} link add eth1 type veth peer name eth0 netns {pc}"),
        format!("-n {relay} addr add 10.98.0.254/24 dev eth1"),
        format!("-n {relay} link set eth1 up"),
        format!("-n {pc} link set eth0 up"),
        format!(
            "-n {} route add 10.98.0.0/24 via 10.99.0.2",
            room.namespace("server")
        ),
    ] {
        let words: Vec<&str> = std::iter::once("ip").chain(command.split(' ')).collect();
        room::run(&words);
    }
    let mut snapshot = site(DhcpMode::Server);
    let mut remote = snapshot.subnets[0].clone();
    remote.network = "10.98.0.0/24".parse().unwrap();
    remote.router = Some(Ipv4Addr::new(10, 98, 0, 254));
    remote.pool = Some(AddressRange {
        first: Ipv4Addr::new(10, 98, 0, 50),
        last: Ipv4Addr::new(10, 98, 0, 60),
    });
    snapshot.subnets.push(remote);
    room.publish(&snapshot);
    let _server =
        room.start("a_client_behind_a_real_relay_agent_gets_an_address_of_its_own_network");
    let mut agent = room.on("relay", &["dnsmasq", "-d", "-C", "/dev/null", "-p", "0"]);
    agent.args(["--dhcp-relay=10.98.0.254,10.99.0.1", "--user=root"]);
    let _agent = Program(agent.stderr(Stdio::null()).spawn().unwrap());
    let firmware = until("the relay agent works", || room.udhcpc("pc", AS_PXE));
    assert_eq!(firmware.value("ip"), Some("10.98.0.50"));
    assert_eq!(firmware.value("siaddr"), Some("10.99.0.1"));
    // The boot server is beyond the router, so even firmware is told it.
    assert_eq!(firmware.value("router"), Some("10.98.0.254"));
    let system = room.udhcpc("pc", &[]).expect("a lease");
    assert_eq!(system.value("ip"), Some("10.98.0.50"));
}

#[test]
fn a_kill_between_offer_and_ack_or_right_after_an_ack_breaks_no_promise() {
    serve_if_told();
    crowd::ask_if_told();
    let name = "a_kill_between_offer_and_ack_or_right_after_an_ack_breaks_no_promise";
    let room = room("j", &["server", "crowd"]);
    room.add_address("crowd", "10.99.0.2/24");
    room.publish(&site(DhcpMode::Server));
    let mut promised = HashMap::new();
    // The server dies at the 1st, 4th, 9th ACK while the next card asks already.
    for (round, acks) in [1, 4, 9].into_iter().enumerate() {
        let first = 1 + u8::try_from(round).unwrap() * 20;
        let mut server = Some(room.start(name));
        let mut told = 0;
        crowd::let_ask(&room, name, (first, 20), |(card, address)| {
            let other = promised.insert(address, card);
            assert_eq!(other, None, "{address} was promised to two");
            told += 1;
            if told == acks {
                server = None;
            }
            server.is_some()
        });
        assert!(told >= acks, "only {told} ACKs");
    }
    // A last time, everybody asks again: each card is told the same as before.
    let _server = room.start(name);
    let mut again = HashMap::new();
    crowd::let_ask(&room, name, (1, 60), |(card, address)| {
        let other = again.insert(address, card);
        assert_eq!(other, None, "{address} was promised to two");
        true
    });
    for (address, card) in promised {
        assert_eq!(again.get(&address), Some(&card), "{address}");
    }
}

/// What a power cut leaves of the lease file that loses the last leases: its start is of an
/// earlier boot, and zeros are where the leases were.
fn cut_power(room: &Room) {
    let path = room.paths().leases();
    let mut bytes = fs::read(&path).unwrap();
    for record in bytes.as_chunks_mut::<RECORD_BYTES>().0 {
        if let Some(session) = decode_session(record) {
            let boot_id = [1; 16];
            *record = encode_session(&Session { boot_id, ..session });
        } else {
            record.fill(0);
        }
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn after_a_power_cut_a_lost_lease_is_given_to_nobody_else() {
    serve_if_told();
    let name = "after_a_power_cut_a_lost_lease_is_given_to_nobody_else";
    let room = room("k", &["server", "pc", "other"]);
    room.publish(&site(DhcpMode::Server));
    let server = room.start(name);
    let lease = room.udhcpc("pc", &[]).expect("a lease");
    let address = lease.value("ip").unwrap();
    drop(server);
    cut_power(&room);
    assert!(room.journal().is_empty());
    room.add_address("pc", &format!("{address}/24"));

    let _server = room.start(name);
    // Nothing is probed yet: a server in no doubt offers the address that it offered first before.
    let other = until("an address is probed", || room.udhcpc("other", &[]));
    assert_ne!(other.value("ip"), Some(address));
    let again = room.udhcpc("pc", &["-r", address]).expect("a lease");
    assert_eq!(again.value("ip"), Some(address));
    let stored = room.journal();
    assert!(stored.iter().any(|b| b.address.to_string() == address));
}
