//! The `dess` command: configuration, subcommands and wiring of every service.

mod arguments;
mod boot_files;
mod chap_file;
mod commands;
mod config;
mod control;
mod data_disks;
mod doctor;
mod exit;
mod limits;
mod output;
mod service;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use arguments::{Arguments, Command};
use config::Config;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("dess: {error:#}");
            exit::code(&error)
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if commands::without_site(&arguments.command)? {
        return Ok(ExitCode::SUCCESS);
    }
    let config = Config::load(&arguments.global)?;
    log_to_stderr(&arguments.command);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(commands::run(arguments, config))
}

/// Services log what they do; commands only what went wrong.
fn log_to_stderr(command: &Command) {
    let default = if command.is_service() { "info" } else { "warn" };
    let filter = EnvFilter::try_from_env("DESS_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let supervised = std::env::var_os("NOTIFY_SOCKET").is_some();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(!supervised && std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
}
