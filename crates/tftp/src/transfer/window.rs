//! The blocks in flight and the timer behind them.

use std::time::{Duration, Instant};

/// Longest wait between two retransmissions, unless the client asked for a longer one.
const BACKOFF_MAX: Duration = Duration::from_secs(8);

/// Blocks count from 1; the number on the wire is the count modulo 65536.
#[derive(Debug)]
pub(super) struct Window {
    /// Last block that the client has with all before it.
    pub(super) acked: u64,
    /// Next block to send.
    pub(super) next: u64,
    /// Last block that was ever sent.
    pub(super) highest: u64,
    /// Repeated ACKs of `acked` that copies of earlier blocks explain.
    echoes: u64,
    pub(super) timer: Timer,
}

#[derive(Debug)]
pub(super) struct Timer {
    /// When it began to run.
    started: Option<Instant>,
    /// When to retransmit; none until something was sent.
    pub(super) deadline: Option<Instant>,
    pub(super) retransmissions: u32,
}

impl Window {
    pub(super) fn after(acked: u64, timer: Timer) -> Self {
        Self {
            acked,
            next: acked + 1,
            highest: acked,
            echoes: 0,
            timer,
        }
    }

    /// Takes an ACK; gives the round trip if this one measures it. Numbers that no block in flight
    /// has are late copies and change nothing.
    pub(super) fn acknowledge(
        &mut self,
        now: Instant,
        number: u16,
        windowed: bool,
        base: Duration,
    ) -> Option<Duration> {
        let ahead = u64::from(number.wrapping_sub(wire_number(self.acked)));
        let block = self.acked + ahead;
        if block > self.highest {
            return None;
        }
        if ahead > 0 {
            // The answer to a block sent twice measures nothing (Karn).
            let first = self.timer.retransmissions == 0;
            let measured = self.timer.started.filter(|_| first).map(|sent| now - sent);
            // Blocks after it that are in flight arrive out of order there and are each answered
            // with this ACK again; so are copies of the window.
            self.echoes = u64::from(self.timer.retransmissions) + (self.highest - block);
            self.acked = block;
            self.next = block + 1;
            self.highest = self.highest.max(block);
            self.timer = Timer::idle();
            return measured;
        }
        if !windowed {
            // Never answered: RFC 1123 §4.2.3.1.
        } else if self.echoes > 0 {
            self.echoes -= 1;
        } else if self.next > self.acked + 1 && self.timer.retransmissions == 0 {
            // The window's first block was lost (RFC 7440 §4). Counts as a retransmission, so it
            // happens once; after that the timer decides.
            self.timer.retransmissions = 1;
            self.timer.arm(now, base);
            self.go_back();
        }
        None
    }

    pub(super) fn go_back(&mut self) {
        self.next = self.acked + 1;
    }
}

impl Timer {
    pub(super) fn idle() -> Self {
        Self {
            started: None,
            deadline: None,
            retransmissions: 0,
        }
    }

    /// Starts to run, unless it runs.
    pub(super) fn start(&mut self, now: Instant, base: Duration) {
        if self.deadline.is_none() {
            self.started = Some(now);
            self.arm(now, base);
        }
    }

    /// Waits twice as long at each retransmission.
    pub(super) fn arm(&mut self, now: Instant, base: Duration) {
        let doubled = base.saturating_mul(1 << self.retransmissions.min(8));
        self.deadline = Some(now + doubled.min(BACKOFF_MAX.max(base)));
    }
}

/// The block's number on the wire; after 65535 comes 0.
#[expect(clippy::cast_possible_truncation, reason = "block numbers roll over")]
pub(super) fn wire_number(block: u64) -> u16 {
    block as u16
}
