use std::net::Ipv4Addr;

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Long enough for anything on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn one_peer_cannot_take_all_places_and_gives_its_own_back() {
    let places = Arc::new(Places::default());
    let peer = |number: u8| IpAddr::V4(Ipv4Addr::new(192, 0, 2, number));
    let mut held: Vec<_> = (0..CONNECTIONS_PER_PEER_MAX)
        .map(|_| places.take(peer(1)).unwrap())
        .collect();
    assert!(places.take(peer(1)).is_none());
    let other = places.take(peer(2));
    assert!(other.is_some(), "another peer still gets in");
    held.pop();
    assert!(places.take(peer(1)).is_some());
    drop((held, other));
    assert!(places.0.lock().unwrap().is_empty(), "nothing is kept");
}

#[test]
fn all_peers_together_have_a_limit() {
    let places = Arc::new(Places::default());
    let held: Vec<_> = (0..CONNECTIONS_MAX)
        .map(|number| {
            let host = u32::try_from(number / 32).unwrap();
            places.take(IpAddr::V4(host.into())).unwrap()
        })
        .collect();
    assert!(places.take(Ipv4Addr::LOCALHOST.into()).is_none());
    drop(held);
    assert!(places.take(Ipv4Addr::LOCALHOST.into()).is_some());
}

/// The limits over a router that only says who asks.
async fn served() -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let who = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() };
    let router = Router::new().route("/", get(who));
    tokio::spawn(async move { accept_all(&listener, &router, &stop).await });
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
