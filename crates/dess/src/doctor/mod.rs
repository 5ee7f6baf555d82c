//! `dess doctor`: looks at everything, with whatever is dead, and names each cause with the command that mends it.
//!
//! [`gather`](gather::gather) looks, [`judge`](judge::judge) decides as a pure function, [`words`] says it.

mod finding;
mod gather;
mod judge;
mod mend;
mod observation;
mod ports;
mod words;

use std::process::ExitCode;

use anyhow::Result;
use dess_web::Language;
use serde::Serialize;

use crate::arguments::DoctorArguments;
use crate::commands::ABNORMAL;
use crate::config::Config;
use crate::output::{self, say};
use finding::{Finding, Severity};

/// A finding as `--json` tells it.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    finding: Finding,
    severity: Severity,
    cause: String,
    command: String,
    /// True if `--fix` mended it; none without.
    mended: Option<bool>,
    /// Why `--fix` could not.
    trouble: Option<String>,
}

/// The whole answer of `--json`.
#[derive(Serialize)]
struct Report {
    findings: Vec<Told>,
    not_applicable: Vec<&'static str>,
}

/// Looks, tells, and with `--fix` mends what is safe. Exit code 0 if nothing is wrong (any more), 3 if something is.
pub(crate) async fn doctor(
    config: &Config,
    arguments: &DoctorArguments,
    json: bool,
) -> Result<ExitCode> {
    let language = match arguments.lang.as_deref() {
        Some(code) => language_of(code),
        None => of_locale(|name| std::env::var(name).ok()),
    };
    let findings = judge::judge(&gather::gather(config).await);
    let mut told = Vec::new();
    for finding in findings {
        let words = words::words(language, &finding);
        let (mended, trouble) = match arguments.fix {
            false => (None, None),
            true => match mend::mend(&config.paths(), &finding).await {
                Ok(mended) => (Some(mended), None),
                Err(error) => (Some(false), Some(format!("{error:#}"))),
            },
        };
        told.push(Told {
            severity: finding.severity(),
            finding,
            cause: words.cause,
            command: words.command,
            mended,
            trouble,
        });
    }
    let left = told.iter().any(|one| one.mended != Some(true));
    if json {
        output::json(&Report {
            findings: told,
            not_applicable: vec!["certificate"],
        })?;
    } else {
        print(language, &told);
    }
    Ok(match left {
        true => ExitCode::from(ABNORMAL),
        false => ExitCode::SUCCESS,
    })
}

fn print(language: Language, told: &[Told]) {
    for one in told {
        say!("{}: {}", words::severity(language, one.severity), one.cause);
        match (one.mended, &one.trouble) {
            (Some(true), _) => say!("    {}", words::fixed(language)),
            (_, Some(trouble)) => say!("    {trouble}"),
            _ => {}
        }
        if one.mended != Some(true) {
            say!("    {}: {}", words::fix(language), one.command);
        }
    }
    match told.len() {
        0 => say!("{}", words::nothing(language)),
        count => say!("\n{}", words::count(language, count)),
    }
    say!("{}", words::not_applicable(language));
}

/// The language of messages by the locale (locale(7)): the first of these variables that is set.
fn of_locale(variable: impl Fn(&str) -> Option<String>) -> Language {
    let names = ["LC_ALL", "LC_MESSAGES", "LANG"];
    let set = names.into_iter().filter_map(variable);
    let first = set.into_iter().find(|value| !value.is_empty());
    language_of(&first.unwrap_or_default())
}

fn language_of(code: &str) -> Language {
    match code.split(['_', '-', '.']).next() {
        Some("ko") => Language::Korean,
        _ => Language::English,
    }
}

#[cfg(test)]
mod tests;
