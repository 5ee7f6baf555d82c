//! Counters for Prometheus: text format 0.0.4 over HTTP, by this process itself, so that they are
//! there while the rest of the system is not.

mod text;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::service::Service;

/// Scrapes at once.
const SCRAPES_MAX: usize = 4;
/// How long a scrape may take.
const SCRAPE_WITHIN: Duration = Duration::from_secs(10);
/// Pause after a failed accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds the addresses; one that cannot be bound is left out and logged: the disks matter more.
pub(crate) async fn bind_all(addresses: &[SocketAddr]) -> Vec<TcpListener> {
    let mut listeners = Vec::new();
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(error) => tracing::warn!(%error, "cannot serve metrics on {address}"),
        }
    }
    listeners
}

/// Answers scrapes until the future is dropped.
pub(crate) async fn serve(service: &Arc<Service>, listeners: Vec<TcpListener>) {
    let places = Arc::new(Semaphore::new(SCRAPES_MAX));
    let mut accepting = tokio::task::JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(Arc::clone(service), listener, Arc::clone(&places)));
    }
    while accepting.join_next().await.is_some() {}
    std::future::pending::<()>().await;
}

async fn accept(service: Arc<Service>, listener: TcpListener, places: Arc<Semaphore>) {
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = Arc::clone(&service);
                tokio::spawn(async move {
                    let answered = tokio::time::timeout(SCRAPE_WITHIN, answer(&service, stream));
                    match answered.await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => tracing::debug!(%error, "a scrape broke"),
                        Err(_) => tracing::debug!("a scrape took too long"),
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a scrape");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(service: &Arc<Service>, stream: TcpStream) -> hyper::Result<()> {
    let handle = |request: Request<hyper::body::Incoming>| async move {
        Ok::<_, Infallible>(respond(service, request.method(), request.uri().path()).await)
    };
    http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service_fn(handle))
        .await
}

async fn respond(service: &Arc<Service>, method: &Method, path: &str) -> Response<String> {
    if path != "/metrics" {
        return status(StatusCode::NOT_FOUND);
    }
    if method != Method::GET && method != Method::HEAD {
        return status(StatusCode::METHOD_NOT_ALLOWED);
    }
    service.observe_tcp().await;
    let disks = crate::control::disks(service).await;
    let mut response = Response::new(text::render(service, &disks));
    let format = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(CONTENT_TYPE, format);
    response
}

fn status(status: StatusCode) -> Response<String> {
    let mut response = Response::new(format!("{status}\n"));
    *response.status_mut() = status;
    response
}

/// The connections of this service as the kernel sees them, kept in their sessions.
pub(crate) fn observe_tcp(service: &Service, ports: &[u16]) -> io::Result<()> {
    for &port in ports {
        let found = crate::tcp_info::connections(port)?;
        for session in service.sessions.matching(|_| true) {
            let peer = SocketAddr::new(session.peer.ip().to_canonical(), session.peer.port());
            if let Some(state) = found.get(&peer) {
                session.set_tcp(*state);
            }
        }
    }
    Ok(())
}
