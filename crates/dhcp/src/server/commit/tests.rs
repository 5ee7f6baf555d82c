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
