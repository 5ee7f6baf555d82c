use super::*;
use std::fs;
use std::os::unix::fs::symlink;

fn operator_and_package() -> (tempfile::TempDir, BootFiles) {
    let root = tempfile::tempdir().unwrap();
    let operator = root.path().join("operator");
    let package = root.path().join("package");
    fs::create_dir_all(operator.join("sub")).unwrap();
    fs::create_dir_all(&package).unwrap();
    fs::write(root.path().join("secret"), b"secret").unwrap();
    fs::write(operator.join("a.efi"), b"operator").unwrap();
    fs::write(operator.join("sub/deep"), b"deep").unwrap();
    fs::write(package.join("a.efi"), b"package").unwrap();
    fs::write(package.join("b.efi"), b"package b").unwrap();
    let files = BootFiles::in_directories([operator, package]);
    (root, files)
}

fn content(files: &BootFiles, name: &str) -> Bytes {
    let file = files.open(name).unwrap();
    file.read_at(0, usize::MAX).unwrap()
}

#[test]
fn the_operators_file_wins_over_the_packages() {
    let (_root, files) = operator_and_package();
    assert_eq!(content(&files, "a.efi"), "operator");
    assert_eq!(content(&files, "b.efi"), "package b");
}

#[test]
fn the_spellings_of_boot_roms_reach_the_file() {
    let (_root, files) = operator_and_package();
    for name in [
        "sub/deep",
        "/sub/deep",
        "sub\\deep",
        "\\sub\\deep",
        "./sub//deep",
    ] {
        assert_eq!(content(&files, name), "deep", "{name}");
    }
}

#[test]
fn no_name_leads_out_of_the_directories() {
    let (root, files) = operator_and_package();
    let absolute = root.path().join("secret");
    for name in [
        "../secret",
        "..\\secret",
        "sub/../../secret",
        "sub\\..\\..\\secret",
        "/../secret",
        "....//secret",
        "a.efi\0",
        "",
        "/",
        ".",
        absolute.to_str().unwrap(),
        "/etc/passwd",
        &"x/".repeat(200),
    ] {
        assert!(files.open(name).is_err(), "{name:?}");
    }
}

#[test]
fn links_directories_and_pipes_are_not_served() {
    let (root, files) = operator_and_package();
    let operator = root.path().join("operator");
    symlink(root.path().join("secret"), operator.join("absolute-link")).unwrap();
    symlink("../secret", operator.join("relative-link")).unwrap();
    symlink("a.efi", operator.join("inner-link")).unwrap();
    symlink("..", operator.join("up")).unwrap();
    rustix::fs::mknodat(
        CWD,
        operator.join("pipe"),
        rustix::fs::FileType::Fifo,
        Mode::RUSR,
        0,
    )
    .unwrap();
    for name in [
        "absolute-link",
        "relative-link",
        "inner-link",
        "up/secret",
        "sub",
        "pipe",
    ] {
        let error = files.open(name).unwrap_err();
        assert!(
            matches!(error, FileError::NotRegular { .. }),
            "{name}: {error:?}"
        );
    }
}

#[test]
fn a_missing_file_is_reported_with_the_directories_searched() {
    let (root, files) = operator_and_package();
    let text = files.open("nothing.efi").unwrap_err().to_string();
    assert!(text.contains("nothing.efi"), "{text}");
    let operator = root.path().join("operator");
    assert!(text.contains(operator.to_str().unwrap()), "{text}");
    let (gone, files) = (tempfile::tempdir().unwrap(), BootFiles::in_directories([]));
    assert!(files.open("a").is_err());
    let files = BootFiles::in_directories([gone.path().join("absent")]);
    assert!(matches!(files.open("a"), Err(FileError::NotFound { .. })));
}

#[test]
fn a_replaced_file_is_read_anew_and_an_open_one_keeps_its_bytes() {
    let (root, files) = operator_and_package();
    let before = files.open("a.efi").unwrap();
    let path = root.path().join("operator/a.efi");
    fs::write(path.with_extension("new"), b"second version").unwrap();
    fs::rename(path.with_extension("new"), &path).unwrap();
    assert_eq!(content(&files, "a.efi"), "second version");
    assert_eq!(before.read_at(0, 100).unwrap(), "operator");
}

#[test]
fn the_cache_stays_within_its_budget_and_large_files_stay_on_disk() {
    let (root, files) = operator_and_package();
    let operator = root.path().join("operator");
    for index in 0..20 {
        let file = File::create(operator.join(format!("big{index}"))).unwrap();
        file.set_len(CACHED_FILE_BYTES_MAX).unwrap();
        files.open(&format!("big{index}")).unwrap();
        let cache = files.lock();
        let held: u64 = cache.files.values().map(|(_, b)| b.len() as u64).sum();
        assert_eq!(held, cache.bytes);
        assert!(held <= CACHE_BYTES_MAX);
    }
    let file = File::create(operator.join("huge")).unwrap();
    file.set_len(CACHED_FILE_BYTES_MAX + 1).unwrap();
    file.write_all_at(b"end", CACHED_FILE_BYTES_MAX - 2)
        .unwrap();
    let huge = files.open("huge").unwrap();
    assert!(matches!(huge.content, Content::Disk(_)));
    assert_eq!(huge.read_at(CACHED_FILE_BYTES_MAX - 2, 100).unwrap(), "end");
    assert_eq!(huge.read_at(u64::MAX, 100).unwrap(), "");
}

#[test]
fn the_package_link_to_ipxe_efi_is_served_from_boot() {
    let files = BootFiles::new("/nonexistent");
    if !Path::new("/boot/ipxe.efi").exists() {
        eprintln!("SKIPPED: the package ipxe is not installed");
        return;
    }
    assert_eq!(files.missing_loaders(), Vec::<&str>::new());
    assert!(files.open("ipxe.efi").unwrap().length > 100_000);
    assert!(files.open("vmlinuz").is_err());
    assert!(files.open("grub/grub.cfg").is_err());
}
