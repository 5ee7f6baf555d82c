//! Cases between their stored and their diagnosed form.

use dess_diagnosis::{Case, Severity};
use dess_store::CaseRecord;

/// The diagnosed form of a stored case; none if a later release wrote something that this one
/// does not know.
pub(crate) fn case_of(record: &CaseRecord) -> Option<Case> {
    let remedy = record.remedy.as_deref();
    Some(Case {
        id: record.id,
        code: record.code.parse().ok()?,
        subject: record.subject.parse().ok()?,
        severity: match record.severity.as_str() {
            "warn" => Severity::Warn,
            _ => Severity::Bad,
        },
        cause: serde_json::from_str(&record.cause).ok()?,
        evidence: serde_json::from_str(&record.evidence).ok()?,
        confidence: record.confidence,
        action: remedy.and_then(|remedy| serde_json::from_str(remedy).ok()),
        opened: record.opened,
        last_seen: record.last_seen,
        resolved: record.resolved,
    })
}

/// The form in which a case is stored.
pub(crate) fn record_of(case: &Case) -> CaseRecord {
    let severity = match case.severity {
        Severity::Warn => "warn",
        Severity::Bad => "bad",
    };
    CaseRecord {
        id: case.id,
        code: case.code.to_string(),
        subject: case.subject.to_string(),
        severity: severity.to_owned(),
        cause: serde_json::json!(case.cause).to_string(),
        evidence: serde_json::json!(case.evidence).to_string(),
        remedy: case
            .action
            .as_ref()
            .map(|action| serde_json::json!(action).to_string()),
        confidence: case.confidence,
        opened: case.opened,
        last_seen: case.last_seen,
        resolved: case.resolved,
        acknowledged: None,
    }
}
