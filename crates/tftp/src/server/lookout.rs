//! Waiting for the answer of a client that is quick.

use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;

/// Longest look-out: a client that answers later is waited for asleep.
const LOOKOUT: Duration = Duration::from_micros(100);
/// A wait of at most this long, with the time to fall asleep and wake up, was a quick answer.
const QUICK: Duration = Duration::from_micros(200);
/// Quick answers in a row after which the next one is looked out for.
const QUICK_ANSWERS: u32 = 4;

/// Without a window a transfer waits at every block, and falling asleep and waking up takes longer
/// than a quick client does. So while a single transfer runs and its client is quick, the thread
/// looks for the answer before it sleeps.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    quick: u32,
}

impl Lookout {
    /// Receives one datagram, cut to `buffer`; `may_look` says if the processor may be kept busy.
    ///
    /// # Errors
    /// Those of `recv`, a time-out among them.
    pub(super) fn recv(
        &mut self,
        socket: &UdpSocket,
        buffer: &mut [u8],
        may_look: impl FnOnce() -> bool,
    ) -> io::Result<usize> {
        let started = Instant::now();
        if self.quick >= QUICK_ANSWERS && may_look() {
            while started.elapsed() < LOOKOUT {
                match rustix::net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
                    Ok((length, _)) => return Ok(length),
                    Err(rustix::io::Errno::AGAIN) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let received = socket.recv(buffer);
        self.quick = if received.is_ok() && started.elapsed() < QUICK {
            self.quick.saturating_add(1)
        } else {
            0
        };
        received
    }
}
