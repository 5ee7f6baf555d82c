//! A peer that sends what it likes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::initiator::Initiator;

/// One PDU, with any content.
#[derive(Clone, Debug)]
pub struct Shot {
    pub header: [u8; 48],
    pub ahs: Vec<u8>,
    pub data: Vec<u8>,
}

impl Shot {
    pub fn new(opcode: u8, flags: u8) -> Self {
        let mut header = [0; 48];
        header[0] = opcode;
        header[1] = flags;
        Self {
            header,
            ahs: Vec::new(),
            data: Vec::new(),
        }
    }

    /// A Login Request: `flags` are T, C, CSG and NSG.
    pub fn login(flags: u8, text: &str) -> Self {
        let mut shot = Self::new(0x43, flags).data(text.as_bytes());
        shot.header[8..14].copy_from_slice(&[0x80, 1, 2, 3, 4, 5]);
        shot
    }

    /// A SCSI command.
    pub fn command(flags: u8, expected: u32, cdb: &[u8]) -> Self {
        let mut shot = Self::new(0x01, flags).word(20, expected);
        shot.header[32..32 + cdb.len()].copy_from_slice(cdb);
        shot
    }

    pub fn data(mut self, data: &[u8]) -> Self {
        self.data = data.to_vec();
        self.header[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
        self
    }

    pub fn ahs(mut self, words: u8) -> Self {
        self.ahs = vec![0x5a; usize::from(words) * 4];
        self.header[4] = words;
        self
    }

    /// Sets four bytes of the header.
    pub fn word(mut self, at: usize, value: u32) -> Self {
        self.header[at..at + 4].copy_from_slice(&value.to_be_bytes());
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.to_vec();
        bytes.extend_from_slice(&self.ahs);
        bytes.extend_from_slice(&self.data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }
}

/// A connection without manners.
pub struct Raw {
    pub stream: TcpStream,
}

impl Raw {
    /// Connects from this address.
    pub fn connect(source: Ipv4Addr, portal: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect(&portal.into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_write_timeout(Some(Duration::from_millis(500)))?;
        Ok(Self { stream })
    }

    /// A session that keeps to no rule from now on, and its next command number.
    pub fn of(session: Initiator) -> (Self, u32) {
        let (stream, cmd_sn) = session.into_parts();
        stream
            .set_write_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        (Self { stream }, cmd_sn)
    }

    /// Sends; false if the target has closed or does not take it in time.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub fn fire(&mut self, shot: &Shot) -> bool {
        self.send(&shot.bytes())
    }

    /// The next PDU's header, its data dropped; `None` if the target has closed.
    pub fn receive(&mut self) -> Option<[u8; 48]> {
        let mut header = [0; 48];
        self.stream.read_exact(&mut header).ok()?;
        let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
        let mut data = vec![0; length.next_multiple_of(4)];
        self.stream.read_exact(&mut data).ok()?;
        Some(header)
    }

    /// True if the target closes within the patience of reads, whatever it still says.
    pub fn is_closed(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => {
                    let is_late = matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    );
                    return !is_late;
                }
            }
        }
    }

    /// Closes with RST instead of FIN.
    pub fn reset(self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}
