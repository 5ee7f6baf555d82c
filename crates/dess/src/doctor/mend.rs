//! What `dess doctor --fix` does: only what loses nothing and disturbs no running client.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};

use anyhow::{Context, Result};
use dess_model::ServiceName;
use dess_model::host::Paths;
use dess_node::services;

use super::finding::Finding;

/// Mends a finding; false if that is for people to do.
///
/// # Errors
/// If it could not be mended.
pub(crate) async fn mend(paths: &Paths, finding: &Finding) -> Result<bool> {
    match finding {
        Finding::DirectoryMissing { path } => {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder
                .create(path)
                .with_context(|| format!("cannot make {}", path.display()))?;
            Ok(true)
        }
        Finding::WrongRights {
            path,
            is_directory,
            foreign_owner,
            ..
        } => {
            let failed = || format!("cannot change the rights of {}", path.display());
            if foreign_owner.is_some() {
                chown(path, Some(0), Some(0)).with_context(failed)?;
            }
            let mode = if *is_directory { 0o700 } else { 0o600 };
            fs::set_permissions(path, Permissions::from_mode(mode)).with_context(failed)?;
            Ok(true)
        }
        Finding::SnapshotStale { .. } | Finding::SnapshotUnreadable { .. } => {
            restart(paths, ServiceName::Node).await
        }
        // Its restart stops the disks of all clients for a moment: that is for people to decide.
        Finding::ServiceFails { service, .. } if *service != ServiceName::Iscsi => {
            restart(paths, *service).await
        }
        _ => Ok(false),
    }
}

async fn restart(paths: &Paths, service: ServiceName) -> Result<bool> {
    services::restart(paths, service)
        .await
        .with_context(|| format!("cannot restart {service}"))?;
    Ok(true)
}
