//! The configuration file: only what a machine must know before it can read the database.
//!
//! Names, addresses and assignments live in the database (`dess site`, `dess client`); this file
//! says where that is and how the services listen. Everything has a default.

mod database;
mod retention;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dess_model::host::Paths;
use dess_node::ScrubOptions;
use dess_probe::Endpoints;
use dess_store::Database;
use serde::Deserialize;

use crate::arguments::GlobalArguments;
pub(crate) use database::DatabaseSection;
pub(crate) use retention::RetentionSection;

/// From the start of the management daemon to that of the scrub.
const SCRUB_START_AFTER: Duration = Duration::from_secs(600);
/// Read if it exists and `--config` names no other.
const DEFAULT_FILE: &str = "/etc/dess/dess.toml";

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) paths: PathsSection,
    pub(crate) dhcp: DhcpSection,
    pub(crate) boot: BootSection,
    pub(crate) iscsi: IscsiSection,
    pub(crate) node: NodeSection,
    pub(crate) web: WebSection,
    pub(crate) database: DatabaseSection,
    pub(crate) retention: RetentionSection,
}

/// `[paths]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PathsSection {
    /// Database, images, overlays, leases. Default `/var/lib/dess`.
    state: PathBuf,
    /// Sockets and live block maps; on a file system in memory. Default `/run/dess`.
    runtime: PathBuf,
}

/// `[dhcp]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DhcpSection {
    /// Answer iPXE's IPv6 router solicitation, which saves it 13 s of waiting. Default true.
    pub(crate) router_advertisement: bool,
}

/// `[boot]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BootSection {
    /// Port of the TFTP service. Default 69, which is what firmware asks.
    pub(crate) tftp_port: u16,
}

/// `[iscsi]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct IscsiSection {
    /// Addresses to listen on. Default: the site's portals.
    pub(crate) listen: Vec<SocketAddr>,
    /// Addresses at which `/metrics` is served for Prometheus; anybody who reaches them may read
    /// the names and traffic of the clients. Empty: nowhere. Default `127.0.0.1:3261`.
    pub(crate) metrics: Vec<SocketAddr>,
}

/// `[node]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NodeSection {
    /// Most bytes per second that are read to compare stored versions with their checksums; it pauses while clients move
    /// much. 0: never. Default 20971520 (20 MiB/s).
    scrub_bytes_per_second: u64,
    /// Days from the end of one such pass to the begin of the next. Default 7.
    scrub_every_days: u32,
}

impl NodeSection {
    pub(crate) fn scrub(&self) -> ScrubOptions {
        ScrubOptions {
            bytes_per_second: self.scrub_bytes_per_second,
            every: Duration::from_secs(u64::from(self.scrub_every_days) * 24 * 3600),
            start_after: SCRUB_START_AFTER,
        }
    }
}

/// `[web]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WebSection {
    /// Address and port of the admin page. Default `0.0.0.0:8080`.
    pub(crate) listen: SocketAddr,
}

impl Default for PathsSection {
    fn default() -> Self {
        Self {
            state: "/var/lib/dess".into(),
            runtime: "/run/dess".into(),
        }
    }
}

impl Default for DhcpSection {
    fn default() -> Self {
        Self {
            router_advertisement: true,
        }
    }
}

impl Default for BootSection {
    fn default() -> Self {
        Self { tftp_port: 69 }
    }
}

impl Default for IscsiSection {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            metrics: vec![SocketAddr::from(([127, 0, 0, 1], 3261))],
        }
    }
}

impl Default for NodeSection {
    fn default() -> Self {
        Self {
            scrub_bytes_per_second: 20 << 20,
            scrub_every_days: 7,
        }
    }
}

impl Default for WebSection {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
        }
    }
}

impl Config {
    /// The file that the arguments name, with the directories that they name instead of its own.
    pub(crate) fn load(global: &GlobalArguments) -> Result<Self> {
        let mut config = match &global.config {
            Some(path) => Self::read(path)?,
            None if Path::new(DEFAULT_FILE).exists() => Self::read(Path::new(DEFAULT_FILE))?,
            None => Self::default(),
        };
        if let Some(state) = &global.state {
            config.paths.state.clone_from(state);
        }
        if let Some(runtime) = &global.runtime {
            config.paths.runtime.clone_from(runtime);
        }
        Ok(config)
    }

    pub(crate) fn paths(&self) -> Paths {
        Paths {
            state: self.paths.state.clone(),
            runtime: self.paths.runtime.clone(),
        }
    }

    /// Where the services of this server can be asked.
    pub(crate) fn endpoints(&self) -> Endpoints {
        Endpoints {
            paths: self.paths(),
            tftp_port: self.boot.tftp_port,
            iscsi: self.iscsi.listen.clone(),
            web: self.web.listen,
        }
    }

    /// The site's database; opens nothing yet.
    pub(crate) fn database(&self) -> Result<Database> {
        self.database.database(&self.paths())
    }

    fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        match toml::from_str(&text) {
            Ok(config) => Ok(config),
            Err(error) => bail!("{}: {error}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = toml::from_str::<Config>("[web]\nport = 80\n")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("port") && error.contains("line 2"),
            "{error}"
        );
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        let config: Config = toml::from_str("").unwrap();
        assert_eq!(config.web.listen.port(), 8080);
        assert!(config.dhcp.router_advertisement);
        assert_eq!(
            config.paths().database(),
            Path::new("/var/lib/dess/dess.db")
        );
    }
}
