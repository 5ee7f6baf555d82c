//! The room itself: hosts reach each other, and nothing stays behind however its owner ends.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use dess_lab::forward::Forward;
use dess_lab::{Room, RoomOptions, interrupt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn hosts_of_a_room_reach_each_other_and_the_forward_leads_in() -> Result<()> {
    let room = Room::create(RoomOptions::default())?;
    let peer = room.peer("peer", Some("10.77.0.2/24"))?;
    let mut httpd = room.server().command("busybox");
    httpd
        .args(["httpd", "-f", "-p", "10.77.0.1:8080", "-h"])
        .arg(room.directory());
    let httpd = room.spawn_server("httpd", &mut httpd)?;
    std::fs::write(room.directory().join("hello"), "hello from the room")?;

    let mut curl = peer.command("curl");
    curl.args([
        "-sS",
        "--retry",
        "20",
        "--retry-connrefused",
        "http://10.77.0.1:8080/hello",
    ]);
    assert!(peer.run(&mut curl, LIMIT)?.contains("hello from the room"));

    let inside = SocketAddr::from((Ipv4Addr::new(10, 77, 0, 1), 8080));
    let forward = Forward::open(room.server(), 0, inside)?;
    let mut outside = Command::new("curl");
    outside.args(["-sS", &format!("http://{}/hello", forward.address())]);
    assert_eq!(outside.output()?.stdout, b"hello from the room");
    let address = forward.address();
    drop(forward);
    wait_until("the forward's port is closed", || {
        TcpStream::connect(address).is_err()
    })?;

    room.set_cable("peer", false)?;
    let mut curl = peer.command("curl");
    curl.args(["-sS", "--max-time", "2", "http://10.77.0.1:8080/hello"]);
    assert!(peer.run(&mut curl, LIMIT).is_err(), "the cable is out");

    let (id, directory, pid) = (
        room.id().to_owned(),
        room.directory().to_owned(),
        httpd.id(),
    );
    drop((httpd, peer, room));
    assert_eq!(leftovers(&id), Vec::<String>::new());
    assert!(!directory.exists() && !Path::new("/proc").join(pid.to_string()).exists());
    Ok(())
}

#[test]
fn ctrl_c_removes_the_room() -> Result<()> {
    let mut owner = Owner::start()?;
    owner.signal(Signal::SIGINT)?;
    owner.wait_for_end()?;
    assert_eq!(leftovers(&owner.room), Vec::<String>::new());
    Ok(())
}

#[test]
fn the_next_room_removes_one_whose_owner_was_killed() -> Result<()> {
    let mut owner = Owner::start()?;
    owner.signal(Signal::SIGKILL)?;
    owner.wait_for_end()?;
    assert!(
        !leftovers(&owner.room).is_empty(),
        "kill -9 leaves no time to clean up"
    );
    let next = Room::create(RoomOptions::default())?;
    assert_eq!(leftovers(&owner.room), Vec::<String>::new());
    assert!(!leftovers(next.id()).is_empty(), "a living room was swept");
    Ok(())
}

/// Not a test: what [`Owner`] runs in a process of its own.
#[test]
#[ignore = "started by the other tests"]
fn owner_of_a_room() -> Result<()> {
    let Some(told) = std::env::var_os("DESS_LAB_TELL_ROOM") else {
        bail!("this is started by the other tests");
    };
    let room = Room::create(RoomOptions::default())?;
    let mut sleeper = room.server().command("busybox");
    let _sleeper = room.spawn_server("sleeper", sleeper.args(["sleep", "3600"]))?;
    std::fs::write(told, room.id())?;
    interrupt::wait();
    Ok(())
}

/// A process that owns a room and waits for Ctrl-C.
struct Owner {
    process: Child,
    room: String,
}

impl Owner {
    fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let told = directory.path().join("room");
        let process = Command::new(std::env::current_exe()?)
            .args(["--exact", "owner_of_a_room", "--ignored"])
            .env("DESS_LAB_TELL_ROOM", &told)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut room = String::new();
        wait_until("the owner has made its room", || {
            room = std::fs::read_to_string(&told).unwrap_or_default();
            !room.is_empty()
        })?;
        Ok(Self { process, room })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(
            Pid::from_raw(self.process.id().cast_signed()),
            signal,
        )?)
    }

    fn wait_for_end(&mut self) -> Result<()> {
        wait_until("the owner has ended", || {
            matches!(self.process.try_wait(), Ok(Some(_)))
        })
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        Room::sweep();
    }
}

/// Namespaces and directories of a room that are still there.
fn leftovers(id: &str) -> Vec<String> {
    let names = |directory: &Path| -> Vec<String> {
        std::fs::read_dir(directory)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(id))
            .collect()
    };
    [names(Path::new("/run/netns")), names(&std::env::temp_dir())].concat()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !condition() {
        if started.elapsed() > LIMIT {
            bail!("not within {LIMIT:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
