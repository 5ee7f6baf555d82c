//! The service in a process of its own, to be stopped, killed and started again. A test file that uses it has a test
//! `child_that_serves` that calls [`serve_if_child`].

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dess_model::host::{Paths, request};
use dess_model::{TargetReply, TargetRequest};
use dess_target::{TargetOptions, serve};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::room::{Site, client_id};

const STATE: &str = "DESS_TEST_STATE";
const RUNTIME: &str = "DESS_TEST_RUNTIME";
/// For an answer of the service, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves until SIGTERM, as `dess iscsi` does, in the process that [`Service::start`] has started; does nothing in any
/// other.
pub fn serve_if_child() {
    let (Some(state), Some(runtime)) = (std::env::var_os(STATE), std::env::var_os(RUNTIME)) else {
        return;
    };
    use_all_files();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let paths = Paths {
        state: state.into(),
        runtime: runtime.into(),
    };
    Runtime::new().unwrap().block_on(async {
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        tokio::spawn(async move {
            terminate.recv().await;
            stop.cancel();
        });
        let (ready, _) = oneshot::channel();
        serve(TargetOptions::new(paths), ready, cancel)
            .await
            .unwrap();
    });
}

/// Raises the number of files that this process may open to the hard limit, as `dess` does.
/// Returns the limit.
pub fn use_all_files() -> u64 {
    let hard = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: hard,
        maximum: hard,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    hard.unwrap_or(1 << 20)
}

/// The running process; killed at the end.
pub struct Service(Child);

impl Service {
    /// Starts the test `child_that_serves` of this test file, and waits until it accepts.
    pub fn start(site: &Site) -> Self {
        Self::start_with_log(site, Stdio::inherit())
    }

    /// As [`start`](Self::start); its log goes to a file.
    pub fn start_logging_to(site: &Site, log: File) -> Self {
        Self::start_with_log(site, log.into())
    }

    fn start_with_log(site: &Site, log: Stdio) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_serves", "--nocapture"])
            .env(STATE, &site.paths.state)
            .env(RUNTIME, &site.paths.runtime)
            // As the supervisor runs it.
            .envs(dess_model::host::ALLOCATOR_ENVIRONMENT)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let child = Self(child);
        site.wait_for_portal();
        child
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Stops it in order and starts it again; after what time it had stopped, and accepted again.
    pub fn restart(&mut self, site: &Site) -> (Duration, Duration) {
        let begun = Instant::now();
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
        let stopped = begun.elapsed();
        *self = Self::start(site);
        (stopped, begun.elapsed())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has the disk of a seat made ready by the service that runs for `site`.
pub fn power_on(site: &Site, seat: u32) {
    let power_on = TargetRequest::PowerOn {
        client: client_id(seat),
        peer: [127, 0, 0, 1].into(),
    };
    let control = site.paths.target_control();
    let asked = request(&control, &power_on, PATIENCE);
    let reply: TargetReply = Runtime::new().unwrap().block_on(asked).unwrap();
    assert!(matches!(reply, TargetReply::Disk(_)), "{reply:?}");
}
