use super::*;
use crate::record::read_journal;
use dess_model::{MacAddr, Timestamp};
use std::net::{Ipv4Addr, SocketAddr};

fn binding(number: u32) -> Binding {
    let [_, _, c, d] = number.to_be_bytes();
    Binding {
        address: Ipv4Addr::new(10, 0, c, d),
        mac: MacAddr([2, 0, 0, 0, c, d]),
        state: BindingState::Leased,
        expires_at: Timestamp(1),
    }
}

#[tokio::test]
async fn an_answer_leaves_only_when_its_lease_is_in_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    let (journal, _) = Journal::open(&path).unwrap();
    let exchange = Arc::new(Mutex::new(Exchange::new(crate::LeaseTable::default())));
    let events = EventSender::new(directory.path().join("events.sock"));
    let (committer, thread) = Committer::start(journal, exchange, events).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    server.writable().await.unwrap();
    let SocketAddr::V4(destination) = client.local_addr().unwrap() else {
        panic!("an IPv4 socket");
    };
    for number in 0..100 {
        let binding = binding(number);
        let payload = binding.address.octets().to_vec();
        committer.commit(Commit {
            records: vec![binding],
            transmit: Some((
                Arc::clone(&server),
                Transmit {
                    destination,
                    payload,
                },
            )),
            events: vec![],
        });
    }
    for _ in 0..100 {
        let mut address = [0; 4];
        let limit = Duration::from_secs(10);
        let received = tokio::time::timeout(limit, client.recv(&mut address)).await;
        assert_eq!(received.unwrap().unwrap(), 4);
        let stored = read_journal(&std::fs::read(&path).unwrap()).records;
        let address = Ipv4Addr::from(address);
        assert!(stored.iter().any(|b| b.address == address), "{address}");
    }
    drop(committer);
    thread.join().unwrap();
    assert_eq!(
        read_journal(&std::fs::read(&path).unwrap()).records.len(),
        100
    );
}

#[tokio::test]
async fn a_client_that_asks_again_costs_no_record_and_a_release_always_does() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    let (journal, _) = Journal::open(&path).unwrap();
    let exchange = Arc::new(Mutex::new(Exchange::new(crate::LeaseTable::default())));
    let events = EventSender::new(directory.path().join("events.sock"));
    let (committer, thread) = Committer::start(journal, exchange, events).unwrap();
    let now = Timestamp::now().0;
    let until = |end: i64| Binding {
        expires_at: Timestamp(end),
        ..binding(7)
    };
    let lease_ms = 600_000;
    let told = [
        until(now + lease_ms),
        until(now + lease_ms + 30_000),
        until(1),
        until(now + lease_ms),
        until(now + 3 * lease_ms),
    ];
    for record in told {
        committer.commit(Commit {
            records: vec![record],
            transmit: None,
            events: vec![],
        });
    }
    drop(committer);
    thread.join().unwrap();
    let stored = read_journal(&std::fs::read(&path).unwrap()).records;
    let kept: Vec<bool> = stored
        .iter()
        .map(|b| b.expires_at.0 >= now + lease_ms)
        .collect();
    assert_eq!(
        kept,
        [true, false, true, true],
        "lease, release, lease, longer lease"
    );
    assert!(stored[3].expires_at >= told[4].expires_at);
}
