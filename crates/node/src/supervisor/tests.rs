//! The supervisor over shell scripts that behave as services do.

use std::os::unix::fs::PermissionsExt;

use super::protocol::LastExit;
use super::*;
use crate::services::{ServiceManager, Supervised, restart};

/// A program that says that it is ready and then sleeps; `boot` dies at its first three starts.
const SERVICE: &str = r#"#!/bin/bash
name="$2"
echo "starting $name"
if [ "$name" = boot ]; then
  n=$(cat "$1/tries" 2>/dev/null || echo 0); echo $((n + 1)) > "$1/tries"
  [ "$n" -lt 3 ] && { echo "port 69 is taken"; exit 3; }
fi
perl -MSocket -e 'socket(S, PF_UNIX, SOCK_DGRAM, 0); send(S, "READY=1\n", 0, sockaddr_un($ENV{NOTIFY_SOCKET}))'
trap 'exit 0' TERM
while :; do sleep 0.05; done
"#;

struct Fixture {
    directory: tempfile::TempDir,
    options: SupervisorOptions,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("service");
        std::fs::write(&program, SERVICE).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let paths = Paths {
            state: directory.path().to_owned(),
            runtime: directory.path().to_owned(),
        };
        let arguments = vec![directory.path().display().to_string()];
        Self {
            options: SupervisorOptions {
                paths,
                program,
                arguments,
            },
            directory,
        }
    }

    async fn wait_for(
        &self,
        name: ServiceName,
        wanted: impl Fn(&ServiceStatus) -> bool,
    ) -> ServiceStatus {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            if let Ok(all) = Supervised::new(&self.options.paths).list().await
                && let Some(found) = all.into_iter().find(|one| one.name == name && wanted(one))
            {
                return found;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "{name} never got there"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_restarted_shown_and_ended_in_order() {
    let fixture = Fixture::new();
    let cancel = CancellationToken::new();
    let running = tokio::spawn(supervise(fixture.options.clone(), cancel.clone(), |_| {}));

    let boot = fixture
        .wait_for(ServiceName::Boot, |one| one.state == ServiceState::Ready)
        .await;
    assert_eq!(boot.restarts, 3);
    assert_eq!(boot.last_exit, Some(LastExit::Exited { code: 3 }));
    assert!(
        boot.log_tail.iter().any(|line| line == "port 69 is taken"),
        "{boot:?}"
    );

    let node = fixture
        .wait_for(ServiceName::Node, |one| one.state == ServiceState::Ready)
        .await;
    let pid = i32::try_from(node.pid.unwrap()).unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    let killed = |one: &ServiceStatus| one.state == ServiceState::Ready && one.restarts == 1;
    let node = fixture.wait_for(ServiceName::Node, killed).await;
    let signal = "SIGKILL".to_owned();
    assert_eq!(node.last_exit, Some(LastExit::Killed { signal }));

    let again = restart(&fixture.options.paths, ServiceName::Node)
        .await
        .unwrap();
    assert_ne!(again.pid, node.pid);
    assert_eq!(again.state, ServiceState::Ready);

    let second = supervise(fixture.options.clone(), CancellationToken::new(), |_| {}).await;
    assert!(
        matches!(second, Err(SupervisorError::AlreadyRunning { .. })),
        "{second:?}"
    );

    let pids: Vec<u32> = Supervised::new(&fixture.options.paths)
        .list()
        .await
        .unwrap()
        .iter()
        .filter_map(|one| one.pid)
        .collect();
    cancel.cancel();
    running.await.unwrap().unwrap();
    for pid in pids {
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "process {pid} is left behind"
        );
    }
    drop(fixture.directory);
}
