//! `dess up`

use std::process::ExitCode;

use anyhow::{Context, Result};
use dess_model::host::Paths;
use dess_node::operations::Operations;
use dess_node::supervisor::protocol::{ServiceState, ServiceStatus};
use dess_node::supervisor::{SupervisorOptions, supervise};
use dess_web::{RESET_CODE_VALID, reset_code_issue};

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

/// `dess web reset-password`
pub(super) async fn issue_reset_code(operations: &Operations, port: u16) -> Result<ExitCode> {
    let owner = operations.owner_name().await?.context(
        "there is no owner's account yet: make it on the page; `dess web setup-code` prints its code",
    )?;
    let runtime = &operations.paths().runtime;
    let code = reset_code_issue(operations.paths()).with_context(|| {
        let place = runtime.display();
        format!("cannot write a reset code below {place}; is this root, and is dess running?")
    })?;
    let details = serde_json::json!({});
    if let Err(error) = operations
        .audit_append("user.reset_code", &owner, details)
        .await
    {
        tracing::warn!(%error, "the reset code is not in the audit log");
    }
    let minutes = RESET_CODE_VALID.as_secs() / 60;
    say!("reset code {code}");
    say!(
        "Open /setup of the admin page (port {port}), enter the code and a new password for \
         \"{owner}\". The code works once, within {minutes} minutes."
    );
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
