//! proxyDHCP: a real dnsmasq owns the addresses, DESS only says what to boot.

use std::time::Duration;

use anyhow::Result;
use dess_lab::{
    ClientOptions, DessServer, Firmware, Room, RoomOptions, ServerOptions, image, packages,
};

const BOOT_LIMIT: Duration = Duration::from_secs(180);
const START_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn clients_boot_beside_a_dnsmasq_that_owns_the_addresses() -> Result<()> {
    packages::ensure()?;
    let image = image::tiny()?;
    let room = Room::create(RoomOptions::default())?;
    let owner = room.peer("dnsmasq", Some("10.77.0.2/24"))?;
    let mut dnsmasq = owner.command("dnsmasq");
    dnsmasq
        .args([
            "--no-daemon",
            "--conf-file=/dev/null",
            "--port=0",
            "--no-ping",
        ])
        .args(["--interface=eth0", "--bind-interfaces", "--log-dhcp"])
        .arg("--dhcp-range=10.77.0.50,10.77.0.99,255.255.255.0,1h")
        .arg("--dhcp-leasefile=/dev/null");
    let dnsmasq = owner.spawn("dnsmasq", &mut dnsmasq)?;
    dnsmasq.wait_for_log("started", START_LIMIT)?;

    let options = ServerOptions {
        mode: "proxy",
        ..ServerOptions::default()
    };
    let server = DessServer::start(&room, &options)?;
    server.import(&image, "tiny")?;

    let bios = room.client(ClientOptions::new(
        "bios",
        Firmware::Bios,
        "52:54:00:77:00:01",
    ))?;
    let uefi = room.client(ClientOptions::new(
        "uefi",
        Firmware::UefiPxe,
        "52:54:00:77:00:02",
    ))?;
    for client in [&bios, &uefi] {
        client.wait_for(&["DESS-TINY-UP boots=1 ip=10.77.0."], BOOT_LIMIT)?;
        let mac = &client.options().mac;
        let acknowledged = dnsmasq
            .log()
            .lines()
            .any(|line| line.contains("DHCPACK") && line.contains(mac.as_str()));
        assert!(
            acknowledged,
            "the address of {mac} is not from dnsmasq:\n{}",
            dnsmasq.log()
        );
    }
    Ok(())
}
