//! Looking for a peer's next command instead of sleeping until it comes.
//!
//! A peer that sends its next command as soon as it has the answer is found waiting: to put the thread to sleep and
//! to wake it takes longer than the pause, and as much of the processor. Only a peer whose pauses are short is waited
//! for like that, and not long; what the thread's other connections have is done meanwhile.

use std::time::{Duration, Instant};

/// Longest pause, on average, after which it is tried. The time to wake this thread is in it.
const TRIED_MAX: Duration = Duration::from_micros(80);
/// Longest pause, on average, at which it goes on.
const WORTH_MAX: Duration = Duration::from_micros(35);
/// Longest pause that counts: one that is longer says no more.
const COUNTED_MAX: Duration = Duration::from_micros(150);
/// Shortest and longest time to look out.
const LOOK_OUT: (Duration, Duration) = (Duration::from_micros(20), Duration::from_micros(60));
/// Commands until it is tried again, if it was not worth it.
const REST: u32 = 250;
/// Commands that may be found one after another before orders and deadlines are looked at.
const FOUND_MAX: u32 = 32;

/// How long a peer pauses between our answer and its next command.
///
/// `Waking` (pauses are short enough to try) -> `Looking` (they are not worth it) -> `Resting` -> `Waking`.
#[derive(Debug)]
pub(super) struct Pace {
    answered: Option<Instant>,
    /// Average over the last few.
    pause: Duration,
    mode: Mode,
    /// Commands that were found by looking out, one after another.
    found: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// It was not worth it; so many commands are taken before it may be tried again.
    Resting(u32),
    /// The thread sleeps between commands.
    Waking,
    /// It looks out.
    Looking,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            answered: None,
            pause: COUNTED_MAX,
            mode: Mode::Waking,
            found: 0,
        }
    }

    /// All commands are answered.
    pub(super) fn note_answered(&mut self, now: Instant) {
        self.answered.get_or_insert(now);
    }

    /// A command has come.
    pub(super) fn note_arrival(&mut self, now: Instant) {
        let Some(answered) = self.answered.take() else {
            return;
        };
        let pause = now.saturating_duration_since(answered);
        self.pause = (self.pause * 7 + pause.min(COUNTED_MAX)) / 8;
        self.mode = match self.mode {
            Mode::Resting(0) => Mode::Waking,
            Mode::Resting(left) => Mode::Resting(left - 1),
            Mode::Waking if self.pause <= TRIED_MAX => {
                // The time to wake the thread says nothing of the peer.
                self.pause = Duration::ZERO;
                Mode::Looking
            }
            Mode::Looking if self.pause > WORTH_MAX => Mode::Resting(REST),
            mode => mode,
        };
    }

    /// How long to look out for the next command, if at all.
    pub(super) fn look_out(&self) -> Option<Duration> {
        let (least, most) = LOOK_OUT;
        (self.mode == Mode::Looking).then(|| (self.pause * 3).clamp(least, most))
    }

    /// A command was found by looking out.
    pub(super) fn note_found(&mut self) {
        self.found += 1;
    }

    /// True if everything else must be looked at before the next look-out.
    pub(super) fn is_enough(&self) -> bool {
        self.found >= FOUND_MAX
    }

    /// Everything else was looked at.
    pub(super) fn begin(&mut self) {
        self.found = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICRO: Duration = Duration::from_micros(1);

    fn after(pace: &mut Pace, pauses: &[u32]) -> Option<Duration> {
        let mut now = Instant::now();
        for &pause in pauses {
            pace.note_answered(now);
            now += MICRO * pause;
            pace.note_arrival(now);
        }
        pace.look_out()
    }

    #[test]
    fn a_peer_that_hurries_is_looked_out_for() {
        let mut pace = Pace::new();
        assert_eq!(after(&mut pace, &[15; 3]), None);
        let looks = after(&mut pace, &[15; 40]).unwrap();
        assert!((LOOK_OUT.0..LOOK_OUT.1).contains(&looks));
    }

    #[test]
    fn a_peer_that_takes_its_time_is_not() {
        let mut pace = Pace::new();
        assert_eq!(after(&mut pace, &[200; 100]), None);
        // It seemed to hurry, but does not while it is looked out for: that is tried now and then.
        let looks = (0..2000).filter(|_| after(&mut pace, &[60]).is_some());
        assert!((1..100).contains(&looks.count()));
        assert!(after(&mut pace, &[15; 400]).is_some());
        // A single long pause is not the end of it.
        assert!(after(&mut pace, &[1_000_000, 15, 15]).is_some());
        assert_eq!(after(&mut pace, &[1_000_000; 3]), None);
    }

    #[test]
    fn orders_are_looked_at_however_quick_the_peer_is() {
        let mut pace = Pace::new();
        for _ in 0..FOUND_MAX {
            assert!(!pace.is_enough());
            pace.note_found();
        }
        assert!(pace.is_enough());
        pace.begin();
        assert!(!pace.is_enough());
    }
}
