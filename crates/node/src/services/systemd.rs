//! systemd, asked by `systemctl` and `journalctl` (docs/adr/0017-systemd-by-its-own-programs.md).

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use dess_model::{ServiceName, Timestamp};
use tokio::process::Command;
use tokio::time::timeout;

use super::ServiceManager;
use crate::supervisor::ServiceRequestError;
use crate::supervisor::protocol::{LastExit, ServiceState, ServiceStatus};

/// It is there if systemd runs the machine (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
/// How long a question may take.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// How long a restart may take: the stop, and the start until the service is ready.
const RESTART_WAIT: Duration = Duration::from_secs(60);
/// Log lines shown of a service.
const TAIL_LINES: &str = "20";
/// What is asked of a unit.
const PROPERTIES: &str = "LoadState,ActiveState,SubState,MainPID,NRestarts,Result,\
                          ExecMainCode,ExecMainStatus,ExecMainExitTimestamp,StateChangeTimestamp";

/// systemd with the units `dess-<service>.service`.
#[derive(Debug, Default)]
pub struct Systemd {
    /// The instance of the user instead of the machine's, for tests.
    user: bool,
}

impl Systemd {
    /// The machine's systemd.
    pub fn new() -> Self {
        Self::default()
    }

    /// The systemd of this user.
    pub fn of_user() -> Self {
        Self { user: true }
    }

    /// True if systemd runs this machine and has our units.
    pub async fn runs_us(&self) -> bool {
        if !self.user && !Path::new(BOOTED).exists() {
            return false;
        }
        let shown = self.show(ServiceName::Node).await;
        shown.is_ok_and(|shown| {
            shown
                .get("LoadState")
                .is_some_and(|state| state == "loaded")
        })
    }

    async fn show(
        &self,
        service: ServiceName,
    ) -> Result<HashMap<String, String>, ServiceRequestError> {
        let property = format!("--property={PROPERTIES}");
        let arguments = ["show", "--timestamp=unix", &property, &unit(service)];
        let text = self.run("systemctl", &arguments, ANSWER_WAIT).await?;
        Ok(properties(&text))
    }

    async fn status(&self, service: ServiceName) -> Result<ServiceStatus, ServiceRequestError> {
        let shown = self.show(service).await?;
        let unit = unit(service);
        let arguments = ["--output=cat", "--no-pager", "-n", TAIL_LINES, "-u", &unit];
        let log = self.run("journalctl", &arguments, ANSWER_WAIT).await;
        // A service whose log cannot be read is shown without.
        let log = log.unwrap_or_default();
        Ok(status_of(service, &shown, &log))
    }

    async fn run(
        &self,
        program: &str,
        arguments: &[&str],
        limit: Duration,
    ) -> Result<String, ServiceRequestError> {
        let refused = |message| ServiceRequestError::Refused { message };
        let mut command = Command::new(program);
        if self.user {
            command.arg("--user");
        }
        let command = command
            .args(arguments)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(limit, command)
            .await
            .map_err(|_| refused(format!("{program} does not answer")))?
            .map_err(|error| refused(format!("{program}: {error}")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(refused(format!("{program}: {}", said.trim())));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl ServiceManager for Systemd {
    async fn list(&self) -> Result<Vec<ServiceStatus>, ServiceRequestError> {
        let mut services = Vec::new();
        for service in ServiceName::START_ORDER {
            services.push(self.status(service).await?);
        }
        Ok(services)
    }

    /// systemd answers when the service has said that it is ready (`Type=notify`).
    async fn restart(&self, service: ServiceName) -> Result<ServiceStatus, ServiceRequestError> {
        let arguments = ["restart", &unit(service)];
        self.run("systemctl", &arguments, RESTART_WAIT).await?;
        self.status(service).await
    }
}

fn unit(service: ServiceName) -> String {
    format!("dess-{service}.service")
}

/// `Key=value` lines.
fn properties(text: &str) -> HashMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// What the properties of a unit mean (org.freedesktop.systemd1(5)).
fn status_of(service: ServiceName, shown: &HashMap<String, String>, log: &str) -> ServiceStatus {
    let value = |key: &str| shown.get(key).map_or("", String::as_str);
    let state = match (value("ActiveState"), value("SubState")) {
        ("active" | "reloading", _) => ServiceState::Ready,
        (_, "auto-restart") | ("failed", _) => ServiceState::Backoff,
        ("activating", _) => ServiceState::Starting,
        _ => ServiceState::Stopped,
    };
    ServiceStatus {
        name: service,
        state,
        pid: value("MainPID").parse().ok().filter(|pid| *pid != 0),
        since: timestamp(value("StateChangeTimestamp")).unwrap_or(Timestamp(0)),
        restarts: value("NRestarts").parse().unwrap_or(0),
        last_exit: last_exit(shown),
        log_tail: log.lines().map(str::to_owned).collect(),
        probe: None,
    }
}

/// `@1795348800`, as `--timestamp=unix` tells it; none for a moment that never was.
fn timestamp(text: &str) -> Option<Timestamp> {
    let seconds: i64 = text.strip_prefix('@')?.parse().ok()?;
    Some(Timestamp(seconds.saturating_mul(1000)))
}

/// How the last process ended; none if none has ended yet.
fn last_exit(shown: &HashMap<String, String>) -> Option<LastExit> {
    /// `CLD_EXITED`, `CLD_KILLED` and `CLD_DUMPED` of waitid(2).
    const EXITED: &str = "1";
    const SIGNALLED: [&str; 2] = ["2", "3"];
    let value = |key: &str| shown.get(key).map_or("", String::as_str);
    timestamp(value("ExecMainExitTimestamp")).filter(|at| at.0 > 0)?;
    let number: i32 = value("ExecMainStatus").parse().ok()?;
    match value("ExecMainCode") {
        EXITED => Some(LastExit::Exited { code: number }),
        code if SIGNALLED.contains(&code) => {
            let signal = nix::sys::signal::Signal::try_from(number);
            Some(LastExit::Killed {
                signal: match signal {
                    Ok(known) => known.to_string(),
                    Err(_) => format!("signal {number}"),
                },
            })
        }
        _ => Some(LastExit::Ended {
            result: value("Result").to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> ServiceStatus {
        status_of(ServiceName::Boot, &properties(text), "first\nlast\n")
    }

    #[test]
    fn a_service_that_runs() {
        let status = seen(
            "MainPID=812\nNRestarts=0\nResult=success\nExecMainExitTimestamp=\nExecMainCode=0\n\
             ExecMainStatus=0\nLoadState=loaded\nActiveState=active\nSubState=running\n\
             StateChangeTimestamp=@1795348800\n",
        );
        assert_eq!((status.state, status.pid), (ServiceState::Ready, Some(812)));
        assert_eq!(status.since, Timestamp(1_795_348_800_000));
        assert_eq!(status.last_exit, None);
        assert_eq!(status.log_tail, ["first", "last"]);
    }

    #[test]
    fn a_service_that_waits_for_its_next_start_after_a_kill() {
        let status = seen(
            "MainPID=0\nNRestarts=3\nResult=signal\nExecMainExitTimestamp=@1795348790\n\
             ExecMainCode=2\nExecMainStatus=9\nActiveState=activating\nSubState=auto-restart\n\
             StateChangeTimestamp=@1795348790\n",
        );
        assert_eq!((status.state, status.pid), (ServiceState::Backoff, None));
        assert_eq!(status.restarts, 3);
        let signal = "SIGKILL".to_owned();
        assert_eq!(status.last_exit, Some(LastExit::Killed { signal }));
    }

    #[test]
    fn services_that_start_failed_or_were_stopped() {
        let state = |text| seen(text).state;
        let starting = "ActiveState=activating\nSubState=start\n";
        assert_eq!(state(starting), ServiceState::Starting);
        let failed = "ActiveState=failed\nSubState=failed\n";
        assert_eq!(state(failed), ServiceState::Backoff);
        let stopped = "ActiveState=inactive\nSubState=dead\n";
        assert_eq!(state(stopped), ServiceState::Stopped);
        assert_eq!(state(""), ServiceState::Stopped);
    }
}
