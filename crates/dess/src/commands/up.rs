//! `dess up`

use std::process::ExitCode;

use anyhow::{Context, Result};
use dess_model::host::Paths;
use dess_node::supervisor::protocol::{ServiceState, ServiceStatus};
use dess_node::supervisor::{SupervisorOptions, supervise};

use super::services;
use crate::arguments::GlobalArguments;
use crate::config::Config;
use crate::output::say;
use crate::service::{make_directories, stop_signal};

/// Runs all services until Ctrl-C or SIGTERM.
pub(super) async fn up(config: &Config, global: &GlobalArguments) -> Result<ExitCode> {
    let paths = config.paths();
    make_directories(&paths)?;
    let options = SupervisorOptions {
        paths: paths.clone(),
        program: std::env::current_exe().context("cannot find the dess program")?,
        arguments: forwarded(&paths, global),
    };
    let listen = config.web.listen;
    supervise(options, stop_signal()?, move |statuses| {
        announce(&statuses, listen, &paths);
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

/// `dess web setup-code`
pub(super) fn print_setup_code(paths: &Paths) -> Result<ExitCode> {
    let path = paths.runtime.join("setup-code");
    let code = std::fs::read_to_string(&path)
        .context("there is no set-up code: the owner is set up already, or dess is not running")?;
    say!("{}", code.trim());
    Ok(ExitCode::SUCCESS)
}

/// The global arguments, for the services.
fn forwarded(paths: &Paths, global: &GlobalArguments) -> Vec<String> {
    let mut arguments = vec![
        "--state".to_owned(),
        paths.state.display().to_string(),
        "--runtime".to_owned(),
        paths.runtime.display().to_string(),
    ];
    if let Some(config) = &global.config {
        arguments.extend(["--config".to_owned(), config.display().to_string()]);
    }
    arguments
}

fn announce(statuses: &[ServiceStatus], listen: std::net::SocketAddr, paths: &Paths) {
    services::print(statuses);
    if statuses
        .iter()
        .any(|service| service.state != ServiceState::Ready)
    {
        return;
    }
    say!(
        "\nDESS is in service; the admin page is at port {}",
        listen.port()
    );
    if let Ok(code) = std::fs::read_to_string(paths.runtime.join("setup-code")) {
        say!("first visit: set-up code {}", code.trim());
    }
}
