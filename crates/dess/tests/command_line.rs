//! The command as a person meets it: without a site, without rights, with something in the way.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::Path;
use std::process::{Command, Output};

struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn dess(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dess"));
        command.args([
            "--state",
            &self.path("state"),
            "--runtime",
            &self.path("run"),
        ]);
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.dess(arguments).output().unwrap()
    }

    fn init(&self, more: &[&str]) -> Output {
        let mut arguments = vec![
            "init",
            "--address",
            "127.0.0.1",
            "--interface",
            "lo",
            "--subnet",
            "127.0.0.0/8",
        ];
        arguments.extend(more);
        self.run(&arguments)
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn without_a_site_status_says_what_to_do_and_ends_with_code_3() {
    let site = Site::new();
    let status = site.run(&["status"]);
    assert_eq!(status.status.code(), Some(3));
    let text = stdout(&status);
    assert!(
        text.contains("dess init") && text.contains("dess up"),
        "{text}"
    );
}

#[test]
fn a_wrong_setup_names_the_field_and_leaves_no_site() {
    let site = Site::new();
    let outside = site.init(&["--pool", "10.0.0.1-10.0.0.9"]);
    assert!(!outside.status.success());
    assert!(stderr(&outside).contains("pool"), "{}", stderr(&outside));
    let shown = site.run(&["site", "show"]);
    assert!(stderr(&shown).contains("dess init"), "{}", stderr(&shown));
}

#[test]
fn clients_are_added_changed_found_and_removed() {
    let site = Site::new();
    assert!(
        site.init(&["--pool", "127.0.0.100-127.0.0.199"])
            .status
            .success()
    );
    let again = site.init(&["--pool", "127.0.0.100-127.0.0.199"]);
    assert!(
        stderr(&again).contains("set up already"),
        "{}",
        stderr(&again)
    );

    let added = site.run(&[
        "client",
        "add",
        "52:54:00:00:00:01",
        "--name",
        "카운터",
        "--json",
    ]);
    let client: serde_json::Value = serde_json::from_slice(&added.stdout).unwrap();
    assert_eq!(
        (client["seat"].as_u64(), client["name"].as_str()),
        (Some(1), Some("카운터"))
    );

    let twice = site.run(&["client", "add", "52:54:00:00:00:01"]);
    assert!(stderr(&twice).contains("카운터"), "{}", stderr(&twice));

    let set = [
        "client",
        "set",
        "카운터",
        "--seat",
        "7",
        "--policy",
        "persistent",
    ];
    assert!(site.run(&set).status.success());
    let list = stdout(&site.run(&["client", "list"]));
    assert!(
        list.contains("persistent") && list.contains("카운터"),
        "{list}"
    );

    let shown = stdout(&site.run(&["client", "show", "7"]));
    assert!(
        shown.contains("카운터") && !shown.contains("CHAP"),
        "{shown}"
    );
    let secret = stdout(&site.run(&["client", "show", "7", "--secret"]));
    assert!(
        secret.contains("CHAP secret") && secret.contains("iqn.2026-11"),
        "{secret}"
    );

    let unknown = site.run(&["client", "boots", "99"]);
    assert!(!unknown.status.success());
    assert!(stderr(&unknown).contains("99"), "{}", stderr(&unknown));

    assert!(
        site.run(&["client", "remove", "7", "--yes"])
            .status
            .success()
    );
    assert_eq!(
        stdout(&site.run(&["client", "list", "--json"])).trim(),
        "[]"
    );
}

#[test]
fn an_import_without_a_file_names_it() {
    let site = Site::new();
    assert!(
        site.init(&["--pool", "127.0.0.100-127.0.0.199"])
            .status
            .success()
    );
    let import = site.run(&["image", "import", "/nowhere/windows.qcow2"]);
    assert!(!import.status.success());
    assert!(
        stderr(&import).contains("/nowhere/windows.qcow2"),
        "{}",
        stderr(&import)
    );
}

#[test]
fn a_wrong_configuration_names_file_and_key() {
    let site = Site::new();
    let file = site.path("dess.toml");
    std::fs::write(&file, "[web]\nport = 1\n").unwrap();
    let output = site.run(&["--config", &file, "status"]);
    let text = stderr(&output);
    assert!(
        text.contains("dess.toml") && text.contains("port"),
        "{text}"
    );
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Site::new().run(&["completions", shell]);
        assert!(output.status.success());
        assert!(stdout(&output).contains("client"), "{shell}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let site = Site::new();
    let pages = site.path("man");
    let output = site.run(&["man", &pages]);
    assert!(output.status.success(), "{}", stderr(&output));
    let read = |name: &str| std::fs::read_to_string(Path::new(&pages).join(name)).unwrap();
    assert!(
        read("dess.1").contains("dess\\-client(1)"),
        "{}",
        read("dess.1")
    );
    for name in [
        "dess.1",
        "dess-client-list.1",
        "dess-image-rollout.1",
        "dess-db-check.1",
    ] {
        let page = read(name);
        assert!(
            page.contains(".TH ") && page.contains("EXIT STATUS"),
            "{name}: {page}"
        );
    }
    // As `man` itself sees them, where there is one.
    let page = Path::new(&pages).join("dess-client-set.1");
    let man = Command::new("man")
        .args(["--warnings", "-l"])
        .arg(&page)
        .env("MANPAGER", "cat")
        .output();
    if let Ok(shown) = man {
        assert!(stderr(&shown).is_empty(), "{}", stderr(&shown));
        assert!(
            stdout(&shown).contains("there is no such client"),
            "{}",
            stdout(&shown)
        );
    }
}

#[test]
fn the_document_of_the_api_is_printed() {
    let output = Site::new().run(&["openapi"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
}

#[test]
fn without_rights_the_directory_is_named() {
    let site = Site::new();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    let program = Path::new(env!("CARGO_BIN_EXE_dess"));
    // The build directory may be closed to others: a copy in a place that is open.
    let copy = site.directory.path().join("dess");
    std::fs::copy(program, &copy).unwrap();
    open_to_all(site.directory.path());
    command.arg(&copy).args([
        "--state",
        "/var/lib/dess-test-denied",
        "--runtime",
        "/run/x",
        "up",
    ]);
    let text = stderr(&command.output().unwrap());
    assert!(
        text.contains("/var/lib/dess-test-denied") && text.contains("root"),
        "{text}"
    );
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_password_is_reset_only_for_an_owner_who_exists() {
    let site = Site::new();
    assert!(site.init(&["--mode", "proxy"]).status.success());
    let reset = site.run(&["web", "reset-password"]);
    assert!(!reset.status.success());
    let text = stderr(&reset);
    assert!(text.contains("dess web setup-code"), "{text}");
    let code = Path::new(&site.path("run")).join("reset-code");
    assert!(!code.exists(), "no code for nobody");
}

#[test]
fn a_site_is_exported_checked_imported_and_backed_up() {
    let (old, new) = (Site::new(), Site::new());
    assert!(old.init(&["--mode", "proxy"]).status.success());
    let file = old.path("site.export");
    let done = old.run(&["db", "export", &file]);
    assert!(done.status.success(), "{}", stderr(&done));
    let done = new.run(&["db", "import", &file]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(new.run(&["db", "check"]).status.success());
    let again = new.run(&["db", "import", &file]);
    assert!(!again.status.success());
    assert!(stderr(&again).contains("--replace"), "{}", stderr(&again));
    let again = new.run(&["db", "import", "--replace", &file]);
    assert!(again.status.success(), "{}", stderr(&again));

    let done = new.run(&["--json", "db", "backup", "--to", &new.path("kept")]);
    assert!(done.status.success(), "{}", stderr(&done));
    let answer: serde_json::Value = serde_json::from_str(&stdout(&done)).unwrap();
    let backup = answer["backup"].as_str().unwrap();
    for name in ["state/dess.db", "state/dess.db-wal", "state/dess.db-shm"] {
        // The companions of the file are there only if it was not closed.
        let _ = std::fs::remove_file(new.path(name));
    }
    assert!(!new.run(&["db", "check"]).status.success());
    std::fs::copy(backup, new.path("state/dess.db")).unwrap();
    assert!(new.run(&["db", "check"]).status.success());
}
