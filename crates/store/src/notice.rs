//! Notices: what an operator should know, one row per kind and subject.

use dess_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::row::{Columns, count_of, name_of};
use crate::statement::query;
use crate::{StoreError, Tx};

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// The scrub found damage in a version of an image.
    VersionDamaged,
    /// More new PCs came at once than are registered by themselves; they wait for approval.
    RegistrationHeld,
    /// `node` restarted a service whose probe failed again and again.
    ServiceRestarted,
}

/// One notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeRecord {
    /// What it is about.
    pub kind: NoticeKind,
    /// Who or what.
    pub subject: String,
    /// Details of the last time.
    pub detail: String,
    /// First time.
    pub first_seen: Timestamp,
    /// Last time.
    pub last_seen: Timestamp,
    /// How often.
    pub count: u64,
}

impl Tx {
    /// Counts a notice: a new one, or once more.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn notice_count(
        &mut self,
        kind: NoticeKind,
        subject: &str,
        detail: &str,
        times: u64,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let update = query(
            "UPDATE notices SET detail = ?, last_seen = ?, count = count + ? \
             WHERE kind = ? AND subject = ?",
        )
        .bind(detail.to_owned())
        .bind(at.0)
        .bind(count_of(times))
        .bind(name_of(kind))
        .bind(subject.to_owned());
        if self.execute("count a notice", update).await? > 0 {
            return Ok(());
        }
        let insert = query(
            "INSERT INTO notices (kind, subject, detail, first_seen, last_seen, count) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(name_of(kind))
        .bind(subject.to_owned())
        .bind(detail.to_owned())
        .bind(at.0)
        .bind(at.0)
        .bind(count_of(times));
        self.execute("keep a notice", insert).await.map(drop)
    }

    /// Removes notices last seen before `before`, and of the rest all but the `keep` newest;
    /// answers how many went.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn notice_delete_old(
        &mut self,
        before: Timestamp,
        keep: u32,
    ) -> Result<u64, StoreError> {
        let old = query("DELETE FROM notices WHERE last_seen < ?").bind(before.0);
        let removed = self.execute("remove old notices", old).await?;
        // The oldest one that stays; more than `keep` only if some were seen in one millisecond.
        let newest =
            query("SELECT last_seen FROM notices ORDER BY last_seen DESC LIMIT 1 OFFSET ?")
                .bind(i64::from(keep.saturating_sub(1)));
        let Some(row) = self
            .fetch_optional("find the oldest notice to keep", newest)
            .await?
        else {
            return Ok(removed);
        };
        let least = Columns(&row).time("last_seen")?;
        let beyond = query("DELETE FROM notices WHERE last_seen < ?").bind(least.0);
        Ok(removed + self.execute("remove notices", beyond).await?)
    }

    /// Notices whose last time is not before `since`, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn notice_list(&mut self, since: Timestamp) -> Result<Vec<NoticeRecord>, StoreError> {
        let statement = query(
            "SELECT kind, subject, detail, first_seen, last_seen, count FROM notices \
             WHERE last_seen >= ? ORDER BY last_seen DESC",
        )
        .bind(since.0);
        let rows = self.fetch_all("list notices", statement).await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(NoticeRecord {
                    kind: row.named("kind")?,
                    subject: row.text("subject")?,
                    detail: row.text("detail")?,
                    first_seen: row.time("first_seen")?,
                    last_seen: row.time("last_seen")?,
                    count: row.number("count")?,
                })
            })
            .collect()
    }
}
