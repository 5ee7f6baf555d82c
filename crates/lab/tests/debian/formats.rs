//! The Debian image out of every format that it can come in, and back into one: qemu-img finds it unchanged.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use dess_lab::{DessServer, Image, ServerOptions, image, packages};
use serde_json::Value;

/// How an image is made of the raw one, the format that it is exported to, and what qemu-img calls that.
const FORMATS: [(&str, &str, &str); 10] = [
    ("qemu-img convert -O raw", "raw", "raw"),
    ("qemu-img convert -O qcow2", "qcow2", "qcow2"),
    (
        "qemu-img convert -c -O qcow2 -o compression_type=zstd",
        "qcow2-compressed",
        "qcow2",
    ),
    (
        "qemu-img convert -O vpc -o subformat=dynamic,force_size=on",
        "vhd",
        "vpc",
    ),
    (
        "qemu-img convert -O vpc -o subformat=fixed,force_size=on",
        "raw",
        "raw",
    ),
    ("qemu-img convert -O vhdx", "vhdx", "vhdx"),
    (
        "qemu-img convert -O vmdk -o subformat=monolithicSparse",
        "vhdx",
        "vhdx",
    ),
    (
        "qemu-img convert -O vmdk -o subformat=streamOptimized",
        "vmdk",
        "vmdk",
    ),
    ("gzip -1 -c", "raw", "raw"),
    ("zstd -q -1 -c", "raw", "raw"),
];

#[test]
fn the_debian_image_survives_every_format() -> Result<()> {
    packages::ensure()?;
    let debian = image::debian()?;
    // The first image is the default group's and stays; the others can be removed again.
    let (server, _room) =
        DessServer::in_new_room(&ServerOptions::default(), &image::tiny()?, "tiny")?;
    let work = tempfile::tempdir_in("/var/tmp")?;
    let round = Round {
        server: &server,
        original: &debian.path,
        work: work.path(),
    };
    for (number, (make, format, qemu_name)) in FORMATS.into_iter().enumerate() {
        let name = format!("debian-{number}");
        round
            .through(&name, make, format, qemu_name)
            .with_context(|| format!("made by {make}, exported as {format}"))?;
    }
    round.through_pipes("debian-pipe")
}

struct Round<'a> {
    server: &'a DessServer,
    original: &'a Path,
    work: &'a Path,
}

impl Round<'_> {
    fn through(&self, name: &str, make: &str, format: &str, qemu_name: &str) -> Result<()> {
        let (source, exported) = (self.work.join("source"), self.work.join("exported"));
        let mut words = make.split(' ');
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).arg(self.original);
        match make.starts_with("qemu-img") {
            true => run(command.arg(&source))?,
            false => run(command.stdout(File::create(&source)?))?,
        }
        let image = Image {
            path: source.clone(),
            marker: "",
        };
        self.server.import(&image, name)?;
        fs::remove_file(source)?;
        self.boots(name)?;
        let path = exported
            .to_str()
            .context("the work directory's path is not UTF-8")?;
        self.server
            .cli(&["image", "export", name, path, "--format", format])?;
        self.same(&exported, qemu_name)?;
        fs::remove_file(exported)?;
        self.remove(name)
    }

    /// From standard input, to standard output.
    fn through_pipes(&self, name: &str) -> Result<()> {
        let exported = self.work.join("exported");
        let mut import = self
            .server
            .command(&["image", "import", "-", "--name", name]);
        run(import.stdin(File::open(self.original)?))?;
        self.boots(name)?;
        let mut export = self.server.command(&["image", "export", name, "-"]);
        run(export.stdout(File::create(&exported)?))?;
        self.same(&exported, "raw")?;
        self.remove(name)
    }

    /// The image was found to boot with both firmwares, and nothing is wrong with it.
    fn boots(&self, name: &str) -> Result<()> {
        let images = self.server.json(&["image", "list"])?;
        let mut images = images.as_array().into_iter().flatten();
        let image = images.find(|image| image["name"] == name);
        let lint = &image.context("it is not in the list")?["versions"][0]["lint"];
        ensure!(
            lint["bios"] == true
                && lint["uefi"] == true
                && lint["findings"] == Value::Array(Vec::new()),
            "{lint}"
        );
        Ok(())
    }

    fn same(&self, exported: &PathBuf, qemu_name: &str) -> Result<()> {
        let mut compare = Command::new("qemu-img");
        compare.args(["compare", "-f", "raw", "-F", qemu_name]);
        run(compare.arg(self.original).arg(exported))?;
        // The same size, too: compare takes zeros behind the end for equal.
        let mut info = Command::new("qemu-img");
        let info = info
            .args(["info", "--output=json", "-f", qemu_name])
            .arg(exported)
            .output()?;
        let info: Value = serde_json::from_slice(&info.stdout)?;
        ensure!(
            info["virtual-size"] == fs::metadata(self.original)?.len(),
            "{info}"
        );
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.server
            .cli(&["image", "remove", &format!("{name}@1"), "--yes"])?;
        Ok(())
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stderr(Stdio::piped()).spawn()?.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
