//! The space for what clients write: how full it is, who uses it, and its marks.

use std::time::Duration;

use dess_disk::{DiskUsage, SpaceUsage, pool_figures, space_usage};
use dess_model::host::request;
use dess_model::{
    ClientId, DiskId, OverlayLimits, PoolFigures, PoolLevel, PoolSettings, PoolStatus, TargetReply,
    TargetRequest, VersionRef,
};
use dess_store::{ClientRecord, GroupRecord, ImageRecord, SiteRecord, Tx};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::images::Catalogue;
use super::{OperationError, Operations, Result, differences, record};

/// The space of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpaceView {
    /// The pool: the file system of the overlays.
    pub pool: PoolStatus,
    /// Its marks.
    pub settings: PoolSettings,
    /// The file system of the images, if it is another one.
    pub images_pool: Option<PoolFigures>,
    /// What each disk uses, the largest first.
    pub disks: Vec<DiskSpace>,
    /// What each version uses beyond those below it, the largest first.
    pub versions: Vec<VersionSpace>,
    /// Imports and the like that are under way or were interrupted, in bytes.
    pub unfinished_bytes: u64,
    /// What is being removed, in bytes.
    pub leaving_bytes: u64,
    /// What else lies on the pool's file system, in bytes.
    pub other_bytes: u64,
}

/// What is kept of one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskSpace {
    /// Whose; none if no client has it any more.
    pub client: Option<ClientId>,
    /// The client's name.
    pub name: Option<String>,
    /// Its seat.
    pub seat: Option<u32>,
    /// The bytes.
    #[serde(flatten)]
    pub usage: DiskUsage,
    /// How large its overlay may get.
    pub limits: OverlayLimits,
}

/// What one version uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionSpace {
    /// Which.
    pub version: VersionRef,
    /// For people: `debian@1`.
    pub label: String,
    /// Bytes of storage.
    pub bytes: u64,
}

/// A change of the pool's marks; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PoolChange {
    /// [`PoolSettings::warn_percent`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn_percent: Option<u8>,
    /// [`PoolSettings::throttle_percent`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle_percent: Option<u8>,
    /// [`PoolSettings::stop_percent`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_percent: Option<u8>,
    /// [`PoolSettings::throttle_bytes_per_sec`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle_bytes_per_sec: Option<u64>,
}

/// How long the iSCSI service may take to tell of the pool: pages wait for it.
const POOL_TIMEOUT: Duration = Duration::from_secs(1);

impl DiskSpace {
    /// All bytes of the disk.
    pub fn total_bytes(&self) -> u64 {
        self.usage.overlay_bytes + self.usage.aside_bytes + self.usage.kept_bytes
    }
}

impl Operations {
    /// How full the server is, and of what. If the iSCSI service does not answer, nothing is known of the past, so there is no
    /// forecast.
    ///
    /// # Errors
    /// If the site is not set up, or the files cannot be looked at.
    pub async fn space(&self) -> Result<SpaceView> {
        let mut tx = self.read().await?;
        let site = tx.site_fetch().await?.ok_or(OperationError::NoSite)?;
        let (clients, groups) = (tx.client_list().await?, tx.group_list().await?);
        let catalogue = Catalogue::read(&mut tx).await?;
        let images = tx.image_list().await?;
        drop(tx);
        let (figures, images_pool, usage) = self.space_looked_up().await?;
        let watched = self.pool_status().await;
        let pool = watched.unwrap_or_else(|| unwatched(figures, &site));
        let mut disks: Vec<_> = usage
            .disks
            .iter()
            .map(|usage| disk_space(*usage, &clients, &groups, &images))
            .collect();
        disks.sort_by_key(|disk| std::cmp::Reverse(disk.total_bytes()));
        let mut versions: Vec<_> = usage
            .versions
            .iter()
            .map(|one| VersionSpace {
                version: one.version,
                label: catalogue.label(one.version),
                bytes: one.bytes,
            })
            .collect();
        versions.sort_by_key(|version| std::cmp::Reverse(version.bytes));
        let of_images = versions.iter().map(|one| one.bytes).sum::<u64>() + usage.unfinished_bytes;
        let of_disks = disks.iter().map(DiskSpace::total_bytes).sum::<u64>() + usage.leaving_bytes;
        let ours = match images_pool {
            Some(_) => of_disks,
            None => of_disks + of_images,
        };
        Ok(SpaceView {
            other_bytes: pool.figures.used_bytes.saturating_sub(ours),
            pool,
            settings: site.pool,
            images_pool,
            disks,
            versions,
            unfinished_bytes: usage.unfinished_bytes,
            leaving_bytes: usage.leaving_bytes,
        })
    }

    /// The pool as the iSCSI service sees it; none if it does not say so at once.
    pub async fn pool_status(&self) -> Option<PoolStatus> {
        let socket = self.paths.target_control();
        match request(&socket, &TargetRequest::Pool, POOL_TIMEOUT).await {
            Ok(TargetReply::Pool(status)) => Some(status),
            _ => None,
        }
    }

    async fn space_looked_up(&self) -> Result<(PoolFigures, Option<PoolFigures>, SpaceUsage)> {
        let (images, overlays) = (self.paths.images(), self.paths.overlays());
        let state = self.paths.state.clone();
        let looked = tokio::task::spawn_blocking(move || -> std::io::Result<_> {
            let there = |path: std::path::PathBuf| if path.exists() { path } else { state.clone() };
            let usage = space_usage(&images, &overlays).map_err(std::io::Error::other)?;
            let (images, overlays) = (there(images), there(overlays));
            let device = |path: &std::path::Path| -> std::io::Result<u64> {
                Ok(std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(
                    path,
                )?))
            };
            let apart = device(&images)? != device(&overlays)?;
            let images_pool = apart.then(|| pool_figures(&images)).transpose()?;
            Ok((pool_figures(&overlays)?, images_pool, usage))
        });
        let looked = looked
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)));
        looked.map_err(|error| {
            OperationError::Refused(format!("the storage cannot be looked at: {error}"))
        })
    }

    /// Changes the marks of the pool; they hold at once.
    ///
    /// # Errors
    /// If they make no sense, or the site is not set up.
    pub async fn pool_set(&self, change: PoolChange) -> Result<PoolSettings> {
        let actor = &*self.actor;
        let store = self.store().await?;
        let settings = store.transact(|tx| set(tx, change, actor)).await?;
        self.publish().await;
        Ok(settings)
    }
}

async fn set(mut tx: Tx, change: PoolChange, actor: &str) -> Result<PoolSettings> {
    let site = tx.site_fetch().await?.ok_or(OperationError::NoSite)?;
    let mut pool = site.pool;
    pool.warn_percent = change.warn_percent.unwrap_or(pool.warn_percent);
    pool.throttle_percent = change.throttle_percent.unwrap_or(pool.throttle_percent);
    pool.stop_percent = change.stop_percent.unwrap_or(pool.stop_percent);
    pool.throttle_bytes_per_sec = change
        .throttle_bytes_per_sec
        .unwrap_or(pool.throttle_bytes_per_sec);
    check(&pool)?;
    tx.pool_update(&pool).await?;
    let details = differences(&json!(site.pool), &json!(pool));
    record(&mut tx, actor, "site.pool", &site.name, details).await?;
    Ok(pool)
}

fn check(pool: &PoolSettings) -> Result<()> {
    let rising = [pool.warn_percent, pool.throttle_percent, pool.stop_percent];
    if !rising.is_sorted() || pool.warn_percent < 10 || pool.stop_percent > 100 {
        let [warn, throttle, stop] = rising;
        let reason = format!(
            "warn at {warn} %, slow down at {throttle} % and stop at {stop} % must rise, from 10 to 100"
        );
        return Err(OperationError::invalid("pool marks", reason));
    }
    if pool.throttle_bytes_per_sec < dess_model::WRITE_RATE_MIN {
        let reason = format!(
            "{} bytes per second is the least",
            dess_model::WRITE_RATE_MIN
        );
        return Err(OperationError::invalid("pool rate", reason));
    }
    Ok(())
}

fn unwatched(figures: PoolFigures, site: &SiteRecord) -> PoolStatus {
    PoolStatus {
        figures,
        level: PoolLevel::of(&figures, &site.pool),
        since: None,
        growth_bytes_per_sec: None,
        full_in_secs: None,
        client_write_bytes_per_sec: None,
    }
}

fn disk_space(
    usage: DiskUsage,
    clients: &[ClientRecord],
    groups: &[GroupRecord],
    images: &[ImageRecord],
) -> DiskSpace {
    let is_of = |client: &ClientRecord, disk: DiskId| {
        let data = |image: &ImageRecord| client.disk.data_disk(image.id).id == disk;
        client.disk.id == disk || images.iter().any(data)
    };
    let client = clients.iter().find(|client| is_of(client, usage.disk));
    let group = client.and_then(|client| groups.iter().find(|group| group.id == client.group));
    let of_group = group.map(|group| group.overlay_limits).unwrap_or_default();
    DiskSpace {
        client: client.map(|client| client.id),
        name: client.map(|client| client.name.clone()),
        seat: client.map(|client| client.seat),
        limits: client.map_or_else(OverlayLimits::default, |client| {
            client.overlay_limits.or(of_group)
        }),
        usage,
    }
}
