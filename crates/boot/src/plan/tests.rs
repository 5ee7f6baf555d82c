use super::*;
use dess_model::{
    BootPolicy, ClientId, DhcpMode, DiskId, DiskIdentity, ImageId, IscsiIdentity, Registration,
    SNAPSHOT_FORMAT, Secret, ServerEntry, Subnet, Timestamp, VersionEntry, VersionRef,
};

pub(crate) const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 0x10]);

fn id(last: u8) -> String {
    format!("00000000-0000-7000-8000-0000000000{last:02x}")
}

/// A site with one client that boots, seat 12, reserved address 10.77.0.12.
pub(crate) fn site() -> SiteSnapshot {
    let client: ClientId = id(1).parse().unwrap();
    let disk: DiskId = id(2).parse().unwrap();
    let image: ImageId = id(3).parse().unwrap();
    let version = VersionRef { image, number: 1 };
    SiteSnapshot {
        format: SNAPSHOT_FORMAT,
        revision: 1,
        compiled_at: Timestamp(0),
        site_name: "강남점".into(),
        registration: Registration::Auto,
        server: ServerEntry {
            address: [10, 77, 0, 1].into(),
            interfaces: vec!["eth0".into()],
            http_port: 8077,
            portals: vec!["10.77.0.1:3260".parse().unwrap()],
        },
        subnets: vec![Subnet {
            network: "10.77.0.0/24".parse().unwrap(),
            mode: DhcpMode::Server,
            pool: None,
            router: None,
            dns: vec![],
            lease_secs: 600,
        }],
        clients: vec![ClientEntry {
            id: client,
            mac: MAC,
            seat: 12,
            name: "PC-12".into(),
            approved: true,
            address: Some([10, 77, 0, 12].into()),
            version: Some(version),
            policy: BootPolicy::Volatile,
            reset_epoch: 0,
            boot_file: None,
            iscsi: IscsiIdentity {
                target_iqn: "iqn.2026-11.dess:disk.12".into(),
                initiator_iqn: "iqn.2026-11.dess:client.12".into(),
                chap_user: "seat12".into(),
                chap_secret: Secret::new("abcdefgh12345678"),
            },
            disk: DiskIdentity {
                id: disk,
                serial: "DESS12".into(),
                naa: 0x3000_0000_0000_0012,
            },
            data_disks: Vec::new(),
            group: None,
            limits: Default::default(),
            overlay_limits: Default::default(),
        }],
        versions: vec![VersionEntry {
            version,
            image_name: "windows".into(),
            directory: "windows/1".into(),
            size_bytes: 1 << 30,
        }],
        groups: vec![],
        pool: Default::default(),
    }
}

fn own() -> IpAddr {
    [10, 77, 0, 12].into()
}

#[test]
fn an_approved_client_with_an_image_boots() {
    let site = site();
    assert_eq!(
        boot_plan(&site, MAC, own()),
        BootPlan::Boot(&site.clients[0])
    );
}

#[test]
fn a_client_that_cannot_boot_is_told_why() {
    let mut held = site();
    held.clients[0].approved = false;
    let mut bare = site();
    bare.clients[0].version = None;
    let mut gone = site();
    gone.versions.clear();
    for (site, screen) in [
        (&held, Screen::AwaitsApproval),
        (&bare, Screen::NoImage),
        (&gone, Screen::NoImage),
    ] {
        assert_eq!(boot_plan(site, MAC, own()), BootPlan::Wait(screen));
    }
    let stranger = MacAddr([2, 0, 0, 0, 0, 1]);
    assert_eq!(
        boot_plan(&site(), stranger, own()),
        BootPlan::Wait(Screen::Registering)
    );
}

#[test]
fn a_script_goes_only_to_the_reserved_address_of_its_client() {
    let site = site();
    let client = &site.clients[0];
    let reserved = [10, 77, 0, 12].into();
    for (peer, access) in [
        ("10.77.0.12", Access::Granted),
        ("::ffff:10.77.0.12", Access::Granted),
        ("10.77.0.13", Access::ForeignAddress { reserved }),
        ("127.0.0.1", Access::ForeignAddress { reserved }),
        ("::1", Access::ForeignAddress { reserved }),
    ] {
        let peer = peer.parse().unwrap();
        assert_eq!(script_access(&site, client, peer), access, "{peer}");
    }
    let other: IpAddr = [10, 77, 0, 13].into();
    let screen = Screen::ForeignAddress { reserved };
    assert_eq!(boot_plan(&site, MAC, other), BootPlan::Wait(screen));
}

#[test]
fn without_a_reservation_that_dhcp_enforces_any_address_will_do() {
    let other: IpAddr = [10, 77, 0, 200].into();
    let mut dynamic = site();
    dynamic.clients[0].address = None;
    let mut proxy = site();
    proxy.subnets[0].mode = DhcpMode::Proxy;
    let mut elsewhere = site();
    elsewhere.subnets.clear();
    for site in [&dynamic, &proxy, &elsewhere] {
        assert_eq!(
            script_access(site, &site.clients[0], other),
            Access::Granted
        );
    }
}
