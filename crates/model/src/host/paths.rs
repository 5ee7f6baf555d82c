//! Where the services of one machine keep their files. One place, so that all agree.

use std::path::PathBuf;

/// The state directory (survives the boot) and the runtime directory (does not).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Usually `/var/lib/dess`.
    pub state: PathBuf,
    /// Usually `/run/dess`; on a file system in memory.
    pub runtime: PathBuf,
}

impl Paths {
    /// The site snapshot.
    pub fn snapshot(&self) -> PathBuf {
        self.state.join("site.json")
    }

    /// The default database.
    pub fn database(&self) -> PathBuf {
        self.state.join("dess.db")
    }

    /// Backups of the database.
    pub fn backups(&self) -> PathBuf {
        self.state.join("backups")
    }

    /// DHCP leases.
    pub fn leases(&self) -> PathBuf {
        self.state.join("leases")
    }

    /// Golden images: one directory per image, in it one per version.
    pub fn images(&self) -> PathBuf {
        self.state.join("images")
    }

    /// Overlays: one directory per disk.
    pub fn overlays(&self) -> PathBuf {
        self.state.join("overlays")
    }

    /// How far the scrub of the versions is, and what it found.
    pub fn scrub(&self) -> PathBuf {
        self.state.join("scrub.json")
    }

    /// What the boots of each version read.
    pub fn boot_profiles(&self) -> PathBuf {
        self.state.join("boot-profiles")
    }

    /// Boot files of the operator; they win over those of the system's iPXE package.
    pub fn boot_files(&self) -> PathBuf {
        self.state.join("boot")
    }

    /// Live block maps of the overlays (survive the iSCSI service, not the machine's boot).
    pub fn live_maps(&self) -> PathBuf {
        self.runtime.join("maps")
    }

    /// Notes of the iSCSI service on which disks are in use (survive it, not the machine's boot).
    pub fn disks_in_use(&self) -> PathBuf {
        self.runtime.join("in-use")
    }

    /// Event socket of `node`.
    pub fn events(&self) -> PathBuf {
        self.runtime.join("events.sock")
    }

    /// Control socket of the iSCSI service.
    pub fn target_control(&self) -> PathBuf {
        self.runtime.join("iscsi.sock")
    }

    /// CHAP secret of the probe disk; made anew at each start of the iSCSI service.
    pub fn probe_secret(&self) -> PathBuf {
        self.runtime.join("probe-secret")
    }

    /// Control socket of `node`.
    pub fn node_control(&self) -> PathBuf {
        self.runtime.join("node.sock")
    }

    /// Control socket of the supervisor (`dess up`).
    pub fn supervisor_control(&self) -> PathBuf {
        self.runtime.join("supervisor.sock")
    }
}
