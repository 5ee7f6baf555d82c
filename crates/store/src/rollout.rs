//! Roll-outs: what clients and groups were assigned before them, so that they can be taken back.

use dess_model::{ClientId, GroupId, ImageId, Timestamp, VersionRef};

use crate::row::{Columns, text_of};
use crate::statement::query;
use crate::{StoreError, Tx};

/// A roll-out of a version that was not taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutRecord {
    /// Counts the roll-outs of the image.
    pub number: u32,
    /// What was rolled out.
    pub version: VersionRef,
    /// Who ordered it.
    pub actor: String,
    /// When its first seats were given the version.
    pub created: Timestamp,
}

/// Who is given something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// One client, as its own assignment.
    Client(ClientId),
    /// A group.
    Group(GroupId),
}

/// What somebody boots: a version, and whether the next one that is published takes its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Assigned {
    /// The version; none for a client that boots what its group does.
    pub version: Option<VersionRef>,
    /// True if a newer version is booted as soon as it is published.
    pub follows_latest: bool,
}

impl Holder {
    /// The columns `holder_kind` and `holder_id`.
    pub(crate) fn columns(self) -> (&'static str, String) {
        match self {
            Self::Client(id) => ("client", id.to_string()),
            Self::Group(id) => ("group", id.to_string()),
        }
    }

    pub(crate) fn of(row: &Columns<'_>) -> Result<Self, StoreError> {
        let kind = row.text("holder_kind")?;
        match kind.as_str() {
            "client" => Ok(Self::Client(row.parsed("holder_id")?)),
            "group" => Ok(Self::Group(row.parsed("holder_id")?)),
            _ => Err(StoreError::Value {
                column: "holder_kind",
                value: kind,
            }),
        }
    }
}

impl Tx {
    /// Roll-outs of an image that can be taken back, the last first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn rollout_list(&mut self, image: ImageId) -> Result<Vec<RolloutRecord>, StoreError> {
        let statement = query(
            "SELECT number, version_number, actor, created_at FROM rollouts WHERE image_id = ? \
             ORDER BY number DESC",
        )
        .bind(image.to_string());
        let rows = self.fetch_all("list roll-outs", statement).await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(RolloutRecord {
                    number: row.number("number")?,
                    version: VersionRef {
                        image,
                        number: row.number("version_number")?,
                    },
                    actor: row.text("actor")?,
                    created: row.time("created_at")?,
                })
            })
            .collect()
    }

    /// Adds a roll-out.
    ///
    /// # Errors
    /// If the number is taken, or the database cannot be written.
    pub async fn rollout_insert(&mut self, rollout: &RolloutRecord) -> Result<(), StoreError> {
        let statement = query(
            "INSERT INTO rollouts (image_id, number, version_number, actor, created_at) \
             VALUES (?, ?, ?, ?, ?)",
        )
        .bind(rollout.version.image.to_string())
        .bind(i64::from(rollout.number))
        .bind(i64::from(rollout.version.number))
        .bind(rollout.actor.clone())
        .bind(rollout.created.0);
        self.execute("add a roll-out", statement).await.map(drop)
    }

    /// Notes what somebody was assigned before a roll-out.
    ///
    /// # Errors
    /// If there is a note already, or the database cannot be written.
    pub async fn rollout_holder_insert(
        &mut self,
        rollout: &RolloutRecord,
        holder: Holder,
        before: Assigned,
    ) -> Result<(), StoreError> {
        let (kind, id) = holder.columns();
        let statement = query(
            "INSERT INTO rollout_holders (image_id, number, holder_kind, holder_id, \
             before_image, before_version, before_latest) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(rollout.version.image.to_string())
        .bind(i64::from(rollout.number))
        .bind(kind)
        .bind(id)
        .bind(text_of(before.version.map(|version| version.image)))
        .bind(before.version.map(|version| i64::from(version.number)))
        .bind(i64::from(before.follows_latest));
        self.execute("note an assignment", statement)
            .await
            .map(drop)
    }

    /// What everybody was assigned before a roll-out.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn rollout_holder_list(
        &mut self,
        rollout: &RolloutRecord,
    ) -> Result<Vec<(Holder, Assigned)>, StoreError> {
        let statement = query(
            "SELECT holder_kind, holder_id, before_image AS image_id, \
             before_version AS version_number, before_latest FROM rollout_holders \
             WHERE image_id = ? AND number = ?",
        )
        .bind(rollout.version.image.to_string())
        .bind(i64::from(rollout.number));
        let rows = self.fetch_all("list assignments", statement).await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                let holder = Holder::of(&row)?;
                let before = Assigned {
                    version: row.version_opt()?,
                    follows_latest: row.flag("before_latest")?,
                };
                Ok((holder, before))
            })
            .collect()
    }

    /// Forgets a roll-out: it was taken back, or cannot be any more.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn rollout_delete(&mut self, image: ImageId, number: u32) -> Result<(), StoreError> {
        for statement in [
            query("DELETE FROM rollout_holders WHERE image_id = ? AND number = ?"),
            query("DELETE FROM rollouts WHERE image_id = ? AND number = ?"),
        ] {
            let statement = statement.bind(image.to_string()).bind(i64::from(number));
            self.execute("forget a roll-out", statement).await?;
        }
        Ok(())
    }

    /// Forgets the roll-outs of a version, and those that would bring it back: it is removed.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn rollout_delete_version(&mut self, version: VersionRef) -> Result<(), StoreError> {
        for rollout in self.rollout_list(version.image).await? {
            let holders = self.rollout_holder_list(&rollout).await?;
            let brings_back = holders
                .iter()
                .any(|(_, before)| before.version == Some(version));
            if rollout.version == version || brings_back {
                self.rollout_delete(version.image, rollout.number).await?;
            }
        }
        Ok(())
    }
}
