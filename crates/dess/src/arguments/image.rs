//! `dess image`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use dess_disk::ExportFormat;

#[derive(Subcommand)]
pub(crate) enum ImageCommand {
    /// All images and their versions.
    List,
    /// What boots of each version read, and how much of it was read ahead.
    Profiles,
    /// Import a disk image (raw, qcow2, VHD, VHDX, VMDK, also packed with gzip or zstd) as a new image, or as the next version
    /// of one.
    Import {
        /// File on this server, or `-` for standard input.
        file: PathBuf,
        /// Name of the image [default: the file's name].
        #[arg(long)]
        name: Option<String>,
        /// Return at once; the management daemon goes on.
        #[arg(long)]
        detach: bool,
    },
    /// Write a version as a disk image of another program.
    Export {
        /// Image as name (its newest version) or name@version.
        image: String,
        /// File to make, or `-` for standard output.
        file: PathBuf,
        /// raw, qcow2, qcow2-compressed, vhd, vhdx or vmdk [default: by the file's extension, else raw].
        #[arg(long)]
        format: Option<ExportFormat>,
    },
    /// Choose what clients boot from their next power-on.
    Assign {
        /// Image as name (its newest version) or name@version.
        image: String,
        /// Only this client: seat number, name, MAC address or id [default: all without their own].
        #[arg(long)]
        client: Option<String>,
        /// Also boot each newer version as soon as it is published.
        #[arg(long)]
        latest: bool,
    },
    /// Let one client write the next version of an image, from its next power-on on.
    Maintain {
        /// Image as name (its newest version) or name@version.
        image: String,
        /// The client: seat number, name, MAC address or id.
        #[arg(long)]
        client: String,
        /// The version to write on [default: the newest].
        #[arg(long)]
        version: Option<u32>,
    },
    /// Make the next version of what the maintenance client wrote. It must be shut down.
    Publish {
        /// Name of the image.
        image: String,
        /// What is new in it.
        #[arg(long, default_value = "")]
        comment: String,
        /// Return at once; the management daemon goes on.
        #[arg(long)]
        detach: bool,
    },
    /// Drop what the maintenance client wrote, and end the maintenance.
    Discard {
        /// Name of the image.
        image: String,
        /// Even if the client runs: its sessions are ended first.
        #[arg(long)]
        force: bool,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Give a version to clients from their next power-on on: some seats first, then all.
    Rollout(RolloutArguments),
    /// Take the last roll-out of an image back.
    Rollback {
        /// Name of the image.
        image: String,
    },
    /// How much was written between two versions.
    Diff {
        /// Version as name@version.
        one: String,
        /// Version as name@version.
        other: String,
    },
    /// Make a version whole, so that the versions below it can be removed.
    Flatten {
        /// Version as name@version.
        version: String,
        /// Return at once; the management daemon goes on.
        #[arg(long)]
        detach: bool,
    },
    /// Look for damage: read-only, without the services. Compares all content with its checksums. Exit code 3 if there is some.
    Check {
        /// Image as name (all its versions) or name@version [default: all].
        image: Option<String>,
        /// Only maps and checksum files, not the content.
        #[arg(long)]
        quick: bool,
    },
    /// Repair what a check found. What is replaced is kept beside it.
    Repair {
        /// Image as name (its newest version) or name@version.
        image: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// How far the comparison of all stored versions in the background is, and what it found. Exit code 3 if that is damage.
    Scrub,
    /// Write a version to a directory of backups, or to standard output. What is read is compared with its checksums.
    Backup {
        /// Image as name (its newest version) or name@version.
        image: String,
        /// Directory, or `-` for standard output.
        target: PathBuf,
        /// Only what differs from this version of the image [default: the newest one below that has a backup in the directory].
        #[arg(long)]
        since: Option<u32>,
        /// All of it.
        #[arg(long, conflicts_with = "since")]
        full: bool,
    },
    /// Bring versions back from a backup. What it needs of earlier versions is restored first, from the same directory.
    Restore {
        /// File of a backup, or `-` for standard input.
        file: PathBuf,
        /// Name of the image, if it is not known here [default: as when it was backed up].
        #[arg(long)]
        name: Option<String>,
    },
    /// Remove a version that nobody needs.
    Remove {
        /// Version as name@version.
        version: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("to").required(true).args(["clients", "all"]))]
pub(crate) struct RolloutArguments {
    /// Image as name (its newest version) or name@version.
    pub(crate) image: String,
    /// Only these clients: seat numbers, names, MAC addresses or ids, with commas between them.
    #[arg(long, value_delimiter = ',')]
    pub(crate) clients: Vec<String>,
    /// All clients that boot the image.
    #[arg(long)]
    pub(crate) all: bool,
}
