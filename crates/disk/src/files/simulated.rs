//! A file system of which only the promises of POSIX are known: what may be on the storage when the power goes.
//!
//! - What was synced is there.
//! - Of every other write each sector of 512 bytes is there or not, each change of a length, each name that was made,
//!   renamed or removed likewise. A rename is there as a whole or not at all.
//! - A sync that failed promises nothing, and no later one makes good for it.

mod loss;

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

pub(crate) use loss::{Loss, Random};

const SECTOR_BYTES: u64 = 512;
const ROOT: Inode = 0;

/// A file or directory, whatever its name.
pub(crate) type Inode = usize;

type Names = BTreeMap<String, Inode>;

/// Content of a directory with all below it: `None` for directories.
pub(crate) type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// One change.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Link {
        directory: Inode,
        name: String,
        inode: Inode,
    },
    Unlink {
        directory: Inode,
        name: String,
    },
    Rename {
        directory: Inode,
        from: String,
        to: String,
    },
    Exchange {
        directory: Inode,
        one: String,
        other: String,
    },
    SyncDirectory {
        directory: Inode,
    },
    Write {
        file: Inode,
        offset: u64,
        data: Arc<[u8]>,
    },
    SetLength {
        file: Inode,
        length: u64,
    },
    Sync {
        file: Inode,
    },
    FailSync {
        file: Inode,
    },
    /// The storage was found to hold this; the writes in doubt are no more.
    Settle {
        file: Inode,
        durable: Arc<[u8]>,
    },
}

/// What happened to a directory since it was first watched.
#[derive(Clone)]
pub(crate) struct Journal {
    start: Storage,
    ops: Vec<Op>,
    /// The names as programs see them.
    live: HashMap<Inode, Names>,
    inodes: usize,
}

impl Journal {
    /// Nothing has happened to `root`, and all of it is durable.
    pub(crate) fn of_directory(root: &Path) -> Self {
        let mut journal = Self {
            start: Storage::default(),
            ops: Vec::new(),
            live: HashMap::new(),
            inodes: 1,
        };
        journal.load(root, ROOT);
        journal
    }

    fn load(&mut self, path: &Path, inode: Inode) {
        let mut names = Names::new();
        for entry in std::fs::read_dir(path).expect("the directory can be read") {
            let entry = entry.expect("the directory can be read");
            let child = self.new_inode();
            names.insert(text(&entry.file_name()), child);
            if entry.path().is_dir() {
                self.load(&entry.path(), child);
            } else {
                let content = std::fs::read(entry.path()).expect("the file can be read");
                self.start.files.insert(child, FileState::of(content));
            }
        }
        self.live.insert(inode, names.clone());
        let directory = DirectoryState {
            durable: names,
            pending: Vec::new(),
        };
        self.start.directories.insert(inode, directory);
    }

    pub(crate) fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// What had happened before the change with this number.
    pub(crate) fn before(&self, change: usize) -> Self {
        let mut early = Self {
            start: self.start.clone(),
            ops: Vec::new(),
            live: HashMap::new(),
            inodes: self.inodes,
        };
        for (&inode, directory) in &self.start.directories {
            early.live.insert(inode, directory.durable.clone());
        }
        for op in &self.ops[..change] {
            early.push(op.clone());
        }
        early
    }

    /// The storage before the first change.
    pub(crate) fn storage(&self) -> Storage {
        self.start.clone()
    }

    fn new_inode(&mut self) -> Inode {
        self.inodes += 1;
        self.inodes - 1
    }

    /// The inode of a path below the root.
    pub(crate) fn resolve(&self, path: &Path) -> Inode {
        path.components().fold(ROOT, |directory, name| {
            let Component::Normal(name) = name else {
                panic!("{} is not a plain path", path.display());
            };
            self.live[&directory][&text(name)]
        })
    }

    /// The path of an inode.
    pub(crate) fn path_of(&self, inode: Inode) -> PathBuf {
        let mut names = Vec::new();
        let mut inode = inode;
        while inode != ROOT {
            let (parent, name) = self
                .live
                .iter()
                .find_map(|(&parent, names)| {
                    let found = names.iter().find(|&(_, &child)| child == inode);
                    found.map(|(name, _)| (parent, name))
                })
                .expect("the inode has a name");
            names.push(name);
            inode = parent;
        }
        names.into_iter().rev().collect()
    }

    fn split(&self, path: &Path) -> (Inode, String) {
        let parent = path.parent().expect("the root itself is not changed");
        let name = path.file_name().expect("a plain path ends in a name");
        (self.resolve(parent), text(name))
    }

    pub(crate) fn create_file(&mut self, path: &Path) {
        let (directory, name) = self.split(path);
        match self.live[&directory].get(&name) {
            Some(&file) => self.push(Op::SetLength { file, length: 0 }),
            None => {
                let inode = self.new_inode();
                self.push(Op::Link {
                    directory,
                    name,
                    inode,
                });
            }
        }
    }

    pub(crate) fn create_directory(&mut self, path: &Path) {
        let (directory, name) = self.split(path);
        let inode = self.new_inode();
        self.live.insert(inode, Names::new());
        self.start
            .directories
            .insert(inode, DirectoryState::default());
        self.push(Op::Link {
            directory,
            name,
            inode,
        });
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path) {
        let (directory, from) = self.split(from);
        let (other, to) = self.split(to);
        assert_eq!(directory, other, "the store renames within one directory");
        self.push(Op::Rename {
            directory,
            from,
            to,
        });
    }

    pub(crate) fn exchange(&mut self, one: &Path, other: &Path) {
        let (directory, one) = self.split(one);
        let (parent, other) = self.split(other);
        assert_eq!(directory, parent, "the store renames within one directory");
        self.push(Op::Exchange {
            directory,
            one,
            other,
        });
    }

    pub(crate) fn link(&mut self, file: &Path, name: &Path) {
        let inode = self.resolve(file);
        let (directory, name) = self.split(name);
        self.push(Op::Link {
            directory,
            name,
            inode,
        });
    }

    pub(crate) fn remove(&mut self, path: &Path) {
        let (directory, name) = self.split(path);
        self.push(Op::Unlink { directory, name });
    }

    pub(crate) fn remove_tree(&mut self, path: &Path) {
        if let Some(names) = self.live.get(&self.resolve(path)) {
            for name in names.clone().into_keys() {
                self.remove_tree(&path.join(name));
            }
        }
        self.remove(path);
    }

    /// Adds a change.
    pub(crate) fn push(&mut self, op: Op) {
        match &op {
            Op::Link {
                directory,
                name,
                inode,
            } => {
                if self.start.directories.contains_key(inode) {
                    self.live.entry(*inode).or_default();
                }
                self.names(*directory).insert(name.clone(), *inode);
            }
            Op::Unlink { directory, name } => {
                self.names(*directory).remove(name);
            }
            Op::Rename {
                directory,
                from,
                to,
            } => {
                let names = self.names(*directory);
                let inode = names.remove(from).expect("what is renamed is there");
                names.insert(to.clone(), inode);
            }
            Op::Exchange {
                directory,
                one,
                other,
            } => exchange(self.names(*directory), one, other),
            _ => {}
        }
        self.ops.push(op);
    }

    fn names(&mut self, directory: Inode) -> &mut Names {
        self.live
            .get_mut(&directory)
            .expect("the parent is a directory")
    }

    /// Decides by `loss` what the storage holds of writes that a failed sync has left in doubt. Returns what readers see then.
    pub(crate) fn forget(&mut self, file: Inode, loss: &mut Loss) -> Vec<u8> {
        let mut storage = self.start.clone();
        for (number, op) in self.ops.iter().enumerate() {
            storage.advance(number, op);
        }
        let state = storage.files.remove(&file).unwrap_or_default();
        let durable = FileState {
            durable: state.durable,
            writes: state
                .writes
                .iter()
                .filter(|write| write.fate != Fate::Pending)
                .cloned()
                .collect(),
        }
        .cut(loss);
        self.push(Op::Settle {
            file,
            durable: durable.clone().into(),
        });
        FileState {
            durable,
            writes: state
                .writes
                .into_iter()
                .filter(|write| write.fate == Fate::Pending)
                .collect(),
        }
        .cut(&mut Loss::Nothing)
    }
}

/// What the storage promises at one point of the journal.
#[derive(Clone, Default)]
pub(crate) struct Storage {
    directories: HashMap<Inode, DirectoryState>,
    files: HashMap<Inode, FileState>,
}

#[derive(Clone, Default)]
struct DirectoryState {
    durable: Names,
    pending: Vec<(usize, Op)>,
}

#[derive(Clone, Default)]
struct FileState {
    durable: Vec<u8>,
    writes: Vec<FileWrite>,
}

#[derive(Clone)]
struct FileWrite {
    change: usize,
    op: Op,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Pending,
    /// A sync failed: it may be on the storage, and no later sync helps.
    Doubtful,
    /// Synced, but kept as it lies over a doubtful one.
    Synced,
}

impl Storage {
    /// Takes in change number `number`.
    pub(crate) fn advance(&mut self, number: usize, op: &Op) {
        match op {
            Op::Link { directory, .. }
            | Op::Unlink { directory, .. }
            | Op::Rename { directory, .. }
            | Op::Exchange { directory, .. } => {
                let directory = self.directories.entry(*directory).or_default();
                directory.pending.push((number, op.clone()));
            }
            Op::SyncDirectory { directory } => {
                let directory = self.directories.entry(*directory).or_default();
                directory.durable = directory.cut(&mut Loss::Nothing);
                directory.pending.clear();
            }
            Op::Write { file, .. } | Op::SetLength { file, .. } => {
                self.files.entry(*file).or_default().writes.push(FileWrite {
                    change: number,
                    op: op.clone(),
                    fate: Fate::Pending,
                });
            }
            Op::Sync { file } => self.files.entry(*file).or_default().sync(),
            Op::FailSync { file } => {
                let file = self.files.entry(*file).or_default();
                let pending = file.writes.iter_mut();
                pending
                    .filter(|write| write.fate == Fate::Pending)
                    .for_each(|write| write.fate = Fate::Doubtful);
            }
            Op::Settle { file, durable } => {
                let file = self.files.entry(*file).or_default();
                file.durable = durable.to_vec();
                file.writes.retain(|write| write.fate == Fate::Pending);
            }
        }
    }

    /// What is there after a power cut.
    pub(crate) fn cut(&self, loss: &mut Loss) -> Tree {
        let mut tree = Tree::new();
        self.collect(ROOT, Path::new(""), loss, &mut tree);
        tree
    }

    fn collect(&self, directory: Inode, path: &Path, loss: &mut Loss, tree: &mut Tree) {
        for (name, inode) in self.directories[&directory].cut(loss) {
            let path = path.join(name);
            if self.directories.contains_key(&inode) {
                tree.insert(path.clone(), None);
                self.collect(inode, &path, loss, tree);
            } else {
                let file = self.files.get(&inode);
                let content = file.map_or_else(Vec::new, |file| file.cut(loss));
                tree.insert(path, Some(content));
            }
        }
    }
}

impl DirectoryState {
    fn cut(&self, loss: &mut Loss) -> Names {
        let mut names = self.durable.clone();
        for (change, op) in &self.pending {
            if !loss.keeps_name(*change) {
                continue;
            }
            match op {
                Op::Link { name, inode, .. } => {
                    names.insert(name.clone(), *inode);
                }
                Op::Unlink { name, .. } => {
                    names.remove(name);
                }
                Op::Rename { from, to, .. } => {
                    // Not if the name that it takes away was never there.
                    if let Some(inode) = names.remove(from) {
                        names.insert(to.clone(), inode);
                    }
                }
                Op::Exchange { one, other, .. } => {
                    // Not if one of them was never there.
                    if names.contains_key(one) && names.contains_key(other) {
                        exchange(&mut names, one, other);
                    }
                }
                other => unreachable!("{other:?} is not a change of a name"),
            }
        }
        names
    }
}

impl FileState {
    fn of(durable: Vec<u8>) -> Self {
        Self {
            durable,
            writes: Vec::new(),
        }
    }

    fn sync(&mut self) {
        for write in &mut self.writes {
            if write.fate == Fate::Pending {
                write.fate = Fate::Synced;
            }
        }
        if self.writes.iter().all(|write| write.fate == Fate::Synced) {
            self.durable = self.cut(&mut Loss::Nothing);
            self.writes.clear();
        }
    }

    fn cut(&self, loss: &mut Loss) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let mut length = bytes.len() as u64;
        // As programs saw it.
        let mut seen_length = length;
        let mut certain = Loss::Nothing;
        for write in &self.writes {
            let loss = match write.fate {
                Fate::Synced => &mut certain,
                Fate::Pending | Fate::Doubtful => &mut *loss,
            };
            match &write.op {
                Op::SetLength { length: new, .. } => {
                    length = loss.length(write.change, length, *new);
                    seen_length = *new;
                    bytes.resize(bytes.len().min(length as usize), 0);
                }
                Op::Write { offset, data, .. } => {
                    let end = offset + data.len() as u64;
                    if end > seen_length {
                        length = loss.length(write.change, length, end.max(length));
                        seen_length = end;
                    }
                    apply(&mut bytes, *offset, data, &mut |_| {
                        loss.keeps_data(write.change)
                    });
                }
                other => unreachable!("{other:?} is not a change of content"),
            }
        }
        bytes.resize(length as usize, 0);
        bytes
    }
}

/// Writes the pieces of `data` whose sectors `keeps` names.
fn apply(bytes: &mut Vec<u8>, offset: u64, data: &[u8], keeps: &mut dyn FnMut(u64) -> bool) {
    let end = offset + data.len() as u64;
    if (bytes.len() as u64) < end {
        bytes.resize(end as usize, 0);
    }
    for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
        if keeps(sector) {
            let from = (sector * SECTOR_BYTES).max(offset);
            let to = ((sector + 1) * SECTOR_BYTES).min(end);
            let piece = &data[(from - offset) as usize..(to - offset) as usize];
            bytes[from as usize..to as usize].copy_from_slice(piece);
        }
    }
}

fn exchange(names: &mut Names, one: &str, other: &str) {
    let first = names.remove(one).expect("both names are there");
    let second = names.insert(other.to_owned(), first);
    names.insert(one.to_owned(), second.expect("both names are there"));
}

fn text(name: &std::ffi::OsStr) -> String {
    name.to_str()
        .expect("the store's names are text")
        .to_owned()
}
