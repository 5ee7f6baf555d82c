//! A planned restart while clients work: they are asked to come back, nothing acknowledged is
//! lost, and the service is there again soon.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of a test's set-up is a failure of the test"
)]

mod support;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dess_model::host::{Paths, request};
use dess_model::{TargetReply, TargetRequest};
use dess_target::{TargetOptions, serve};
use rustix::process::{Pid, Signal, kill_process};
use support::initiator::{Initiator, Login, LoginError, cdb_10};
use support::room::{Site, client_id};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

const STATE: &str = "DESS_TEST_STATE";
const RUNTIME: &str = "DESS_TEST_RUNTIME";
/// What a restart may cost the room; the measured time is printed.
const RESTART_MAX: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(30);

/// Not a test: the service itself, in a process that a test starts and stops.
#[test]
fn child_that_serves_until_sigterm() {
    let (Some(state), Some(runtime)) = (std::env::var_os(STATE), std::env::var_os(RUNTIME)) else {
        return;
    };
    let paths = Paths {
        state: state.into(),
        runtime: runtime.into(),
    };
    let (ready, _) = oneshot::channel();
    let cancel = CancellationToken::new();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let kind = tokio::signal::unix::SignalKind::terminate();
        let mut terminate = tokio::signal::unix::signal(kind).unwrap();
        let stop = cancel.clone();
        tokio::spawn(async move {
            terminate.recv().await;
            stop.cancel();
        });
        serve(TargetOptions::new(paths), ready, cancel)
            .await
            .unwrap();
    });
}

struct Serving(Child);

impl Serving {
    fn start(site: &Site) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_serves_until_sigterm", "--nocapture"])
            .env(STATE, &site.paths.state)
            .env(RUNTIME, &site.paths.runtime)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let child = Self(child);
        site.wait_for_portal();
        child
    }

    /// Stops it in order, starts it again; how long nobody was there.
    fn restart(&mut self, site: &Site) -> (Duration, Duration) {
        let begun = Instant::now();
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
        let stopped = begun.elapsed();
        *self = Self::start(site);
        (stopped, begun.elapsed())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Logs in again and again until somebody is there.
fn come_back(login: &Login) -> Initiator {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Initiator::login(login) {
            Ok(mut session) => {
                session.become_ready().unwrap();
                return session;
            }
            Err(LoginError::Refused(status)) => panic!("login refused with {status:#06x}"),
            Err(LoginError::Io(_)) => {}
        }
        assert!(Instant::now() < deadline, "nobody is there in time");
        std::thread::yield_now();
    }
}

const SLOTS: u32 = 64;
/// Commands that are sent together.
const BATCH: u32 = 8;

fn content(round: u32, slot: u32) -> Vec<u8> {
    (round << 16 | slot).to_le_bytes().repeat(1024)
}

fn lba(slot: u32) -> u32 {
    slot * 8
}

/// Writes round after round, batches of plain and FUA writes, each followed by a flush; answers
/// the last acknowledged round per slot, and how often it was asked to log out.
fn write_until(login: &Login, stop: &AtomicBool, rounds: &AtomicU32) -> (Vec<u32>, u32) {
    let mut session = come_back(login);
    let mut acknowledged = vec![0; SLOTS as usize];
    let mut asked = 0;
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        for first in (0..SLOTS).step_by(BATCH as usize) {
            // Whatever is in flight when the service stops is answered, not cut off.
            for slot in first..first + BATCH {
                let mut cdb = cdb_10(0x2a, lba(slot), 8);
                cdb[1] = if slot % 4 == 0 { 0x08 } else { 0 };
                session.start(&cdb, &content(round, slot), 4096).unwrap();
            }
            session.start(&cdb_10(0x35, 0, 0), &[], 0).unwrap();
            for _ in 0..=BATCH {
                assert_eq!(session.finish().unwrap().status, 0);
            }
            for slot in first..first + BATCH {
                acknowledged[slot as usize] = round;
            }
            if session.logout_requested {
                asked += 1;
                session.log_out().unwrap();
                session = come_back(login);
            }
        }
        rounds.store(round, Ordering::Relaxed);
    }
    (acknowledged, asked)
}

fn power_on(site: &Site, runtime: &tokio::runtime::Runtime, seat: u32) {
    let power_on = TargetRequest::PowerOn {
        client: client_id(seat),
        peer: [127, 0, 0, 1].into(),
    };
    let control = site.paths.target_control();
    let reply: TargetReply = runtime
        .block_on(request(&control, &power_on, PATIENCE))
        .unwrap();
    assert!(matches!(reply, TargetReply::Disk(_)), "{reply:?}");
}

#[test]
fn a_planned_restart_loses_nothing_and_is_short() {
    let site = Site::new();
    let mut serving = Serving::start(&site);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    power_on(&site, &runtime, 1);
    power_on(&site, &runtime, 2);
    let stop = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new(AtomicU32::new(0));
    let writer = {
        let (login, stop, rounds) = (site.login(1), Arc::clone(&stop), Arc::clone(&rounds));
        std::thread::spawn(move || write_until(&login, &stop, &rounds))
    };
    let wait_for_rounds = |more: u32| {
        let target = rounds.load(Ordering::Relaxed) + more;
        let deadline = Instant::now() + PATIENCE;
        while rounds.load(Ordering::Relaxed) < target && !writer.is_finished() {
            assert!(Instant::now() < deadline, "the writer does not get on");
            std::thread::yield_now();
        }
    };
    for number in 1..=3 {
        wait_for_rounds(2);
        // Firmware closes on any message that it does not know: its connection just ends.
        let mut firmware = site.login(2);
        firmware.isid = [0x40, 0x00, 0x27, 0x23, 0x12, 0x34];
        let mut firmware = come_back(&firmware);
        let (stopped, back) = serving.restart(&site);
        println!("restart {number}: stopped after {stopped:?}, accepting again after {back:?}");
        assert!(back < RESTART_MAX, "{back:?}");
        let end = firmware.receive();
        let end = end.err().map(|error| error.kind());
        assert_eq!(end, Some(std::io::ErrorKind::UnexpectedEof));
    }
    wait_for_rounds(2);
    stop.store(true, Ordering::Relaxed);
    let (acknowledged, asked) = writer.join().unwrap();
    assert_eq!(asked, 3);
    let mut session = come_back(&site.login(1));
    for slot in 0..SLOTS {
        let round = acknowledged[slot as usize];
        let found = session.read(lba(slot), 8).unwrap().data;
        assert!(found == content(round, slot), "slot {slot}, round {round}");
    }
}
