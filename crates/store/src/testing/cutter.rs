//! Between a database server and who uses it: cuts connections at chosen moments.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Forwards connections to a server until it has counted enough packets of the client; then it
/// cuts that connection, before or after it hands the packet on.
#[derive(Debug)]
pub struct Cutter {
    /// Where it listens on the loopback.
    pub port: u16,
    left: Arc<AtomicI64>,
    cuts: Arc<AtomicU32>,
}

/// What the cutter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Any packet.
    Any,
    /// The commit (`COM_QUERY` "COMMIT").
    Commit,
}

const COMMIT: &[u8] = b"\x03COMMIT";

impl Cutter {
    /// Begins to forward to the server at this port. Cut packets are handed on if `hand_on`.
    pub async fn start(server: u16, at: At, hand_on: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicI64::new(i64::MAX));
        let cuts = Arc::new(AtomicU32::new(0));
        let (counter, cut) = (Arc::clone(&left), Arc::clone(&cuts));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (counter, cut) = (Arc::clone(&counter), Arc::clone(&cut));
                tokio::spawn(async move {
                    let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    forward(client, server, at, hand_on, &counter, &cut).await;
                });
            }
        });
        Self { port, left, cuts }
    }

    /// Cuts at the `count`-th packet from now.
    pub fn arm(&self, count: i64) {
        self.left.store(count, Ordering::SeqCst);
    }

    /// How often it cut.
    pub fn cuts(&self) -> u32 {
        self.cuts.load(Ordering::SeqCst)
    }
}

async fn forward(
    client: TcpStream,
    server: TcpStream,
    at: At,
    hand_on: bool,
    left: &AtomicI64,
    cuts: &AtomicU32,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = tokio::spawn(async move {
        // Ends when either side does.
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
    });
    let mut buffer = vec![0; 65536];
    while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
        let packet = &buffer[..count];
        let counts = at == At::Any || packet.windows(COMMIT.len()).any(|part| part == COMMIT);
        if counts && left.fetch_sub(1, Ordering::SeqCst) == 1 {
            cuts.fetch_add(1, Ordering::SeqCst);
            // The answer must not come through.
            back.abort();
            let _ = back.await;
            if hand_on {
                let _ = to_server.write_all(packet).await;
            }
            return;
        }
        if to_server.write_all(packet).await.is_err() {
            return;
        }
    }
}
