//! One line on the terminal that says how far a long transfer is.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::output::bytes;

/// Nothing is shown unless standard error is a terminal.
pub(in crate::commands) struct ProgressLine {
    terminal: bool,
    shown: bool,
    /// When the first byte was seen, and how many were done then.
    begun: Option<(Instant, u64)>,
}

impl ProgressLine {
    pub(in crate::commands) fn new() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            shown: false,
            begun: None,
        }
    }

    /// Shows `done` of `total` bytes (0 if unknown), the rate, and how long it will take.
    pub(in crate::commands) fn show(&mut self, done: u64, total: u64) -> io::Result<()> {
        if !self.terminal || done == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let &mut (start, first) = self.begun.get_or_insert((now, done));
        let text = describe(done, total, done.saturating_sub(first), now - start);
        eprint!("\r{text:<60}");
        self.shown = true;
        io::stderr().flush()
    }

    /// Leaves the line.
    pub(in crate::commands) fn end(&self) {
        if self.shown {
            eprintln!();
        }
    }
}

fn describe(done: u64, total: u64, moved: u64, elapsed: Duration) -> String {
    let mut text = match done.saturating_mul(100).checked_div(total) {
        Some(percent) => format!("{percent:>3} %  {} of {}", bytes(done), bytes(total)),
        None => bytes(done),
    };
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let rate = moved.saturating_mul(1000).checked_div(millis).unwrap_or(0);
    if rate > 0 {
        text += &format!("  {}/s", bytes(rate));
        let left = total.saturating_sub(done) / rate;
        if total > 0 {
            text += &format!("  {}:{:02} left", left / 60, left % 60);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_left_are_told_as_soon_as_they_are_known() {
        let start = describe(1 << 30, 4 << 30, 0, Duration::ZERO);
        assert!(!start.contains("/s") && !start.contains("left"), "{start}");
        let later = describe(2 << 30, 4 << 30, 1 << 30, Duration::from_secs(90));
        assert!(
            later.starts_with(" 50 %") && later.ends_with("3:00 left"),
            "{later}"
        );
        let unknown = describe(2 << 30, 0, 1 << 30, Duration::from_secs(1));
        assert!(
            unknown.contains("/s") && !unknown.contains("left"),
            "{unknown}"
        );
    }
}
