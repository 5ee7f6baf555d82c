//! A small iSCSI initiator of its own making: nothing of it is shared with the target's code.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use md5::{Digest, Md5};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whom to log in as, and where.
#[derive(Clone, Debug)]
pub struct Login {
    pub portal: SocketAddr,
    pub initiator: String,
    pub target: String,
    pub isid: [u8; 6],
    pub chap: Option<(String, String)>,
}

/// Task management functions (RFC 7143 §11.5.1).
pub const CLEAR_TASK_SET: u8 = 4;
pub const LOGICAL_UNIT_RESET: u8 = 5;
pub const TARGET_WARM_RESET: u8 = 6;
pub const TARGET_COLD_RESET: u8 = 7;

/// A login that was refused, by its status, or a broken connection.
#[derive(Debug)]
pub enum LoginError {
    Refused(u16),
    Io(io::Error),
}

impl From<io::Error> for LoginError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A session in full feature phase.
pub struct Initiator {
    stream: TcpStream,
    itt: u32,
    cmd_sn: u32,
    exp_stat_sn: u32,
    /// The logical unit that commands and task management are for.
    pub lun: u8,
    /// The target asked to log out (Async Message, event 1).
    pub logout_requested: bool,
}

/// One PDU.
pub struct Pdu {
    pub bhs: [u8; 48],
    pub data: Vec<u8>,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub status: u8,
    pub data: Vec<u8>,
    pub sense: Vec<u8>,
}

impl Initiator {
    pub fn login(login: &Login) -> Result<Self, LoginError> {
        let stream = TcpStream::connect(login.portal)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut session = Self {
            stream,
            itt: 1,
            cmd_sn: 1,
            exp_stat_sn: 0,
            lun: 0,
            logout_requested: false,
        };
        let method = match login.chap {
            Some(_) => "CHAP,None",
            None => "None",
        };
        let names = format!(
            "InitiatorName={}\0TargetName={}\0SessionType=Normal\0AuthMethod={method}\0",
            login.initiator, login.target
        );
        match &login.chap {
            None => session.login_step(login, 0x81, &names)?,
            Some((user, secret)) => {
                session.login_step(login, 0x00, &names)?;
                let challenge = session.login_step(login, 0x00, "CHAP_A=5\0")?;
                let answer = chap_answer(&challenge, user, secret);
                session.login_step(login, 0x81, &answer)?
            }
        };
        let keys = "HeaderDigest=None\0DataDigest=None\0InitialR2T=No\0ImmediateData=Yes\0\
                    MaxRecvDataSegmentLength=262144\0MaxBurstLength=262144\0\
                    FirstBurstLength=262144\0ErrorRecoveryLevel=0\0MaxConnections=1\0";
        session.login_step(login, 0x87, keys)?;
        Ok(session)
    }

    fn login_step(&mut self, login: &Login, flags: u8, text: &str) -> Result<String, LoginError> {
        let mut bhs = [0; 48];
        bhs[0] = 0x43;
        bhs[1] = flags;
        bhs[8..14].copy_from_slice(&login.isid);
        bhs[16..20].copy_from_slice(&self.itt.to_be_bytes());
        bhs[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        bhs[28..32].copy_from_slice(&self.exp_stat_sn.to_be_bytes());
        self.send(bhs, text.as_bytes())?;
        let answer = self.receive()?;
        assert_eq!(answer.bhs[0] & 0x3f, 0x23, "a login response");
        let status = u16::from_be_bytes([answer.bhs[36], answer.bhs[37]]);
        if status != 0 {
            return Err(LoginError::Refused(status));
        }
        Ok(String::from_utf8_lossy(&answer.data).into_owned())
    }

    fn send(&mut self, bhs: [u8; 48], data: &[u8]) -> io::Result<()> {
        let bytes = encode(bhs, data);
        self.stream.write_all(&bytes)
    }

    /// The bare connection and the next command number, for those who do not keep to the rules.
    pub fn into_parts(self) -> (TcpStream, u32) {
        (self.stream, self.cmd_sn)
    }

    /// Sends commands in one piece, so that they arrive together.
    pub fn start_together(&mut self, commands: &[(&[u8], &[u8], u32)]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (cdb, data, expected) in commands {
            bytes.extend(self.command_pdu(cdb, data, *expected));
        }
        self.stream.write_all(&bytes)
    }

    fn command_pdu(&mut self, cdb: &[u8], data: &[u8], expected: u32) -> Vec<u8> {
        let mut bhs = [0; 48];
        bhs[0] = 0x01;
        bhs[1] = 0x80 | if data.is_empty() { 0x40 } else { 0x20 };
        if expected == 0 {
            bhs[1] = 0x80;
        }
        bhs[9] = self.lun;
        bhs[16..20].copy_from_slice(&self.itt.to_be_bytes());
        self.itt += 1;
        bhs[20..24].copy_from_slice(&expected.to_be_bytes());
        bhs[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        bhs[28..32].copy_from_slice(&self.exp_stat_sn.to_be_bytes());
        bhs[32..32 + cdb.len()].copy_from_slice(cdb);
        self.cmd_sn += 1;
        encode(bhs, data)
    }

    pub fn receive(&mut self) -> io::Result<Pdu> {
        let mut bhs = [0; 48];
        self.stream.read_exact(&mut bhs)?;
        let length = u32::from_be_bytes([0, bhs[5], bhs[6], bhs[7]]) as usize;
        let mut data = vec![0; length.next_multiple_of(4)];
        self.stream.read_exact(&mut data)?;
        data.truncate(length);
        self.exp_stat_sn = u32::from_be_bytes([bhs[24], bhs[25], bhs[26], bhs[27]]) + 1;
        Ok(Pdu { bhs, data })
    }

    /// Sends a command without waiting for its end; returns its tag. Data goes as immediate data.
    pub fn start(&mut self, cdb: &[u8], data: &[u8], expected: u32) -> io::Result<u32> {
        let itt = self.itt;
        let bytes = self.command_pdu(cdb, data, expected);
        self.stream.write_all(&bytes)?;
        Ok(itt)
    }

    /// Sends a WRITE (10) and, in the same piece, an immediate LOGICAL UNIT RESET; returns the tags of both.
    pub fn write_and_reset(&mut self, lba: u32, data: &[u8]) -> io::Result<(u32, u32)> {
        let write = self.itt;
        let cdb = cdb_10(0x2a, lba, (data.len() / 512) as u16);
        let mut bytes = self.command_pdu(&cdb, data, data.len() as u32);
        bytes.extend(self.management_pdu(LOGICAL_UNIT_RESET));
        self.stream.write_all(&bytes)?;
        Ok((write, write + 1))
    }

    /// Carries out a task management function; returns its response.
    pub fn manage(&mut self, function: u8) -> io::Result<u8> {
        let bytes = self.management_pdu(function);
        self.stream.write_all(&bytes)?;
        let answer = self.receive()?;
        assert_eq!(answer.bhs[0] & 0x3f, 0x22, "a task management response");
        Ok(answer.bhs[2])
    }

    fn management_pdu(&mut self, function: u8) -> Vec<u8> {
        let mut bhs = [0; 48];
        bhs[0] = 0x42;
        bhs[1] = 0x80 | function;
        bhs[9] = self.lun;
        bhs[16..20].copy_from_slice(&self.itt.to_be_bytes());
        self.itt += 1;
        bhs[20..24].copy_from_slice(&u32::MAX.to_be_bytes());
        bhs[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        bhs[28..32].copy_from_slice(&self.exp_stat_sn.to_be_bytes());
        encode(bhs, &[])
    }

    /// Waits for the end of the oldest command.
    pub fn finish(&mut self) -> io::Result<Ended> {
        let mut data = Vec::new();
        loop {
            let pdu = self.receive()?;
            match pdu.bhs[0] & 0x3f {
                0x25 => {
                    data.extend_from_slice(&pdu.data);
                    if pdu.bhs[1] & 0x01 != 0 {
                        return Ok(Ended {
                            status: pdu.bhs[3],
                            data,
                            sense: Vec::new(),
                        });
                    }
                }
                0x21 => {
                    let sense = pdu.data.get(2..).unwrap_or_default().to_vec();
                    return Ok(Ended {
                        status: pdu.bhs[3],
                        data,
                        sense,
                    });
                }
                0x32 if pdu.bhs[36] == 1 => self.logout_requested = true,
                // The session is dropped: the end follows.
                0x32 if pdu.bhs[36] == 3 => {}
                opcode => panic!("unexpected PDU {opcode:#04x}"),
            }
        }
    }

    /// Sends a request that takes no command number.
    fn send_immediate(&mut self, mut bhs: [u8; 48]) -> io::Result<u32> {
        let itt = self.itt;
        self.itt += 1;
        bhs[0] |= 0x40;
        bhs[16..20].copy_from_slice(&itt.to_be_bytes());
        bhs[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        bhs[28..32].copy_from_slice(&self.exp_stat_sn.to_be_bytes());
        self.send(bhs, &[])?;
        Ok(itt)
    }

    /// Sends a NOP-Out that wants an answer.
    pub fn ping(&mut self) -> io::Result<u32> {
        let mut bhs = [0; 48];
        bhs[1] = 0x80;
        bhs[20..24].copy_from_slice(&u32::MAX.to_be_bytes());
        self.send_immediate(bhs)
    }

    /// Sends ABORT TASK for a command.
    pub fn abort(&mut self, itt: u32) -> io::Result<u32> {
        let mut bhs = [0; 48];
        bhs[0] = 0x02;
        bhs[1] = 0x81;
        bhs[20..24].copy_from_slice(&itt.to_be_bytes());
        // RefCmdSN; it does not matter for a command that is there.
        bhs[32..36].copy_from_slice(&self.cmd_sn.to_be_bytes());
        self.send_immediate(bhs)
    }

    /// Logs out and waits for the answer.
    pub fn log_out(mut self) -> io::Result<()> {
        let mut bhs = [0; 48];
        bhs[0] = 0x06;
        bhs[1] = 0x80;
        self.send_immediate(bhs)?;
        loop {
            if self.receive()?.bhs[0] & 0x3f == 0x26 {
                return Ok(());
            }
        }
    }

    pub fn command(&mut self, cdb: &[u8], data: &[u8], expected: u32) -> io::Result<Ended> {
        self.start(cdb, data, expected)?;
        self.finish()
    }

    /// TEST UNIT READY until the unit attention of the new session is told.
    pub fn become_ready(&mut self) -> io::Result<()> {
        for _ in 0..4 {
            if self.command(&[0; 6], &[], 0)?.status == 0 {
                return Ok(());
            }
        }
        panic!("the unit does not become ready");
    }

    /// INQUIRY of a VPD page, or the standard data.
    pub fn inquiry(&mut self, page: Option<u8>) -> io::Result<Vec<u8>> {
        let cdb = [0x12, page.is_some().into(), page.unwrap_or(0), 0, 255, 0];
        Ok(self.command(&cdb, &[], 255)?.data)
    }

    pub fn read(&mut self, lba: u32, blocks: u16) -> io::Result<Ended> {
        self.command(&cdb_10(0x28, lba, blocks), &[], u32::from(blocks) * 512)
    }

    pub fn write(&mut self, lba: u32, data: &[u8]) -> io::Result<Ended> {
        let blocks = (data.len() / 512) as u16;
        self.command(&cdb_10(0x2a, lba, blocks), data, data.len() as u32)
    }

    /// True if the target closes the connection, after whatever it still has to say (bounded by
    /// the read timeout).
    pub fn is_closed(&mut self) -> bool {
        match io::copy(&mut self.stream, &mut io::sink()) {
            Ok(_) => true,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ),
        }
    }
}

fn encode(mut bhs: [u8; 48], data: &[u8]) -> Vec<u8> {
    let length = data.len() as u32;
    bhs[5..8].copy_from_slice(&length.to_be_bytes()[1..]);
    let mut bytes = bhs.to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

pub fn cdb_10(opcode: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let mut cdb = [0; 10];
    cdb[0] = opcode;
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

fn chap_answer(challenge: &str, user: &str, secret: &str) -> String {
    let value = |key: &str| {
        challenge
            .split('\0')
            .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
            .unwrap_or_else(|| panic!("{key} in {challenge:?}"))
            .to_owned()
    };
    let id: u8 = value("CHAP_I").parse().unwrap();
    let hex = value("CHAP_C").to_lowercase();
    let hex = hex.strip_prefix("0x").expect("a hexadecimal challenge");
    let challenge: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let mut digest = Md5::new();
    digest.update([id]);
    digest.update(secret.as_bytes());
    digest.update(&challenge);
    let mut answer = format!("CHAP_N={user}\0CHAP_R=0x");
    for byte in digest.finalize() {
        answer.push_str(&format!("{byte:02x}"));
    }
    answer.push('\0');
    answer
}
