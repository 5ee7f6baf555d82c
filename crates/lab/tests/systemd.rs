//! The units under a real systemd, which runs as the first process of a namespace of its own: everything comes up, is seen,
//! restarted, and started again after a kill.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use dess_lab::{Room, RoomOptions, packages};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(90);

/// Makes the machine: nothing of the real one is written. `$1` is the program, `$2` the directory of the units.
const MACHINE: &str = r#"
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd,xattr cgroup /sys/fs/cgroup/systemd
mkdir -p /run/dess-test /run/units /run/systemd/system
cp "$1" /run/dess-test/dess
for unit in "$2"/*; do
  sed 's|/usr/bin/dess|/run/dess-test/dess|' "$unit" > /run/units/${unit##*/}
done
for target in sysinit basic network network-online local-fs shutdown; do
  printf '[Unit]\nDescription=%s\n' $target > /run/units/$target.target
done
/run/dess-test/dess init --address 10.77.0.1 --interface eth0 --subnet 10.77.0.0/24 \
  --pool 10.77.0.100-10.77.0.199
export container=lxc SYSTEMD_UNIT_PATH=/run/units
exec /lib/systemd/systemd --unit=dess.target --log-target=console --show-status=no
"#;

/// The machine that systemd runs.
struct Machine {
    /// systemd, as it is seen from outside.
    pid: String,
}

impl Machine {
    /// Runs a program on it.
    fn run(&self, arguments: &[&str]) -> Result<std::process::Output> {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid, "-m", "-p", "-n", "-i", "-u"]);
        Ok(command.args(arguments).output()?)
    }

    fn dess(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = vec!["/run/dess-test/dess", "--json"];
        all.extend(arguments);
        let output = self.run(&all)?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn service(&self, name: &str) -> Result<Value> {
        let services = self.dess(&["service", "status"])?;
        let services = services.as_array().context("services")?;
        let service = services.iter().find(|one| one["name"] == name);
        service.cloned().context("the service")
    }

    fn wait_until(&self, what: &str, look: impl Fn() -> Result<bool>) -> Result<()> {
        let started = Instant::now();
        while !look().unwrap_or(false) {
            let shown = self.dess(&["service", "status"]);
            anyhow::ensure!(started.elapsed() < LIMIT, "not {what}: {shown:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }
}

#[test]
fn systemd_runs_the_services_restarts_one_by_order_and_another_after_a_kill() -> Result<()> {
    packages::ensure()?;
    let room = Room::create(RoomOptions::default())?;
    let own = std::env::current_exe()?;
    let program = own.ancestors().nth(2).context("target")?.join("dess");
    let program = std::env::var_os("DESS_BIN").map_or(program, Into::into);
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd");
    let mut boot = room.server().command("unshare");
    boot.args([
        "-m",
        "-p",
        "-f",
        "-i",
        "-u",
        "--kill-child",
        "sh",
        "-ec",
        MACHINE,
        "sh",
    ]);
    let systemd = room.spawn_server("systemd", boot.arg(program).arg(units))?;
    let outer = systemd.id();
    let children = format!("/proc/{outer}/task/{outer}/children");
    let started = Instant::now();
    let pid = loop {
        let text = fs::read_to_string(&children)?;
        if let Some(pid) = text.split_whitespace().next() {
            break pid.to_owned();
        }
        anyhow::ensure!(started.elapsed() < LIMIT, "{}", systemd.log());
        std::thread::sleep(Duration::from_millis(50));
    };
    let machine = Machine { pid };
    machine.wait_until("every service is ready", || {
        let services = machine.dess(&["service", "status"])?;
        let services = services.as_array().context("services")?;
        let ready = services.iter().filter(|one| one["state"] == "ready");
        Ok(ready.count() == 5)
    })?;
    machine.wait_until("every service works", || {
        let reports = machine.dess(&["service", "probe"])?;
        let reports = reports.as_array().context("reports")?;
        Ok(reports.len() == 5 && reports.iter().all(|one| one["failure"].is_null()))
    })?;

    // A restart by order: another process, and what lies in the runtime directory is still there.
    let before = machine.service("iscsi")?["pid"].clone();
    machine.run(&["touch", "/run/dess/maps/witness"])?;
    let after = machine.dess(&["service", "restart", "iscsi", "--yes"])?;
    assert_eq!(after["state"], "ready", "{after}");
    assert_ne!(after["pid"], before);
    let kept = machine.run(&["test", "-e", "/run/dess/maps/witness"])?;
    assert!(kept.status.success(), "live maps outlive the restart");

    let web = machine.service("web")?["pid"].to_string();
    machine.run(&["sh", "-c", &format!("kill -9 {web}")])?;
    machine.wait_until("the page was started again", || {
        let web = machine.service("web")?;
        Ok(web["state"] == "ready" && web["restarts"] == 1)
    })
}
