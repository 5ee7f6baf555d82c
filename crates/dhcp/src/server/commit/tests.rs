use super::*;
use crate::LeaseTable;
use crate::exchange::Transmit;
use crate::record::{JournalContent, read_journal};
use dess_model::{MacAddr, Timestamp};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

const LIMIT: Duration = Duration::from_secs(10);
const SESSION: Session = Session {
    boot_id: [7; 16],
    doubt_until: Timestamp(0),
    stopped: false,
};

/// A committer over a journal in a directory of its own, and a client to answer.
struct Bench {
    directory: tempfile::TempDir,
    committer: Option<Committer>,
    thread: Option<JoinHandle<()>>,
    client: UdpSocket,
    server: UdpSocket,
}

impl Bench {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(&directory.path().join("leases")).unwrap();
        let exchange = Arc::new(Mutex::new(Exchange::new(LeaseTable::default())));
        let (committer, thread) = Committer::start(journal, SESSION, exchange).unwrap();
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
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

    /// An answer that tells the binding's address and promises the binding.
    fn carry_out(&self, binding: Binding) {
        let SocketAddr::V4(destination) = self.client.local_addr().unwrap() else {
            panic!("an IPv4 socket");
        };
        let outcome = Outcome {
            records: vec![binding],
            transmit: Some(Transmit {
                destination,
                payload: binding.address.octets().to_vec(),
            }),
            events: vec![],
        };
        self.committer().carry_out(&self.server, outcome);
    }

    async fn answer(&self) -> Ipv4Addr {
        let mut address = [0; 4];
        let received = tokio::time::timeout(LIMIT, self.client.recv(&mut address)).await;
        assert_eq!(received.unwrap().unwrap(), 4);
        Ipv4Addr::from(address)
    }

    fn stored(&self) -> JournalContent {
        read_journal(&std::fs::read(self.path()).unwrap())
    }

    /// Lets the thread end; what the journal holds then.
    fn finish(&mut self) -> JournalContent {
        self.committer = None;
        self.thread.take().unwrap().join().unwrap();
        self.stored()
    }
}

fn binding(number: u32) -> Binding {
    let [_, _, c, d] = number.to_be_bytes();
    Binding {
        address: Ipv4Addr::new(10, 0, c, d),
        mac: MacAddr([2, 0, 0, 0, c, d]),
        state: BindingState::Leased,
        expires_at: Timestamp(1_000_000),
    }
}

#[tokio::test]
async fn an_answer_leaves_only_when_its_lease_is_in_the_file() {
    let mut bench = Bench::new().await;
    for number in 0..100 {
        bench.carry_out(binding(number));
        // What another process sees now is what a killed service leaves.
        let stored = bench.stored().records;
        assert_eq!(stored.last(), Some(&binding(number)));
        assert_eq!(bench.answer().await, binding(number).address);
    }
    assert_eq!(bench.finish().records.len(), 100);
}

#[tokio::test]
async fn a_clean_stop_is_recorded_and_a_refusing_disk_makes_the_stop_unclean() {
    let mut bench = Bench::new().await;
    bench.carry_out(binding(1));
    assert!(!bench.stored().session.unwrap().stopped);
    assert!(bench.finish().session.unwrap().stopped);

    let mut bench = Bench::new().await;
    let error = JournalError::Locked { path: bench.path() };
    lock(&bench.committer().store).complain(&error);
    bench.carry_out(binding(1));
    assert!(!bench.finish().session.unwrap().stopped);
}

#[tokio::test]
async fn after_a_refusal_the_file_is_written_anew_from_the_table() {
    let bench = Bench::new().await;
    let exchange = Exchange::new(LeaseTable::from_records([binding(1), binding(2)]));
    let syncer = Syncer {
        store: Arc::clone(&bench.committer().store),
        exchange: Arc::new(Mutex::new(exchange)),
    };
    assert!(!syncer.wants_rewriting());
    let refused_at = Instant::now().checked_sub(RETRY_EVERY).unwrap();
    lock(&syncer.store).failed_at = Some(refused_at);
    assert!(syncer.wants_rewriting());
    syncer.rewrite();
    assert!(!syncer.wants_rewriting());
    let stored = bench.stored();
    assert_eq!(stored.session, Some(SESSION));
    assert_eq!(stored.records.len(), 2);
}
