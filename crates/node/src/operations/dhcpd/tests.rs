use super::super::tests::{Site, new_client, site};
use super::*;

/// A file as the old system's operators keep it.
const FILE: &str = r#"
# PC room 1
ddns-update-style none; authoritative;
option domain-name-servers 168.126.63.1, 8.8.8.8;
default-lease-time 600;
next-server 10.77.0.1;

class "pxe" { match if substring(option vendor-class-identifier, 0, 9) = "PXEClient"; }

shared-network rooms {
  subnet 10.77.0.0 netmask 255.255.255.0 { range 10.77.0.100 10.77.0.199; }
  subnet 10.78.0.0 netmask 255.255.254.0 {
    option routers 10.78.0.254;
    pool { range dynamic-bootp 10.78.0.100 10.78.0.199; }
    range 10.78.1.10 10.78.1.20;
  }
}
group {
  filename "undionly.kpxe";
  host pc01 { hardware ethernet 02:00:00:00:00:01; fixed-address 10.77.0.11;
              option host-name "PC 01"; }
  host pc02 { hardware ethernet 02:00:00:00:00:02; fixed-address 10.78.0.12; }
  host printer { hardware token-ring 02:00:00:00:00:03; }
  host far { hardware ethernet 02:00:00:00:00:04; fixed-address 10.99.0.1; }
  host 05 { hardware ethernet 02:00:00:00:00:05; }
  host pc01 { hardware ethernet 02:00:00:00:00:06; }
}
include "/etc/dhcp/more.conf";
"#;

async fn import(site: &Site, dry_run: bool) -> DhcpdReport {
    site.operations.dhcpd_import(FILE, dry_run).await.unwrap()
}

fn reason<'a>(report: &'a DhcpdReport, what: &str) -> &'a str {
    let left = report.left.iter().find(|left| left.what.starts_with(what));
    &left.unwrap_or_else(|| panic!("{what}: {report:#?}")).reason
}

#[tokio::test]
async fn hosts_and_subnets_are_taken_and_the_rest_is_told() {
    let site = site().await;
    let report = import(&site, false).await;
    assert!(report.done);
    assert_eq!(report.added, ["pc01", "pc02"]);
    assert_eq!(report.subnets, ["10.78.0.0/23".parse().unwrap()]);
    for (what, words) in [
        ("ddns-update-style", "nothing like it"),
        ("next-server", "what a client boots"),
        ("filename", "what a client boots"),
        ("class pxe", "nothing like it"),
        ("subnet 10.77.0.0/24", "already"),
        ("range 10.78.1.10", "one pool"),
        ("host printer", "hardware ethernet"),
        ("host far", "no subnet"),
        ("host 05", "name"),
        ("include", "too"),
    ] {
        let told = reason(&report, what);
        assert!(told.contains(words), "{what}: {told}");
    }
    let twice = report
        .left
        .iter()
        .find(|left| left.what == "host pc01")
        .unwrap();
    assert!(twice.reason.contains("pc01"), "{twice:?}");
    assert_eq!(
        twice.line,
        FILE.lines().position(|l| l.contains("00:06")).unwrap() + 1
    );

    let mut tx = site.operations.read().await.unwrap();
    let subnets = tx.subnet_list().await.unwrap();
    let new = subnets
        .iter()
        .find(|s| s.network.prefix_len() == 23)
        .unwrap();
    assert_eq!(new.router, Some([10, 78, 0, 254].into()));
    assert_eq!(new.dns.len(), 2);
    assert_eq!(new.lease_secs, 600);
    assert_eq!(new.pool.unwrap().first, Ipv4Addr::new(10, 78, 0, 100));
    let pc = site.operations.client_find("pc02").await.unwrap();
    assert_eq!(pc.address, Some([10, 78, 0, 12].into()));

    let again = import(&site, false).await;
    assert_eq!(
        (again.added.len(), again.changed.len(), again.unchanged),
        (0, 0, 2)
    );
    assert!(again.subnets.is_empty());
}

#[tokio::test]
async fn a_client_that_is_known_by_its_network_card_keeps_its_seat() {
    let site = site().await;
    let known = site.operations.client_add(new_client(1)).await.unwrap();
    let report = import(&site, false).await;
    assert_eq!(
        (report.changed, report.added),
        (vec!["pc01".to_owned()], vec!["pc02".to_owned()])
    );
    let now = site.operations.client_get(known.id).await.unwrap();
    assert_eq!((now.seat, now.name.as_str()), (known.seat, "pc01"));
    assert_eq!(now.address, Some([10, 77, 0, 11].into()));
}

#[tokio::test]
async fn a_dry_run_does_nothing() {
    let site = site().await;
    let report = import(&site, true).await;
    assert_eq!((report.added.len(), report.done), (2, false));
    assert!(site.operations.client_list().await.unwrap().is_empty());
    let mut tx = site.operations.read().await.unwrap();
    assert_eq!(tx.subnet_list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_file_whose_form_is_broken_is_left_as_a_whole() {
    let site = site().await;
    for (file, line, words) in [
        (
            "host a {\n hardware ethernet 02:00:00:00:00:01;\n",
            1,
            "not closed",
        ),
        ("}\n", 1, "closes nothing"),
        ("authoritative;\noption x \"y;\n", 2, "quote"),
        (
            "host a {\n hardware ethernet 02:00:00:00:00:01 }",
            2,
            "semicolon",
        ),
        ("\nauthoritative", 2, "semicolon"),
        (&"a { ".repeat(100), 1, "deeply"),
    ] {
        let report = site.operations.dhcpd_import(file, false).await.unwrap();
        let [left] = report.left.as_slice() else {
            panic!("{report:?}");
        };
        assert_eq!(left.line, line, "{file}");
        assert!(left.reason.contains(words), "{left:?}");
        assert!(!report.done);
    }
    assert!(site.operations.client_list().await.unwrap().is_empty());
}
