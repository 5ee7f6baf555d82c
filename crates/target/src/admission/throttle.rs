//! Commands of one connection that wait for the limits of their client and its group.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dess_model::{IoLimits, RateLimits};

use super::gate::{Direction, Gate, Ticket};

/// The limits that hold for a client's commands: its own, then those of its group, then that of a pool which is nearly full.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    own: Arc<Gate>,
    group: Mutex<Arc<Gate>>,
    pool: Arc<Gate>,
    /// Bytes per second at the pool's gate; 0 if it is open.
    pool_rate: AtomicU64,
    /// False if none of them limits anything.
    limited: AtomicBool,
}

/// The commands that wait. The two directions do not wait for each other; in each the order stays.
#[derive(Debug)]
pub(crate) struct Throttle<T> {
    read: Line<T>,
    write: Line<T>,
}

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<Waiting<T>>,
    /// How far the first one is.
    head: Head,
    /// When to try the first one again.
    next: Instant,
}

#[derive(Debug)]
struct Waiting<T> {
    bytes: u64,
    since: Instant,
    /// It was refused, or had to stand behind one that was.
    held: bool,
    item: T,
}

/// A command that may be carried out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Released<T> {
    pub(crate) item: T,
    /// When it came.
    pub(crate) since: Instant,
    /// False if it did not have to wait.
    pub(crate) held: bool,
}

/// Gates that a command is through, and its place at the next one.
#[derive(Debug, Default)]
struct Head {
    passed: usize,
    ticket: Option<Ticket>,
}

/// A limit that is raised or taken away is felt after this time at the latest.
const TRY_AGAIN: Duration = Duration::from_millis(100);

impl Gates {
    /// Its own limits.
    pub(crate) fn own(&self) -> &Arc<Gate> {
        &self.own
    }

    /// Puts the client behind the limits of a group; called again whenever limits have changed.
    pub(crate) fn join(&self, group: Arc<Gate>) {
        *self.group.lock().unwrap_or_else(PoisonError::into_inner) = group;
        self.note_limits();
    }

    /// Lets the client write at most so many bytes per second from now on, beside its other limits; none takes that away.
    pub(crate) fn slow_down(&self, now: Instant, bytes_per_sec: Option<u64>) {
        let rate = bytes_per_sec.unwrap_or(0);
        if self.pool_rate.swap(rate, Ordering::Relaxed) != rate {
            let write = RateLimits {
                bytes_per_sec,
                iops: None,
            };
            self.pool.set(
                now,
                &IoLimits {
                    write,
                    ..IoLimits::default()
                },
            );
            self.note_limits();
        }
    }

    fn note_limits(&self) {
        let limited = self.in_order().iter().any(|gate| gate.limits());
        self.limited.store(limited, Ordering::Relaxed);
    }

    /// True if a command may have to wait.
    pub(crate) fn limited(&self) -> bool {
        self.limited.load(Ordering::Relaxed)
    }

    fn in_order(&self) -> [Arc<Gate>; 3] {
        let group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        [
            Arc::clone(&self.own),
            Arc::clone(&group),
            Arc::clone(&self.pool),
        ]
    }
}

impl<T> Throttle<T> {
    pub(crate) fn new(now: Instant) -> Self {
        let line = || Line {
            waiting: VecDeque::new(),
            head: Head::default(),
            next: now,
        };
        Self {
            read: line(),
            write: line(),
        }
    }

    /// True if nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.read.waiting.is_empty() && self.write.waiting.is_empty()
    }

    /// Adds a command; [`poll`](Self::poll) hands it out when it may be carried out.
    pub(crate) fn push(&mut self, now: Instant, direction: Direction, bytes: u64, item: T) {
        let line = match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        };
        let held = !line.waiting.is_empty();
        if !held {
            line.next = now;
        }
        line.waiting.push_back(Waiting {
            bytes,
            since: now,
            held,
            item,
        });
    }

    /// A command that may be carried out now.
    pub(crate) fn poll(&mut self, now: Instant, gates: &Gates) -> Option<Released<T>> {
        self.read
            .poll(now, gates, Direction::Read)
            .or_else(|| self.write.poll(now, gates, Direction::Write))
    }

    /// When to poll again.
    pub(crate) fn next(&self) -> Option<Instant> {
        [&self.read, &self.write]
            .into_iter()
            .filter(|line| !line.waiting.is_empty())
            .map(|line| line.next)
            .min()
    }

    /// Drops the commands that were aborted.
    pub(crate) fn remove(&mut self, aborted: impl Fn(&T) -> bool) {
        for line in [&mut self.read, &mut self.write] {
            if line.waiting.front().is_some_and(|one| aborted(&one.item)) {
                // What it took from the client's own limits is not given back.
                line.head = Head::default();
            }
            line.waiting.retain(|one| !aborted(&one.item));
        }
    }
}

impl<T> Line<T> {
    fn poll(&mut self, now: Instant, gates: &Gates, direction: Direction) -> Option<Released<T>> {
        if now < self.next {
            return None;
        }
        let first = self.waiting.front_mut()?;
        let order = gates.in_order();
        if let Err(wait) = self.head.pass(now, &order, direction, first.bytes) {
            first.held = true;
            self.next = now + wait.min(TRY_AGAIN);
            return None;
        }
        self.head = Head::default();
        let first = self.waiting.pop_front()?;
        Some(Released {
            item: first.item,
            since: first.since,
            held: first.held,
        })
    }
}

impl Head {
    /// Goes through the gates one after the other, as far as possible; the time to wait if not
    /// through all.
    fn pass(
        &mut self,
        now: Instant,
        gates: &[Arc<Gate>],
        direction: Direction,
        bytes: u64,
    ) -> Result<(), Duration> {
        while let Some(gate) = gates.get(self.passed) {
            let ticket = self.ticket.take().filter(|ticket| ticket.is_at(gate));
            if gate.limits() {
                let passed = match ticket {
                    Some(ticket) => ticket.try_pass(now),
                    None => gate.enter(now, direction, bytes),
                };
                if let Err((ticket, wait)) = passed {
                    self.ticket = Some(ticket);
                    return Err(wait);
                }
            }
            self.passed += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn limits(bytes_per_sec: u64, burst_ms: u32) -> IoLimits {
        IoLimits {
            read: RateLimits {
                bytes_per_sec: Some(bytes_per_sec),
                iops: None,
            },
            burst_ms: Some(burst_ms),
            ..IoLimits::default()
        }
    }

    /// A client with limits of its own, in a group.
    fn client(now: Instant, own: &IoLimits, group: &Arc<Gate>) -> Gates {
        let gates = Gates::default();
        gates.own().set(now, own);
        gates.join(Arc::clone(group));
        gates
    }

    fn group(now: Instant, limits: &IoLimits) -> Arc<Gate> {
        let group = Arc::new(Gate::default());
        group.set(now, limits);
        group
    }

    /// Polls whenever asked for until everything is out or the time is over; when each came out.
    fn drain<T>(
        throttle: &mut Throttle<T>,
        gates: &Gates,
        start: Instant,
        limit: Duration,
    ) -> Vec<(T, Duration)> {
        let mut out = Vec::new();
        let mut now = start;
        while now < start + limit {
            while let Some(released) = throttle.poll(now, gates) {
                out.push((released.item, now - start));
            }
            let Some(next) = throttle.next() else {
                break;
            };
            now = next.max(now);
        }
        out
    }

    fn at_once<T>(item: T, since: Instant) -> Released<T> {
        Released {
            item,
            since,
            held: false,
        }
    }

    #[test]
    fn reads_that_wait_do_not_hold_up_writes() {
        let now = Instant::now();
        let gates = client(now, &limits(MIB, 100), &Arc::default());
        let mut throttle = Throttle::new(now);
        throttle.push(now, Direction::Read, MIB, "first read");
        throttle.push(now, Direction::Read, MIB, "second read");
        throttle.push(now, Direction::Write, MIB, "write");
        let out = drain(&mut throttle, &gates, now, Duration::from_secs(9));
        let items: Vec<_> = out.iter().map(|(item, _)| *item).collect();
        assert_eq!(items, ["first read", "write", "second read"]);
        // The first one overdrew a bucket of 0.1 MiB by 0.9, and 0.1 must be there for the second.
        assert_eq!(out[2].1, Duration::from_secs(1));
    }

    #[test]
    fn an_aborted_command_goes_away_and_the_next_one_moves_up() {
        let now = Instant::now();
        let everybody = group(now, &limits(MIB, 1000));
        let gates = client(now, &IoLimits::default(), &everybody);
        let mut throttle = Throttle::new(now);
        for number in 0..4 {
            throttle.push(now, Direction::Read, MIB, number);
        }
        assert_eq!(throttle.poll(now, &gates), Some(at_once(0, now)));
        assert_eq!(throttle.poll(now, &gates), None);
        throttle.remove(|number| [1, 2].contains(number));
        let out = drain(&mut throttle, &gates, now, Duration::from_secs(9));
        assert_eq!(out, [(3, Duration::from_secs(1))]);
        // Nobody stands in line any more: another client gets in.
        let later = now + Duration::from_secs(5);
        let other = client(now, &IoLimits::default(), &everybody);
        let mut throttle = Throttle::new(now);
        throttle.push(later, Direction::Read, MIB, 9);
        assert_eq!(throttle.poll(later, &other), Some(at_once(9, later)));
    }

    #[test]
    fn a_client_that_leaves_frees_its_place_in_the_line() {
        let now = Instant::now();
        let everybody = group(now, &limits(MIB, 1000));
        let (one, two) = (
            client(now, &IoLimits::default(), &everybody),
            client(now, &IoLimits::default(), &everybody),
        );
        let mut gone = Throttle::new(now);
        gone.push(now, Direction::Read, MIB, 1);
        gone.push(now, Direction::Read, 8 * MIB, 2);
        assert!(gone.poll(now, &one).is_some() && gone.poll(now, &one).is_none());
        let mut stays = Throttle::new(now);
        stays.push(now, Direction::Read, MIB, 3);
        assert_eq!(stays.poll(now, &two), None);
        drop(gone);
        let out = drain(&mut stays, &two, now, Duration::from_secs(9));
        assert_eq!(out, [(3, Duration::from_secs(1))]);
    }

    #[test]
    fn new_limits_hold_for_commands_that_wait_already() {
        let now = Instant::now();
        let gates = client(now, &limits(MIB, 10), &Arc::default());
        let mut throttle = Throttle::new(now);
        for number in 0..3 {
            throttle.push(now, Direction::Read, 64 * MIB, number);
        }
        assert_eq!(throttle.poll(now, &gates), Some(at_once(0, now)));
        assert_eq!(throttle.poll(now, &gates), None);
        gates.own().set(now, &IoLimits::default());
        gates.join(Arc::default());
        let out = drain(&mut throttle, &gates, now, Duration::from_secs(9));
        assert_eq!(out, [(1, TRY_AGAIN), (2, TRY_AGAIN)]);
    }

    #[test]
    fn a_pool_that_is_nearly_full_slows_writes_and_nothing_else() {
        let now = Instant::now();
        let gates = Gates::default();
        assert!(!gates.limited());
        gates.slow_down(now, Some(MIB));
        assert!(gates.limited());
        let mut throttle = Throttle::new(now);
        for number in 0..3 {
            throttle.push(now, Direction::Write, 2 * MIB, number);
            throttle.push(now, Direction::Read, 64 * MIB, 10 + number);
        }
        let out = drain(&mut throttle, &gates, now, Duration::from_secs(9));
        let reads = out.iter().filter(|(number, _)| *number >= 10);
        assert!(reads.clone().count() == 3 && reads.clone().all(|(_, at)| at.is_zero()));
        assert_eq!(out.last(), Some(&(2, Duration::from_secs(4))));
        gates.slow_down(now, None);
        assert!(!gates.limited());
    }

    #[test]
    fn a_client_with_a_long_queue_does_not_starve_its_group() {
        let now = Instant::now();
        let everybody = group(now, &limits(10 * MIB, 100));
        let greedy = client(now, &IoLimits::default(), &everybody);
        let small = client(now, &IoLimits::default(), &everybody);
        let mut queue = Throttle::new(now);
        for number in 0..1000 {
            queue.push(now, Direction::Read, MIB, number);
        }
        let mut few = Throttle::new(now);
        let mut waits = Vec::new();
        let mut time = now;
        few.push(time, Direction::Read, 4096, 0);
        while waits.len() < 50 {
            while queue.poll(time, &greedy).is_some() {}
            while let Some(released) = few.poll(time, &small) {
                waits.push(time - released.since);
                few.push(time, Direction::Read, 4096, 0);
            }
            let next = [queue.next(), few.next()].into_iter().flatten().min();
            time = next.unwrap().max(time + Duration::from_micros(100));
        }
        // One command of the greedy client costs the group 100 ms.
        let longest = waits.iter().max().unwrap();
        assert!(*longest <= Duration::from_millis(203), "{longest:?}");
    }

    proptest! {
        /// Several clients of a group with limits of their own: the group as a whole and each
        /// client stay within what is allowed, everybody gets on, and nobody's order changes.
        #[test]
        fn a_group_and_its_clients_stay_within_their_limits(
            group_rate in 1u64..64,
            own_rates in vec(1u64..64, 1..6),
            sizes in vec(1u64..(2 * MIB), 1..40),
        ) {
            let now = Instant::now();
            let everybody = group(now, &limits(group_rate * MIB, 200));
            let mut clients: Vec<_> = own_rates
                .iter()
                .map(|rate| {
                    let mut throttle = Throttle::new(now);
                    for (number, &size) in sizes.iter().enumerate() {
                        throttle.push(now, Direction::Read, size, (number, size));
                    }
                    (client(now, &limits(rate * MIB, 100), &everybody), throttle, Vec::new())
                })
                .collect();
            let mut time = now;
            let mut total = 0u64;
            let largest = 2 * MIB;
            let allowed = |rate: u64, burst_ms: u64, at: Instant| {
                let passed = (at - now).as_nanos() * u128::from(rate * MIB) / 1_000_000_000;
                passed as u64 + (rate * MIB * burst_ms / 1000).max(largest) + 1
            };
            while clients.iter().any(|(_, throttle, _)| !throttle.is_empty()) {
                for (index, (gates, throttle, out)) in clients.iter_mut().enumerate() {
                    while let Some(released) = throttle.poll(time, gates) {
                        let (number, size) = released.item;
                        prop_assert_eq!(number, out.len());
                        out.push(size);
                        total += size;
                        let own: u64 = out.iter().sum();
                        prop_assert!(own <= allowed(own_rates[index], 100, time));
                        prop_assert!(total <= allowed(group_rate, 200, time));
                    }
                }
                let next = clients.iter().filter_map(|(_, throttle, _)| throttle.next()).min();
                time = next.unwrap_or(time).max(time + Duration::from_micros(10));
                // All of it takes so long at the slowest rate, and not much longer.
                let bytes: u64 = sizes.iter().sum::<u64>() * own_rates.len() as u64;
                prop_assert!(time - now < Duration::from_secs(10 + 2 * bytes / MIB));
            }
        }
    }
}
