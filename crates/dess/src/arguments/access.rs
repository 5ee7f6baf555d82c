//! `dess user`, `dess token`, `dess audit`

use clap::{Args, Subcommand};
use dess_model::{Role, Scope};

#[derive(Subcommand)]
pub(crate) enum UserCommand {
    /// All users of the admin page.
    List,
    /// Make a user. The password is made up and printed once, unless one is given on standard input.
    Add {
        /// Name.
        name: String,
        /// viewer, operator or owner.
        #[arg(long)]
        role: Role,
        /// Read the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Change what a user may do.
    Set {
        /// Name.
        name: String,
        /// viewer, operator or owner.
        #[arg(long)]
        role: Option<Role>,
        /// Keep the user out, and log the user out.
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// Let the user in again.
        #[arg(long)]
        enable: bool,
    },
    /// Remove a user with all logins and API tokens.
    Remove {
        /// Name.
        name: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Set a new password and end the user's logins. It is made up and printed once, unless one is
    /// given on standard input.
    ResetPassword {
        /// Name.
        name: String,
        /// Read the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
    },
    /// For who lost the phone: the password alone is enough again.
    DisableTotp {
        /// Name.
        name: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// All API tokens.
    List {
        /// Of one user.
        #[arg(long)]
        user: Option<String>,
    },
    /// Make an API token and print it, once.
    Create {
        /// What it is called.
        name: String,
        /// Whose it is; it may never do more than this user.
        #[arg(long)]
        user: String,
        /// read, operate or admin.
        #[arg(long, default_value = "read")]
        scope: Scope,
        /// Days until it ends [default: it does not end].
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        days: Option<u16>,
    },
    /// End an API token for good.
    Revoke {
        /// Its id, or its name if only one has it.
        token: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Who changed what, and from where; newest first.
    List(AuditArguments),
}

#[derive(Args)]
pub(crate) struct AuditArguments {
    /// Of this actor, e.g. web:admin or cli:root.
    #[arg(long)]
    pub(crate) actor: Option<String>,
    /// Of this kind, e.g. client or client.reset.
    #[arg(long)]
    pub(crate) action: Option<String>,
    /// About this subject, e.g. PC-01.
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// Of the last so many days.
    #[arg(long)]
    pub(crate) days: Option<u16>,
    /// How many.
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
}
