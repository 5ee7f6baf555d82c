//! fio's verification through QEMU's iSCSI driver, while the service is killed, and restarted in order.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of a test's set-up is a failure of the test"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::room::Site;
use support::service::{self, Service};

/// How long fio writes, in seconds.
const SECONDS_VARIABLE: &str = "DESS_FIO_SECONDS";
const SECONDS: u64 = 30;
/// How often the service goes away meanwhile: killed, and every second time stopped in order.
const OUTAGES: u32 = 4;
/// Beyond the time that fio writes: reading back what it wrote, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
const PERSISTENT_SEAT: u32 = 2;

/// Not a test: the service itself, in a process that the test starts and kills.
#[test]
fn child_that_serves() {
    service::serve_if_child();
}

/// QEMU's iSCSI initiator, which offers the disk to fio over NBD.
struct Bridge {
    process: Child,
    socket: PathBuf,
}

impl Bridge {
    fn start(site: &Site, directory: &Path) -> Self {
        let login = site.login(PERSISTENT_SEAT);
        let (user, secret) = login.chap.unwrap();
        let socket = directory.join("nbd");
        let disk = format!(
            "driver=iscsi,transport=tcp,portal={},target={},lun=0,initiator-name={},user={user},password-secret=chap",
            login.portal, login.target, login.initiator
        );
        let process = Command::new("qemu-nbd")
            .arg("--object")
            .arg(format!("secret,id=chap,data={secret}"))
            .arg("--socket")
            .arg(&socket)
            .args(["--persistent", "--shared=4", "--image-opts", &disk])
            .spawn()
            .unwrap();
        let mut bridge = Self { process, socket };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !bridge.socket.exists() {
            let ended = bridge.process.try_wait().unwrap();
            assert!(ended.is_none(), "qemu-nbd ended: {ended:?}");
            assert!(Instant::now() < deadline, "qemu-nbd offers nothing in time");
            std::thread::yield_now();
        }
        bridge
    }

    /// Random writes of all sizes at all sectors, which overlap, several under way. One job writes as fast as it can and reads
    /// back soon; the other one writes slowly and reads back at the end what it wrote before and between the outages.
    fn fio(&self, seconds: u64) -> Child {
        let socket = self.socket.display();
        Command::new("fio")
            .args(["--output-format=json", "--ioengine=nbd"])
            .arg(format!("--uri=nbd+unix:///?socket={socket}"))
            .args(["--rw=randwrite", "--blockalign=512", "--norandommap"])
            .args(["--iodepth=16", "--serialize_overlap=1", "--fsync=256"])
            .args([
                "--verify=crc32c",
                "--verify_fatal=1",
                "--verify_state_save=0",
            ])
            .args(["--name=fast", "--offset=0", "--size=8M"])
            .args(["--time_based", &format!("--runtime={seconds}")])
            .args(["--bsrange=512-128k", "--verify_backlog=512"])
            .args(["--name=slow", "--offset=8M", "--size=8M"])
            .args(["--bsrange=512-32k", "--rate=256k"])
            .arg(format!("--io_size={}k", 256 * seconds))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits for the end of fio, with a bound.
fn finish(mut fio: Child, limit: Duration) -> Output {
    let deadline = Instant::now() + limit;
    while fio.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            fio.kill().unwrap();
            panic!("fio did not end in time: {:?}", fio.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    fio.wait_with_output().unwrap()
}

#[test]
fn fio_finds_what_it_wrote_though_the_service_is_killed_and_restarted_meanwhile() {
    let seconds = std::env::var(SECONDS_VARIABLE).map_or(SECONDS, |text| text.parse().unwrap());
    let site = Site::new();
    let mut service = Service::start(&site);
    service::power_on(&site, PERSISTENT_SEAT);

    let directory = tempfile::tempdir().unwrap();
    let bridge = Bridge::start(&site, directory.path());
    let mut fio = bridge.fio(seconds);
    for outage in 1..=OUTAGES {
        std::thread::sleep(Duration::from_secs(seconds) / (OUTAGES + 1));
        assert!(fio.try_wait().unwrap().is_none(), "fio ended early");
        if outage % 2 == 0 {
            // QEMU's driver logs out when it is asked to, and comes back.
            let (stopped, back) = service.restart(&site);
            println!("restart: stopped after {stopped:?}, accepting again after {back:?}");
        } else {
            service.kill();
            service = Service::start(&site);
        }
    }
    let output = finish(fio, Duration::from_secs(seconds) + PATIENCE);
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    let report: serde_json::Value = serde_json::from_str(&said[said.find('{').unwrap()..]).unwrap();
    for job in report["jobs"].as_array().unwrap() {
        let name = &job["jobname"];
        assert_eq!(job["error"], 0, "{name}: {said}\n{complained}");
        let [wrote, read] = ["write", "read"].map(|way| job[way]["io_bytes"].as_u64().unwrap());
        println!("{name} wrote {wrote} bytes and read {read} back");
        assert!(wrote > 0 && read > 0, "{name}: {said}");
    }
}
