//! Changing groups.

use dess_model::{BootPolicy, GroupId, OverlayLimits};
use dess_store::{Holder, Tx};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client_change::{object, objects};
use super::images::Catalogue;
use super::maintenance::no_maintenance_policy;
use super::{
    DataDiskChange, GroupView, LimitsChange, OperationError, Operations, Result, Revision,
    data_disks, record,
};
use crate::data_disks::DataDisks;

/// Changes of a group; what is not named stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GroupChange {
    /// What happens to the writes of its clients without a policy of their own: `volatile` or `persistent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<BootPolicy>,
    /// Its data disks, from the next power-on on.
    #[serde(deserialize_with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub data_disks: Vec<DataDiskChange>,
    /// How much of the storage its clients may use together; felt at once.
    #[serde(
        deserialize_with = "object",
        skip_serializing_if = "LimitsChange::is_empty"
    )]
    pub limits: LimitsChange,
}

impl Operations {
    /// One group.
    ///
    /// # Errors
    /// If there is none, or the database cannot be read.
    pub async fn group_get(&self, id: GroupId) -> Result<GroupView> {
        let groups = self.group_list().await?;
        let found = groups.into_iter().find(|view| view.id == id);
        found.ok_or_else(|| OperationError::not_found("group", id))
    }

    /// Changes a group, all of it or nothing; only if its settings are still those of `expected`.
    ///
    /// # Errors
    /// If a value is wrong, there is no such group, or it was changed meanwhile.
    pub async fn group_set(
        &self,
        id: GroupId,
        change: GroupChange,
        expected: Option<&Revision>,
    ) -> Result<GroupView> {
        let (change, actor) = (&change, &*self.actor);
        self.store()
            .await?
            .transact(|tx| set(tx, id, change, expected, actor))
            .await?;
        self.publish().await;
        self.group_get(id).await
    }
}

async fn set(
    mut tx: Tx,
    id: GroupId,
    change: &GroupChange,
    expected: Option<&Revision>,
    actor: &str,
) -> Result<()> {
    let groups = tx.group_list().await?;
    let found = groups.into_iter().find(|group| group.id == id);
    let mut group = found.ok_or_else(|| OperationError::not_found("group", id))?;
    let (disks, catalogue) = (
        DataDisks::read(&mut tx).await?,
        Catalogue::read(&mut tx).await?,
    );
    let present = GroupView::of(group.clone(), &disks, &catalogue).revision;
    present.expect(expected, "group", &group.name)?;
    match change.policy {
        Some(BootPolicy::Maintenance) => return Err(no_maintenance_policy()),
        Some(policy) => group.policy = policy,
        None => {}
    }
    change.limits.apply(&mut group.limits)?;
    let limits = &mut group.overlay_limits;
    change
        .limits
        .apply_overlay(limits, OverlayLimits::default())?;
    tx.group_update(&group).await?;
    data_disks::change(&mut tx, Holder::Group(id), &change.data_disks).await?;
    record(&mut tx, actor, "group.set", &group.name, json!(change))
        .await
        .map_err(OperationError::from)
}
