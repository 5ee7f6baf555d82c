//! A server and a load generator joined by a cable.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use dess_lab::{Namespace, Process, Room, RoomOptions};

/// How long a server may take until it says that it is ready.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The bench: server namespace, one peer with the load generator.
pub(super) struct Bench {
    pub(super) room: Room,
    pub(super) load: Namespace,
    dess: PathBuf,
}

impl Bench {
    /// A bench with this `dess` program.
    pub(super) fn new(dess: &Path) -> Result<Self> {
        let room = Room::create(RoomOptions::default())?;
        let load = room.peer("load", Some("10.77.0.2/24"))?;
        let dess = dess.to_owned();
        Ok(Self { room, load, dess })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.room.directory().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.file(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Starts a program in the server namespace and waits for a line of its log, if one is named.
    pub(super) fn start(
        &self,
        name: &str,
        arguments: &[&str],
        says: Option<&str>,
    ) -> Result<Process> {
        let mut command = self.room.server().command(arguments[0]);
        let process = self
            .room
            .spawn_server(name, command.args(&arguments[1..]))?;
        if let Some(says) = says {
            process.wait_for_log(says, START_LIMIT)?;
        }
        Ok(process)
    }

    /// Starts all of DESS with a large pool.
    pub(super) fn start_dess(&self) -> Result<Process> {
        let state = self.file("dess-state").display().to_string();
        let runtime = self.file("dess-runtime").display().to_string();
        let dess = self.dess.display().to_string();
        let at = ["--state", &state, "--runtime", &runtime];
        let site = [
            "init",
            "--address",
            "10.77.0.1",
            "--interface",
            "eth0",
            "--subnet",
            "10.64.0.0/10",
            "--pool",
            "10.78.0.0-10.79.255.255",
            "--registration",
            "hold",
        ];
        if !Path::new(&state).exists() {
            let mut init = self.room.server().command(&dess);
            self.room
                .server()
                .run(init.args(at).args(site), START_LIMIT)?;
        }
        let mut up = vec![dess.as_str()];
        up.extend(at);
        up.push("up");
        self.start("dess", &up, Some("DESS is in service"))
    }
}

/// The middle value.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
