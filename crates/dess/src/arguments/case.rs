//! `dess case`

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum CaseCommand {
    /// The open cases.
    List {
        /// Also those that are over.
        #[arg(long)]
        all: bool,
    },
    /// One case with what was seen and what to do.
    Show {
        /// Id, or the end of it as the list shows it.
        case: String,
    },
    /// Note that you know of a case. It stays open until it is over.
    Ack {
        /// Id, or the end of it as the list shows it.
        case: String,
    },
}
