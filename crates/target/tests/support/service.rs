//! The service in a process of its own, to be killed. A test file that uses it has a test that calls [`serve_if_child`].

use std::process::{Child, Command, Stdio};

use dess_model::host::Paths;
use dess_target::{TargetOptions, serve};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::room::Site;

const STATE: &str = "DESS_TEST_STATE";
const RUNTIME: &str = "DESS_TEST_RUNTIME";

/// Serves for ever in the process that [`Service::start`] has started; does nothing in any other.
pub fn serve_if_child() {
    let (Some(state), Some(runtime)) = (std::env::var_os(STATE), std::env::var_os(RUNTIME)) else {
        return;
    };
    let paths = Paths {
        state: state.into(),
        runtime: runtime.into(),
    };
    let (ready, _) = oneshot::channel();
    let served = serve(TargetOptions::new(paths), ready, CancellationToken::new());
    tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(served)
        .unwrap();
}

/// The running process; killed at the end.
pub struct Service(Child);

impl Service {
    /// Starts the test `child_that_serves` of this test file, and waits until it accepts.
    pub fn start(site: &Site) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_serves", "--nocapture"])
            .env(STATE, &site.paths.state)
            .env(RUNTIME, &site.paths.runtime)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let child = Self(child);
        site.wait_for_portal();
        child
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
