//! Volumes made by ntfs-3g with hives made by hivex: neither knows anything of the code here.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::*;
use crate::import::lint::lint;

const MIB: usize = 1 << 20;
/// A mount that takes longer will never come.
const MOUNT_LIMIT: Duration = Duration::from_secs(30);

const SYSTEM_KEYS: &str = r#"
[HKEY_LOCAL_MACHINE\Select]
"Current"=dword:00000001
"Default"=dword:00000002

[HKEY_LOCAL_MACHINE\ControlSet002\Control\Session Manager\Memory Management]
"ClearPageFileAtShutdown"=dword:00000000
"PagingFiles"=hex(7):3f,00,3a,00,5c,00,70,00,61,00,67,00,65,00,66,00,69,00,6c,00,65,00,2e,00,73,00,79,00,73,00,00,00,64,00,3a,00,5c,00,70,00,2e,00,73,00,79,00,73,00,20,00,30,00,20,00,30,00,00,00,00,00

[HKEY_LOCAL_MACHINE\ControlSet002\Enum\PCI\VEN_8086&DEV_100E\3&1]
"ClassGUID"="{4D36E972-E325-11CE-BFC1-08002BE10318}"
"Service"="E1G60"

[HKEY_LOCAL_MACHINE\ControlSet002\Enum\PCI\VEN_10EC&DEV_8168\4&2]
"ClassGUID"="{4d36e972-e325-11ce-bfc1-08002be10318}"
"Service"="rt640x64"

[HKEY_LOCAL_MACHINE\ControlSet002\Enum\PCI\VEN_10EC&DEV_8168\4&3]
"ClassGUID"="{4d36e972-e325-11ce-bfc1-08002be10318}"
"Service"="rt640x64"

[HKEY_LOCAL_MACHINE\ControlSet002\Enum\PCI\VEN_8086&DEV_15F3\5&1]
"ClassGUID"="{4d36e972-e325-11ce-bfc1-08002be10318}"
"Service"="e2fexpress"

[HKEY_LOCAL_MACHINE\ControlSet002\Enum\PCI\VEN_8086&DEV_2922\6&1]
"ClassGUID"="{4d36e96a-e325-11ce-bfc1-08002be10318}"
"Service"="storahci"

[HKEY_LOCAL_MACHINE\ControlSet002\Services\E1G60]
"Start"=dword:00000000

[HKEY_LOCAL_MACHINE\ControlSet002\Services\rt640x64]
"Start"=dword:00000003

[HKEY_LOCAL_MACHINE\ControlSet002\Services\e2fexpress]
"Start"=dword:00000003
"BootFlags"=dword:00000001

[HKEY_LOCAL_MACHINE\ControlSet002\Services\storahci]
"Start"=dword:00000003
"#;

const SOFTWARE_KEYS: &str = r#"
[HKEY_LOCAL_MACHINE\Microsoft\Windows NT\CurrentVersion]
"ProductName"="Windows 10 Pro"
"CurrentBuild"="22631"
"CurrentBuildNumber"="22631"
"InstallationType"="Client"
"UBR"=dword:00000bbf
"#;

fn expected() -> WindowsSeen {
    let driver = |service: &str, start| NetworkDriver {
        service: service.to_owned(),
        start,
    };
    WindowsSeen {
        name: "Windows 11 Pro".to_owned(),
        build: Some(22631),
        revision: Some(3007),
        page_files: r"?:\pagefile.sys d:\p.sys 0 0".to_owned(),
        network_drivers: vec![
            driver("E1G60", DriverStart::Boot),
            driver("e2fexpress", DriverStart::NetworkBoot),
            driver("rt640x64", DriverStart::Later),
        ],
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?} (packages ntfs-3g, libwin-hivex-perl): {error}")
    });
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Puts a cell into a hive that is being made; answers its place.
fn cell(hive: &mut Vec<u8>, content: &[u8]) -> u32 {
    let place = hive.len() as u32 - 4096;
    let length = (content.len() + 4).next_multiple_of(8);
    hive.extend((-(length as i32)).to_le_bytes());
    hive.extend(content);
    hive.resize(4096 + place as usize + length, 0);
    place
}

/// The smallest hive that hivex takes: a root without keys, and what says who may read it.
fn empty_hive() -> Vec<u8> {
    let mut hive = vec![0; 4096 + 32];
    let mut root = vec![0; 76];
    root[..2].copy_from_slice(b"nk");
    root[2..4].copy_from_slice(&0x2cu16.to_le_bytes());
    for none in [28, 32, 40, 48] {
        root[none..none + 4].fill(0xff);
    }
    root[72..74].copy_from_slice(&4u16.to_le_bytes());
    root.extend(b"ROOT");
    let root = cell(&mut hive, &root);
    let mut security = vec![0; 20];
    security[..2].copy_from_slice(b"sk");
    security[12..16].copy_from_slice(&1u32.to_le_bytes());
    security[16..20].copy_from_slice(&20u32.to_le_bytes());
    // A descriptor that refers to nothing.
    security.extend([1, 0, 0, 0x80]);
    security.resize(40, 0);
    let security = cell(&mut hive, &security);
    for at in [4, 8] {
        let link = 4096 + security as usize + 4 + at;
        hive[link..link + 4].copy_from_slice(&security.to_le_bytes());
    }
    let link = 4096 + root as usize + 4 + 44;
    hive[link..link + 4].copy_from_slice(&security.to_le_bytes());
    let free = 8192 - hive.len();
    hive.extend((free as u32).to_le_bytes());
    hive.resize(8192, 0);
    hive[4096..4100].copy_from_slice(b"hbin");
    hive[4104..4108].copy_from_slice(&4096u32.to_le_bytes());
    hive[..4].copy_from_slice(b"regf");
    for (at, value) in [
        (4, 1u32),
        (8, 1),
        (20, 1),
        (24, 3),
        (32, 1),
        (36, root),
        (40, 4096),
        (44, 1),
    ] {
        hive[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let sum = hive[..508]
        .as_chunks::<4>()
        .0
        .iter()
        .fold(0, |sum, word| sum ^ u32::from_le_bytes(*word));
    hive[508..512].copy_from_slice(&sum.to_le_bytes());
    hive
}

/// The keys as a `.reg` file; hivexregedit wants every key before those in it.
fn with_parents(keys: &str) -> String {
    let mut made = HashSet::new();
    let mut text = "Windows Registry Editor Version 5.00\n".to_owned();
    for line in keys.lines() {
        if let Some(path) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            let ends = path.match_indices('\\').map(|(at, _)| at).skip(1);
            for parent in ends.map(|end| &path[..end]) {
                if made.insert(parent) {
                    text += &format!("\n[{parent}]\n");
                }
            }
            made.insert(path);
            text.push('\n');
        }
        text += line;
        text.push('\n');
    }
    text
}

/// A hive with these keys, as hivexregedit writes them.
fn hive(directory: &Path, keys: &str) -> Vec<u8> {
    let (path, text) = (directory.join("hive"), directory.join("keys.reg"));
    fs::write(&path, empty_hive()).unwrap();
    fs::write(&text, with_parents(keys)).unwrap();
    run(Command::new("hivexregedit")
        .args(["--merge", "--prefix", "HKEY_LOCAL_MACHINE"])
        .args([&path, &text]));
    fs::read(path).unwrap()
}

/// A mounted volume; unmounted and written back by [`Mounted::finish`].
struct Mounted {
    directory: tempfile::TempDir,
    driver: Child,
}

impl Mounted {
    fn new(image: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut driver = Command::new("ntfs-3g")
            .args(["-o", "no_detach,windows_names"])
            .arg(image)
            .arg(directory.path())
            .spawn()
            .expect("ntfs-3g is needed (package ntfs-3g)");
        let parent = device(directory.path().parent().unwrap());
        let deadline = Instant::now() + MOUNT_LIMIT;
        while device(directory.path()) == parent {
            assert!(driver.try_wait().unwrap().is_none(), "ntfs-3g ended");
            assert!(Instant::now() < deadline, "ntfs-3g does not mount");
            std::thread::yield_now();
        }
        Self { directory, driver }
    }

    fn finish(mut self) {
        run(Command::new("umount").arg(self.directory.path()));
        assert!(self.driver.wait().unwrap().success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Ok(None) = self.driver.try_wait() {
            let _ = Command::new("umount").arg(self.directory.path()).output();
            let _ = self.driver.wait();
        }
    }
}

fn device(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::dev(&fs::metadata(path).unwrap())
}

/// A volume of `mib` MiB that `fill` fills.
fn volume(mib: usize, cluster_bytes: &str, fill: impl FnOnce(&Path)) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("volume");
    File::create(&image)
        .unwrap()
        .set_len((mib * MIB) as u64)
        .unwrap();
    run(Command::new("mkntfs")
        .args([
            "--quiet",
            "--fast",
            "--force",
            "--cluster-size",
            cluster_bytes,
        ])
        .args(["--partition-start", "2048", "--sector-size", "512"])
        .arg(&image));
    let mounted = Mounted::new(&image);
    fill(mounted.directory.path());
    mounted.finish();
    fs::read(image).unwrap()
}

fn config(root: &Path) -> PathBuf {
    let config = root.join("Windows/System32/config");
    fs::create_dir_all(&config).unwrap();
    config
}

/// A volume with a Windows of which only the registry is there.
fn windows() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let system = hive(directory.path(), SYSTEM_KEYS);
    let software = hive(directory.path(), SOFTWARE_KEYS);
    volume(8, "4096", |root| {
        let config = config(root);
        fs::write(config.join("SYSTEM"), system).unwrap();
        fs::write(config.join("SOFTWARE"), software).unwrap();
    })
}

fn look_at(volume: &[u8]) -> Result<Option<WindowsSeen>, Unreadable> {
    let read = |offset: u64, buffer: &mut [u8]| {
        buffer.copy_from_slice(&volume[offset as usize..][..buffer.len()]);
        Ok(())
    };
    look(&read, 0, volume.len() as u64)
}

/// A disk with one active partition at 1 MiB.
fn disk(volume: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; MIB];
    disk[0] = 0xeb;
    disk[446] = 0x80;
    disk[450] = 7;
    disk[454..458].copy_from_slice(&2048u32.to_le_bytes());
    disk[458..462].copy_from_slice(&(volume.len() as u32 / 512).to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk.extend(volume);
    disk
}

#[test]
fn a_windows_tells_its_build_its_page_file_and_when_its_network_drivers_start() {
    let disk = disk(&windows());
    let read = |offset: u64, buffer: &mut [u8]| {
        buffer.copy_from_slice(&disk[offset as usize..][..buffer.len()]);
        Ok(())
    };
    let seen = lint(disk.len() as u64, &read).unwrap();
    assert_eq!(seen.windows, Some(expected()));
    let said: Vec<String> = seen.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "no EFI system partition: a PC with UEFI does not boot it",
            r"Windows has a page file (?:\pagefile.sys d:\p.sys 0 0): a PC that cannot reach the server for a moment crashes; turn it off in the image",
            "network driver rt640x64 starts after boot: a PC with its card stops with INACCESSIBLE_BOOT_DEVICE (0x7B)",
        ]
    );
    assert_eq!(
        seen.windows.unwrap().to_string(),
        "Windows 11 Pro, build 22631.3007"
    );
}

#[test]
fn hives_in_many_pieces_and_directories_of_thousands_of_names_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let system = hive(directory.path(), SYSTEM_KEYS);
    let mut software = hive(directory.path(), SOFTWARE_KEYS);
    // What a hive holds behind its keys is nobody's.
    software.resize(MIB / 2, 0);
    let volume = volume(12, "512", |root| {
        let config = config(root);
        let system32 = root.join("Windows/System32");
        let name = |number: u32| system32.join(format!("driver-{number:05}.sys"));
        // Larger than what fits into a record, until the volume is full.
        let full = (0..).find(|&number| fs::write(name(number), [number as u8; 1024]).is_err());
        let full = full.unwrap();
        assert!(full > 2000, "{full}");
        for number in (0..full).filter(|number| number % 2 == 0) {
            fs::remove_file(name(number)).unwrap();
        }
        for (file, content) in [("SOFTWARE", software), ("SYSTEM", system)] {
            let mut file = File::create(config.join(file)).unwrap();
            file.write_all(&content).unwrap();
        }
    });
    assert_eq!(look_at(&volume).unwrap(), Some(expected()));
    let read = |offset: u64, buffer: &mut [u8]| {
        buffer.copy_from_slice(&volume[offset as usize..][..buffer.len()]);
        Ok(())
    };
    let opened = Volume::open(&read, 0, volume.len() as u64)
        .unwrap()
        .unwrap();
    match opened.file(&SOFTWARE).unwrap() {
        Some(volume::Content::Clusters(runs)) => assert!(runs.count() > 64, "{}", runs.count()),
        _ => panic!("the hive is not where it was put"),
    }
}

#[test]
fn a_list_of_lists_of_keys_is_followed_but_not_in_circles() {
    let directory = tempfile::tempdir().unwrap();
    let mut system = hive(directory.path(), SYSTEM_KEYS);
    let software = hive(directory.path(), SOFTWARE_KEYS);
    let root = 4096 + u32::from_le_bytes(*system[36..].first_chunk().unwrap()) as usize + 4;
    let list: [u8; 4] = *system[root + 28..].first_chunk().unwrap();
    let two = cell(&mut system, &[b"ri\x02\0", &list[..], &list[..]].concat());
    system[root + 28..root + 32].copy_from_slice(&two.to_le_bytes());
    let with = |system: &[u8]| {
        volume(8, "4096", |root| {
            let config = config(root);
            fs::write(config.join("SYSTEM"), system).unwrap();
            fs::write(config.join("SOFTWARE"), &software).unwrap();
        })
    };
    assert_eq!(look_at(&with(&system)).unwrap(), Some(expected()));
    let own = two.to_le_bytes();
    let circle = cell(&mut system, &[b"ri\x01\0", &own[..]].concat());
    system[root + 28..root + 32].copy_from_slice(&circle.to_le_bytes());
    let error = look_at(&with(&system)).unwrap_err().to_string();
    assert!(error.contains("leads to itself"), "{error}");
}

#[test]
fn other_file_systems_hold_no_windows_and_bitlocker_is_told() {
    assert_eq!(look_at(&vec![0; MIB]).unwrap(), None);
    assert_eq!(look_at(&[]).unwrap(), None);
    assert_eq!(
        look_at(&volume(4, "4096", |root| fs::write(root.join("note"), "x").unwrap())).unwrap(),
        None
    );
    let mut locked = vec![0; MIB];
    locked[3..11].copy_from_slice(b"-FVE-FS-");
    let error = look_at(&locked).unwrap_err().to_string();
    assert!(error.contains("BitLocker"), "{error}");
}

#[test]
fn a_damaged_volume_never_panics_nor_is_read_for_ever() {
    let whole = windows();
    let mut volume = whole.clone();
    let mut state = 11u64;
    let mut random = move |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % bound
    };
    // What nobody reads can be damaged without harm.
    let sectors = RefCell::new(BTreeSet::new());
    let read = |offset: u64, buffer: &mut [u8]| {
        let end = offset + buffer.len() as u64;
        sectors.borrow_mut().extend(offset / 512..end.div_ceil(512));
        buffer.copy_from_slice(&whole[offset as usize..end as usize]);
        Ok(())
    };
    look(&read, 0, whole.len() as u64).unwrap();
    let used: Vec<usize> = sectors
        .borrow()
        .iter()
        .map(|&sector| sector as usize)
        .collect();
    let (mut sound, mut damaged) = (0, 0);
    for _ in 0..4000 {
        let mut hit = Vec::new();
        for _ in 0..1 + random(6) {
            let at = used[random(used.len())] * 512 + random(512);
            volume[at] = random(256) as u8;
            hit.push(at);
        }
        match look_at(&volume) {
            Ok(Some(_)) => sound += 1,
            Ok(None) | Err(_) => damaged += 1,
        }
        for at in hit {
            volume[at] = whole[at];
        }
    }
    assert!(sound > 0 && damaged > 100, "{sound} {damaged}");
}

#[test]
fn a_directory_whose_nodes_lead_to_each_other_comes_to_an_end() {
    // A node with one entry, the last, which leads to the node itself.
    let mut node = vec![0; 64];
    node[..4].copy_from_slice(&16u32.to_le_bytes());
    node[16 + 8..16 + 10].copy_from_slice(&24u16.to_le_bytes());
    node[16 + 12] = 3;
    node[16 + 16..16 + 24].copy_from_slice(&7u64.to_le_bytes());
    assert!(matches!(
        index::search(&node, 0, "Windows"),
        Ok(index::Step::Below(7))
    ));
    // An entry that has no length.
    node[16 + 8] = 0;
    node[16 + 12] = 0;
    assert!(index::search(&node, 0, "Windows").is_err());
}
