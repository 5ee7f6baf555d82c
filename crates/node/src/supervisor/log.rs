//! Last log lines of a service, and their way to the supervisor's own output.

use std::collections::VecDeque;
use std::io::{self, Write};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use super::Shown;
use super::protocol::ServiceName;

/// Lines kept per service.
const TAIL_LINES: usize = 20;
/// Longest kept line in characters.
const LINE_CHARS_MAX: usize = 400;

/// Copies a service's output line by line until it ends.
pub(super) async fn copy_lines(name: ServiceName, output: impl AsyncRead + Unpin, shown: Shown) {
    let mut lines = BufReader::new(output).split(b'\n');
    while let Ok(Some(bytes)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&bytes);
        // The terminal may be gone; the services live on.
        let _ = writeln!(io::stderr().lock(), "{name:>5} | {line}");
        let kept: String = line.chars().take(LINE_CHARS_MAX).collect();
        // Nobody is woken for a log line: `send_if_modified` with false keeps the value only.
        shown.send_if_modified(|status| {
            let mut tail: VecDeque<String> = std::mem::take(&mut status.log_tail).into();
            if tail.len() >= TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(kept);
            status.log_tail = tail.into();
            false
        });
    }
}
