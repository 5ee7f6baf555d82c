//! The built-in supervisor of `dess up`: starts the five services, restarts them with back-off,
//! shows how each is, and ends them in order.
//!
//! A service says that its sockets are bound as a systemd service does: the datagram `READY=1` to
//! the socket named by `NOTIFY_SOCKET` (sd_notify(3)). So the same binary runs under both.

mod child;
mod log;
pub mod protocol;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dess_model::host::{Paths, RequestError, bind_control, serve_control};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use child::{Child, ChildHandle};
use protocol::{ServiceName, ServiceState, ServiceStatus, SupervisorReply, SupervisorRequest};

/// How long a service may take until it is ready before its condition is announced all the same.
const READY_WAIT: Duration = Duration::from_secs(5);
/// How long a restart request waits for the service to be ready again.
pub(crate) const RESTART_WAIT: Duration = Duration::from_secs(20);

/// What the supervisor runs.
#[derive(Clone, Debug)]
pub struct SupervisorOptions {
    /// Where the services keep their files.
    pub paths: Paths,
    /// The program; each service is started as `<program> <arguments> <service>`.
    pub program: PathBuf,
    /// Arguments before the service's name.
    pub arguments: Vec<String>,
}

/// Why the supervisor cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// Another one runs on the same runtime directory.
    #[error(
        "dess is already running here ({} is locked); stop it first, or use another runtime directory",
        path.display()
    )]
    AlreadyRunning {
        /// The lock file.
        path: PathBuf,
    },
    /// The runtime directory cannot be used.
    #[error("cannot use the runtime directory file {}", path.display())]
    Runtime {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// Runs the five services until `cancel`, then ends them in the reverse of their start order.
///
/// They start side by side: each waits by itself for what it needs, so that the page is there at
/// once, whatever else is not. `started` is called once, when every service was ready or had its
/// chance to be.
///
/// # Errors
/// If the runtime directory cannot be used or another supervisor owns it.
pub async fn supervise(
    options: SupervisorOptions,
    cancel: CancellationToken,
    started: impl FnOnce(Vec<ServiceStatus>),
) -> Result<(), SupervisorError> {
    let _lock = lock(&options.paths.runtime.join("up.lock"))?;
    let control = options.paths.supervisor_control();
    let listener = bind_control(&control).map_err(|source| SupervisorError::Runtime {
        path: control.clone(),
        source,
    })?;

    let mut tasks = JoinSet::new();
    let mut handles = Vec::new();
    for name in ServiceName::START_ORDER {
        let (child, handle) = Child::new(name, &options)?;
        tasks.spawn(child.run());
        handles.push(handle);
    }
    let handles: Arc<[ChildHandle]> = handles.into();
    let shared = Arc::clone(&handles);
    let answering = serve_control(
        listener,
        move |question| answer(Arc::clone(&shared), question),
        |message| SupervisorReply::Error { message },
    );
    let announcing = async {
        for handle in handles.iter() {
            handle.wait_ready(READY_WAIT).await;
        }
        started(statuses(&handles));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = answering => {}
        () = announcing => {}
    }

    tracing::info!("stopping all services");
    for handle in handles.iter().rev() {
        handle.stop().await;
    }
    while tasks.join_next().await.is_some() {}
    remove(&control);
    Ok(())
}

/// A request to the supervisor that was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ServiceRequestError {
    /// No answer.
    #[error("the supervisor (dess up) does not answer")]
    Unreachable(#[from] RequestError),
    /// Answered with a refusal.
    #[error("{message}")]
    Refused {
        /// Why, for people.
        message: String,
    },
}

async fn answer(handles: Arc<[ChildHandle]>, question: SupervisorRequest) -> SupervisorReply {
    match question {
        SupervisorRequest::List => SupervisorReply::Services {
            services: statuses(&handles),
        },
        SupervisorRequest::Restart { service } => {
            let Some(handle) = handles.iter().find(|handle| handle.name() == service) else {
                return SupervisorReply::Error {
                    message: format!("{service} is not run here"),
                };
            };
            handle.restart().await;
            handle.wait_ready(RESTART_WAIT).await;
            let status = handle.status();
            if status.state == ServiceState::Ready {
                SupervisorReply::Restarted { service: status }
            } else {
                let cause = status.log_tail.last().cloned().unwrap_or_default();
                SupervisorReply::Error {
                    message: format!("{service} did not come back; its last line: {cause}"),
                }
            }
        }
    }
}

fn statuses(handles: &[ChildHandle]) -> Vec<ServiceStatus> {
    handles.iter().map(ChildHandle::status).collect()
}

/// Holds the lock until dropped; the kernel drops it if the process dies.
fn lock(path: &Path) -> Result<File, SupervisorError> {
    let runtime = |source| SupervisorError::Runtime {
        path: path.to_owned(),
        source,
    };
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(runtime)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SupervisorError::AlreadyRunning {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(runtime(source)),
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::debug!(%error, "cannot remove {}", path.display());
    }
}

/// A channel whose last value is what anybody sees.
type Shown = watch::Sender<ServiceStatus>;

#[cfg(test)]
mod tests;
