//! The service on a real socket.

use std::net::SocketAddr;
use std::time::Duration;

use dess_model::host::Paths;
use dess_node::operations::Operations;
use dess_web::{WebOptions, serve, serve_on, setup_code};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

fn paths(directory: &tempfile::TempDir) -> Paths {
    Paths {
        state: directory.path().into(),
        runtime: directory.path().into(),
    }
}

async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn it_serves_until_cancelled_with_nothing_else_running() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ready, is_ready) = oneshot::channel();
    let cancel = CancellationToken::new();
    let service = tokio::spawn(serve_on(
        listener,
        Operations::new(paths(&directory)),
        ready,
        cancel.clone(),
    ));
    is_ready.await.unwrap();
    let room = get(address, "/").await.unwrap();
    assert!(room.starts_with("HTTP/1.1 303"), "{room}");
    let login = get(address, "/login").await.unwrap();
    assert!(
        login.starts_with("HTTP/1.1 503") && login.contains("dess init"),
        "{login}"
    );
    assert_eq!(
        setup_code(&paths(&directory)).unwrap(),
        None,
        "no code before there is a site"
    );
    // A connection that never asks anything does not hold up the end.
    let _idle = TcpStream::connect(address).await.unwrap();
    cancel.cancel();
    let end = tokio::time::timeout(Duration::from_secs(10), service).await;
    end.expect("it ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = taken.local_addr().unwrap();
    let options = WebOptions {
        operations: Operations::new(paths(&directory)),
        listen,
    };
    let (ready, is_ready) = oneshot::channel();
    let error = serve(options, ready, CancellationToken::new())
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&listen.to_string()), "{error}");
    assert!(is_ready.await.is_err(), "never ready");
}
