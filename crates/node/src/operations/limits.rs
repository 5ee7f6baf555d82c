//! How much of the storage clients and groups may use.

use dess_model::{BURST_MS_MAX, IoLimits, OverlayLimits};
use dess_store::{GroupRecord, Tx};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client_change::given;
use super::{GroupView, OperationError, Operations, Result, differences, record};

/// Changes of limits. `None` leaves a limit as it is; the inner `None` takes it away (in JSON it
/// is `null`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsChange {
    /// Bytes read per second.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub read_bytes_per_sec: Option<Option<u64>>,
    /// Reads per second.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub read_iops: Option<Option<u64>>,
    /// Bytes written per second.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub write_bytes_per_sec: Option<Option<u64>>,
    /// Writes per second.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub write_iops: Option<Option<u64>>,
    /// How much may be used at once after a pause, as milliseconds of the limited rate.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub burst_ms: Option<Option<u32>>,
    /// Size of the overlay above which it is reported, in bytes. Of a group: of each of its clients.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub overlay_soft_bytes: Option<Option<u64>>,
    /// Size above which the overlay does not grow, in bytes. Of a group: of each of its clients.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub overlay_hard_bytes: Option<Option<u64>>,
}

/// Least limit in bytes per second. An initiator with its queue full of the largest commands waits
/// some seconds for the last one then; with less it would take the disk for dead (Windows after
/// 60 s, Linux after 30 s).
const BYTES_PER_SEC_MIN: u64 = 1 << 20;
/// Least limit in commands per second, for the same reason.
const IOPS_MIN: u64 = 50;
/// Least size of an overlay in bytes: with less, no system starts.
const OVERLAY_BYTES_MIN: u64 = 64 << 20;
/// Shortest burst in milliseconds.
const BURST_MS_MIN: u32 = 10;

impl LimitsChange {
    /// True if nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn apply(&self, limits: &mut IoLimits) -> Result<()> {
        let rates = [
            (
                "read bytes",
                &mut limits.read.bytes_per_sec,
                self.read_bytes_per_sec,
                BYTES_PER_SEC_MIN,
            ),
            ("read IOPS", &mut limits.read.iops, self.read_iops, IOPS_MIN),
            (
                "write bytes",
                &mut limits.write.bytes_per_sec,
                self.write_bytes_per_sec,
                BYTES_PER_SEC_MIN,
            ),
            (
                "write IOPS",
                &mut limits.write.iops,
                self.write_iops,
                IOPS_MIN,
            ),
        ];
        for (field, limit, change, least) in rates {
            let Some(change) = change else {
                continue;
            };
            if change.is_some_and(|rate| rate < least) {
                let reason = format!(
                    "{least} per second is the least; with less a PC takes its disk for dead"
                );
                return Err(OperationError::invalid(field, reason));
            }
            *limit = change;
        }
        if let Some(burst) = self.burst_ms {
            if burst.is_some_and(|ms| !(BURST_MS_MIN..=BURST_MS_MAX).contains(&ms)) {
                let reason = format!("{BURST_MS_MIN} to {BURST_MS_MAX} milliseconds");
                return Err(OperationError::invalid("burst", reason));
            }
            limits.burst_ms = burst;
        }
        Ok(())
    }
}

impl LimitsChange {
    /// Changes the limits of an overlay; `inherited` holds where there is none.
    pub(super) fn apply_overlay(
        &self,
        limits: &mut OverlayLimits,
        inherited: OverlayLimits,
    ) -> Result<()> {
        let changes = [
            (&mut limits.soft_bytes, self.overlay_soft_bytes),
            (&mut limits.hard_bytes, self.overlay_hard_bytes),
        ];
        for (limit, change) in changes {
            let Some(change) = change else {
                continue;
            };
            if change.is_some_and(|bytes| bytes < OVERLAY_BYTES_MIN) {
                let reason = format!("{OVERLAY_BYTES_MIN} bytes is the least");
                return Err(OperationError::invalid("overlay size", reason));
            }
            *limit = change;
        }
        let OverlayLimits {
            soft_bytes: Some(soft),
            hard_bytes: Some(hard),
        } = limits.or(inherited)
        else {
            return Ok(());
        };
        let changed = self.overlay_soft_bytes.or(self.overlay_hard_bytes);
        if changed.is_some() && soft > hard {
            let reason = format!("the soft limit of {soft} bytes is above the hard one of {hard}");
            return Err(OperationError::invalid("overlay size", reason));
        }
        Ok(())
    }
}

impl Operations {
    /// Limits what the clients of a group may use together, and how large the overlay of each may get. Running clients feel it at once.
    ///
    /// # Errors
    /// If a limit is too low, or there is no such group.
    pub async fn group_limit(&self, group: &str, change: LimitsChange) -> Result<GroupView> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|tx| limit(tx, group, change, actor))
            .await?;
        self.publish().await;
        self.group_find(group).await
    }
}

async fn limit(mut tx: Tx, name: &str, change: LimitsChange, actor: &str) -> Result<()> {
    let groups = tx.group_list().await?;
    let mut group = groups
        .into_iter()
        .find(|group| group.name == name)
        .ok_or_else(|| OperationError::not_found("group", name))?;
    let limits = |group: &GroupRecord| json!({ "limits": group.limits, "overlay_limits": group.overlay_limits });
    let before = limits(&group);
    change.apply(&mut group.limits)?;
    change.apply_overlay(&mut group.overlay_limits, OverlayLimits::default())?;
    tx.group_update(&group).await?;
    let details = differences(&before, &limits(&group));
    record(&mut tx, actor, "group.limit", name, details).await?;
    Ok(())
}
