//! A partition of a client's disk, read on the server's side after the client lost its power.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use crate::command;
use crate::image::Image;
use crate::room::SERVER_ADDRESS;
use crate::server::DessServer;

/// A copy of an ext4 partition; checking it changes the copy, never the disk.
#[derive(Debug)]
pub struct Ext4Copy {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl DessServer {
    /// Copies partition `number` (from 1) of the disk of the client with this MAC address, as an
    /// initiator sees it. `image` is what the client booted: it names the partition's place.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn copy_partition(
        &self,
        mac: &str,
        image: &Image,
        number: usize,
    ) -> anyhow::Result<Ext4Copy> {
        let (offset, size) = place_of(&image.path, number)?;
        let client = self.json(&["client", "show", mac, "--secret"])?;
        let iscsi = |key: &str| {
            client["iscsi"][key]
                .as_str()
                .with_context(|| format!("client {mac} has no {key}"))
        };
        let directory = tempfile::tempdir_in(self.state_directory())?;
        let path = directory.path().join("partition.raw");
        let secret = directory.path().join("secret");
        std::fs::write(&secret, iscsi("chap_secret")?)?;
        let source = format!(
            "driver=raw,offset={offset},size={size},file.driver=iscsi,file.transport=tcp,\
             file.portal={SERVER_ADDRESS},file.target={},file.lun=0,file.initiator-name={},\
             file.user={},file.password-secret=chap",
            iscsi("target_iqn")?,
            iscsi("initiator_iqn")?,
            iscsi("chap_user")?
        );
        let mut convert = self.namespace().command("qemu-img");
        convert.arg("convert");
        convert.args([
            "--object",
            &format!("secret,id=chap,file={}", secret.display()),
        ]);
        convert.args(["--image-opts", &source, "-O", "raw"]);
        command::output(convert.arg(&path))?;
        Ok(Ext4Copy {
            path,
            _directory: directory,
        })
    }
}

impl Ext4Copy {
    /// Fails unless the file system was unmounted in order and has no error: nothing to replay,
    /// nothing to repair.
    ///
    /// # Errors
    /// With what e2fsck found.
    pub fn check_unmounted(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.needs_recovery()?,
            "the file system was not unmounted before the power went"
        );
        self.check_whole()
    }

    /// Fails unless the file system of a client whose power was cut has no error once its journal
    /// is replayed and deleted files that were still open are gone, as a mount does both.
    ///
    /// # Errors
    /// With what e2fsck found.
    pub fn check_cut_off(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.needs_recovery()?,
            "the file system was not mounted when the power went"
        );
        // It says whatever it does; without -f it does no more than that, unless there is an error.
        let said = self.repair()?;
        let repaired = said
            .lines()
            .find(|line| !MOUNT_DOES.iter().any(|allowed| line.contains(allowed)));
        anyhow::ensure!(
            repaired.is_none(),
            "more was wrong than a mount mends:\n{said}"
        );
        self.check_whole()
    }

    /// What the file at `path` (absolute, without blanks) holds.
    ///
    /// # Errors
    /// When debugfs cannot read it.
    pub fn read(&self, path: &str) -> anyhow::Result<String> {
        let mut debugfs = Command::new("debugfs");
        command::output(debugfs.args(["-R", &format!("cat {path}")]).arg(&self.path))
    }

    fn check_whole(&self) -> anyhow::Result<()> {
        self.check_state()?;
        command::output(Command::new("e2fsck").arg("-fn").arg(&self.path))?;
        Ok(())
    }

    /// Runs e2fsck, which may change something (exit status 1); what it said.
    fn repair(&self) -> anyhow::Result<String> {
        let mut e2fsck = Command::new("e2fsck");
        let output = e2fsck.arg("-p").arg(&self.path).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        anyhow::ensure!(
            matches!(output.status.code(), Some(0 | 1)),
            "{}: {}\n{said}{}",
            command::shown(&e2fsck),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(said)
    }

    fn check_state(&self) -> anyhow::Result<()> {
        let state = self.header("Filesystem state:")?;
        anyhow::ensure!(state == "clean", "the file system is {state}");
        Ok(())
    }

    fn needs_recovery(&self) -> anyhow::Result<bool> {
        let features = self.header("Filesystem features:")?;
        Ok(features
            .split_whitespace()
            .any(|feature| feature == "needs_recovery"))
    }

    fn header(&self, field: &str) -> anyhow::Result<String> {
        let header = command::output(Command::new("dumpe2fs").arg("-h").arg(&self.path))?;
        header
            .lines()
            .find_map(|line| Some(line.strip_prefix(field)?.trim().to_owned()))
            .with_context(|| format!("dumpe2fs names no {field:?}:\n{header}"))
    }
}

/// What e2fsck says of repairs that every mount does after a power cut, and of a file system
/// without more to repair.
const MOUNT_DOES: &[&str] = &["recovering journal", "orphaned inode", ": clean, "];

/// Offset and size in bytes of a partition.
fn place_of(disk: &Path, number: usize) -> anyhow::Result<(u64, u64)> {
    let table = command::output(Command::new("sfdisk").arg("--json").arg(disk))?;
    let table: Value = serde_json::from_str(&table)?;
    let table = &table["partitiontable"];
    let bytes = |key: &str| {
        let sectors = table["partitions"][number - 1][key].as_u64()?;
        Some(sectors * table["sectorsize"].as_u64()?)
    };
    bytes("start")
        .zip(bytes("size"))
        .with_context(|| format!("no partition {number} in {table}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ext4 file system with one file, changed by a debugfs command.
    fn copy(change: &str) -> Ext4Copy {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("partition.raw");
        let root = directory.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("file"), "content").unwrap();
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.args(["-q", "-t", "ext4", "-d"]).arg(&root);
        command::output(mke2fs.arg(&path).arg("8M")).unwrap();
        let mut debugfs = Command::new("debugfs");
        command::output(debugfs.args(["-w", "-R", change]).arg(&path)).unwrap();
        Ext4Copy {
            path,
            _directory: directory,
        }
    }

    const MOUNTED: &str = "feature needs_recovery";

    #[test]
    fn a_whole_file_system_passes_only_as_what_it_is() {
        let unmounted = copy("stats");
        unmounted.check_unmounted().unwrap();
        assert_eq!(unmounted.read("/file").unwrap(), "content");
        unmounted.check_cut_off().unwrap_err();
        let mounted = copy(MOUNTED);
        mounted.check_unmounted().unwrap_err();
        mounted.check_cut_off().unwrap();
        assert_eq!(mounted.read("/file").unwrap(), "content");
    }

    #[test]
    fn damage_is_found_and_never_repaired_silently() {
        // A file without inode; a free count that is wrong; an error that the kernel met.
        for damage in [
            "clri /file",
            "set_bg 0 free_blocks_count 3",
            "set_super_value state 3",
        ] {
            copy(damage).check_unmounted().unwrap_err();
            let cut_off = copy(damage);
            let mut debugfs = Command::new("debugfs");
            debugfs.args(["-w", "-R", MOUNTED]).arg(&cut_off.path);
            command::output(&mut debugfs).unwrap();
            let found = cut_off.check_cut_off();
            println!("{damage}: {:?}", found.expect_err(damage));
        }
    }
}
