//! Wake-on-LAN, as a socket on the same network hears it.

use std::net::UdpSocket;
use std::time::Duration;

use dess_model::ServerEntry;

use super::*;
use crate::operations::wake::send;

#[tokio::test]
async fn the_packet_that_wakes_a_client_is_heard_as_both_kinds_of_broadcast() {
    let listener = UdpSocket::bind("0.0.0.0:0").unwrap();
    listener
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = |interfaces: &[&str]| ServerEntry {
        address: [127, 0, 0, 1].into(),
        interfaces: interfaces.iter().map(|&name| name.into()).collect(),
        http_port: 80,
        portals: vec![],
    };
    let subnet = site()
        .await
        .operations
        .site()
        .await
        .unwrap()
        .unwrap()
        .subnets[0]
        .clone();
    let loopback = [dess_model::Subnet {
        network: "127.0.0.0/8".parse().unwrap(),
        ..subnet
    }];
    let expected: Vec<u8> = [0xff; 6]
        .into_iter()
        .chain([2, 0, 0, 0, 0, 7].repeat(16))
        .collect();
    // The limited broadcast needs the right to choose an interface.
    for (server, subnets) in [(server(&[]), &loopback[..]), (server(&["lo"]), &[])] {
        send(mac(7), &server, subnets, port).unwrap();
        let mut buffer = [0; 256];
        let count = listener.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..count], expected);
    }
    let nowhere = send(mac(7), &server(&["no-such-card"]), &[], port);
    assert!(nowhere.is_err());
}

#[tokio::test]
async fn waking_a_client_that_cannot_be_reached_says_so_and_is_not_noted_as_done() {
    let site = site().await;
    let id = site.operations.client_add(new_client(1)).await.unwrap().id;
    // 10.77.0.1 is no address of the machine that runs the tests.
    let message = text(site.operations.client_wake(id).await);
    assert!(message.contains("PC-01 cannot be sent"), "{message}");
    assert!(!site.actions().await.contains(&"client.wake".to_owned()));
}
