//! Images through standard input and output, and to files.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result};
use dess_disk::{ExportError, ExportFormat, ExportTarget, Version};
use dess_node::operations::{ImageImport, JobView, Operations, end_marker};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::progress::ProgressLine;
use super::{PROGRESS_EVERY, STANDARD, follow};
use crate::output::bytes;

const PIPE_BYTES: usize = 256 * 1024;

/// Sends standard input through a pipe to the management daemon, which imports it.
pub(super) async fn import_standard_input(
    operations: &Operations,
    name: String,
) -> Result<JobView> {
    let pipe = Pipe::make(operations.import_pipe())?;
    let source = pipe.path.clone();
    let job = operations
        .image_import_start(ImageImport { source, name })
        .await?;
    let path = pipe.path.clone();
    // Ends with the process if nobody reads any more.
    thread::spawn(move || {
        if let Err(error) = send(&path)
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            eprintln!("cannot send standard input: {error}");
        }
    });
    follow(operations, job).await
}

/// Nothing marks the end if this process is killed: the daemon then refuses what it got.
fn send(path: &Path) -> io::Result<()> {
    let mut pipe = OpenOptions::new().write(true).open(path)?;
    let mut input = io::stdin().lock();
    let mut buffer = vec![0; PIPE_BYTES];
    let mut sent = 0;
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                pipe.write_all(&buffer[..read])?;
                sent += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    match end_marker(path) {
        Some(marker) => fs::write(marker, sent.to_string()),
        None => Ok(()),
    }
}

/// A pipe that is removed with its end marker.
struct Pipe {
    path: PathBuf,
}

impl Pipe {
    fn make(path: PathBuf) -> Result<Self> {
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).with_context(|| {
            format!("cannot make {}; is DESS running? (dess up)", path.display())
        })?;
        Ok(Self { path })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        for path in [Some(self.path.clone()), end_marker(&self.path)]
            .into_iter()
            .flatten()
        {
            // The marker is there only if everything was sent.
            let _ = fs::remove_file(path);
        }
    }
}

/// Between the exporting thread and the one that shows how far it is.
#[derive(Default)]
struct Watch {
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
    cancelled: AtomicBool,
}

/// Writes a version as a disk image.
pub(super) async fn export(
    operations: &Operations,
    image: &str,
    file: &Path,
    format: Option<ExportFormat>,
) -> Result<()> {
    let stream = file.as_os_str() == STANDARD;
    let format = format.unwrap_or_else(|| ExportFormat::of_name(file));
    let (label, directory) = operations
        .image_export_start(image, &file.to_string_lossy())
        .await?;
    let version = Version::open(&directory)?;
    let watch = Arc::new(Watch::default());
    let exporting = Arc::clone(&watch);
    let path = file.to_owned();
    let mut work = tokio::task::spawn_blocking(move || -> Result<u64, ExportError> {
        let watch = &exporting;
        let mut output = io::stdout().lock();
        let target = match stream {
            true => ExportTarget::Stream(&mut output),
            false => ExportTarget::File(&path),
        };
        let progress = &mut |progress: dess_disk::Progress| {
            watch
                .done_bytes
                .store(progress.done_bytes, Ordering::Relaxed);
            watch
                .total_bytes
                .store(progress.total_bytes, Ordering::Relaxed);
        };
        let cancelled = || watch.cancelled.load(Ordering::Relaxed);
        dess_disk::export(&version, format, target, progress, &cancelled)
    });
    let mut line = ProgressLine::new();
    let written = loop {
        tokio::select! {
            done = &mut work => break done?,
            _ = tokio::signal::ctrl_c() => watch.cancelled.store(true, Ordering::Relaxed),
            () = tokio::time::sleep(PROGRESS_EVERY) => line.show(
                watch.done_bytes.load(Ordering::Relaxed),
                watch.total_bytes.load(Ordering::Relaxed),
            )?,
        }
    };
    line.end();
    let written = bytes(written?);
    // Standard output may be the image.
    eprintln!("exported {label}, {written}");
    Ok(())
}
