//! Watching a directory: its changes are recorded in a journal, and chosen ones fail.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Change;
use super::simulated::{Inode, Journal, Loss, Op};

static WATCHED: Mutex<Vec<Weak<Recording>>> = Mutex::new(Vec::new());

/// The watch on one name or open file.
pub(crate) struct Watch {
    recording: Option<Arc<Recording>>,
    file: Option<Inode>,
}

impl Watch {
    pub(crate) fn name(path: &Path) -> Self {
        let watched = lock(&WATCHED);
        let recording = watched
            .iter()
            .filter_map(Weak::upgrade)
            .find(|recording| path.starts_with(&recording.root));
        Self {
            recording,
            file: None,
        }
    }

    pub(crate) fn file(path: &Path) -> Self {
        let mut watch = Self::name(path);
        if let Some(recording) = &watch.recording {
            let journal = lock(&recording.journal);
            watch.file = Some(journal.resolve(recording.relative(path)));
        }
        watch
    }

    pub(crate) fn is_watching(&self) -> bool {
        self.recording.is_some()
    }

    pub(crate) fn perform<T>(
        &self,
        change: Change<'_>,
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        match &self.recording {
            Some(recording) => recording.perform(self.file, change, act),
            None => act(),
        }
    }
}

/// Tells which changes fail and how.
type Fault = Box<dyn FnMut(&Change<'_>) -> Option<io::Error> + Send>;

/// The watch on a directory with all that is below it, until it is dropped.
pub(crate) struct Recording {
    root: PathBuf,
    journal: Mutex<Journal>,
    fault: Mutex<Option<Fault>>,
}

impl Recording {
    /// Watches `root`; what is there now counts as durable.
    pub(crate) fn start(root: &Path) -> Arc<Self> {
        Self::resume(root, Journal::of_directory(root))
    }

    /// Watches `root`, which holds what a program that died after the last change of `journal` has left.
    pub(crate) fn resume(root: &Path, journal: Journal) -> Arc<Self> {
        let recording = Arc::new(Self {
            root: root.to_owned(),
            journal: Mutex::new(journal),
            fault: Mutex::new(None),
        });
        let mut watched = lock(&WATCHED);
        watched.retain(|other| other.strong_count() > 0);
        watched.push(Arc::downgrade(&recording));
        recording
    }

    /// Changes so far.
    pub(crate) fn changes(&self) -> usize {
        lock(&self.journal).ops().len()
    }

    pub(crate) fn journal(&self) -> Journal {
        lock(&self.journal).clone()
    }

    /// From now on `fault` is asked before each change.
    pub(crate) fn fail_if(
        &self,
        fault: impl FnMut(&Change<'_>) -> Option<io::Error> + Send + 'static,
    ) {
        *lock(&self.fault) = Some(Box::new(fault));
    }

    pub(crate) fn fail_no_more(&self) {
        *lock(&self.fault) = None;
    }

    fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root)
            .expect("the watch was found by this prefix")
    }

    /// The lock is held over the change, so the journal has the order in which things happened.
    fn perform<T>(
        &self,
        file: Option<Inode>,
        change: Change<'_>,
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut journal = lock(&self.journal);
        let fault = lock(&self.fault).as_mut().and_then(|fault| fault(&change));
        if let Some(error) = fault {
            if matches!(change, Change::Sync) {
                journal.push(Op::FailSync {
                    file: file.expect("only open files are synced"),
                });
            }
            return Err(error);
        }
        let done = act()?;
        self.record(&mut journal, file, change);
        Ok(done)
    }

    fn record(&self, journal: &mut Journal, file: Option<Inode>, change: Change<'_>) {
        let path = |path| self.relative(path);
        let file = || file.expect("the change is one of an open file");
        match change {
            Change::CreateFile(name) => journal.create_file(path(name)),
            Change::CreateDirectory(name) => journal.create_directory(path(name)),
            Change::Rename(from, to) => journal.rename(path(from), path(to)),
            Change::Exchange(one, other) => journal.exchange(path(one), path(other)),
            Change::Link(file, name) => journal.link(path(file), path(name)),
            Change::RemoveFile(name) | Change::RemoveDirectory(name) => journal.remove(path(name)),
            Change::RemoveTree(name) => journal.remove_tree(path(name)),
            Change::SyncDirectory(name) => {
                let directory = journal.resolve(path(name));
                journal.push(Op::SyncDirectory { directory });
            }
            Change::Write(offset, data) => journal.push(Op::Write {
                file: file(),
                offset,
                data: data.into(),
            }),
            Change::Punch(offset, length) => journal.push(Op::Write {
                file: file(),
                offset,
                data: vec![0; length as usize].into(),
            }),
            Change::SetLength(length) => journal.push(Op::SetLength {
                file: file(),
                length,
            }),
            Change::Sync => journal.push(Op::Sync { file: file() }),
            Change::ForgetCached => self.forget(journal, file()),
        }
    }

    /// What a failed sync has left in doubt is decided now, and readers see it.
    fn forget(&self, journal: &mut Journal, file: Inode) {
        let seed = journal.ops().len() as u64;
        let content = journal.forget(file, &mut Loss::random(seed));
        let path = self.root.join(journal.path_of(file));
        std::fs::write(path, content).expect("a simulated file can be written");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
