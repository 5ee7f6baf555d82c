//! Boot attempts as timelines.

use dess_diagnosis::{BootOutcome, Stage};
use dess_node::operations::{BootAttemptView, StepView};

use super::fault_words;
use super::seat::{PROGRESS, stage_word};
use crate::catalog::Phrase;
use crate::wording::{Moment, Wording};

/// Width of a bar's coordinate system.
const SCALE: u64 = 1000;
/// Narrowest bar that can be seen.
const WIDTH_MIN: u64 = 6;

/// One boot attempt.
#[derive(Clone, Debug)]
pub(crate) struct BootRow {
    pub(crate) outcome_key: &'static str,
    pub(crate) outcome: Phrase,
    /// State whose colour and shape it has.
    pub(crate) tone: &'static str,
    pub(crate) started: Moment,
    pub(crate) total: Option<String>,
    pub(crate) fault: Option<String>,
    pub(crate) steps: Vec<StepRow>,
}

/// One step of a timeline: how long it took to get there.
#[derive(Clone, Debug)]
pub(crate) struct StepRow {
    pub(crate) key: &'static str,
    pub(crate) word: Phrase,
    /// `done`, `now` or `failed`.
    pub(crate) kind: &'static str,
    pub(crate) x: u64,
    pub(crate) width: u64,
    pub(crate) took: String,
    /// Since when the step is waited for.
    pub(crate) waiting: Option<Moment>,
    pub(crate) detail: String,
}

/// Rows in the order given.
pub(crate) fn boot_rows(words: &Wording, boots: &[BootAttemptView]) -> Vec<BootRow> {
    boots.iter().map(|boot| boot_row(words, boot)).collect()
}

fn boot_row(words: &Wording, boot: &BootAttemptView) -> BootRow {
    let t = words.t;
    let summary = &boot.summary;
    let (outcome, tone) = match summary.outcome {
        BootOutcome::InProgress => (t.boot_in_progress, "booting"),
        BootOutcome::Up => (t.boot_up, "running"),
        BootOutcome::Failed => (t.boot_failed, "fault"),
        BootOutcome::Abandoned => (t.boot_abandoned, "off"),
    };
    let total = summary.up_after_ms.map(|ms| words.duration(ms));
    BootRow {
        outcome_key: summary.outcome.key(),
        outcome,
        tone,
        started: words.moment(summary.started),
        total: total.map(|total| t.boot_took.with("n", total).into()),
        fault: summary.fault.as_ref().map(|fault| {
            let (what, next) = fault_words(t, &fault.code);
            format!("{} · {what} {next}", fault.code)
        }),
        steps: step_rows(words, boot),
    }
}

fn step_rows(words: &Wording, boot: &BootAttemptView) -> Vec<StepRow> {
    let shown = shown_steps(boot);
    let length = shown.last().map_or(0, |step| step.offset_ms).max(1);
    let mut rows = Vec::with_capacity(shown.len() + 1);
    let mut before = 0;
    for step in &shown {
        let took = step.offset_ms.saturating_sub(before);
        let width = took.saturating_mul(SCALE).div_ceil(length).max(WIDTH_MIN);
        rows.push(StepRow {
            key: step.stage.key(),
            word: stage_word(words.t, step.stage),
            kind: if step.stage == Stage::Failed {
                "failed"
            } else {
                "done"
            },
            x: (before.saturating_mul(SCALE) / length).min(SCALE - WIDTH_MIN),
            width,
            took: words.duration(took),
            waiting: None,
            detail: step.detail.clone(),
        });
        before = step.offset_ms;
    }
    if boot.summary.outcome == BootOutcome::InProgress
        && let (Some(last), Some(next)) = (shown.last(), next_stage(&shown))
    {
        rows.push(StepRow {
            key: next.key(),
            word: stage_word(words.t, next),
            kind: "now",
            x: 0,
            width: 0,
            took: String::new(),
            waiting: Some(words.moment(last.at)),
            detail: String::new(),
        });
    }
    rows
}

/// The steps of the boot itself; of several steps of one stage in a row the last, which is when
/// the stage was done.
fn shown_steps(boot: &BootAttemptView) -> Vec<&StepView> {
    let mut shown: Vec<&StepView> = Vec::new();
    for step in &boot.steps {
        if step.stage == Stage::SessionEnded {
            continue;
        }
        match shown.last_mut() {
            Some(last) if last.stage == step.stage => *last = step,
            _ => shown.push(step),
        }
    }
    shown
}

/// The stage that a boot should reach next.
fn next_stage(shown: &[&StepView]) -> Option<Stage> {
    let furthest = shown.iter().map(|step| step.stage).max()?;
    PROGRESS
        .into_iter()
        .chain([Stage::Up])
        .find(|stage| *stage > furthest)
}

#[cfg(test)]
mod tests;
