//! The service in a process of its own, under attack, and a client of it that must not notice.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::initiator::{Initiator, Login};
use super::room::Site;
use super::service::{Service, power_on, use_all_files};

pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;

/// How long the service may take to come to rest after an attack: longer than its own limits on
/// a login and a discovery session together.
const REST_WITHIN: Duration = Duration::from_secs(60);
/// What may be kept of an attack: pages that the allocator holds back.
const KEPT_BYTES_MAX: u64 = 24 * MIB;
/// Longest that the well-behaved client may wait for one answer, on cores that are busy with the
/// attackers themselves (alone: under 1 ms). Initiators give up after 5 s at the earliest.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// Most lines with a warning that one attack may leave: each peer and kind once in a minute.
const WARNINGS_MAX: usize = 40;

/// Memory and files of a process.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub resident_bytes: u64,
    pub files: usize,
}

/// A service with power on for seats 1 (the well-behaved client) and 2 (an attacker that knows
/// its own secret), and seat 1 at work.
pub struct Victim {
    pub site: Site,
    service: Service,
    log: PathBuf,
    watch: Option<Watch>,
    idle: Usage,
}

impl Victim {
    pub fn start() -> Self {
        use_all_files();
        let site = Site::new();
        let log = site.paths.state.join("log");
        let service = Service::start_logging_to(&site, File::create(&log).unwrap());
        let mut victim = Self {
            site,
            service,
            log,
            watch: None,
            idle: Usage {
                resident_bytes: 0,
                files: 0,
            },
        };
        power_on(&victim.site, 1);
        power_on(&victim.site, 2);
        let watch = Watch::start(&victim.site);
        watch.wait_for_rounds(200);
        victim.watch = Some(watch);
        victim.idle = victim.settled();
        victim
    }

    /// How an attacker that knows the secret of seat 2 logs in, for the `number`th time.
    pub fn login(&self, number: u16) -> Login {
        let mut login = self.site.login(2);
        login.isid[3..5].copy_from_slice(&number.to_be_bytes());
        login
    }

    pub fn attacker(&self, number: u16) -> Initiator {
        Initiator::login(&self.login(number)).unwrap()
    }

    pub fn usage(&self) -> Usage {
        let files = fs::read_dir(format!("/proc/{}/fd", self.service.id())).unwrap();
        Usage {
            resident_bytes: self.status("VmRSS:"),
            files: files.count(),
        }
    }

    /// Waits until the attackers have at most so many connections.
    pub fn wait_for_connections(&self, max: usize) {
        let deadline = Instant::now() + REST_WITHIN;
        loop {
            let kept = self.usage().files.saturating_sub(self.idle.files);
            if kept <= max {
                return;
            }
            assert!(Instant::now() < deadline, "{kept} connections are kept");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the process holds no more files than when nobody was there.
    fn settled(&self) -> Usage {
        let deadline = Instant::now() + REST_WITHIN;
        loop {
            let usage = self.usage();
            let is_idle = self.idle.files == 0 || usage.files <= self.idle.files;
            if is_idle && usage.resident_bytes <= self.idle_bytes_max() {
                return usage;
            }
            assert!(
                Instant::now() < deadline,
                "{usage:?} after the attack, {:?} before",
                self.idle
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn idle_bytes_max(&self) -> u64 {
        match self.idle.resident_bytes {
            0 => u64::MAX,
            bytes => bytes + KEPT_BYTES_MAX,
        }
    }

    fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.service.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() * KIB
    }

    /// Lines of the service's log with a warning or an error.
    pub fn warnings(&self) -> Vec<String> {
        fs::read_to_string(&self.log)
            .unwrap()
            .lines()
            .filter(|line| line.contains(" WARN ") || line.contains("ERROR"))
            .map(str::to_owned)
            .collect()
    }

    /// Waits until a warning with this text was logged.
    pub fn wait_for_warning(&self, text: &str) {
        let deadline = Instant::now() + REST_WITHIN;
        while !self.warnings().iter().any(|line| line.contains(text)) {
            assert!(
                Instant::now() < deadline,
                "no {text:?} in {:#?}",
                self.warnings()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// How long a new session of the well-behaved client takes to come up now.
    pub fn time_of_a_login(&self) -> Duration {
        let started = Instant::now();
        let mut login = self.site.login(1);
        login.isid[4] = 99;
        Initiator::login(&login).unwrap().become_ready().unwrap();
        started.elapsed()
    }

    /// The attack is over and its sockets are closed: the service took at most `growth_max` bytes
    /// more, gives memory and files back, and nobody else noticed anything.
    pub fn assert_unharmed(mut self, growth_max: u64) {
        let peak = self
            .status("VmHWM:")
            .saturating_sub(self.idle.resident_bytes);
        let rest = self.settled();
        // It goes on to work.
        let watch = self.watch.take().unwrap();
        watch.wait_for_rounds(200);
        let watched = watch.stop();
        let warnings = self.warnings();
        println!(
            "at most {} KiB more, {} KiB afterwards; {} reads, the slowest took {:?}; {} warnings",
            peak / KIB,
            rest.resident_bytes.saturating_sub(self.idle.resident_bytes) / KIB,
            watched.rounds,
            watched.worst,
            warnings.len()
        );
        assert!(peak <= growth_max, "{} KiB", peak / KIB);
        assert!(watched.worst < ANSWER_WITHIN, "{:?}", watched.worst);
        assert!(warnings.len() <= WARNINGS_MAX, "{warnings:#?}");
        let panics = fs::read_to_string(&self.log).unwrap();
        assert!(!panics.contains("panicked at"), "{panics}");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            println!("{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

/// A client that reads, writes and compares all the time.
struct Watch {
    stop: Arc<AtomicBool>,
    rounds: Arc<std::sync::atomic::AtomicU64>,
    thread: JoinHandle<Watched>,
}

struct Watched {
    worst: Duration,
    rounds: u64,
}

impl Watch {
    fn start(site: &Site) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let mut session = Initiator::login(&site.login(1)).unwrap();
        session.become_ready().unwrap();
        let image = site.image.clone();
        let thread = {
            let (stop, rounds) = (Arc::clone(&stop), Arc::clone(&rounds));
            std::thread::spawn(move || {
                let mut worst = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    let round = rounds.fetch_add(1, Ordering::Relaxed);
                    worst = worst.max(check(&mut session, &image, round as u32));
                }
                Watched {
                    worst,
                    rounds: rounds.load(Ordering::Relaxed),
                }
            })
        };
        Self {
            stop,
            rounds,
            thread,
        }
    }

    fn wait_for_rounds(&self, more: u64) {
        let wanted = self.rounds.load(Ordering::Relaxed) + more;
        let deadline = Instant::now() + REST_WITHIN;
        while self.rounds.load(Ordering::Relaxed) < wanted {
            assert!(!self.thread.is_finished(), "the well-behaved client failed");
            assert!(
                Instant::now() < deadline,
                "the well-behaved client is stuck"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn stop(self) -> Watched {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the well-behaved client failed")
    }
}

/// Blocks of the image that are only read; those after them are written too.
const READ_ONLY_BLOCKS: u32 = 16 * 1024;

/// A read of the image, or a write that is read back; the time of the slowest answer.
fn check(session: &mut Initiator, image: &[u8], round: u32) -> Duration {
    let mut worst = Duration::ZERO;
    let mut timed = |session: &mut Initiator, lba, write: Option<&[u8]>| {
        let started = Instant::now();
        let ended = match write {
            Some(data) => session.write(lba, data),
            None => session.read(lba, 8),
        };
        worst = worst.max(started.elapsed());
        let ended = ended.unwrap();
        assert_eq!(ended.status, 0, "{ended:?}");
        ended.data
    };
    let lba = round.wrapping_mul(2_654_435_761) % (READ_ONLY_BLOCKS - 8);
    if round % 4 == 3 {
        let data = [round as u8; 4096];
        timed(session, READ_ONLY_BLOCKS + lba % 8192, Some(&data));
        let found = timed(session, READ_ONLY_BLOCKS + lba % 8192, None);
        assert!(found == data, "a write is not there");
    } else {
        let at = lba as usize * 512;
        let found = timed(session, lba, None);
        assert!(found == image[at..at + 4096], "a read is wrong");
    }
    worst
}
