//! The site snapshot: compiled from the database, published when it differs from the file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use dess_model::host::{Paths, write_snapshot};
use dess_model::{
    BootPolicy, ClientEntry, GroupEntry, SNAPSHOT_FORMAT, SiteSnapshot, Timestamp, VersionEntry,
};
use dess_store::{ClientRecord, GroupRecord, MaintenanceRecord, Store, StoreError, Tx};

use crate::data_disks::{DataDisks, maintenance_of};

/// Why no snapshot could be published; the one in force stays.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be written.
    #[error("cannot write the site snapshot {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The writing thread died.
    #[error("the task that writes the site snapshot died")]
    Task(#[from] tokio::task::JoinError),
}

/// Publishes the site as the database has it, and answers the revision in force; none if the
/// site is not set up. Writes nothing if the file says the same already.
///
/// Revisions never go back, even if an old backup of the database was restored: the new one is
/// above both the database's and the file's, and the database is raised to it.
pub(crate) async fn publish(store: &Store, paths: &Paths) -> Result<Option<u64>, PublishError> {
    let lock_path = paths.snapshot().with_extension("lock");
    let path = paths.snapshot();
    let lock = blocking(lock_path.clone(), move || lock(&lock_path)).await?;
    let Some(mut compiled) = compile(&mut store.read().await?).await? else {
        return Ok(None);
    };
    let in_force = blocking(path.clone(), {
        let path = path.clone();
        move || read(&path)
    })
    .await?;
    if let Some(in_force) = &in_force {
        compiled.compiled_at = in_force.compiled_at;
        let asked = compiled.revision;
        compiled.revision = in_force.revision;
        if compiled == *in_force && asked <= in_force.revision {
            return Ok(Some(in_force.revision));
        }
        compiled.revision = asked.max(in_force.revision + 1);
        if compiled.revision > asked {
            let floor = compiled.revision;
            store
                .transact(|mut tx| async move { tx.revision_raise(floor).await })
                .await?;
        }
    }
    compiled.compiled_at = Timestamp::now();
    let revision = compiled.revision;
    let clients = compiled.clients.len();
    blocking(path.clone(), move || write_snapshot(&path, &compiled)).await?;
    drop(lock);
    tracing::info!(
        snapshot.revision = revision,
        snapshot.clients = clients,
        "site snapshot {revision} published"
    );
    Ok(Some(revision))
}

/// Runs file work on a thread that may wait.
async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, PublishError> {
    tokio::task::spawn_blocking(work)
        .await?
        .map_err(|source| PublishError::Write { path, source })
}

/// Keeps two publishers (the daemon, and the CLI while the daemon is down) apart.
fn lock(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    file.lock()?;
    Ok(file)
}

/// The snapshot in force. A damaged one counts as none: it is replaced.
pub(crate) fn read(path: &Path) -> io::Result<Option<SiteSnapshot>> {
    match fs::read(path) {
        Ok(text) => Ok(SiteSnapshot::from_json(&text)
            .inspect_err(|error| {
                tracing::error!(%error, "{} is damaged and will be replaced", path.display());
            })
            .ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The site as the database has it; none if it is not set up.
pub(crate) async fn compile(tx: &mut Tx) -> Result<Option<SiteSnapshot>, StoreError> {
    let Some(site) = tx.site_fetch().await? else {
        return Ok(None);
    };
    // One server per site for now; with several, each publishes itself.
    let Some(server) = tx.server_list().await?.into_iter().next() else {
        return Ok(None);
    };
    let groups = tx.group_list().await?;
    let images = tx.image_list().await?;
    let clients = tx.client_list().await?;
    let maintenances = tx.maintenance_list().await?;
    let data_disks = DataDisks::read(tx).await?;
    // All versions, not only the assigned ones: a running client keeps what it booted.
    let versions = tx.version_list().await?.into_iter().filter_map(|version| {
        let image = images
            .iter()
            .find(|image| image.id == version.version.image)?;
        Some(VersionEntry {
            version: version.version,
            image_name: image.name.clone(),
            directory: version.directory,
            size_bytes: version.size_bytes,
        })
    });
    Ok(Some(SiteSnapshot {
        format: SNAPSHOT_FORMAT,
        revision: site.revision,
        compiled_at: Timestamp(0),
        site_name: site.name,
        registration: site.registration,
        server: server.entry,
        subnets: tx.subnet_list().await?,
        pool: site.pool,
        versions: versions.collect(),
        clients: clients
            .into_iter()
            .map(|client| entry(client, &groups, &maintenances, &data_disks))
            .collect(),
        groups: groups
            .into_iter()
            .map(|group| GroupEntry {
                id: group.id,
                name: group.name,
                limits: group.limits,
            })
            .collect(),
    }))
}

fn entry(
    client: ClientRecord,
    groups: &[GroupRecord],
    maintenances: &[MaintenanceRecord],
    data_disks: &DataDisks,
) -> ClientEntry {
    let maintenance = maintenance_of(maintenances, client.id);
    let data_disks = data_disks.entries(&client, maintenance);
    // One that maintains a data disk boots what it always does.
    let maintenance = maintenance.filter(|record| record.data_lun.is_none());
    let group = groups.iter().find(|group| group.id == client.group);
    ClientEntry {
        id: client.id,
        mac: client.mac,
        seat: client.seat,
        name: client.name,
        approved: client.approved,
        address: client.address,
        version: maintenance
            .map(|record| record.version)
            .or(client.version)
            .or(group.and_then(|group| group.version)),
        policy: maintenance
            .map(|_| BootPolicy::Maintenance)
            .or(client.policy)
            .or(group.map(|group| group.policy))
            .unwrap_or_default(),
        reset_epoch: client.reset_epoch,
        boot_file: client.boot_file,
        iscsi: client.iscsi,
        disk: client.disk,
        data_disks,
        group: Some(client.group),
        limits: client.limits,
        overlay_limits: client
            .overlay_limits
            .or(group.map(|group| group.overlay_limits).unwrap_or_default()),
    }
}
