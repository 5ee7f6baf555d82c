//! The audit log, and notices about the site.

use dess_model::Timestamp;
use dess_store::AuditFilter;
pub use dess_store::NoticeKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Operations, Result, audit};

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditView {
    /// Identity.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// Who, e.g. `cli:root`.
    pub actor: String,
    /// From where: an address, `console`, or empty for the system itself.
    pub origin: String,
    /// Stable key of the action, e.g. `client.reset`.
    pub action: String,
    /// What it was done to, e.g. `PC-03`.
    pub subject: String,
    /// Details as JSON; never a secret.
    pub details: serde_json::Value,
}

/// A place in the audit log: the lines older than it come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditCursor {
    /// When the line was written.
    pub at: Timestamp,
    /// Which of that moment.
    pub id: Uuid,
}

/// Which lines of the audit log are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Those of this actor, e.g. `web:owner`.
    pub actor: Option<String>,
    /// Those whose action is this one, or of its kind: `client` finds `client.reset`.
    pub action: Option<String>,
    /// Those about this subject.
    pub subject: Option<String>,
    /// Those from this time on.
    pub since: Option<Timestamp>,
    /// Those older than this place.
    pub before: Option<AuditCursor>,
}

impl AuditView {
    /// The place of this line.
    pub fn cursor(&self) -> AuditCursor {
        AuditCursor {
            at: self.at,
            id: self.id,
        }
    }
}

impl AuditCursor {
    /// As text for an address.
    pub fn encode(self) -> String {
        format!("{}-{}", self.at.0, self.id)
    }

    /// What [`AuditCursor::encode`] made; none for anything else.
    pub fn decode(text: &str) -> Option<Self> {
        let (at, id) = text.split_once('-')?;
        Some(Self {
            at: Timestamp(at.parse().ok()?),
            id: id.parse().ok()?,
        })
    }
}

/// Something that an operator should know; one row per kind and subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoticeView {
    /// What it is about.
    pub kind: NoticeKind,
    /// Who or what, e.g. the rogue server's address.
    pub subject: String,
    /// Details of the last time, in English.
    pub detail: String,
    /// First time.
    pub first_seen: Timestamp,
    /// Last time.
    pub last_seen: Timestamp,
    /// How often.
    pub count: u64,
}

impl Operations {
    /// Adds a line to the audit log, for actions without a change of the site (logins).
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn audit_append(
        &self,
        action: &str,
        subject: &str,
        details: serde_json::Value,
    ) -> Result<()> {
        let (actor, details) = (&*self.actor, &details);
        self.store()
            .await?
            .transact(|mut tx| async move {
                audit(&mut tx, actor, action, subject, details.clone()).await?;
                Ok(())
            })
            .await
    }

    /// The last `limit` lines of the audit log, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn audit_list(&self, limit: u32) -> Result<Vec<AuditView>> {
        self.audit_find(&AuditQuery::default(), limit).await
    }

    /// The last `limit` lines of the audit log that are asked for, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn audit_find(&self, query: &AuditQuery, limit: u32) -> Result<Vec<AuditView>> {
        let filter = AuditFilter {
            actor: query.actor.clone(),
            action: query.action.clone(),
            subject: query.subject.clone(),
            since: query.since,
            before: query.before.map(|place| (place.at, place.id)),
        };
        let lines = self.read().await?.audit_list(&filter, limit).await?;
        Ok(lines
            .into_iter()
            .map(|line| AuditView {
                id: line.id,
                at: line.at,
                actor: line.actor,
                origin: line.origin,
                action: line.action,
                subject: line.subject,
                details: serde_json::from_str(&line.details).unwrap_or_default(),
            })
            .collect())
    }

    /// Notices whose last time is at most `within_ms` milliseconds ago, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn notice_list(&self, within_ms: u64) -> Result<Vec<NoticeView>> {
        let since = Timestamp(Timestamp::now().0.saturating_sub_unsigned(within_ms));
        let notices = self.read().await?.notice_list(since).await?;
        Ok(notices
            .into_iter()
            .map(|notice| NoticeView {
                kind: notice.kind,
                subject: notice.subject,
                detail: notice.detail,
                first_seen: notice.first_seen,
                last_seen: notice.last_seen,
                count: notice.count,
            })
            .collect())
    }
}
