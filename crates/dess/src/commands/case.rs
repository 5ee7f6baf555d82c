//! `dess case`

use std::process::ExitCode;

use anyhow::{Context, Result};
use dess_diagnosis::Severity;
use dess_model::CaseId;
use dess_node::operations::{CaseView, Operations};
use dess_web::case_words;

use crate::arguments::CaseCommand;
use crate::output::{self, ago, say, table};

/// How many cases are listed that may be over.
const LISTED: u32 = 50;

pub(super) async fn case(
    operations: &Operations,
    command: CaseCommand,
    json: bool,
) -> Result<ExitCode> {
    match command {
        CaseCommand::List { all } => {
            let cases = match all {
                true => operations.case_list_all(LISTED).await?,
                false => operations.case_list().await?,
            };
            if json {
                output::json(&cases)?;
            } else {
                list(&cases);
            }
        }
        CaseCommand::Show { case } => {
            let case = find(operations, &case).await?;
            if json {
                output::json(&case)?;
            } else {
                show(&case);
            }
        }
        CaseCommand::Ack { case } => {
            let case = find(operations, &case).await?;
            operations.case_acknowledge(case.id).await?;
            say!("case {} is noted; it stays open until it is over", case.id);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A case by its id, or by the end of one that only one case has.
async fn find(operations: &Operations, text: &str) -> Result<CaseView> {
    if let Ok(id) = text.parse::<CaseId>() {
        return Ok(operations.case_get(id).await?);
    }
    let cases = operations.case_list_all(LISTED).await?;
    let mut found = cases
        .into_iter()
        .filter(|case| text.len() >= SHORTEST && case.id.to_string().ends_with(text));
    let case = found
        .next()
        .with_context(|| format!("there is no case \"{text}\"; see `dess case list --all`"))?;
    anyhow::ensure!(found.next().is_none(), "several cases end in {text}");
    Ok(case)
}

/// Fewest characters of an id that name a case.
const SHORTEST: usize = 4;

/// True if the person reads Korean, by the usual variables.
fn korean() -> bool {
    ["LC_ALL", "LC_MESSAGES", "LANG"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|value| !value.is_empty())
        .is_some_and(|value| value.starts_with("ko"))
}

/// The end of the id: the part that differs between cases of one minute.
fn short(case: &CaseView) -> String {
    let id = case.id.to_string();
    id[id.len() - 8..].to_owned()
}

fn severity(case: &CaseView) -> &'static str {
    match case.severity {
        _ if case.resolved.is_some() => "over",
        Severity::Bad => "BAD",
        Severity::Warn => "warn",
    }
}

fn list(cases: &[CaseView]) {
    if cases.is_empty() {
        say!("no open cases");
        return;
    }
    let mut rows = table(&["case", "code", "state", "since", "what"]);
    for case in cases {
        rows.add_row([
            short(case),
            case.code.to_string(),
            severity(case).to_owned(),
            ago(case.opened),
            case_words(case, korean()).what,
        ]);
    }
    say!("{rows}");
}

fn show(case: &CaseView) {
    let words = case_words(case, korean());
    say!("{} {}", case.code, words.what);
    say!("  {}", words.next);
    say!(
        "\n{} for {}, seen {} ago, {} % sure, case {}",
        severity(case),
        ago(case.opened),
        ago(case.last_seen),
        case.confidence,
        case.id
    );
    if let Some(by) = &case.acknowledged_by {
        say!("noted by {by}");
    }
    for (at, fact) in &words.evidence {
        say!("  {} ago: {fact}", ago(*at));
    }
}

/// Prints the open cases in short, for `dess status`.
pub(super) fn print_open(cases: &[CaseView]) {
    if cases.is_empty() {
        return;
    }
    say!("\n{} open cases:", cases.len());
    for case in cases {
        let what = case_words(case, korean()).what;
        say!("  {} {} {what}", short(case), case.code);
    }
}
