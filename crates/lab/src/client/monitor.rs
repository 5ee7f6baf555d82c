//! QEMU's human monitor: pull cables, press reset, take pictures.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;

use crate::wait;

#[derive(Debug)]
pub(crate) struct Monitor {
    stream: Mutex<UnixStream>,
}

impl Monitor {
    pub(crate) fn connect(socket: &Path) -> anyhow::Result<Self> {
        let mut stream = connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        read_to_prompt(&mut stream)?;
        Ok(Self {
            stream: Mutex::new(stream),
        })
    }

    /// Sends one command and gives the answer's text.
    pub(crate) fn command(&self, command: &str) -> anyhow::Result<String> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.write_all(format!("{command}\n").as_bytes())?;
        let answer = read_to_prompt(&mut stream)
            .with_context(|| format!("QEMU's monitor did not answer {command:?}"))?;
        anyhow::ensure!(
            !answer.contains("Error") && !answer.contains("unknown command"),
            "QEMU's monitor refused {command:?}: {answer}"
        );
        Ok(answer)
    }
}

/// Connects to a socket that QEMU is about to open.
fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    wait::until(CONNECT_LIMIT, || Ok(UnixStream::connect(socket).ok()))?
        .with_context(|| format!("no answer at {socket:?} within {CONNECT_LIMIT:?}"))
}

/// Most time QEMU may need to open its sockets on a loaded machine.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

fn read_to_prompt(stream: &mut UnixStream) -> anyhow::Result<String> {
    let mut answer = Vec::new();
    let mut piece = [0_u8; 1024];
    while !answer.ends_with(b"(qemu) ") {
        let len = stream.read(&mut piece)?;
        anyhow::ensure!(len > 0, "QEMU closed its monitor");
        answer.extend_from_slice(&piece[..len]);
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Most time the monitor may need for an answer on a loaded machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
