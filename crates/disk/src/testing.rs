//! A store in a temporary directory, for tests.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use dess_model::{BootPolicy, DiskId, ImageId, Timestamp, VersionRef};
use tempfile::TempDir;

use crate::{
    BlockRead, BootId, Disk, DiskSpec, DiskStore, ImageFormat, ImportRequest, ImportSource,
    Manifest, StoreOptions, StorePaths, import, version_directory,
};

pub(crate) fn disk_id(number: u32) -> DiskId {
    DiskId::from_str(&format!("{number:032x}")).expect("32 digits are an id")
}

pub(crate) fn version_ref(number: u32) -> VersionRef {
    let image = ImageId::from_str(&format!("{:032x}", 0xd15c)).expect("32 digits are an id");
    VersionRef { image, number }
}

/// Bytes that look random, but with runs of zeros of all lengths.
pub(crate) fn image_bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let run = (state >> 20) as usize % 20_000;
        let fill = if state & 3 == 0 {
            0
        } else {
            (state >> 8) as u8 | 1
        };
        bytes.extend((0..run).map(|at| {
            if fill == 0 {
                0
            } else {
                fill.wrapping_add(at as u8)
            }
        }));
    }
    bytes.truncate(length);
    bytes
}

pub(crate) struct Room {
    root: PathBuf,
    /// Removed with the room, unless it lies in a directory of somebody else.
    _directory: Option<TempDir>,
    pub(crate) boot_id: BootId,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self::owning(tempfile::tempdir().expect("a temporary directory"))
    }

    /// A room in a directory of the caller's.
    pub(crate) fn at(root: PathBuf) -> Self {
        std::fs::create_dir_all(&root).expect("the room's directory is made");
        Self {
            root,
            _directory: None,
            boot_id: BootId([1; 16]),
        }
    }

    fn owning(directory: TempDir) -> Self {
        Self {
            root: directory.path().to_owned(),
            _directory: Some(directory),
            boot_id: BootId([1; 16]),
        }
    }

    /// A room in a file system in memory, where there is one: nothing here needs a disk.
    pub(crate) fn in_memory() -> Self {
        let memory = std::path::Path::new("/dev/shm");
        match tempfile::tempdir_in(memory) {
            Ok(directory) => Self::owning(directory),
            Err(_) => Self::new(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn paths(&self) -> StorePaths {
        StorePaths {
            images: self.path("images"),
            overlays: self.path("overlays"),
            live_maps: self.path("maps"),
        }
    }

    pub(crate) fn options(&self) -> StoreOptions {
        StoreOptions {
            keep_old: 2,
            boot_id: self.boot_id,
        }
    }

    pub(crate) fn store(&self) -> DiskStore {
        DiskStore::open(self.paths(), self.options()).expect("the store opens")
    }

    /// The machine boots: memory file systems are gone.
    pub(crate) fn reboot(&mut self) {
        let boots = u128::from_le_bytes(self.boot_id.0) + 1;
        self.boot_id = BootId(boots.to_le_bytes());
        let maps = self.path("maps");
        if maps.exists() {
            std::fs::remove_dir_all(maps).expect("the maps are removed");
        }
    }

    pub(crate) fn request(&self, number: u32, source: PathBuf) -> ImportRequest {
        ImportRequest {
            images: self.path("images"),
            version: version_ref(number),
            source: ImportSource {
                path: source,
                format: None,
                end_marker: None,
            },
            comment: "test".to_owned(),
            created: Timestamp(1),
        }
    }

    pub(crate) fn import(&self, number: u32, bytes: &[u8]) -> Manifest {
        let source = self.path(&format!("source-{number}.img"));
        std::fs::write(&source, bytes).expect("the source is written");
        let mut request = self.request(number, source);
        request.source.format = Some(ImageFormat::Raw);
        import(&request, &mut |_| {}, &|| false).expect("the import works")
    }

    pub(crate) fn version_dir(&self, number: u32) -> PathBuf {
        version_directory(&self.path("images"), version_ref(number))
    }

    pub(crate) fn spec(&self, disk: u32, policy: BootPolicy) -> DiskSpec {
        DiskSpec {
            disk: disk_id(disk),
            version: version_ref(1),
            version_dir: self.version_dir(1),
            policy,
            reset_epoch: 0,
        }
    }

    pub(crate) fn overlay_dir(&self, disk: u32, name: &str) -> PathBuf {
        self.path("overlays")
            .join(disk_id(disk).simple())
            .join(name)
    }
}

pub(crate) fn read_all(disk: &dyn BlockRead) -> Vec<u8> {
    let mut bytes = vec![0xee; disk.size_bytes() as usize];
    disk.read_at(0, &mut bytes).expect("the disk reads");
    bytes
}

pub(crate) fn power_on(store: &DiskStore, spec: &DiskSpec) -> Arc<Disk> {
    store.power_on(spec).expect("the disk powers on").disk
}

impl Room {
    /// A maintenance client on a version.
    pub(crate) fn maintenance(&self, disk: u32, number: u32) -> DiskSpec {
        DiskSpec {
            version: version_ref(number),
            version_dir: self.version_dir(number),
            ..self.spec(disk, BootPolicy::Maintenance)
        }
    }

    pub(crate) fn publish_request(
        &self,
        disk: u32,
        generation: u64,
        number: u32,
    ) -> crate::PublishRequest {
        crate::PublishRequest {
            images: self.path("images"),
            sealed: crate::sealed_directory(&self.path("overlays"), disk_id(disk), generation),
            number,
            comment: format!("version {number}"),
            author: "test".to_owned(),
            created: Timestamp(2),
        }
    }

    /// Writes as a maintenance client on version `base`, and publishes that as version `number`.
    pub(crate) fn make_version(
        &self,
        store: &DiskStore,
        base: u32,
        number: u32,
        write: impl FnOnce(&Disk),
    ) -> Manifest {
        let spec = self.maintenance(77, base);
        write(&power_on(store, &spec));
        let sealed = store.seal(spec.disk).expect("it is sealed");
        let request = self.publish_request(77, sealed.generation, number);
        let manifest = crate::publish(&request, &mut |_| {}, &|| false).expect("it is published");
        assert!(store.release(spec.disk).expect("it is released"));
        manifest
    }
}
