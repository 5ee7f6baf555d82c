use super::*;
use crate::LeaseTable;
use crate::record::read_journal;
use dess_model::MacAddr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

const LEASE_MS: i64 = 600_000;
const LIMIT: Duration = Duration::from_secs(10);

/// A committer over a journal in a directory of its own, and a client to answer.
struct Bench {
    directory: tempfile::TempDir,
    committer: Option<Committer>,
    thread: Option<JoinHandle<()>>,
    client: UdpSocket,
    server: Arc<UdpSocket>,
}

impl Bench {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(&directory.path().join("leases")).unwrap();
        let exchange = Arc::new(Mutex::new(Exchange::new(LeaseTable::default())));
        let events = EventSender::new(directory.path().join("events.sock"));
        let (committer, thread) = Committer::start(journal, exchange, events).unwrap();
        let server = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        server.writable().await.unwrap();
        Self {
            directory,
            committer: Some(committer),
            thread: Some(thread),
            client: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            server,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("leases")
    }

    fn committer(&self) -> &Committer {
        self.committer.as_ref().unwrap()
    }

    /// An answer that tells the binding's address and waits for the binding.
    fn commit(&self, now: Timestamp, binding: Binding) {
        let SocketAddr::V4(destination) = self.client.local_addr().unwrap() else {
            panic!("an IPv4 socket");
        };
        let payload = binding.address.octets().to_vec();
        let datagram = Transmit {
            destination,
            payload,
        };
        let commit = Commit {
            records: vec![binding],
            transmit: Some((Arc::clone(&self.server), datagram)),
            events: vec![],
        };
        self.committer().commit(now, commit);
    }

    async fn answer(&self) -> Ipv4Addr {
        let mut address = [0; 4];
        let received = tokio::time::timeout(LIMIT, self.client.recv(&mut address)).await;
        assert_eq!(received.unwrap().unwrap(), 4);
        Ipv4Addr::from(address)
    }

    fn stored(&self) -> Vec<Binding> {
        read_journal(&std::fs::read(self.path()).unwrap()).records
    }

    /// Ends the thread when all is written; what the journal holds then.
    fn finish(&mut self) -> Vec<Binding> {
        self.committer = None;
        self.thread.take().unwrap().join().unwrap();
        self.stored()
    }
}

fn binding(number: u32, expires_at: i64) -> Binding {
    let [_, _, c, d] = number.to_be_bytes();
    Binding {
        address: Ipv4Addr::new(10, 0, c, d),
        mac: MacAddr([2, 0, 0, 0, c, d]),
        state: BindingState::Leased,
        expires_at: Timestamp(expires_at),
    }
}

/// The offer of a lease, as the exchange makes it.
fn offered(number: u32, now: Timestamp) -> Ahead {
    let until = Timestamp(now.0 + 30_000);
    Ahead {
        lease: binding(number, until.0 + LEASE_MS),
        held_until: Some(until),
    }
}

#[tokio::test]
async fn an_answer_leaves_only_when_its_lease_is_in_the_journal() {
    let mut bench = Bench::new().await;
    let now = Timestamp::now();
    for number in 0..100 {
        // Every other one is asked for right after its offer, while that is being written.
        if number % 2 == 0 {
            bench.committer().write_ahead(now, offered(number, now));
        }
        bench.commit(now, binding(number, now.0 + LEASE_MS));
    }
    for _ in 0..100 {
        let address = bench.answer().await;
        let stored = bench.stored();
        assert!(stored.iter().any(|b| b.address == address), "{address}");
    }
    assert_eq!(bench.finish().len(), 100);
}

#[tokio::test]
async fn a_client_that_asks_again_costs_no_record_and_a_release_always_does() {
    let mut bench = Bench::new().await;
    let now = Timestamp::now();
    let told = [
        now.0 + LEASE_MS,
        now.0 + LEASE_MS + 30_000,
        1,
        now.0 + LEASE_MS,
        now.0 + 3 * LEASE_MS,
    ];
    for end in told {
        bench.commit(now, binding(7, end));
    }
    let stored = bench.finish();
    let kept: Vec<bool> = stored
        .iter()
        .map(|b| b.expires_at.0 >= now.0 + LEASE_MS)
        .collect();
    assert_eq!(
        kept,
        [true, false, true, true],
        "lease, release, lease, longer lease"
    );
    assert!(stored[3].expires_at.0 >= told[4]);
}

#[tokio::test]
async fn offers_not_taken_up_are_no_leases_after_a_stop_and_the_others_are() {
    let mut bench = Bench::new().await;
    let now = Timestamp::now();
    for number in 0..10 {
        bench.committer().write_ahead(now, offered(number, now));
    }
    bench.commit(now, binding(3, now.0 + LEASE_MS));
    assert_eq!(bench.answer().await, binding(3, 0).address);
    // What a crash at this moment would leave: every offer may have been taken up.
    let crashed = LeaseTable::from_records(bench.stored());
    assert_eq!(crashed.iter().count(), 10);
    let left = LeaseTable::from_records(bench.finish());
    let later = Timestamp(now.0 + 60_000);
    let live: Vec<_> = left.iter().filter(|b| b.is_live(later)).collect();
    assert_eq!(live.len(), 1, "{live:?}");
    assert_eq!(live[0].address, binding(3, 0).address);
}

#[tokio::test]
async fn the_file_does_not_grow_with_a_flood_of_discovers() {
    let mut bench = Bench::new().await;
    let start = Timestamp::now();
    let size = || std::fs::metadata(bench.path()).unwrap().len();
    let before = size();
    // Half an hour of 100 new network cards a second.
    for second in 0..1800 {
        let now = Timestamp(start.0 + i64::from(second) * 1000);
        for card in 0..100 {
            let number = (second * 100 + card) % 60_000;
            bench.committer().write_ahead(now, offered(number, now));
        }
        bench.committer().handle_timeout(now);
    }
    // 256 offers and as many ends per 30 s: 30 720 records, not quite a mebibyte.
    assert_eq!(size(), before);
    let records = bench.finish().len();
    assert!((256..=2 * 256 * 61).contains(&records), "{records}");
}
