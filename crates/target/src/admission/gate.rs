//! The limits of one client or one group, and who waits for them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dess_model::{IoLimits, RateLimits};

use super::bucket::TokenBucket;

/// Which of a holder's limits a command falls under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// It takes data off the disk.
    Read,
    /// It changes the disk.
    Write,
}

/// The limits of one holder. Commands pass in the order in which they came, so no command is
/// overtaken for ever; each connection has at most one command per direction in the line, so a
/// connection with many gets no more than its turn.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// False if nothing is limited and nobody waits: then no lock is taken.
    limits: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    read: Lane,
    write: Lane,
    last_ticket: u64,
}

#[derive(Debug, Default)]
struct Lane {
    bytes: Option<TokenBucket>,
    commands: Option<TokenBucket>,
    /// Tickets of those who wait, with their bytes; the oldest first.
    line: VecDeque<(u64, u64)>,
}

/// A command's place in the line of a gate; given up when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    direction: Direction,
    number: u64,
}

/// The least time after which somebody who is not the first of the line asks again.
const NOT_FIRST_WAIT: Duration = Duration::from_millis(1);

impl Gate {
    /// Sets the limits from now on. Who waits finds out when it asks the next time.
    pub(crate) fn set(&self, now: Instant, limits: &IoLimits) {
        let mut state = self.lock();
        let burst = limits.burst();
        state.read.set(now, &limits.read, burst);
        state.write.set(now, &limits.write, burst);
        self.limits.store(!limits.is_none(), Ordering::Relaxed);
    }

    /// True if somebody may have to wait.
    pub(crate) fn limits(&self) -> bool {
        self.limits.load(Ordering::Relaxed)
    }

    /// Lets a command pass, or answers its place in the line and when to ask again with it.
    pub(crate) fn enter(
        self: &Arc<Self>,
        now: Instant,
        direction: Direction,
        bytes: u64,
    ) -> Result<(), (Ticket, Duration)> {
        let mut state = self.lock();
        let wait = state.lane(direction).wait(now, None, bytes);
        if wait.is_zero() {
            state.lane(direction).take(bytes);
            return Ok(());
        }
        state.last_ticket += 1;
        let number = state.last_ticket;
        state.lane(direction).line.push_back((number, bytes));
        let ticket = Ticket {
            gate: Arc::clone(self),
            direction,
            number,
        };
        Err((ticket, wait))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Asks again; gives the place up if the command may pass.
    pub(crate) fn try_pass(self, now: Instant) -> Result<(), (Self, Duration)> {
        let mut state = self.gate.lock();
        let lane = state.lane(self.direction);
        let bytes = lane.bytes_of(self.number);
        let wait = lane.wait(now, Some(self.number), bytes);
        if wait.is_zero() {
            lane.take(bytes);
            drop(state);
            return Ok(());
        }
        drop(state);
        Err((self, wait))
    }

    /// True if this is a place at that gate.
    pub(crate) fn is_at(&self, gate: &Arc<Gate>) -> bool {
        Arc::ptr_eq(&self.gate, gate)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        let number = self.number;
        let line = &mut state.lane(self.direction).line;
        line.retain(|(other, _)| *other != number);
    }
}

impl State {
    fn lane(&mut self, direction: Direction) -> &mut Lane {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

impl Lane {
    fn set(&mut self, now: Instant, limits: &RateLimits, burst: Duration) {
        set_bucket(&mut self.bytes, now, limits.bytes_per_sec, burst);
        set_bucket(&mut self.commands, now, limits.iops, burst);
    }

    /// How long a command waits that holds the ticket, or that comes now.
    fn wait(&mut self, now: Instant, ticket: Option<u64>, bytes: u64) -> Duration {
        let ahead = self
            .line
            .iter()
            .take_while(|(number, _)| ticket != Some(*number));
        let (commands_ahead, bytes_ahead) = ahead.fold((0, 0u64), |(commands, sum), (_, bytes)| {
            (commands + 1, sum.saturating_add(*bytes))
        });
        let bucket = |bucket: &mut Option<TokenBucket>, ahead, tokens| {
            bucket
                .as_mut()
                .map_or(Duration::ZERO, |bucket| bucket.wait(now, ahead, tokens))
        };
        let wait = bucket(&mut self.bytes, bytes_ahead, bytes).max(bucket(
            &mut self.commands,
            commands_ahead,
            1,
        ));
        match commands_ahead {
            0 => wait,
            _ => wait.max(NOT_FIRST_WAIT),
        }
    }

    fn bytes_of(&self, ticket: u64) -> u64 {
        let found = self.line.iter().find(|(number, _)| *number == ticket);
        found.map_or(0, |(_, bytes)| *bytes)
    }

    fn take(&mut self, bytes: u64) {
        if let Some(bucket) = &mut self.bytes {
            bucket.take(bytes);
        }
        if let Some(bucket) = &mut self.commands {
            bucket.take(1);
        }
    }
}

/// The size of a bucket is what comes in `burst`.
fn set_bucket(bucket: &mut Option<TokenBucket>, now: Instant, rate: Option<u64>, burst: Duration) {
    let Some(rate) = rate else {
        *bucket = None;
        return;
    };
    let size = u128::from(rate) * burst.as_millis() / 1000;
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    match bucket {
        Some(bucket) => bucket.set(now, rate, size),
        None => *bucket = Some(TokenBucket::new(now, rate, size)),
    }
}
