//! DESS itself in the room's server namespace: set up, started, asked, hurt.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::namespace::Namespace;
use crate::process::Process;
use crate::room::{Room, SERVER_ADDRESS, SERVER_INTERFACE, SUBNET};
use crate::{Image, wait};

/// How the server is set up.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// `server` (DESS gives the addresses) or `proxy` (another DHCP server does).
    pub mode: &'static str,
    /// `auto` (unknown clients get the next seat) or `hold` (they wait for approval).
    pub registration: &'static str,
    /// The `dess` program; by default `DESS_BIN`, else beside this program's target directory.
    pub binary: Option<PathBuf>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            mode: "server",
            registration: "auto",
            binary: None,
        }
    }
}

/// `dess up` running in the server namespace, with directories of its own.
#[derive(Debug)]
pub struct DessServer {
    binary: PathBuf,
    state: PathBuf,
    runtime: PathBuf,
    namespace: Namespace,
    up: Process,
}

impl DessServer {
    /// Initialises a site for the room's network, starts `dess up` and waits until it is ready.
    ///
    /// # Errors
    /// When the program is missing, refuses, or is not ready within a minute.
    pub fn start(room: &Room, options: &ServerOptions) -> anyhow::Result<Self> {
        let binary = match &options.binary {
            Some(binary) => binary.clone(),
            None => default_binary()?,
        };
        let state = room.directory().join("state");
        let runtime = room.directory().join("run");
        std::fs::create_dir_all(&state)?;
        std::fs::create_dir_all(&runtime)?;
        let namespace = room.server().clone();
        let base = |args: &[&str]| {
            let mut command = namespace.command(&binary);
            command.arg("--state").arg(&state);
            command.arg("--runtime").arg(&runtime);
            command.args(args);
            command
        };
        let mut init = base(&["init", "--address", SERVER_ADDRESS]);
        init.args(["--interface", SERVER_INTERFACE, "--subnet", SUBNET]);
        init.args(["--pool", "10.77.0.100-10.77.0.199"]);
        init.args(["--mode", options.mode]);
        init.args(["--registration", options.registration]);
        namespace.run(&mut init, READY_LIMIT)?;
        let up = namespace.spawn("dess", &mut base(&["up"]))?;
        let server = Self {
            binary,
            state,
            runtime,
            namespace,
            up,
        };
        server.wait_until_ready(READY_LIMIT)?;
        Ok(server)
    }

    /// The server's namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The supervisor's process, with everybody's log.
    pub fn process(&self) -> &Process {
        &self.up
    }

    /// Directory of the site's state (database, images, overlays).
    pub fn state_directory(&self) -> &Path {
        &self.state
    }

    /// A `dess` command for this server, ready for more arguments.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.namespace.command(&self.binary);
        command.arg("--state").arg(&self.state);
        command.arg("--runtime").arg(&self.runtime);
        command.args(args);
        command
    }

    /// Runs `dess ARGS...` against this server and gives what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn cli(&self, args: &[&str]) -> anyhow::Result<String> {
        self.namespace
            .run(&mut self.command(args), CLI_LIMIT)
            .with_context(|| format!("the server last said:\n{}", self.up.log_tail(30)))
    }

    /// Runs `dess ARGS... --json` and gives the answer.
    ///
    /// # Errors
    /// When it fails or does not print JSON.
    pub fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let mut command = self.command(args);
        command.arg("--json");
        let output = crate::command::output(&mut command)?;
        serde_json::from_str(&output).with_context(|| format!("not JSON:\n{output}"))
    }

    /// Imports `image` as `name` and waits until clients can have it.
    ///
    /// # Errors
    /// When the import fails.
    pub fn import(&self, image: &Image, name: &str) -> anyhow::Result<()> {
        let path = image
            .path
            .to_str()
            .context("the cache's path is not UTF-8")?;
        self.namespace.run(
            &mut self.command(&["image", "import", path, "--name", name]),
            IMPORT_LIMIT,
        )?;
        Ok(())
    }

    /// Process id of a service (`dhcp`, `boot`, `iscsi`, `node`, `web`).
    ///
    /// # Errors
    /// When the supervisor has no such child now.
    pub fn service_pid(&self, service: &str) -> anyhow::Result<u32> {
        let up = self.up.id();
        let children = std::fs::read_to_string(format!("/proc/{up}/task/{up}/children"))
            .context("the supervisor is gone")?;
        // Any thread may have started it: children are listed per thread.
        let threads = std::fs::read_dir(format!("/proc/{up}/task"))?;
        let mut pids: Vec<String> = children.split_whitespace().map(str::to_owned).collect();
        for thread in threads {
            let path = thread?.path().join("children");
            let children = std::fs::read_to_string(path).unwrap_or_default();
            pids.extend(children.split_whitespace().map(str::to_owned));
        }
        for pid in pids {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if arguments
                .split(|byte| *byte == 0)
                .any(|argument| argument == service.as_bytes())
            {
                return Ok(pid.parse()?);
            }
        }
        anyhow::bail!("the supervisor runs no {service} service now")
    }

    /// `kill -9` of one service; the supervisor starts it again.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_service(&self, service: &str) -> anyhow::Result<()> {
        let pid = i32::try_from(self.service_pid(service)?)?;
        kill(Pid::from_raw(pid), Signal::SIGKILL)
            .with_context(|| format!("cannot kill the {service} service"))
    }

    /// Waits at most `limit` until `look` finds what it wants.
    ///
    /// # Errors
    /// With the server's last log lines and `what`, when it does not.
    pub fn wait_until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&Self) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let mut last = Instant::now() - LOOK_INTERVAL;
        wait::until(limit, || {
            // Each look starts a program: not too often.
            if last.elapsed() < LOOK_INTERVAL {
                return Ok(None);
            }
            last = Instant::now();
            look(self)
        })?
        .with_context(|| {
            format!(
                "not within {limit:?}: {what}; the server last said:\n{}",
                self.up.log_tail(30)
            )
        })
    }

    /// Stops everything in order, as Ctrl-C does.
    ///
    /// # Errors
    /// When the supervisor does not end within half a minute.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.up.terminate(Duration::from_secs(30))?;
        Ok(())
    }

    fn wait_until_ready(&self, limit: Duration) -> anyhow::Result<()> {
        self.wait_until("every service is ready", limit, |server| {
            anyhow::ensure!(
                server.up.is_running(),
                "dess up ended:\n{}",
                server.up.log_tail(30)
            );
            let Ok(status) = server.json(&["status"]) else {
                return Ok(None);
            };
            Ok(all_ready(&status).then_some(()))
        })
    }
}

impl Drop for DessServer {
    fn drop(&mut self) {
        // The room kills what does not end by itself.
        if let Err(error) = self.stop() {
            tracing::warn!("{error:#}");
        }
    }
}

/// Whether `dess status --json` shows all five services running.
fn all_ready(status: &Value) -> bool {
    let Some(services) = status.get("services").and_then(Value::as_array) else {
        return false;
    };
    services.len() == 5
        && services
            .iter()
            .all(|service| service.get("state").and_then(Value::as_str) == Some("ready"))
}

/// `DESS_BIN`, else `dess` beside this program or beside its directory (tests are in `deps`).
fn default_binary() -> anyhow::Result<PathBuf> {
    if let Some(binary) = std::env::var_os("DESS_BIN") {
        return Ok(binary.into());
    }
    let own = std::env::current_exe()?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("dess"))
        .find(|path| path.is_file())
        .context("the dess program is not built: cargo build -p dess, or set DESS_BIN")
}

const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const READY_LIMIT: Duration = Duration::from_secs(60);
const CLI_LIMIT: Duration = Duration::from_secs(60);
const IMPORT_LIMIT: Duration = Duration::from_secs(300);
