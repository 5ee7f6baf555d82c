//! A port of this machine that leads into a namespace, so that a browser outside sees a page inside.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::Context as _;
use nix::sched::{CloneFlags, setns};

use crate::namespace::Namespace;

/// An open port on 127.0.0.1; dropping it closes it (connections under way end with their peers).
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    closing: Arc<AtomicBool>,
}

impl Forward {
    /// Listens on 127.0.0.1:`port` (0 = any free one) and connects each caller to `target` inside
    /// `namespace`.
    ///
    /// # Errors
    /// When the port is taken or the namespace cannot be entered.
    pub fn open(namespace: &Namespace, port: u16, target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("cannot listen on 127.0.0.1:{port}"))?;
        let address = listener.local_addr()?;
        let inside = enter(namespace, target)?;
        let closing = Arc::new(AtomicBool::new(false));
        let closed = Arc::clone(&closing);
        std::thread::Builder::new()
            .name("lab-forward".to_owned())
            .spawn(move || accept_all(&listener, &inside, &closed))?;
        Ok(Self { address, closing })
    }

    /// Where callers connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        // Wakes the accepting thread; when that fails it has ended already.
        let _ = TcpStream::connect(self.address);
    }
}

/// Starts the thread that lives inside the namespace; it connects whoever is sent to it.
fn enter(namespace: &Namespace, target: SocketAddr) -> anyhow::Result<Sender<TcpStream>> {
    let path = Path::new("/run/netns").join(namespace.name());
    let file = File::open(&path).with_context(|| format!("cannot open {path:?}"))?;
    let (sender, callers): (_, Receiver<TcpStream>) = channel();
    let (entered, result) = channel();
    std::thread::Builder::new()
        .name("lab-forward-in".to_owned())
        .spawn(move || {
            let outcome = setns(file, CloneFlags::CLONE_NEWNET);
            let inside = outcome.is_ok();
            // The opener waits for this.
            let _ = entered.send(outcome);
            if !inside {
                return;
            }
            for caller in callers {
                if let Err(error) = join(caller, target) {
                    tracing::debug!("cannot forward to {target}: {error}");
                }
            }
        })?;
    result
        .recv()
        .context("the forwarding thread ended")?
        .with_context(|| format!("cannot enter namespace {}", namespace.name()))?;
    Ok(sender)
}

fn accept_all(listener: &TcpListener, inside: &Sender<TcpStream>, closing: &AtomicBool) {
    for caller in listener.incoming() {
        if closing.load(Ordering::Acquire) {
            return;
        }
        let Ok(caller) = caller else { continue };
        if inside.send(caller).is_err() {
            return;
        }
    }
}

/// Connects `caller` to `target` and copies both ways on threads of their own.
fn join(caller: TcpStream, target: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    let back = (server.try_clone()?, caller.try_clone()?);
    std::thread::spawn(move || copy(caller, server));
    std::thread::spawn(move || copy(back.0, back.1));
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    // Either side may go away at any time; the other then sees the end of the stream.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
