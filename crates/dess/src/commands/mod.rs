//! The subcommands.

mod access;
mod backup;
mod case;
mod check;
mod client;
mod db;
mod disk;
mod group;
mod image;
mod import;
mod init;
mod job;
mod man;
mod services;
mod site;
mod space;
mod status;
mod traffic;
mod up;
mod version;
mod wake;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::CommandFactory;
use dess_node::operations::Operations;

use crate::arguments::{Arguments, Command, WebCommand};
use crate::config::Config;
use crate::control::{Remote, Server};
use crate::doctor;
use crate::service;

pub(crate) use crate::exit::ABNORMAL;

/// Runs a subcommand to its end.
pub(crate) async fn run(arguments: Arguments, config: Config) -> Result<ExitCode> {
    let json = arguments.global.json;
    // Not for the services of the data path: they need no database.
    let operations = || -> Result<Operations> {
        let database = config.database()?;
        Ok(Operations::with_database(config.paths(), database).acting_as(actor()))
    };
    // A service runs here, whatever the environment says.
    let server = arguments.global.server.as_ref();
    if let Some(url) = server.filter(|_| !arguments.command.is_service()) {
        let token = std::env::var("DESS_TOKEN").ok();
        let server = Server::new(
            url,
            token.as_deref(),
            arguments.global.token_file.as_deref(),
        )?;
        return run_remote(&Remote(server), arguments.command, json).await;
    }
    match arguments.command {
        Command::Init(setup) => init::init(&operations()?, setup, json).await,
        Command::Up => up::up(&config, &arguments.global).await,
        Command::Doctor(arguments) => doctor::doctor(&config, &arguments, json).await,
        Command::Status => status::status(&operations()?, json).await,
        Command::Case(command) => case::case(&operations()?, command, json).await,
        Command::Client(command) => client::client(&operations()?, command, json).await,
        Command::Group(command) => group::group(&operations()?, command, json).await,
        Command::Image(command) => image::image(&operations()?, command, json).await,
        Command::Disk(command) => disk::disk(&operations()?, command, json).await,
        Command::Service(command) => {
            services::service(&config, &operations()?, command, json).await
        }
        Command::Space => space::space(&operations()?, json).await,
        Command::Gc(arguments) => space::gc(&operations()?, &arguments, json).await,
        Command::Site(command) => site::site(&operations()?, command, json).await,
        Command::Job(command) => job::job(&operations()?, command, json).await,
        Command::User(command) => access::user(&operations()?, command, json).await,
        Command::Token(command) => access::token(&operations()?, command, json).await,
        Command::Audit(command) => access::audit(&operations()?, command, json).await,
        Command::Db(command) => {
            let kept = config.database.backups_kept;
            db::db(&operations()?, command, kept, json).await
        }
        // Done by `without_site`.
        Command::Completions { .. } | Command::Man { .. } | Command::Openapi => {
            Ok(ExitCode::SUCCESS)
        }
        Command::Web {
            command: Some(WebCommand::SetupCode),
        } => up::print_setup_code(&config.paths()),
        Command::Web {
            command: Some(WebCommand::ResetPassword),
        } => up::issue_reset_code(&operations()?, config.web.listen.port()).await,
        Command::Dhcp => service::dhcp(&config).await,
        Command::Boot => service::boot(&config).await,
        Command::Iscsi { command } => service::iscsi(&config, command).await,
        Command::Node => service::node(&config).await,
        Command::Web { command: None } => service::web(&config).await,
    }
}

/// Runs a subcommand on another server.
async fn run_remote(remote: &Remote, command: Command, json: bool) -> Result<ExitCode> {
    match command {
        Command::Status => status::status(remote, json).await,
        Command::Client(command) => client::client(remote, command, json).await,
        Command::Group(command) => group::group(remote, command, json).await,
        Command::Image(command) => image::image(remote, command, json).await,
        Command::Job(command) => job::job(remote, command, json).await,
        _ => bail!("this works only on the server itself, without --server (DESS_SERVER)"),
    }
}

/// Does what needs neither site nor configuration; false for everything else.
pub(crate) fn without_site(command: &Command) -> Result<bool> {
    match command {
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(*shell, &mut command, "dess", &mut std::io::stdout());
        }
        Command::Man { directory } => man::write(directory)?,
        Command::Openapi => print!("{}", dess_web::api::openapi_json()),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Who acts, for the audit log.
fn actor() -> String {
    let name = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    format!("cli:{}", name.unwrap_or_else(|_| "root".to_owned()))
}

/// Asks before something is lost. Without a terminal nobody can answer, so nothing is asked: a
/// script that says `reset` means it.
fn confirmed(question: &str, yes: bool) -> Result<bool> {
    if yes || !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "예"))
}
