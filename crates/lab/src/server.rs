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
use crate::room::{Room, RoomOptions, SERVER_ADDRESS, SERVER_INTERFACE, SUBNET};
use crate::{Image, wait};

/// How the server is set up.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// `server` (DESS gives the addresses) or `proxy` (another DHCP server does).
    pub mode: &'static str,
    /// `auto` (unknown clients get the next seat) or `hold` (they wait for approval).
    pub registration: &'static str,
    /// The interface that the site is set up with.
    pub interface: &'static str,
    /// The `dess` program; by default `DESS_BIN`, else beside this program's target directory.
    pub binary: Option<PathBuf>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            mode: "server",
            registration: "auto",
            interface: SERVER_INTERFACE,
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
        let server = Self::launch(room, options)?;
        server.wait_until_ready(READY_LIMIT)?;
        Ok(server)
    }

    /// Initialises a site for the room's network and starts `dess up`, ready or not.
    ///
    /// # Errors
    /// When the program is missing or refuses.
    pub fn launch(room: &Room, options: &ServerOptions) -> anyhow::Result<Self> {
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
        init.args(["--interface", options.interface, "--subnet", SUBNET]);
        if options.mode == "server" {
            init.args(["--pool", "10.77.0.100-10.77.0.199"]);
        }
        init.args(["--mode", options.mode]);
        init.args(["--registration", options.registration]);
        namespace.run(&mut init, READY_LIMIT)?;
        let up = namespace.spawn("dess", &mut base(&["up"]))?;
        Ok(Self {
            binary,
            state,
            runtime,
            namespace,
            up,
        })
    }

    /// Makes a room with DESS in service in it and `image` imported as `name`.
    ///
    /// # Errors
    /// As [`Room::create`], [`DessServer::start`] and [`DessServer::import`].
    pub fn in_new_room(
        options: &ServerOptions,
        image: &Image,
        name: &str,
    ) -> anyhow::Result<(Self, Room)> {
        let room = Room::create(RoomOptions::default())?;
        let server = Self::start(&room, options)?;
        server.import(image, name)?;
        Ok((server, room))
    }

    /// The server's namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The supervisor's process, with everybody's log.
    pub fn process(&self) -> &Process {
        &self.up
    }

    /// Directory of the site's state (`dess.db`, `images`, `overlays`, `leases`).
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

    /// Runs `dess ARGS... --json` and gives the answer, also that of an abnormal server.
    ///
    /// # Errors
    /// When it fails or does not print JSON.
    pub fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let mut command = self.command(args);
        let output = command.arg("--json").output()?;
        anyhow::ensure!(
            output.status.success() || output.status.code() == Some(EXIT_ABNORMAL),
            "{}: {}\n{}",
            crate::command::shown(&command),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("not JSON:\n{}", String::from_utf8_lossy(&output.stdout)))
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
        let mut import = self.command(&["image", "import", path, "--name", name]);
        self.namespace.run(&mut import, IMPORT_LIMIT)?;
        Ok(())
    }

    /// Checksums of every file of the golden images, in order of path.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn golden_checksums(&self) -> anyhow::Result<String> {
        let mut find = Command::new("sh");
        find.args(["-ec", "find \"$1\" -type f | sort | xargs sha256sum", "sh"]);
        crate::command::output(find.arg(self.state.join("images")))
    }

    /// What a service (`dhcp`, `boot`, `iscsi`, `node`, `web`) is doing, as `dess status` tells.
    ///
    /// # Errors
    /// When the supervisor does not answer.
    pub fn service(&self, service: &str) -> anyhow::Result<Value> {
        let status = self.json(&["status"])?;
        status["services"]
            .as_array()
            .and_then(|services| services.iter().find(|one| one["name"] == service))
            .cloned()
            .with_context(|| format!("no service {service} in {status}"))
    }

    /// The client with this MAC address, as `dess client list` tells.
    ///
    /// # Errors
    /// When the database does not answer or has no such client.
    pub fn client(&self, mac: &str) -> anyhow::Result<Value> {
        let clients = self.json(&["client", "list"])?;
        clients
            .as_array()
            .and_then(|clients| clients.iter().find(|one| one["mac"] == mac))
            .cloned()
            .with_context(|| format!("no client {mac} in {clients}"))
    }

    /// Process id of a service.
    ///
    /// # Errors
    /// When it does not run now.
    pub fn service_pid(&self, service: &str) -> anyhow::Result<i32> {
        self.service(service)?["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok())
            .with_context(|| format!("the {service} service does not run now"))
    }

    /// Process id of the supervisor.
    ///
    /// # Errors
    /// Never on Linux, where process ids are below 2^22.
    pub fn supervisor_pid(&self) -> anyhow::Result<i32> {
        Ok(i32::try_from(self.up.id())?)
    }

    /// `kill -9` of one service; the supervisor starts it again.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_service(&self, service: &str) -> anyhow::Result<()> {
        let pid = self.service_pid(service)?;
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

    /// Whether all five services are ready.
    pub fn is_ready(&self) -> bool {
        self.json(&["status"]).is_ok_and(|status| {
            status["services"].as_array().is_some_and(|services| {
                services.len() == 5 && services.iter().all(|service| service["state"] == "ready")
            })
        })
    }

    /// Waits at most `limit` until all five services are ready.
    ///
    /// # Errors
    /// With the server's last log lines, when they are not, or `dess up` has ended.
    pub fn wait_until_ready(&self, limit: Duration) -> anyhow::Result<()> {
        self.wait_until("every service is ready", limit, |server| {
            anyhow::ensure!(
                server.up.is_running(),
                "dess up ended:\n{}",
                server.up.log_tail(30)
            );
            Ok(server.is_ready().then_some(()))
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

/// Exit status of `dess` for an answer that shows something abnormal.
const EXIT_ABNORMAL: i32 = 3;
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const READY_LIMIT: Duration = Duration::from_secs(60);
const CLI_LIMIT: Duration = Duration::from_secs(60);
const IMPORT_LIMIT: Duration = Duration::from_secs(300);
