//! The service itself.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use dess_http::{Ends, Host, Limits};
use dess_model::host::Paths;
use dess_model::{EventKind, MalformedTally, Timestamp};
use dess_node::operations::Operations;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::access::{CodeUse, code_discard, network, setup_code_provide};
use crate::app::App;
use crate::routes::router;

/// What a browser may do. It keeps one connection per open page for the live updates and a few more
/// while it loads; the last answer may be a live stream, which lasts 5 minutes.
const LIMITS: Limits = Limits {
    connections: 512,
    head_bytes: 32 * 1024,
    requests_until: Duration::from_secs(10 * 60),
    last_answer: Duration::from_secs(6 * 60),
    stop_wait: Duration::from_secs(3),
};

/// What the admin page needs.
#[derive(Clone, Debug)]
pub struct WebOptions {
    /// The site that the page shows and runs.
    pub operations: Operations,
    /// Address and port to listen on; port 0 takes any free one.
    pub listen: SocketAddr,
}

/// Why the admin page cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, not ours, or needs rights.
    #[error(
        "cannot listen on {address} for the admin page; is another program on this port? Choose another address with `listen` in the section [web] of the configuration file (/etc/dess/dess.toml)"
    )]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The listening socket is of no use.
    #[error("the admin page's listening socket does not tell its address")]
    Serve(#[source] io::Error),
}

/// Serves the admin page until `cancel`. Needs neither the database nor the other services.
///
/// `ready` is sent when the socket is bound.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve(
    options: WebOptions,
    ready: oneshot::Sender<()>,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let listener = bind(options.listen).await?;
    serve_on(listener, options.operations, ready, cancel).await
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })
}

/// As [`serve`], on a socket that is already bound; `WebOptions::listen` has no part in it.
///
/// # Errors
/// If the socket does not tell its address.
pub async fn serve_on(
    listener: TcpListener,
    operations: Operations,
    ready: oneshot::Sender<()>,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Serve)?;
    let app = App::new(operations, cancel.clone());
    prepare_setup(&app).await;
    tracing::info!(listen = %address, "admin page on http://{address}/");
    // Nobody may wait for it: then it is simply up.
    let _ = ready.send(());
    let page = Arc::new(Page {
        router: router(app.clone()),
        misuse: Mutex::new(MalformedTally::new("http")),
    });
    tokio::select! {
        () = dess_http::serve(&listener, &page, LIMITS, &cancel) => {}
        () = app.live.keep_watching() => {}
    }
    Ok(())
}

/// The page behind its listener.
struct Page {
    router: Router,
    misuse: Mutex<MalformedTally>,
}

impl Host for Page {
    fn router(self: &Arc<Self>, ends: Ends) -> Router {
        self.router.clone().layer(Extension(ConnectInfo(ends.peer)))
    }

    fn network(&self, peer: IpAddr) -> IpAddr {
        network(peer)
    }

    /// Logs it once per network and minute.
    fn misused(&self, peer: IpAddr, reason: &str) {
        let peer = network(peer);
        let mut misuse = self.misuse.lock().unwrap_or_else(PoisonError::into_inner);
        let report = misuse.record(Timestamp::now(), &peer.to_string(), reason);
        if let Some(EventKind::Malformed { count, reason, .. }) = report {
            tracing::warn!(peer = %peer, count, "connection of {peer} refused: {reason}");
        }
    }
}

/// Offers the set-up code while there is no user, and takes it away once there is one.
async fn prepare_setup(app: &App) {
    match app.feed.operations().user_count().await {
        Ok(0) => announce_setup_code(&app.paths),
        Ok(_) => code_discard(&app.paths, CodeUse::Setup),
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot tell whether the owner's account exists; the page will ask again"
        ),
    }
}

/// Makes the set-up code if there is none, and tells it on the server.
pub(crate) fn announce_setup_code(paths: &Paths) {
    match setup_code_provide(paths) {
        Ok((code, true)) => {
            tracing::info!(
                "set-up code of the admin page: {code} (valid until the account is made)"
            );
        }
        Ok((_, false)) => {}
        Err(error) => tracing::error!(
            %error,
            "cannot write the set-up code below {}; nobody can set up the page",
            paths.runtime.display()
        ),
    }
}
