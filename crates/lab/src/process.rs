//! A process of the room: started in a namespace, logged to a file, gone when dropped.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::room::Inner;
use crate::{command, wait};

/// A running (or ended) process; dropping it kills it and takes its exit status.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    child: Mutex<Child>,
    log: PathBuf,
    /// Keeps the namespace alive for as long as the process.
    _room: Arc<Inner>,
}

impl Process {
    /// Starts `command` with its standard output and error going to the room's `<name>.log`.
    pub(crate) fn start(
        room: &Arc<Inner>,
        name: &str,
        command: &mut Command,
    ) -> anyhow::Result<Self> {
        let log = room.new_file(name, "log");
        let file = File::create(&log).with_context(|| format!("cannot create {log:?}"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            // Ctrl-C in the terminal is for the program that owns the room.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", command::shown(command)))?;
        Ok(Self {
            name: name.to_owned(),
            pid: child.id(),
            child: Mutex::new(child),
            log,
            _room: Arc::clone(room),
        })
    }

    /// Process id (the program's own: `ip netns exec` replaces itself by it).
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// File that receives the process's standard output and error.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Everything the process printed so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last `lines` lines the process printed.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log(), lines)
    }

    /// The exit status, when the process has ended.
    ///
    /// # Errors
    /// When the operating system refuses to tell.
    pub fn status(&self) -> anyhow::Result<Option<ExitStatus>> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(child.try_wait()?)
    }

    /// Whether the process still runs (a zombie does not).
    pub fn is_running(&self) -> bool {
        matches!(self.status(), Ok(None))
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // Fails only when the process has already ended.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Asks the process to end (SIGTERM) and waits at most `limit` for it.
    ///
    /// # Errors
    /// With the end of the log, when it is still there after `limit`.
    pub fn terminate(&self, limit: Duration) -> anyhow::Result<ExitStatus> {
        if self.is_running() {
            kill(Pid::from_raw(i32::try_from(self.pid)?), Signal::SIGTERM)
                .with_context(|| format!("cannot signal {}", self.name))?;
        }
        self.wait(limit)
    }

    /// Waits at most `limit` for the process to end by itself.
    ///
    /// # Errors
    /// With the end of the log, when it is still there after `limit`.
    pub fn wait(&self, limit: Duration) -> anyhow::Result<ExitStatus> {
        wait::until(limit, || self.status())?.with_context(|| {
            format!(
                "{} still runs after {limit:?}; it last printed:\n{}",
                self.name,
                self.log_tail(TAIL_LINES)
            )
        })
    }

    /// Waits at most `limit` until the log contains `needle`.
    ///
    /// # Errors
    /// With the end of the log, when the limit passes or the process ends first.
    pub fn wait_for_log(&self, needle: &str, limit: Duration) -> anyhow::Result<()> {
        wait::until(limit, || {
            let ended = !self.is_running();
            if self.log().contains(needle) {
                return Ok(Some(()));
            }
            anyhow::ensure!(
                !ended,
                "{} ended before it printed {needle:?}; it last printed:\n{}",
                self.name,
                self.log_tail(TAIL_LINES)
            );
            Ok(None)
        })?
        .with_context(|| {
            format!(
                "{} did not print {needle:?} within {limit:?}; it last printed:\n{}",
                self.name,
                self.log_tail(TAIL_LINES)
            )
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last `lines` lines of `text`.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Lines of a log that an error quotes.
pub(crate) const TAIL_LINES: usize = 25;
