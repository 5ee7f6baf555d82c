//! `dess image backup`, `dess image restore`, `dess disk backup`, `dess disk restore`

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use dess_disk::backup::{
    BackupError, BackupHeader, BackupRequest, backup_file_name, backup_snapshot,
    backup_to_directory, backup_version, read_header, restore_snapshot, restore_version,
};
use dess_disk::{Manifest, Progress, snapshot_directory, version_directory};
use dess_model::{SnapshotOrder, Timestamp, VersionRef};
use dess_node::operations::Operations;

use super::image::{ProgressLine, STANDARD};
use crate::output::{self, bytes, say};

const BUFFER_BYTES: usize = 1 << 20;

/// Runs `work` where it may wait, with a line that says how far it is; Ctrl-C cancels it.
async fn watched<T: Send + 'static>(
    work: impl FnOnce(&mut dyn FnMut(Progress), &dyn Fn() -> bool) -> Result<T, BackupError>
    + Send
    + 'static,
) -> Result<T> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&cancelled);
    let mut work = tokio::task::spawn_blocking(move || {
        let mut line = ProgressLine::new();
        let shown = &mut line;
        let progress = &mut |progress: Progress| {
            // A terminal that is gone does not stop the work.
            let _ = shown.show(progress.done_bytes, progress.total_bytes);
        };
        let done = work(progress, &|| asked.load(Ordering::Relaxed));
        line.end();
        done
    });
    loop {
        tokio::select! {
            done = &mut work => return Ok(done??),
            _ = tokio::signal::ctrl_c() => cancelled.store(true, Ordering::Relaxed),
        }
    }
}

pub(super) async fn image(
    operations: &Operations,
    image: &str,
    target: &Path,
    since: Option<u32>,
    full: bool,
) -> Result<()> {
    let (label, version) = operations.version_named(image).await?;
    let (image_name, _) = label.rsplit_once('@').context("the image has no name")?;
    let request = BackupRequest {
        images: operations.paths().images(),
        version,
        since: since.map(|number| VersionRef { number, ..version }),
        image_name: image_name.to_owned(),
        created: Timestamp::now(),
    };
    operations
        .audit_append(
            "image.backup",
            &label,
            serde_json::json!({"target": target.to_string_lossy()}),
        )
        .await?;
    if target.as_os_str() == STANDARD {
        let written = watched(move |progress, cancelled| {
            backup_version(&request, &mut io::stdout().lock(), progress, cancelled)
        })
        .await?;
        eprintln!("{label}: {} written", bytes(written));
        return Ok(());
    }
    let directory = target.to_owned();
    let (path, written) = watched(move |progress, cancelled| {
        backup_to_directory(&directory, &request, full, progress, cancelled)
    })
    .await?;
    let base = read_header(&mut File::open(&path)?)?.base;
    let of = match base {
        Some(base) => format!(", what differs from {image_name}@{}", base.version.number),
        None => String::new(),
    };
    say!("{label} is in {} ({}{of})", path.display(), bytes(written));
    Ok(())
}

/// The archive, and those beside it that it needs and that the store does not have; the one to restore first comes last.
fn chain(images: &Path, file: &Path) -> Result<Vec<PathBuf>> {
    let mut chain = vec![file.to_owned()];
    loop {
        let path = &chain[chain.len() - 1];
        let mut input =
            File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let header = read_header(&mut input).with_context(|| path.display().to_string())?;
        let Some(base) = header.base else {
            return Ok(chain);
        };
        if version_directory(images, base.version).is_dir() {
            return Ok(chain);
        }
        let name = backup_file_name(&header.image_name, base.version.number);
        let below = path.with_file_name(name);
        if !below.exists() || chain.contains(&below) {
            bail!(
                "{} holds only what differs from version {} of {}, which is neither in the store nor in {}",
                path.display(),
                base.version.number,
                header.image_name,
                below.display()
            );
        }
        chain.push(below);
    }
}

pub(super) async fn restore_image(
    operations: &Operations,
    file: &Path,
    name: Option<String>,
    json: bool,
) -> Result<()> {
    // Not after hours: what is restored is made known in the database.
    operations.version_labels(Vec::new()).await?;
    let images = operations.paths().images();
    let sources = match file.as_os_str() == STANDARD {
        true => vec![Source::StandardInput],
        false => chain(&images, file)?
            .into_iter()
            .rev()
            .map(Source::File)
            .collect(),
    };
    let mut labels = Vec::new();
    for source in sources {
        let restored = restore(images.clone(), source).await?;
        let name = name.clone().unwrap_or(restored.header.image_name);
        let label = operations.version_adopt(&restored.manifest, &name).await?;
        if !json {
            match restored.written {
                true => say!("restored {label}; every byte was compared with its checksum"),
                false => say!("{label} is here already"),
            }
        }
        labels.push(label);
    }
    match json {
        true => output::json(&labels),
        false => Ok(()),
    }
}

enum Source {
    StandardInput,
    File(PathBuf),
}

struct Restored {
    header: BackupHeader,
    manifest: Manifest,
    /// False if the store had it.
    written: bool,
}

/// Restores one archive. A version that is there already, of the same content, is what a crash left before it was known.
async fn restore(images: PathBuf, source: Source) -> Result<Restored> {
    watched(move |progress, cancelled| {
        let input: Box<dyn Read> = match source {
            Source::StandardInput => Box::new(io::stdin().lock()),
            Source::File(path) => match File::open(&path) {
                Ok(file) => Box::new(file),
                Err(source) => {
                    return Err(BackupError::File {
                        action: "open",
                        path,
                        source,
                    });
                }
            },
        };
        let mut input = Kept::new(BufReader::with_capacity(BUFFER_BYTES, input));
        let header = read_header(&mut input)?;
        if let Some(manifest) = stored(&images, &header) {
            return Ok(Restored {
                header,
                manifest,
                written: false,
            });
        }
        let manifest = restore_version(&images, &mut input.again(), progress, cancelled)?;
        Ok(Restored {
            header,
            manifest,
            written: true,
        })
    })
    .await
}

/// The version of a backup, if the store has it.
fn stored(images: &Path, header: &BackupHeader) -> Option<Manifest> {
    let wanted = header.manifest.as_ref()?;
    let found = Manifest::read(&version_directory(images, wanted.version)).ok()?;
    (found.image_crc32c == wanted.image_crc32c).then_some(found)
}

/// A stream of which the first bytes are read twice.
struct Kept<R> {
    input: R,
    start: Vec<u8>,
}

impl<R: Read> Kept<R> {
    fn new(input: R) -> Self {
        Self {
            input,
            start: Vec::new(),
        }
    }

    fn again(self) -> impl Read {
        io::Cursor::new(self.start).chain(self.input)
    }
}

impl<R: Read> Read for Kept<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.start.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

pub(super) async fn disk(
    operations: &Operations,
    client: &str,
    file: &Path,
    snapshot: Option<String>,
) -> Result<()> {
    let disk = operations.disk_named(client).await?;
    let id = operations.client_find(client).await?.id;
    let made = snapshot.is_none();
    let name = snapshot.unwrap_or_else(|| format!("backup-{}", Timestamp::now().0));
    let order = match made {
        true => SnapshotOrder::Create { name: name.clone() },
        false => SnapshotOrder::List,
    };
    let snapshots = operations.disk_snapshot(id, order).await?;
    let found = snapshots.into_iter().find(|snapshot| snapshot.name == name);
    let found = found.with_context(|| format!("{} has no snapshot {name}", disk.label))?;
    let labels = operations.version_labels(vec![found.version]).await?;
    let image_name = match labels[0].0.rsplit_once('@') {
        Some((image, _)) => image.to_owned(),
        None => String::new(),
    };
    let directory = snapshot_directory(&operations.paths().overlays(), disk.disk, &name);
    let written = write_snapshot(directory, image_name, file.to_owned()).await;
    if made {
        let removed = SnapshotOrder::Remove { name };
        operations.disk_snapshot(id, removed).await?;
    }
    let written = bytes(written?);
    match file.as_os_str() == STANDARD {
        true => eprintln!("{}: {written} written", disk.label),
        false => say!(
            "the disk of {} is in {} ({written})",
            disk.label,
            file.display()
        ),
    }
    Ok(())
}

/// Into a file: aside, synced, then renamed, so that there is no half one.
async fn write_snapshot(directory: PathBuf, image_name: String, file: PathBuf) -> Result<u64> {
    let now = Timestamp::now();
    if file.as_os_str() == STANDARD {
        return watched(move |progress, cancelled| {
            let mut out = io::stdout().lock();
            backup_snapshot(&directory, &image_name, now, &mut out, progress, cancelled)
        })
        .await;
    }
    let mut unfinished = file.clone().into_os_string();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    let part = unfinished.clone();
    let written = watched(move |progress, cancelled| {
        let file = File::create(&part).map_err(BackupError::Write)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        let written = backup_snapshot(&directory, &image_name, now, &mut out, progress, cancelled)?;
        out.flush()
            .and_then(|()| out.get_ref().sync_all())
            .map_err(BackupError::Write)?;
        Ok(written)
    })
    .await;
    let renamed = match written {
        Ok(written) => fs::rename(&unfinished, &file)
            .with_context(|| format!("cannot make {}", file.display()))
            .map(|()| written),
        Err(error) => Err(error),
    };
    if renamed.is_err() {
        // What stays is no backup by its name.
        let _ = fs::remove_file(&unfinished);
    } else if let Some(parent) = file.canonicalize()?.parent() {
        File::open(parent)?.sync_all()?;
    }
    renamed
}

pub(super) async fn restore_disk(
    operations: &Operations,
    client: &str,
    file: &Path,
    snapshot: &str,
) -> Result<()> {
    let disk = operations.disk_named(client).await?;
    let paths = operations.paths();
    let (overlays, images) = (paths.overlays(), paths.images());
    let (name, id, path) = (snapshot.to_owned(), disk.disk, file.to_owned());
    watched(move |_, cancelled| match path.as_os_str() == STANDARD {
        true => {
            let mut input = BufReader::with_capacity(BUFFER_BYTES, io::stdin().lock());
            restore_snapshot(&overlays, &images, id, &name, &mut input, cancelled)
        }
        false => {
            let file = File::open(&path).map_err(|source| BackupError::File {
                action: "open",
                path: path.clone(),
                source,
            })?;
            let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
            restore_snapshot(&overlays, &images, id, &name, &mut input, cancelled)
        }
    })
    .await?;
    operations
        .audit_append(
            "disk.restore",
            &disk.label,
            serde_json::json!({"snapshot": snapshot}),
        )
        .await?;
    say!(
        "{} has the snapshot {snapshot} now; bring it back with: dess disk snapshot restore {client} {snapshot}",
        disk.label
    );
    Ok(())
}
