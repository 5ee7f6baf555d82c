//! The systemd units: whole, agreed with the program, and understood by systemd itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dess_model::ServiceName;
use dess_model::host::ALLOCATOR_ENVIRONMENT;

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd")
}

#[test]
fn each_service_has_a_unit_that_agrees_with_the_program() {
    let target = fs::read_to_string(units().join("dess.target")).unwrap();
    for service in ServiceName::START_ORDER {
        let name = format!("dess-{service}.service");
        let unit = fs::read_to_string(units().join(&name)).unwrap();
        assert!(target.contains(&name), "{name} is part of dess.target");
        let wanted = [
            format!("ExecStart=/usr/bin/dess {service}\n"),
            "Type=notify\n".to_owned(),
            "RuntimeDirectoryPreserve=yes\n".to_owned(),
        ];
        for line in wanted {
            assert!(unit.contains(&line), "{name}: {line}");
        }
        for (key, value) in ALLOCATOR_ENVIRONMENT {
            let line = format!("Environment={key}={value}\n");
            assert!(unit.contains(&line), "{name}: {line}");
        }
    }
}

#[test]
fn systemd_understands_the_units() {
    let directory = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_dess");
    let mut files = Vec::new();
    for entry in fs::read_dir(units()).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        // The program is where this build has put it; the manual page is not installed here.
        let text = text.replace("/usr/bin/dess", program);
        let text = text.replace("Documentation=man:dess(1)\n", "");
        let copy = directory.path().join(path.file_name().unwrap());
        fs::write(&copy, text).unwrap();
        files.push(copy);
    }
    assert_eq!(files.len(), 6);
    let output = Command::new("systemd-analyze")
        .args(["verify", "--recursive-errors=one"])
        .args(&files)
        .output()
        .expect("systemd-analyze of the package systemd");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
