//! A load generator: one thread that keeps many sessions busy.
//!
//! It is the same for every server, checks every status, length and the place that the data came
//! from, and costs little: one read and one write of a socket for all commands that end at once.

use std::time::{Duration, Instant};

use anyhow::Result;
use mio::{Events, Interest, Poll, Token};

use super::session::{Portal, Session};

/// What each command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Read,
    Write,
}

/// In which order places are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Random,
    Sequential,
}

/// A load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) operation: Operation,
    pub(super) order: Order,
    /// Length of each command, in bytes.
    pub(super) block_bytes: u32,
    /// Commands in flight per session.
    pub(super) depth: u32,
    pub(super) sessions: u16,
}

/// What was done within a time.
pub(super) struct Done {
    pub(super) commands: u64,
    pub(super) time: Duration,
    pub(super) latency: Latency,
}

/// Sessions under load.
pub(super) struct Generator {
    poll: Poll,
    events: Events,
    sessions: Vec<Session>,
}

impl Generator {
    /// Logs all sessions in.
    pub(super) fn start(portal: &Portal, load: Load, disk_bytes: u64) -> Result<Self> {
        Self::start_from(0, portal, load, disk_bytes)
    }

    /// Logs all sessions in; their initiators are numbered from `first` on.
    pub(super) fn start_from(
        first: u16,
        portal: &Portal,
        load: Load,
        disk_bytes: u64,
    ) -> Result<Self> {
        let poll = Poll::new()?;
        let mut sessions = Vec::new();
        for number in 0..load.sessions {
            let addresses = Addresses::new(load, disk_bytes, number);
            let mut session = Session::login(portal, first + number, load, addresses)?;
            let both = Interest::READABLE | Interest::WRITABLE;
            let token = Token(usize::from(number));
            poll.registry().register(&mut session.stream, token, both)?;
            sessions.push(session);
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(256),
            sessions,
        })
    }

    /// Keeps all queues full until so many commands are done, or for a time.
    pub(super) fn run(&mut self, commands_max: u64, time_max: Duration) -> Result<Done> {
        let started = Instant::now();
        let mut commands = 0;
        let mut latency = Latency::new();
        for session in &mut self.sessions {
            session.send()?;
        }
        loop {
            let time = started.elapsed();
            if time >= time_max || commands >= commands_max {
                return Ok(Done {
                    commands,
                    time,
                    latency,
                });
            }
            self.poll.poll(&mut self.events, Some(time_max - time))?;
            for event in &self.events {
                let session = &mut self.sessions[event.token().0];
                if event.is_readable() {
                    session.receive(&mut |time| {
                        commands += 1;
                        latency.add(time);
                    })?;
                }
                session.send()?;
            }
        }
    }
}

/// The places that a session uses, one after another.
pub(super) struct Addresses {
    order: Order,
    block_bytes: u64,
    blocks: u64,
    state: u64,
}

impl Addresses {
    fn new(load: Load, disk_bytes: u64, session: u16) -> Self {
        let block_bytes = u64::from(load.block_bytes);
        let blocks = disk_bytes / block_bytes;
        let state = match load.order {
            Order::Random => 0x9e37_79b9_7f4a_7c15 ^ (u64::from(session) + 1),
            // Each session starts elsewhere.
            Order::Sequential => blocks * u64::from(session) / u64::from(load.sessions),
        };
        Self {
            order: load.order,
            block_bytes,
            blocks,
            state,
        }
    }

    pub(super) fn next_offset(&mut self) -> u64 {
        let block = match self.order {
            // Marsaglia's xorshift64.
            Order::Random => {
                self.state ^= self.state << 13;
                self.state ^= self.state >> 7;
                self.state ^= self.state << 17;
                (self.state >> 11) % self.blocks
            }
            Order::Sequential => {
                self.state = (self.state + 1) % self.blocks;
                self.state
            }
        };
        block * self.block_bytes
    }
}

/// How long commands took: 16 classes for each power of two of nanoseconds.
pub(super) struct Latency {
    classes: Vec<u64>,
    count: u64,
}

impl Latency {
    fn new() -> Self {
        Self {
            classes: vec![0; 64 * 16],
            count: 0,
        }
    }

    fn add(&mut self, time: Duration) {
        let nanos = (time.as_nanos() as u64).max(16);
        let power = nanos.ilog2();
        let class = power * 16 + ((nanos >> (power - 4)) & 15) as u32;
        self.classes[class as usize] += 1;
        self.count += 1;
    }

    /// The time within which this part of the commands was done, in microseconds.
    pub(super) fn quantile_us(&self, part: f64) -> f64 {
        let mut left = (self.count as f64 * part) as u64;
        for (class, &count) in self.classes.iter().enumerate() {
            if count > left {
                let (power, step) = (class / 16, class as u64 % 16);
                return ((16 + step) << (power - 4)) as f64 / 1000.0;
            }
            left -= count;
        }
        f64::NAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_within_a_sixteenth_of_the_truth() {
        let mut latency = Latency::new();
        for micros in 1..=1000 {
            latency.add(Duration::from_micros(micros));
        }
        let median = latency.quantile_us(0.5);
        assert!((468.0..=501.0).contains(&median), "{median}");
        let last = latency.quantile_us(0.99);
        assert!((928.0..=991.0).contains(&last), "{last}");
    }

    #[test]
    fn sequential_sessions_start_apart_and_stay_on_the_disk() {
        let load = Load {
            operation: Operation::Read,
            order: Order::Sequential,
            block_bytes: 4096,
            depth: 1,
            sessions: 2,
        };
        let mut second = Addresses::new(load, 40960, 1);
        let places: Vec<u64> = (0..6).map(|_| second.next_offset() / 4096).collect();
        assert_eq!(places, [6, 7, 8, 9, 0, 1]);
    }
}
