//! A wire between an initiator and the service that keeps the first words of the service.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// More than all answers of a login.
const KEPT_BYTES: usize = 4096;

/// Takes connections for the service until the test ends.
pub struct Tap {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    pub fn to(service: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let kept = Arc::clone(&heard);
        std::thread::spawn(move || {
            for initiator in listener.incoming() {
                join(initiator.unwrap(), service, &kept).unwrap();
            }
        });
        Self { address, heard }
    }

    /// True if the service has said this.
    pub fn has_heard(&self, text: &str) -> bool {
        let heard = self.heard.lock().unwrap();
        heard
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    }
}

fn join(initiator: TcpStream, service: SocketAddr, kept: &Arc<Mutex<Vec<u8>>>) -> io::Result<()> {
    let service = TcpStream::connect(service)?;
    let (mut from, mut to) = (initiator.try_clone()?, service.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let kept = Arc::clone(kept);
    std::thread::spawn(move || {
        let _ = copy_and_keep(&service, &initiator, &kept);
        let _ = initiator.shutdown(Shutdown::Both);
    });
    Ok(())
}

fn copy_and_keep(
    mut from: &TcpStream,
    mut to: &TcpStream,
    kept: &Mutex<Vec<u8>>,
) -> io::Result<()> {
    let mut buffer = vec![0; 65536];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let mut kept = kept.lock().unwrap();
        let room = KEPT_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..count.min(room)]);
        drop(kept);
        to.write_all(&buffer[..count])?;
    }
}
