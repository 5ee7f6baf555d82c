//! Running the suite.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use dess_target::{StandaloneOptions, serve_file};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::expected::Run;

const IQN: &str = "iqn.2026-01.test:conformance";
/// The suite wants at least 1 GiB; the file is sparse.
const DISK_BYTES: u64 = 1 << 30;
/// Most of the suite's time is spent waiting for answers that must not come, so several run at once.
///
/// Each has a fresh disk: what one leaves behind is no matter of another. (MultipathIO.CompareAndWrite, for one, compares a block with
/// zeros that it has not zeroed.)
const AT_ONCE: usize = 8;
/// No test takes a third of it, even on a busy machine.
const TEST_SECS_MAX: u32 = 45;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pass,
    Skip,
    Fail,
    Hang,
}

#[derive(Debug)]
pub(crate) struct TestResult {
    pub(crate) test: String,
    pub(crate) outcome: Outcome,
    pub(crate) output: String,
}

/// The names of all tests; the suite's other families are views of the same ones.
pub(crate) fn tests() -> Vec<String> {
    let list = Command::new("iscsi-test-cu").arg("-l").output().unwrap();
    String::from_utf8(list.stdout)
        .unwrap()
        .lines()
        .map(str::trim)
        .filter(|name| name.starts_with("ALL.") && name.split('.').count() == 3)
        .map(str::to_owned)
        .collect()
}

/// Runs the tests of a run, in the suite's order in the result.
pub(crate) fn run(run: &Run, tests: &[String]) -> Vec<TestResult> {
    let wanted = tests.iter().filter(|test| run.covers(test));
    let queue: Mutex<VecDeque<&String>> = Mutex::new(wanted.collect());
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(test) = queue.lock().unwrap().pop_front() else {
                        return;
                    };
                    let directory = tempfile::tempdir().unwrap();
                    let result = Disk::serve(run, directory.path()).test(test);
                    results.lock().unwrap().push(result);
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    let place = |result: &TestResult| tests.iter().position(|test| *test == result.test);
    results.sort_by_key(place);
    results
}

struct Disk {
    url: String,
    _runtime: Runtime,
}

impl Disk {
    fn serve(run: &Run, directory: &Path) -> Self {
        let image = directory.join("disk.raw");
        File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
        let options = StandaloneOptions {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            image,
            overlay: run.overlay.then(|| directory.join("overlay")),
            read_only: run.read_only,
            geometry: run.geometry,
            iqn: IQN.into(),
            thin: true,
            chap: None,
            disk_threads: 2,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (ready, bound) = oneshot::channel();
        runtime.spawn(serve_file(options, ready, CancellationToken::new()));
        let address = runtime.block_on(bound).unwrap()[0];
        Self {
            url: format!("iscsi://{address}/{IQN}/0"),
            _runtime: runtime,
        }
    }

    /// The second URL is for the tests that want two paths.
    fn test(&self, test: &str) -> TestResult {
        let limit = TEST_SECS_MAX.to_string();
        let output = Command::new("timeout")
            .args(["-k", "5", &limit, "iscsi-test-cu", "-d", "-v", "-t", test])
            .args([&self.url, &self.url])
            .output()
            .unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        // A skipped test counts as passed in the exit status.
        let outcome = match output.status.code() {
            Some(0) if text.contains("[SKIPPED]") => Outcome::Skip,
            Some(0) => Outcome::Pass,
            // What `timeout` says of a process that it ended.
            Some(124 | 137) => Outcome::Hang,
            _ => Outcome::Fail,
        };
        TestResult {
            test: test.to_owned(),
            outcome,
            output: text,
        }
    }
}
