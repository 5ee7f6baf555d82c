//! Boot attempts between their stored and their folded form.

use dess_diagnosis::{Attempt, BootOutcome, Fault, Stage, Step};
use dess_store::{AttemptRecord, StepRecord};

/// The folded form of a stored attempt; its number of steps is not known from the record.
pub(crate) fn attempt_of(record: &AttemptRecord) -> Attempt {
    let mut attempt = Attempt::new(record.id, record.mac, record.client, record.started);
    attempt.last_event = record.last_event;
    attempt.up = record.up;
    attempt.ended = record.ended;
    // Keys of a later release read as the nearest thing that this one knows.
    attempt.outcome = BootOutcome::from_key(&record.outcome).unwrap_or(BootOutcome::Abandoned);
    attempt.stage = record.stage.parse().unwrap_or(Stage::Dhcp);
    attempt.fault = record
        .fault
        .clone()
        .map(|(code, text)| Fault { code, text });
    attempt.read_bytes = record.read_bytes;
    attempt.written_bytes = record.written_bytes;
    attempt
}

/// The form in which an attempt is stored.
pub(crate) fn record_of(attempt: &Attempt) -> AttemptRecord {
    AttemptRecord {
        id: attempt.id,
        mac: attempt.mac,
        client: attempt.client,
        started: attempt.started,
        last_event: attempt.last_event,
        up: attempt.up,
        ended: attempt.ended,
        outcome: attempt.outcome.key().to_owned(),
        stage: attempt.stage.key().to_owned(),
        fault: attempt.fault.clone().map(|fault| (fault.code, fault.text)),
        read_bytes: attempt.read_bytes,
        written_bytes: attempt.written_bytes,
    }
}

/// The form in which a step is stored.
pub(crate) fn step_record_of(step: &Step) -> StepRecord {
    StepRecord {
        position: step.position,
        at: step.at,
        stage: step.stage.key().to_owned(),
        detail: step.detail.clone(),
    }
}
