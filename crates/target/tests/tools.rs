//! The standalone disk with libiscsi's tools and QEMU's driver.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of a test's set-up is a failure of the test"
)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Output};

use dess_model::Secret;
use dess_target::StandaloneChap;
use support::standalone::{IQN, Standalone};
use support::tap::Tap;

fn url(disk: &Standalone, credentials: &str) -> String {
    format!("iscsi://{credentials}{}/{IQN}/0", disk.address)
}

/// Runs a tool with a time limit; it is a dependency of these tests, so its absence is a failure.
fn tool(program: &str, arguments: &[&str]) -> Output {
    Command::new("timeout")
        .args(["-k", "5", "30", program])
        .args(arguments)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn libiscsi_finds_the_disk_and_reads_its_identity() {
    let disk = Standalone::serve(|_| {});
    let portal = format!("iscsi://{}", disk.address);
    let list = text(&tool("iscsi-ls", &["-s", &portal]));
    assert!(list.contains(IQN), "{list}");
    assert!(list.contains("Lun:0"), "{list}");
    let inquiry = text(&tool("iscsi-inq", &[&url(&disk, "")]));
    assert!(inquiry.contains("Vendor:DESS"), "{inquiry}");
    let page = text(&tool(
        "iscsi-inq",
        &["-e", "1", "-c", "128", &url(&disk, "")],
    ));
    assert!(page.contains("Unit Serial Number:["), "{page}");
    let capacity = text(&tool("iscsi-readcapacity16", &[&url(&disk, "")]));
    assert!(capacity.contains("Total size:67108864"), "{capacity}");
}

#[test]
fn discovery_tells_each_portal_that_the_initiator_can_reach() {
    let disk = Standalone::serve(|options| {
        options.listen = ["127.0.0.1:0", "127.0.0.2:0", "0.0.0.0:0"]
            .map(|portal| portal.parse().unwrap())
            .to_vec();
    });
    for reached in &disk.portals[..2] {
        let list = text(&tool("iscsi-ls", &[&format!("iscsi://{reached}")]));
        let mut found: Vec<&str> = list
            .lines()
            .filter_map(|line| line.split_once("Portal:")?.1.split_whitespace().next())
            .collect();
        let mut expected: Vec<String> = disk.portals[..2]
            .iter()
            .map(|portal| format!("{portal},1"))
            .collect();
        // Everywhere is told as the address that was reached.
        expected.push(format!("{}:{},1", reached.ip(), disk.portals[2].port()));
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{list}");
    }
}

#[test]
fn chap_lets_in_whom_it_shall() {
    let disk = Standalone::serve(|options| {
        options.chap = Some(StandaloneChap {
            initiator: ("user".into(), Secret::new("a-long-secret")),
            target: None,
        });
    });
    let inquiry = |credentials: &str| tool("iscsi-inq", &[&url(&disk, credentials)]);
    assert!(inquiry("user%a-long-secret@").status.success());
    assert!(!inquiry("user%a-wrong-secret@").status.success());
    assert!(!inquiry("other%a-long-secret@").status.success());
    assert!(!inquiry("").status.success());
}

#[test]
fn qemu_writes_and_reads_back_through_its_own_driver() {
    let disk = Standalone::serve(|_| {});
    let output = tool(
        "qemu-io",
        &[
            "-f",
            "raw",
            "-c",
            "write -P 0x5a 1M 9M",
            "-c",
            "write -P 0xa5 1537k 3k",
            "-c",
            "discard 4M 1M",
            "-c",
            "write -z 6M 64k",
            "-c",
            "flush",
            "-c",
            "read -P 0x5a 1M 512k",
            "-c",
            "read -P 0xa5 1537k 3k",
            "-c",
            "read -P 0 4M 1M",
            "-c",
            "read -P 0x5a 5M 1M",
            "-c",
            "read -P 0 6M 64k",
            "-c",
            "read -P 0x5a 7M 3M",
            &url(&disk, ""),
        ],
    );
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("failed"), "{said}");
    let file = fs::read(&disk.image).unwrap();
    assert!(file[7 << 20..10 << 20].iter().all(|&byte| byte == 0x5a));
    assert!(file[4 << 20..5 << 20].iter().all(|&byte| byte == 0));
}

/// Writes, reads back and flushes by QEMU's driver, which is told these options beside the disk; what it said.
fn qemu_io(portal: SocketAddr, options: &str, secret: Option<&str>) -> (bool, String) {
    let disk = format!("driver=iscsi,transport=tcp,portal={portal},target={IQN},lun=0{options}");
    let secret = secret.map(|secret| format!("secret,id=chap,data={secret}"));
    let mut arguments: Vec<&str> = Vec::new();
    if let Some(secret) = &secret {
        arguments.extend(["--object", secret]);
    }
    // One command with immediate data, one with several bursts, reads of several segments, and odd places.
    arguments.extend(["--image-opts", &disk, "-c", "write -P 0x11 512 4k"]);
    arguments.extend(["-c", "write -P 0x77 1M 3M", "-c", "flush"]);
    arguments.extend(["-c", "read -P 0x11 512 4k", "-c", "read -P 0x77 1M 3M"]);
    arguments.extend(["-c", "read -P 0 8M 1536"]);
    let output = tool("qemu-io", &arguments);
    let said = text(&output);
    (output.status.success() && !said.contains("failed"), said)
}

#[test]
fn qemu_works_with_each_header_digest_that_it_offers() {
    for (option, agreed) in [
        ("none", "None"),
        ("crc32c", "CRC32C"),
        ("none-crc32c", "None"),
        ("crc32c-none", "CRC32C"),
    ] {
        let disk = Standalone::serve(|_| {});
        let wire = Tap::to(disk.address);
        let (good, said) = qemu_io(wire.address, &format!(",header-digest={option}"), None);
        assert!(good, "{option}: {said}");
        assert!(
            wire.has_heard(&format!("HeaderDigest={agreed}\0")),
            "{option}"
        );
        assert!(wire.has_heard("DataDigest=None\0"), "{option}");
        let file = fs::read(&disk.image).unwrap();
        assert!(file[1 << 20..4 << 20].iter().all(|&byte| byte == 0x77));
    }
}

#[test]
fn qemu_proves_itself_by_chap() {
    let disk = Standalone::serve(|options| {
        options.chap = Some(StandaloneChap {
            initiator: ("user".into(), Secret::new("a-long-secret")),
            target: None,
        });
    });
    let user = ",user=user,password-secret=chap,header-digest=crc32c";
    let (good, said) = qemu_io(disk.address, user, Some("a-long-secret"));
    assert!(good, "{said}");
    let other = ",user=other,password-secret=chap";
    for (options, secret) in [
        (user, Some("a-wrong-secret")),
        (other, Some("a-long-secret")),
        ("", None),
    ] {
        let (good, said) = qemu_io(disk.address, options, secret);
        assert!(!good, "{options}: {said}");
        assert!(
            said.contains("Failed to log in") || said.contains("login"),
            "{said}"
        );
    }
}

#[test]
fn a_read_only_disk_refuses_writes_and_says_so() {
    let disk = Standalone::serve(|options| options.read_only = true);
    let mut session = disk.login(1);
    session.become_ready().unwrap();
    let refused = session.write(0, &[1; 512]).unwrap();
    assert_eq!(refused.status, 2);
    assert_eq!((refused.sense[2], refused.sense[12]), (7, 0x27));
    let mode = session
        .command(&[0x1a, 0, 0x3f, 0, 255, 0], &[], 255)
        .unwrap();
    assert_eq!(mode.data[2] & 0x80, 0x80);
}
