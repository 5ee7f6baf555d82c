//! `dess disk`

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum DiskCommand {
    /// Look for damage in what clients have written: read-only, without the services. Exit code 3 if there is some.
    Check {
        /// The client: seat number, name, MAC address or id [default: all disks].
        client: Option<String>,
    },
    /// Keep, bring back and remove what a persistent client has written. It must be shut down.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Write a snapshot of a persistent disk to a file, or to standard output.
    Backup {
        /// The client: seat number, name, MAC address or id.
        client: String,
        /// File to make, or `-` for standard output.
        file: PathBuf,
        /// Name of the snapshot [default: one is made for it, while the client is shut down].
        #[arg(long)]
        snapshot: Option<String>,
    },
    /// Make a snapshot of a client's disk out of a backup. `dess disk snapshot restore` then brings it back.
    Restore {
        /// The client: seat number, name, MAC address or id.
        client: String,
        /// File of a backup, or `-` for standard input.
        file: PathBuf,
        /// Name of the snapshot.
        #[arg(long)]
        snapshot: String,
    },
    /// Repair what a check found. What is replaced is kept beside it. The iSCSI service must be stopped.
    Repair {
        /// The client: seat number, name, MAC address or id.
        client: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum SnapshotCommand {
    /// The snapshots of a disk.
    List {
        /// The client: seat number, name, MAC address or id.
        client: String,
    },
    /// Keep what the disk holds now.
    Create {
        /// The client: seat number, name, MAC address or id.
        client: String,
        /// Name of the snapshot.
        name: String,
    },
    /// Make the disk hold what it held then. What it holds now is kept for a while like after a reset.
    Restore {
        /// The client: seat number, name, MAC address or id.
        client: String,
        /// Name of the snapshot.
        name: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Remove a snapshot.
    Remove {
        /// The client: seat number, name, MAC address or id.
        client: String,
        /// Name of the snapshot.
        name: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}
