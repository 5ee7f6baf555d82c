//! Asks each service what a PC or a browser would ask of it, and tells whether it works.
//!
//! A process that exists is not yet a service: each probe goes the way of its clients, over real sockets, and leaves nothing
//! behind (no lease, no client, no disk).
//!
//! | service | what is asked |
//! |---|---|
//! | `dhcp` | a DISCOVER on each interface of the site; an offer with a boot file is wanted |
//! | `boot` | the loaders by TFTP, a boot script and the begin of a loader by HTTP |
//! | `iscsi` | at each portal a login with CHAP to the probe disk and its block 0 |
//! | `node` | its state, over its control socket |
//! | `web` | the page for the login |

mod boot;
mod dhcp;
mod foreign;
mod http;
mod iscsi;
mod node;
mod web;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use dess_model::host::Paths;
use dess_model::{ProbeFailure, ProbeReport, ProbeStep, ServiceName, SiteSnapshot, Timestamp};
use tokio::time::timeout;

pub use foreign::{ForeignServer, foreign_dhcp_servers};

/// How long one step of a probe may take: far longer than a client would like to wait.
pub const STEP_LIMIT: Duration = Duration::from_secs(5);

/// Where the services of this server are, as far as the site snapshot does not tell.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// Where snapshot, control sockets and the secret of the probe disk are.
    pub paths: Paths,
    /// Port of the TFTP service.
    pub tftp_port: u16,
    /// Where the iSCSI service listens; empty: at the site's portals.
    pub iscsi: Vec<SocketAddr>,
    /// Where the admin page listens.
    pub web: SocketAddr,
}

/// Probes a service. `former` is what the last probe found: how it is, it is since then.
pub async fn probe(
    endpoints: &Endpoints,
    service: ServiceName,
    former: Option<&ProbeReport>,
) -> ProbeReport {
    let started = Instant::now();
    let failure = probe_once(endpoints, service).await.err();
    let at = Timestamp::now();
    let unchanged = former.filter(|former| former.works() == failure.is_none());
    ProbeReport {
        service,
        failure,
        at,
        since: unchanged.map_or(at, |former| former.since),
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

async fn probe_once(endpoints: &Endpoints, service: ServiceName) -> Result<(), ProbeFailure> {
    match service {
        ServiceName::Dhcp => dhcp::probe(&snapshot(endpoints)?).await,
        ServiceName::Boot => boot::probe(endpoints, &snapshot(endpoints)?).await,
        ServiceName::Iscsi => {
            let portals = match endpoints.iscsi.as_slice() {
                [] => {
                    let portals = snapshot(endpoints)?.server.portals;
                    portals.into_iter().map(SocketAddr::V4).collect()
                }
                configured => configured.to_vec(),
            };
            iscsi::probe(&endpoints.paths, &portals).await
        }
        ServiceName::Node => node::probe(&endpoints.paths).await,
        ServiceName::Web => web::probe(endpoints.web).await,
    }
}

/// What the site snapshot tells, read anew: a probe must not go by what it read before.
fn snapshot(endpoints: &Endpoints) -> Result<SiteSnapshot, ProbeFailure> {
    let text = std::fs::read(endpoints.paths.snapshot());
    let text = text.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => ProbeFailure::NotPermitted,
        _ => ProbeFailure::NoSite,
    })?;
    SiteSnapshot::from_json(&text).map_err(|_| ProbeFailure::NoSite)
}

/// The address at which a service that listens on all can be reached.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let mut address = listen;
    if listen.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}

/// Waits for a step, no longer than [`STEP_LIMIT`].
async fn within<T>(
    at: impl ToString,
    step: ProbeStep,
    work: impl Future<Output = Result<T, ProbeFailure>>,
) -> Result<T, ProbeFailure> {
    timeout(STEP_LIMIT, work)
        .await
        .unwrap_or_else(|_| Err(silent(at, step)))
}

fn silent(at: impl ToString, step: ProbeStep) -> ProbeFailure {
    ProbeFailure::Silent {
        at: at.to_string(),
        limit_ms: u64::try_from(STEP_LIMIT.as_millis()).unwrap_or(u64::MAX),
        step,
    }
}

/// What a failure of the system means.
fn failed(at: impl ToString, error: &io::Error) -> ProbeFailure {
    let at = at.to_string();
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ProbeFailure::Refused { at },
        io::ErrorKind::PermissionDenied => ProbeFailure::NotPermitted,
        _ => ProbeFailure::Broken {
            at,
            detail: error.to_string(),
        },
    }
}

fn unusable(at: impl ToString, step: ProbeStep, detail: impl Into<String>) -> ProbeFailure {
    ProbeFailure::Unusable {
        at: at.to_string(),
        step,
        detail: detail.into(),
    }
}
