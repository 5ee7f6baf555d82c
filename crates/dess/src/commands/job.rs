//! `dess job`

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::arguments::JobCommand;
use crate::control::Control;
use crate::output::{self, ago, say, table};

/// How many jobs are listed.
const LISTED: u32 = 20;

pub(super) async fn job(
    control: &impl Control,
    command: JobCommand,
    json: bool,
) -> Result<ExitCode> {
    match command {
        JobCommand::List => {
            let jobs = control.job_list(LISTED).await?;
            if json {
                output::json(&jobs)?;
                return Ok(ExitCode::SUCCESS);
            }
            let mut rows = table(&["id", "kind", "subject", "state", "done", "age", "result"]);
            for job in &jobs {
                let percent = match job.total {
                    0 => "-".to_owned(),
                    total => format!("{} %", job.progress.saturating_mul(100) / total),
                };
                let result = job.error.as_ref().or(job.result.as_ref());
                rows.add_row([
                    job.id.to_string(),
                    job.kind.clone(),
                    job.subject.clone(),
                    format!("{:?}", job.state).to_lowercase(),
                    percent,
                    ago(job.created),
                    output::or_dash(result),
                ]);
            }
            say!("{rows}");
        }
        JobCommand::Cancel { job } => {
            let id = job
                .parse()
                .with_context(|| format!("\"{job}\" is not the id of a job"))?;
            control.job_cancel(id).await?;
            say!("job {job} is cancelled");
        }
    }
    Ok(ExitCode::SUCCESS)
}
