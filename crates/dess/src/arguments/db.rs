//! `dess db`

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum DbCommand {
    /// Bring the database's tables up to this release. (Every service does so when it starts.)
    Migrate,
    /// Look through the whole database. Exit code 3 if something is wrong.
    Check,
    /// Write the whole site to a new file, secrets included; only its owner may read it.
    Export {
        /// The file.
        file: PathBuf,
    },
    /// Put a site from a file into the database that the configuration names, as a whole or not at
    /// all.
    Import {
        /// The file.
        file: PathBuf,
        /// Remove what the database holds first. Without it the database must be empty.
        #[arg(long)]
        replace: bool,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Back a SQLite file up now, besides the daily backup.
    Backup {
        /// Directory instead of `backups` in the state directory.
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
}
