//! A network namespace of the room and the processes in it.

use std::ffi::OsStr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::command;
use crate::process::Process;
use crate::room::Inner;

/// One host on the room's network: the server, or a peer.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
    room: Arc<Inner>,
}

impl Namespace {
    /// Makes the namespace, with loopback up.
    pub(crate) fn create(room: &Arc<Inner>, role: &str) -> anyhow::Result<Self> {
        let name = format!("{}-{role}", room.id());
        command::run("ip", ["netns", "add", &name]).context("cannot make a network namespace")?;
        command::run("ip", ["-n", &name, "link", "set", "lo", "up"])?;
        Ok(Self {
            name,
            room: Arc::clone(room),
        })
    }

    /// Name under /run/netns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `program`, ready to run in this namespace; add arguments and environment, then hand it to
    /// [`Namespace::spawn`] or [`Namespace::run`].
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Starts a [`Namespace::command`] that stays; its output goes to `<name>.log` in the room.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, name: &str, command: &mut Command) -> anyhow::Result<Process> {
        Process::start(&self.room, name, command)
    }

    /// Runs a [`Namespace::command`] to its end and gives what it printed (both streams).
    ///
    /// # Errors
    /// When it fails or does not end within `limit`.
    pub fn run(&self, command: &mut Command, limit: Duration) -> anyhow::Result<String> {
        let process = Process::start(&self.room, "run", command)?;
        let status = process
            .wait(limit)
            .with_context(|| command::shown(command))?;
        anyhow::ensure!(
            status.success(),
            "{}: {status}\n{}",
            command::shown(command),
            process.log()
        );
        Ok(process.log())
    }

    /// `ip -n <this namespace> ARGS...`.
    ///
    /// # Errors
    /// With the tool's own text.
    pub fn ip(&self, args: &[&str]) -> anyhow::Result<()> {
        command::run("ip", ["-n", &self.name].iter().chain(args))?;
        Ok(())
    }

    /// Runs `script` with `sh` in the namespace (for /proc/sys).
    pub(crate) fn shell(&self, script: &str) -> anyhow::Result<()> {
        command::output(self.command("sh").args(["-ec", script]))?;
        Ok(())
    }
}
