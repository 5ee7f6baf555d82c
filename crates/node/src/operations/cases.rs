//! Cases: faults that the server found.

use dess_diagnosis::{Action, Cause, Code, Evidence, Severity, Subject};
use dess_model::{CaseId, Timestamp};
use dess_store::{CaseRecord, Tx};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::images::Catalogue;
use super::{OperationError, Operations, Result, audit};
use crate::case_record::case_of;

/// One case, with the names that people know its subject by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseView {
    /// Identity.
    pub id: CaseId,
    /// Which fault.
    pub code: Code,
    /// What it is about.
    pub subject: Subject,
    /// The seat, if it is about one.
    pub seat: Option<u32>,
    /// Name of the client, label of the version, or whatever it is about.
    pub name: String,
    /// How bad.
    pub severity: Severity,
    /// Why.
    #[serde(flatten)]
    pub cause: Cause,
    /// What was seen, oldest first.
    pub evidence: Vec<Evidence>,
    /// How sure it is, in percent.
    pub confidence: u8,
    /// What would mend it, if DESS could do that.
    pub action: Option<Action>,
    /// Since when.
    pub opened: Timestamp,
    /// When it was seen last.
    pub last_seen: Timestamp,
    /// When it was over.
    pub resolved: Option<Timestamp>,
    /// Who took note of it.
    pub acknowledged_by: Option<String>,
    /// When.
    pub acknowledged_at: Option<Timestamp>,
}

impl Operations {
    /// The open cases, the worst and then the oldest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn case_list(&self) -> Result<Vec<CaseView>> {
        let mut tx = self.read().await?;
        let records = tx.case_list_open().await?;
        let mut cases = views(&mut tx, records).await?;
        cases.sort_by_key(|case| (std::cmp::Reverse(case.severity), case.opened));
        Ok(cases)
    }

    /// The last `limit` cases, open or over, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn case_list_all(&self, limit: u32) -> Result<Vec<CaseView>> {
        let mut tx = self.read().await?;
        let records = tx.case_list(limit).await?;
        views(&mut tx, records).await
    }

    /// One case.
    ///
    /// # Errors
    /// If there is none, or the database cannot be read.
    pub async fn case_get(&self, id: CaseId) -> Result<CaseView> {
        let mut tx = self.read().await?;
        let record = tx.case_fetch(id).await?;
        let cases = views(&mut tx, record.into_iter().collect()).await?;
        let mut cases = cases.into_iter();
        cases
            .next()
            .ok_or_else(|| OperationError::not_found("case", id))
    }

    /// Notes that somebody knows of a case; it stays open until it is over.
    ///
    /// # Errors
    /// If there is no such case, or the database cannot be written.
    pub async fn case_acknowledge(&self, id: CaseId) -> Result<()> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let record = tx.case_fetch(id).await?;
                let record = record.ok_or_else(|| OperationError::not_found("case", id))?;
                tx.case_acknowledge(id, actor, Timestamp::now()).await?;
                let details = json!({"case": id, "code": record.code});
                audit(&mut tx, actor, "case.acknowledge", &record.subject, details).await?;
                Result::Ok(())
            })
            .await
    }
}

/// Those of the records that this release can read, with the names of what they are about.
async fn views(tx: &mut Tx, records: Vec<CaseRecord>) -> Result<Vec<CaseView>> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let clients = tx.client_list().await?;
    let catalogue = Catalogue::read(tx).await?;
    let view = |record: CaseRecord| {
        let case = case_of(&record)?;
        let (seat, name) = match &case.subject {
            Subject::Seat { client } => {
                let found = clients.iter().find(|one| one.id == *client);
                let name = found.map_or_else(|| client.to_string(), |one| one.name.clone());
                (found.map(|one| one.seat), name)
            }
            Subject::Version { version } => (None, catalogue.label(*version)),
            Subject::Service { service } => (None, service.clone()),
            Subject::Address { address } => (None, address.to_string()),
            Subject::Server { part } => (None, part.clone()),
            Subject::Site => (None, String::new()),
        };
        let (acknowledged_at, acknowledged_by) = record.acknowledged.unzip();
        Some(CaseView {
            id: case.id,
            code: case.code,
            subject: case.subject,
            seat,
            name,
            severity: case.severity,
            cause: case.cause,
            evidence: case.evidence,
            confidence: case.confidence,
            action: case.action,
            opened: case.opened,
            last_seen: case.last_seen,
            resolved: case.resolved,
            acknowledged_by,
            acknowledged_at,
        })
    };
    Ok(records.into_iter().filter_map(view).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_whose_subject_and_cause_name_the_same_service_survives_json() {
        let service = || "iscsi".to_owned();
        let case = CaseView {
            id: CaseId(uuid::Uuid::from_u128(7)),
            code: Code::E11,
            subject: Subject::Service { service: service() },
            seat: None,
            name: service(),
            severity: Severity::Bad,
            cause: Cause::ServiceDown { service: service() },
            evidence: vec![],
            confidence: 100,
            action: None,
            opened: Timestamp(1),
            last_seen: Timestamp(2),
            resolved: None,
            acknowledged_by: None,
            acknowledged_at: None,
        };
        let text = serde_json::to_string(&case).unwrap();
        assert_eq!(serde_json::from_str::<CaseView>(&text).unwrap(), case);
    }
}
