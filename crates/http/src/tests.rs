use axum::extract::ConnectInfo;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Long enough for anything on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Only says who asks.
struct Who;

impl Host for Who {
    fn router(self: &Arc<Self>, ends: Ends) -> Router {
        let who = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() };
        Router::new()
            .route("/", get(who))
            .layer(axum::Extension(ConnectInfo(ends.peer)))
    }

    fn misused(&self, _peer: IpAddr, _reason: &str) {}
}

async fn served() -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let limits = Limits {
        connections: 512,
        head_bytes: HEAD_BYTES_MAX,
        requests_until: PATIENCE,
        last_answer: PATIENCE,
        stop_wait: PATIENCE,
    };
    tokio::spawn(async move { serve(&listener, &Arc::new(Who), limits, &stop).await });
    (address, cancel)
}

/// Everything until the peer closes; what was read before a reset counts too.
async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("the connection is closed");
    String::from_utf8(bytes).unwrap()
}

async fn ask(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let _ = stream.write_all(request).await;
    read_all(&mut stream).await
}

#[tokio::test]
async fn a_peer_with_too_many_connections_is_refused_until_it_closes_some() {
    let (address, _cancel) = served().await;
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_PER_PEER_MAX {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(ask(address).await, "", "closed without an answer");
    drop(idle);
    let answer = tokio::time::timeout(PATIENCE, async {
        loop {
            let answer = ask(address).await;
            if !answer.is_empty() {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    });
    let answer = answer.await.expect("the places are given back");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let (address, _cancel) = served().await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ")
        .await
        .unwrap();
    let answer = read_all(&mut slow).await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");

    let mut large = TcpStream::connect(address).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nx-large: {}", "x".repeat(HEAD_BYTES_MAX));
    let _ = large.write_all(head.as_bytes()).await;
    let answer = read_all(&mut large).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
}
