use std::net::Ipv4Addr;

use super::super::ClientAdd;
use super::super::tests::{Site, mac, new_client, site};
use super::*;

async fn import(site: &Site, sheet: &str) -> SheetReport {
    let operations = &site.operations;
    operations.client_sheet_import(sheet, false).await.unwrap()
}

/// Seat, name and address of all clients.
async fn clients(site: &Site) -> Vec<(u32, String, String)> {
    let clients = site.operations.client_list().await.unwrap();
    let text = |address: Option<Ipv4Addr>| address.map(|a| a.to_string()).unwrap_or_default();
    clients
        .into_iter()
        .map(|client| (client.seat, client.name, text(client.address)))
        .collect()
}

fn lines(report: &SheetReport) -> Vec<(usize, &str)> {
    let problems = report.problems.iter();
    problems
        .map(|problem| (problem.line, problem.field.as_str()))
        .collect()
}

#[tokio::test]
async fn a_sheet_that_was_written_out_changes_nothing_when_it_is_read_in() {
    let site = site().await;
    for last in [1, 2] {
        let added = ClientAdd {
            name: Some(format!("좌석-{last}")),
            address: Some([10, 77, 0, last + 10].into()),
            policy: Some(BootPolicy::Persistent),
            ..new_client(last)
        };
        site.operations.client_add(added).await.unwrap();
    }
    let sheet = site.operations.client_sheet().await.unwrap();
    assert!(sheet.starts_with("mac,seat,name,address,policy,image,boot_file\r\n"));
    let before = clients(&site).await;
    let report = import(&site, &sheet).await;
    assert_eq!((report.unchanged, report.done), (2, true), "{report:?}");
    assert_eq!(clients(&site).await, before);
}

#[tokio::test]
async fn a_sheet_adds_changes_and_swaps() {
    let site = site().await;
    for last in [1, 2] {
        site.operations.client_add(new_client(last)).await.unwrap();
    }
    let sheet = "mac;seat;name;address\n\
        02:00:00:00:00:01;2;PC-02;10.77.0.12\n\
        02:00:00:00:00:02;1;PC-01;10.77.0.11\n\
        02:00:00:00:00:03;;;\n\
        02:00:00:00:00:04;9;좌석-9;10.77.0.19\n";
    let report = import(&site, sheet).await;
    assert!(report.done, "{report:?}");
    assert_eq!((report.added.len(), report.changed.len()), (2, 2));
    let expected = [
        (1, "PC-01", "10.77.0.11"),
        (2, "PC-02", "10.77.0.12"),
        (3, "PC-03", ""),
        (9, "좌석-9", "10.77.0.19"),
    ]
    .map(|(seat, name, address)| (seat, name.to_owned(), address.to_owned()));
    assert_eq!(clients(&site).await, expected);
    let second = site.operations.client_find("2").await.unwrap();
    assert_eq!(second.mac, mac(1), "a client keeps its network card");
    assert!(site.actions().await.contains(&"client.import".to_owned()));
}

#[tokio::test]
async fn every_wrong_field_is_named_with_its_line_and_nothing_is_done() {
    let site = site().await;
    let taken = ClientAdd {
        address: Some([10, 77, 0, 7].into()),
        ..new_client(7)
    };
    site.operations.client_add(taken).await.unwrap();
    let before = clients(&site).await;
    let sheet = "mac,seat,name,address,policy,image\n\
        02:00:00:00:00:01,5,fine,,,\n\
        nonsense,,,,,\n\
        02:00:00:00:00:02,x,,,,\n\
        02:00:00:00:00:03,,12,,,\n\
        02:00:00:00:00:04,,,10.99.0.1,,\n\
        02:00:00:00:00:05,,,10.77.0.7,,\n\
        02:00:00:00:00:06,,,,sometimes,\n\
        02:00:00:00:00:08,,,,,windows\n\
        02:00:00:00:00:01,6,twice,,,\n\
        02:00:00:00:00:09,5,,,,\n\
        01:00:00:00:00:0a,,,,,\n";
    let report = import(&site, sheet).await;
    let expected = [
        (3, "mac"),
        (4, "seat"),
        (5, "name"),
        (6, "address"),
        (7, "address"),
        (8, "policy"),
        (9, "image"),
        (10, "mac"),
        (11, "seat"),
        (12, "mac"),
    ];
    assert_eq!(lines(&report), expected, "{:#?}", report.problems);
    assert!(!report.done);
    assert_eq!(clients(&site).await, before);
    assert!(report.problems[4].reason.contains("PC-01"), "{report:?}");
}

#[tokio::test]
async fn a_sheet_whose_head_is_wrong_is_not_read() {
    let site = site().await;
    for (sheet, line, field) in [
        ("", 1, "mac"),
        ("seat,name\n1,x\n", 1, "mac"),
        ("mac,colour\n", 1, "colour"),
        ("mac,mac\n", 1, "mac"),
        ("mac\n\"02:00:00:00:00:01\n", 2, ""),
    ] {
        let report = import(&site, sheet).await;
        assert_eq!(lines(&report), [(line, field)], "{sheet:?}");
    }
    let report = import(&site, "mac\n02:00:00:00:00:01,extra\n").await;
    assert_eq!(lines(&report), [(2, "")]);
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be_done_and_does_nothing() {
    let site = site().await;
    let sheet = "mac,name\n02:00:00:00:00:01,first\n";
    let operations = &site.operations;
    let report = operations.client_sheet_import(sheet, true).await.unwrap();
    assert_eq!(
        (report.added.as_slice(), report.done),
        (["first".to_owned()].as_slice(), false)
    );
    assert!(clients(&site).await.is_empty());
    assert!(import(&site, sheet).await.done);
}
