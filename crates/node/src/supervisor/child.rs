//! One supervised service.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dess_model::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixDatagram;
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::log::copy_lines;
use super::protocol::{LastExit, ServiceName, ServiceState, ServiceStatus};
use super::{Shown, SupervisorError, SupervisorOptions};

/// Delay before the first restart; doubled at each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest delay between restarts.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A service that ran this long starts again with the shortest delay.
const STEADY_AFTER: Duration = Duration::from_secs(20);
/// How long a service may take to end by itself before it is killed.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// What may be asked of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Restart,
    Stop,
}

/// Runs one service again and again.
pub(super) struct Child {
    name: ServiceName,
    program: PathBuf,
    arguments: Vec<String>,
    notify_path: PathBuf,
    notify: UnixDatagram,
    orders: mpsc::Receiver<Order>,
    shown: Shown,
}

/// The outside of a child: its condition and orders to it.
#[derive(Clone, Debug)]
pub(super) struct ChildHandle {
    name: ServiceName,
    orders: mpsc::Sender<Order>,
    status: watch::Receiver<ServiceStatus>,
}

/// Why a run of the process is over.
enum RunEnd {
    Exited(ExitStatus),
    Ordered(Order),
}

impl Child {
    pub(super) fn new(
        name: ServiceName,
        options: &SupervisorOptions,
    ) -> Result<(Self, ChildHandle), SupervisorError> {
        let notify_path = options.paths.runtime.join(format!("notify-{name}.sock"));
        let notify = bind_notify(&notify_path).map_err(|source| SupervisorError::Runtime {
            path: notify_path.clone(),
            source,
        })?;
        let (shown, status) = watch::channel(ServiceStatus {
            name,
            state: ServiceState::Starting,
            pid: None,
            since: Timestamp::now(),
            restarts: 0,
            last_exit: None,
            log_tail: Vec::new(),
            probe: None,
        });
        let (orders, received) = mpsc::channel(4);
        let child = Self {
            name,
            program: options.program.clone(),
            arguments: options.arguments.clone(),
            notify_path,
            notify,
            orders: received,
            shown,
        };
        Ok((
            child,
            ChildHandle {
                name,
                orders,
                status,
            },
        ))
    }

    /// Until ordered to stop.
    pub(super) async fn run(mut self) {
        let mut delay = BACKOFF_MIN;
        loop {
            let started = Instant::now();
            match self.run_once().await {
                Ok(RunEnd::Ordered(Order::Stop)) => break,
                Ok(RunEnd::Ordered(Order::Restart)) => {
                    delay = BACKOFF_MIN;
                    continue;
                }
                Ok(RunEnd::Exited(status)) => self.show_exit(describe(status)),
                Err(error) => {
                    let detail = format!("{}: {error}", self.program.display());
                    self.show_exit(LastExit::NotStarted { detail });
                }
            }
            if started.elapsed() >= STEADY_AFTER {
                delay = BACKOFF_MIN;
            }
            tokio::select! {
                () = sleep(delay) => {}
                order = self.orders.recv() => if order != Some(Order::Restart) { break },
            }
            delay = (delay * 2).min(BACKOFF_MAX);
            self.shown.send_modify(|status| status.restarts += 1);
        }
        self.show(ServiceState::Stopped, None);
        if let Err(error) = std::fs::remove_file(&self.notify_path) {
            tracing::debug!(%error, "cannot remove {}", self.notify_path.display());
        }
    }

    async fn run_once(&mut self) -> io::Result<RunEnd> {
        let mut process = Command::new(&self.program)
            .args(&self.arguments)
            .arg(self.name.as_str())
            .env("NOTIFY_SOCKET", &self.notify_path)
            .envs(dess_model::host::ALLOCATOR_ENVIRONMENT)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = process.id();
        self.show(ServiceState::Starting, pid);
        if let Some(output) = process.stdout.take() {
            tokio::spawn(copy_lines(self.name, output, self.shown.clone()));
        }
        if let Some(output) = process.stderr.take() {
            tokio::spawn(copy_lines(self.name, output, self.shown.clone()));
        }
        let mut message = [0; 256];
        loop {
            tokio::select! {
                status = process.wait() => return Ok(RunEnd::Exited(status?)),
                received = self.notify.recv(&mut message) => {
                    if says_ready(&message[..received?]) {
                        self.show(ServiceState::Ready, pid);
                    }
                }
                order = self.orders.recv() => {
                    end(&mut process, pid).await?;
                    return Ok(RunEnd::Ordered(order.unwrap_or(Order::Stop)));
                }
            }
        }
    }

    fn show(&self, state: ServiceState, pid: Option<u32>) {
        self.shown.send_modify(|status| {
            status.state = state;
            status.pid = pid;
            status.since = Timestamp::now();
        });
    }

    fn show_exit(&self, reason: LastExit) {
        tracing::warn!(service.name = %self.name, "service {} {reason}; it is started again", self.name);
        self.shown.send_modify(|status| {
            status.state = ServiceState::Backoff;
            status.pid = None;
            status.since = Timestamp::now();
            status.last_exit = Some(reason);
        });
    }
}

impl ChildHandle {
    pub(super) fn name(&self) -> ServiceName {
        self.name
    }

    pub(super) fn status(&self) -> ServiceStatus {
        self.status.borrow().clone()
    }

    /// Ends the service and starts it anew; returns when it is being started.
    pub(super) async fn restart(&self) {
        let mut status = self.status.clone();
        let before = status.borrow_and_update().since;
        if self.orders.send(Order::Restart).await.is_ok() {
            let again = status.wait_for(|now| now.since > before);
            if timeout(STOP_WAIT + Duration::from_secs(2), again)
                .await
                .is_err()
            {
                tracing::warn!(service.name = %self.name, "service {} does not restart", self.name);
            }
        }
    }

    /// Ends the service for good.
    pub(super) async fn stop(&self) {
        let mut status = self.status.clone();
        if self.orders.send(Order::Stop).await.is_ok() {
            let stopped = status.wait_for(|now| now.state == ServiceState::Stopped);
            if timeout(STOP_WAIT + Duration::from_secs(2), stopped)
                .await
                .is_err()
            {
                tracing::warn!(service.name = %self.name, "service {} does not stop", self.name);
            }
        }
    }

    /// Until the service is ready, or has ended at least once, at most `limit`.
    pub(super) async fn wait_ready(&self, limit: Duration) {
        let mut status = self.status.clone();
        let settled = status.wait_for(|now| now.state != ServiceState::Starting);
        if timeout(limit, settled).await.is_err() {
            tracing::warn!(service.name = %self.name, "service {} is slow to start", self.name);
        }
    }
}

/// Asks the process to end, and kills it if it does not.
async fn end(process: &mut tokio::process::Child, pid: Option<u32>) -> io::Result<()> {
    let id = pid.and_then(|pid| i32::try_from(pid).ok());
    if let Some(id) = id
        && kill(Pid::from_raw(id), Signal::SIGTERM).is_ok()
        && timeout(STOP_WAIT, process.wait()).await.is_ok()
    {
        return Ok(());
    }
    process.kill().await
}

fn bind_notify(path: &PathBuf) -> io::Result<UnixDatagram> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixDatagram::bind(path)
}

fn says_ready(message: &[u8]) -> bool {
    message
        .split(|&byte| byte == b'\n')
        .any(|line| line == b"READY=1")
}

fn describe(status: ExitStatus) -> LastExit {
    match (status.code(), status.signal()) {
        (Some(code), _) => LastExit::Exited { code },
        (None, Some(number)) => LastExit::Killed {
            signal: match Signal::try_from(number) {
                Ok(known) => known.to_string(),
                Err(_) => format!("signal {number}"),
            },
        },
        // wait(2) knows no third way.
        (None, None) => LastExit::Ended {
            result: "unknown".to_owned(),
        },
    }
}
