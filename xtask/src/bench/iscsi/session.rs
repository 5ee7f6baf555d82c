//! One session of the load generator: login, then commands in flight.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dess_iscsi::pdu::{
    DataIn, DataOut, HEADER_BYTES, Header, LoginRequest, LoginResponse, ReadyToTransfer, Residual,
    ScsiRequest, ScsiResponsePdu, Segments, Stage, padding,
};
use dess_iscsi::{Lun, text};
use rustix::net::sockopt::set_tcp_congestion;

use super::load::{Addresses, Load, Operation};

/// The unit in which the disk's content is stamped with its own number, in bytes.
pub(super) const STAMP_BLOCK_BYTES: usize = 4096;
const STAMP_BYTES: usize = 8;
/// Longest Data-In segment that we take.
const SEGMENT_BYTES_MAX: u32 = 262_144;
/// One read of the socket.
const INPUT_BYTES: usize = 512 * 1024;
/// What Linux and Windows use unless told otherwise.
const CONGESTION_CONTROL: &str = "cubic";
/// A login or a first command that takes longer has failed.
const START_LIMIT: Duration = Duration::from_secs(20);

const OPCODE_MASK: u8 = 0x3f;
const SCSI_RESPONSE: u8 = 0x21;
const DATA_IN: u8 = 0x25;
const R2T: u8 = 0x31;

/// Where a server's disk is.
#[derive(Clone, Debug)]
pub(super) struct Portal {
    pub(super) address: SocketAddr,
    pub(super) target: String,
    pub(super) lun: u16,
}

impl Portal {
    /// For stock clients.
    pub(super) fn url(&self) -> String {
        format!("iscsi://{}/{}/{}", self.address, self.target, self.lun)
    }
}

/// A session in full feature phase.
pub(super) struct Session {
    pub(super) stream: mio::net::TcpStream,
    load: Load,
    addresses: Addresses,
    lun: u64,
    input: Vec<u8>,
    filled: usize,
    /// Data of the current PDU that still comes and is not looked at.
    skip: usize,
    output: Vec<u8>,
    sent: usize,
    tasks: Vec<Task>,
    idle: Vec<u32>,
    cmd_sn: u32,
    max_cmd_sn: u32,
    exp_stat_sn: u32,
    /// What the target agreed to.
    agreed: Agreed,
    content: Vec<u8>,
}

/// A command in flight; its tag is its index.
struct Task {
    offset: u64,
    received: u32,
    issued: Instant,
}

#[derive(Clone, Copy)]
struct Agreed {
    immediate_bytes: u32,
    segment_bytes: u32,
}

impl Session {
    /// Logs in and waits until the disk is ready. `number` tells sessions apart.
    pub(super) fn login(
        portal: &Portal,
        number: u16,
        load: Load,
        addresses: Addresses,
    ) -> Result<Self> {
        let mut stream = std::net::TcpStream::connect(portal.address)?;
        stream.set_nodelay(true)?;
        // As initiators have it, whatever this machine's own choice is.
        set_tcp_congestion(&stream, CONGESTION_CONTROL).context(CONGESTION_CONTROL)?;
        stream.set_read_timeout(Some(START_LIMIT))?;
        let (agreed, mut exp_stat_sn) = negotiate(&mut stream, &portal.target, number)?;
        let mut cmd_sn = 1;
        let lun = Lun::from_number(portal.lun).0;
        become_ready(&mut stream, lun, &mut cmd_sn, &mut exp_stat_sn)?;
        stream.set_nonblocking(true)?;
        let now = Instant::now();
        let idle_task = || Task {
            offset: 0,
            received: 0,
            issued: now,
        };
        Ok(Self {
            stream: mio::net::TcpStream::from_std(stream),
            load,
            addresses,
            lun,
            input: vec![0; INPUT_BYTES],
            filled: 0,
            skip: 0,
            output: Vec::new(),
            sent: 0,
            tasks: (0..load.depth).map(|_| idle_task()).collect(),
            idle: (0..load.depth).collect(),
            cmd_sn,
            max_cmd_sn: cmd_sn.wrapping_add(load.depth),
            exp_stat_sn,
            agreed,
            content: vec![0xd5; STAMP_BLOCK_BYTES],
        })
    }

    /// Takes what the socket has; `done` hears how long each command took.
    pub(super) fn receive(&mut self, done: &mut dyn FnMut(Duration)) -> Result<()> {
        loop {
            let room = self.input.len() - self.filled;
            match self.stream.read(&mut self.input[self.filled..]) {
                Ok(0) => bail!("the target closed the connection"),
                Ok(count) => {
                    self.filled += count;
                    self.take_pdus(Instant::now(), done)?;
                    // A short read has emptied the socket; the poll tells of what comes later.
                    if count < room {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Fills the queue and sends what the socket takes.
    pub(super) fn send(&mut self) -> Result<()> {
        let now = Instant::now();
        while self.cmd_sn.wrapping_sub(self.max_cmd_sn) as i32 <= 0
            && let Some(tag) = self.idle.pop()
        {
            self.issue(tag, now);
        }
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }

    fn issue(&mut self, tag: u32, now: Instant) {
        let length = self.load.block_bytes;
        let offset = self.addresses.next_offset();
        self.tasks[tag as usize] = Task {
            offset,
            received: 0,
            issued: now,
        };
        let writes = self.load.operation == Operation::Write;
        let immediate = match writes {
            true => length.min(self.agreed.immediate_bytes),
            false => 0,
        };
        let request = ScsiRequest {
            immediate: false,
            last: true,
            read: !writes,
            write: writes,
            attribute: 1,
            lun: self.lun,
            itt: tag,
            expected_data_transfer_length: length,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
            cdb: transfer_cdb(self.load.operation, offset, length),
        };
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.output
            .extend_from_slice(&request.encode(immediate as usize));
        self.push_content(offset, immediate);
    }

    /// Appends the content that belongs to a place of the disk: every block begins with its number.
    fn push_content(&mut self, offset: u64, length: u32) {
        for start in (0..u64::from(length)).step_by(STAMP_BLOCK_BYTES) {
            let stamp = (offset + start) / STAMP_BLOCK_BYTES as u64;
            self.output.extend_from_slice(&stamp.to_le_bytes());
            self.output.extend_from_slice(&self.content[STAMP_BYTES..]);
        }
    }

    fn take_pdus(&mut self, now: Instant, done: &mut dyn FnMut(Duration)) -> Result<()> {
        let mut at = 0;
        loop {
            let skipped = self.skip.min(self.filled - at);
            self.skip -= skipped;
            at += skipped;
            let rest = &self.input[at..self.filled];
            let Some(&header) = rest.first_chunk::<HEADER_BYTES>() else {
                break;
            };
            let data_bytes = Segments::of(&header).data_bytes;
            let Some(start) = rest.get(HEADER_BYTES..HEADER_BYTES + data_bytes.min(STAMP_BYTES))
            else {
                break;
            };
            let stamp = start.first_chunk::<STAMP_BYTES>().copied();
            at += HEADER_BYTES;
            self.skip = data_bytes + padding(data_bytes);
            self.handle(&header, stamp.map(u64::from_le_bytes), now, done)?;
        }
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }

    fn handle(
        &mut self,
        header: &Header,
        stamp: Option<u64>,
        now: Instant,
        done: &mut dyn FnMut(Duration),
    ) -> Result<()> {
        match header[0] & OPCODE_MASK {
            DATA_IN => {
                let data = DataIn::decode(header)?;
                self.check_data(&data, Segments::of(header).data_bytes, stamp)?;
                self.max_cmd_sn = data.sequence.max_cmd_sn;
                if let Some(status) = data.status {
                    self.exp_stat_sn = data.sequence.stat_sn.wrapping_add(1);
                    self.finish(data.itt, status.status, status.residual, now, done)?;
                }
            }
            SCSI_RESPONSE => {
                let response = ScsiResponsePdu::decode(header)?;
                ensure!(response.response == 0, "the target failed");
                self.max_cmd_sn = response.sequence.max_cmd_sn;
                self.exp_stat_sn = response.sequence.stat_sn.wrapping_add(1);
                self.finish(response.itt, response.status, response.residual, now, done)?;
            }
            R2T => self.answer_r2t(&ReadyToTransfer::decode(header)?),
            other => bail!("unexpected PDU {other:#04x}"),
        }
        Ok(())
    }

    fn check_data(&mut self, data: &DataIn, length: usize, stamp: Option<u64>) -> Result<()> {
        let task = self.tasks.get_mut(data.itt as usize);
        let task = task.context("Data-In of no command")?;
        ensure!(data.buffer_offset == task.received, "Data-In out of order");
        let place = task.offset + u64::from(data.buffer_offset);
        if place.is_multiple_of(STAMP_BLOCK_BYTES as u64) {
            let expected = place / STAMP_BLOCK_BYTES as u64;
            ensure!(
                stamp == Some(expected),
                "block {expected} holds the content of block {stamp:?}"
            );
        }
        task.received += length as u32;
        Ok(())
    }

    fn finish(
        &mut self,
        tag: u32,
        status: u8,
        residual: Residual,
        now: Instant,
        done: &mut dyn FnMut(Duration),
    ) -> Result<()> {
        let task = self.tasks.get(tag as usize);
        let task = task.context("the end of no command")?;
        ensure!(
            status == 0 && residual == Residual::None,
            "status {status:#04x}, {residual:?}"
        );
        if self.load.operation == Operation::Read {
            let (got, asked) = (task.received, self.load.block_bytes);
            ensure!(got == asked, "{got} bytes of {asked}");
        }
        done(now.saturating_duration_since(task.issued));
        self.idle.push(tag);
        Ok(())
    }

    fn answer_r2t(&mut self, r2t: &ReadyToTransfer) {
        let end = r2t.buffer_offset + r2t.desired_data_transfer_length;
        let mut at = r2t.buffer_offset;
        let mut data_sn = 0;
        while at < end {
            let length = (end - at).min(self.agreed.segment_bytes);
            let header = DataOut {
                last: at + length == end,
                lun: r2t.lun,
                itt: r2t.itt,
                ttt: r2t.ttt,
                exp_stat_sn: self.exp_stat_sn,
                data_sn,
                buffer_offset: at,
            };
            self.output
                .extend_from_slice(&header.encode(length as usize));
            let offset = self.tasks[r2t.itt as usize].offset + u64::from(at);
            self.push_content(offset, length);
            at += length;
            data_sn += 1;
        }
    }
}

/// READ(10) or WRITE(10).
fn transfer_cdb(operation: Operation, offset: u64, length: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = match operation {
        Operation::Read => 0x28,
        Operation::Write => 0x2a,
    };
    cdb[2..6].copy_from_slice(&((offset / 512) as u32).to_be_bytes());
    cdb[7..9].copy_from_slice(&((length / 512) as u16).to_be_bytes());
    cdb
}

/// Logs in; what was agreed, and the next StatSN.
fn negotiate(stream: &mut std::net::TcpStream, target: &str, number: u16) -> Result<(Agreed, u32)> {
    let mut offer = Vec::new();
    let segment = SEGMENT_BYTES_MAX.to_string();
    for (key, value) in [
        ("InitiatorName", "iqn.2026-11.io.dess:bench"),
        ("SessionType", "Normal"),
        ("TargetName", target),
        ("HeaderDigest", "None"),
        ("DataDigest", "None"),
        ("MaxConnections", "1"),
        ("InitialR2T", "No"),
        ("ImmediateData", "Yes"),
        ("MaxRecvDataSegmentLength", &segment),
        ("MaxBurstLength", "1048576"),
        ("FirstBurstLength", "262144"),
        ("DefaultTime2Wait", "2"),
        ("DefaultTime2Retain", "0"),
        ("MaxOutstandingR2T", "1"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
        ("ErrorRecoveryLevel", "0"),
    ] {
        text::push(&mut offer, key, value);
    }
    let [high, low] = number.to_be_bytes();
    let mut answers = Vec::new();
    let mut exp_stat_sn = 0;
    for _ in 0..4 {
        let request = LoginRequest {
            immediate: true,
            more: false,
            csg: Stage::Operational,
            nsg: Some(Stage::FullFeature),
            version_max: 0,
            version_min: 0,
            isid: [0x80, 0xbe, 0xc4, 0, high, low],
            tsih: 0,
            itt: 0,
            cid: 0,
            cmd_sn: 1,
            exp_stat_sn,
        };
        send_pdu(stream, &request.encode(offer.len()), &offer)?;
        let (header, data) = receive_pdu(stream)?;
        let response = LoginResponse::decode(&header)?;
        ensure!(
            response.status == 0,
            "login status {:#06x}",
            response.status
        );
        exp_stat_sn = response.sequence.stat_sn.wrapping_add(1);
        answers.extend(data);
        offer.clear();
        if response.nsg == Some(Stage::FullFeature) {
            return Ok((agreed(&answers)?, exp_stat_sn));
        }
    }
    bail!("the login does not end")
}

fn agreed(answers: &[u8]) -> Result<Agreed> {
    let answers = text::parse(answers)?;
    let value = |key: &str| answers.iter().find(|(name, _)| *name == key);
    let number = |key: &str, default| match value(key) {
        Some((_, value)) => text::number(value).with_context(|| format!("{key}={value}")),
        None => Ok(default),
    };
    // The defaults of RFC 7143 §13.
    let segment_bytes = number("MaxRecvDataSegmentLength", 8192)?;
    let first_burst = number("FirstBurstLength", 65536)?;
    let has_immediate = value("ImmediateData").is_none_or(|(_, value)| *value == "Yes");
    let whole_blocks = |bytes: u32| bytes - bytes % STAMP_BLOCK_BYTES as u32;
    Ok(Agreed {
        immediate_bytes: match has_immediate {
            true => whole_blocks(segment_bytes.min(first_burst)),
            false => 0,
        },
        segment_bytes: whole_blocks(segment_bytes),
    })
}

/// TEST UNIT READY until the unit attention of a new session is told.
fn become_ready(
    stream: &mut std::net::TcpStream,
    lun: u64,
    cmd_sn: &mut u32,
    exp_stat_sn: &mut u32,
) -> Result<()> {
    for _ in 0..4 {
        let request = ScsiRequest {
            immediate: false,
            last: true,
            read: false,
            write: false,
            attribute: 1,
            lun,
            itt: 0,
            expected_data_transfer_length: 0,
            cmd_sn: *cmd_sn,
            exp_stat_sn: *exp_stat_sn,
            cdb: [0; 16],
        };
        send_pdu(stream, &request.encode(0), &[])?;
        let (header, _sense) = receive_pdu(stream)?;
        let response = ScsiResponsePdu::decode(&header)?;
        *cmd_sn = cmd_sn.wrapping_add(1);
        *exp_stat_sn = response.sequence.stat_sn.wrapping_add(1);
        if response.status == 0 {
            return Ok(());
        }
    }
    bail!("the disk does not become ready")
}

fn send_pdu(stream: &mut std::net::TcpStream, header: &Header, data: &[u8]) -> io::Result<()> {
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len() + padding(data.len()), 0);
    stream.write_all(&bytes)
}

fn receive_pdu(stream: &mut std::net::TcpStream) -> io::Result<(Header, Vec<u8>)> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let length = Segments::of(&header).data_bytes;
    let mut data = vec![0; length + padding(length)];
    stream.read_exact(&mut data)?;
    data.truncate(length);
    Ok((header, data))
}
