//! An initiator of the tests: it builds PDUs, feeds them and reads what comes back.

mod hostile;
mod login;
mod manage;
mod negotiation;
mod read;
mod write;

use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Instant;

use super::{Connection, ConnectionConfig, Limits};
use crate::budget::Budget;
use crate::command::ScsiCommand;
use crate::directory::{
    Access, ChapCredentials, LoginIdentity, SessionType, TargetDirectory, TargetPortals,
};
use crate::event::{CloseReason, Event, LoggedIn};
use crate::login::LoginStatus;
use crate::negotiation::SessionParameters;
use crate::pdu::{
    HEADER_BYTES, Header, LoginRequest, LoginResponse, ScsiRequest, Segments, Stage, padding,
};
use crate::text;

pub(super) const TARGET: &str = "iqn.2026-01.org.dess:seat-1";
pub(super) const INITIATOR: &str = "iqn.2026-01.org.dess:client-1";
/// Where the initiator of the tests connects to.
pub(super) const PORTAL: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 3260));
/// Memory for write data.
const MEMORY: usize = 64 << 20;
pub(super) const SEED: [u8; 32] = [0x5a; 32];

/// Names that iPXE, iscsistart and QEMU declare first.
pub(super) const NAMES: &[(&str, &str)] = &[
    ("InitiatorName", INITIATOR),
    ("TargetName", TARGET),
    ("SessionType", "Normal"),
];

#[derive(Default)]
pub(super) struct Directory {
    pub(super) chap: Option<ChapCredentials>,
}

impl TargetDirectory for Directory {
    fn access(&self, identity: &LoginIdentity) -> Result<Access, LoginStatus> {
        if identity.initiator_name != INITIATOR {
            return Err(LoginStatus::AuthorizationFailure);
        }
        let is_known = match identity.session_type {
            SessionType::Normal => identity.target_name.as_deref() == Some(TARGET),
            SessionType::Discovery => true,
        };
        if !is_known {
            return Err(LoginStatus::NotFound);
        }
        Ok(Access {
            chap: self.chap.clone(),
            cookie: 77,
        })
    }

    fn discover(&self, identity: &LoginIdentity) -> Vec<TargetPortals> {
        assert_eq!(identity.initiator_name, INITIATOR);
        vec![TargetPortals {
            target_name: TARGET.into(),
            portals: vec!["192.0.2.1:3260".parse().unwrap()],
        }]
    }
}

/// A PDU that came back.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) header: Header,
    pub(super) data: Vec<u8>,
}

impl Answer {
    pub(super) fn opcode(&self) -> u8 {
        self.header[0]
    }

    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        let pairs = text::parse(&self.data).unwrap();
        pairs
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    pub(super) fn value(&self, key: &str) -> Option<String> {
        let pairs = self.pairs();
        let mut found = pairs.into_iter().filter(|(name, _)| name == key);
        let value = found.next().map(|(_, value)| value);
        assert!(found.next().is_none(), "{key} answered twice");
        value
    }

    pub(super) fn login(&self) -> LoginResponse {
        LoginResponse::decode(&self.header).unwrap()
    }
}

pub(super) struct Peer {
    pub(super) connection: Connection,
    pub(super) directory: Directory,
    pub(super) now: Instant,
    pub(super) isid: [u8; 6],
    pub(super) cmd_sn: u32,
    pub(super) header_digest: bool,
    pub(super) data_digest: bool,
}

#[expect(clippy::disallowed_methods, reason = "any instant will do as a start")]
pub(super) fn start_of_time() -> Instant {
    Instant::now()
}

impl Peer {
    pub(super) fn new(limits: Limits) -> Self {
        let now = start_of_time();
        let config = ConnectionConfig {
            peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77)),
            portal: PORTAL,
            portal_group_tag: 1,
            tsih: 0x1234,
            seed: SEED,
            memory: Arc::new(Budget::new(MEMORY)),
            limits,
        };
        Self {
            connection: Connection::new(now, config),
            directory: Directory::default(),
            now,
            isid: [0x00, 0x02, 0x3d, 0, 0, 1],
            cmd_sn: 100,
            header_digest: false,
            data_digest: false,
        }
    }

    /// A peer that logged in, starting at the operational stage, with these keys.
    pub(super) fn logged_in(limits: Limits, keys: &[(&str, &str)]) -> Self {
        let mut peer = Self::new(limits);
        peer.log_in(keys);
        peer
    }

    pub(super) fn log_in(&mut self, keys: &[(&str, &str)]) -> Box<LoggedIn> {
        let pairs: Vec<_> = NAMES.iter().chain(keys).copied().collect();
        let answer = self.login(Stage::Operational, Some(Stage::FullFeature), &pairs);
        assert_eq!(answer.login().status, 0);
        assert_eq!(answer.login().nsg, Some(Stage::FullFeature));
        let Some(Event::LoggedIn(facts)) = self.connection.poll_event() else {
            panic!("not logged in");
        };
        let SessionParameters {
            header_digest,
            data_digest,
            ..
        } = facts.parameters;
        self.header_digest = header_digest;
        self.data_digest = data_digest;
        facts
    }

    pub(super) fn login_request(&self, csg: Stage, nsg: Option<Stage>) -> LoginRequest {
        LoginRequest {
            immediate: true,
            more: false,
            csg,
            nsg,
            version_max: 0,
            version_min: 0,
            isid: self.isid,
            tsih: 0,
            itt: 1,
            cid: 0,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: 0,
        }
    }

    pub(super) fn login(
        &mut self,
        csg: Stage,
        nsg: Option<Stage>,
        pairs: &[(&str, &str)],
    ) -> Answer {
        let data = text_of(pairs);
        let request = self.login_request(csg, nsg);
        self.send(&request.encode(data.len()), &data);
        self.answer()
    }

    /// Feeds a PDU, in pieces of odd lengths.
    pub(super) fn send(&mut self, header: &Header, data: &[u8]) {
        let bytes = self.frame(header, data);
        self.feed(&bytes);
    }

    pub(super) fn frame(&self, header: &Header, data: &[u8]) -> Vec<u8> {
        assert_eq!(Segments::of(header).data_bytes, data.len());
        let mut bytes = header.to_vec();
        if self.header_digest {
            bytes.extend(crc32c::crc32c(header).to_le_bytes());
        }
        let mut padded = data.to_vec();
        padded.resize(data.len() + padding(data.len()), 0);
        bytes.extend(&padded);
        if self.data_digest && !data.is_empty() {
            bytes.extend(crc32c::crc32c(&padded).to_le_bytes());
        }
        bytes
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let buffer = self.connection.receive_buffer();
            let free = buffer.capacity() - buffer.len();
            assert!(free > 0);
            let count = bytes.len().min(free).min(1 + bytes.len() / 2);
            buffer.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            self.connection.handle_received(self.now, &self.directory);
        }
    }

    /// Everything that comes back, with digests checked.
    pub(super) fn answers(&mut self) -> Vec<Answer> {
        let bytes = self.raw_output();
        let mut rest = bytes.as_slice();
        let mut answers = Vec::new();
        while !rest.is_empty() {
            let header: Header = rest[..HEADER_BYTES].try_into().unwrap();
            rest = &rest[HEADER_BYTES..];
            if self.header_digest {
                rest = check_digest(&header, rest);
            }
            let length = Segments::of(&header).data_bytes;
            let (padded, after) = rest.split_at(length + padding(length));
            rest = after;
            if self.data_digest && length > 0 {
                rest = check_digest(padded, rest);
            }
            let data = padded[..length].to_vec();
            assert!(padded[length..].iter().all(|&byte| byte == 0));
            answers.push(Answer { header, data });
        }
        answers
    }

    pub(super) fn raw_output(&mut self) -> Vec<u8> {
        let mut slices: Vec<IoSlice<'_>> = Vec::new();
        self.connection.output(&mut slices, usize::MAX);
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        assert_eq!(bytes.len(), self.connection.output_bytes());
        self.connection.advance_output(bytes.len());
        bytes
    }

    /// The only thing that comes back.
    pub(super) fn answer(&mut self) -> Answer {
        let mut answers = self.answers();
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    pub(super) fn command(&mut self) -> ScsiCommand {
        match self.connection.poll_event() {
            Some(Event::Command(command)) => command,
            other => panic!("no command but {other:?}"),
        }
    }

    pub(super) fn closed(&mut self) -> CloseReason {
        loop {
            match self.connection.poll_event() {
                Some(Event::Closed(reason)) => return reason,
                Some(_) => {}
                None => panic!("not closed"),
            }
        }
    }

    pub(super) fn is_open(&mut self) -> bool {
        self.connection.poll_event().is_none()
    }

    /// A command with the next number; its task tag is that number.
    pub(super) fn request(&mut self, expected: u32) -> ScsiRequest {
        let cmd_sn = self.cmd_sn;
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        let mut cdb = [0; 16];
        cdb[0] = 0x28;
        ScsiRequest {
            immediate: false,
            last: true,
            read: false,
            write: false,
            attribute: 1,
            lun: 0,
            itt: cmd_sn,
            expected_data_transfer_length: expected,
            cmd_sn,
            exp_stat_sn: 0,
            cdb,
        }
    }

    pub(super) fn send_read(&mut self, expected: u32) -> ScsiCommand {
        let request = ScsiRequest {
            read: true,
            ..self.request(expected)
        };
        self.send(&request.encode(0), &[]);
        self.command()
    }
}

fn check_digest<'a>(covered: &[u8], rest: &'a [u8]) -> &'a [u8] {
    let (digest, rest) = rest.split_at(4);
    assert_eq!(digest, crc32c::crc32c(covered).to_le_bytes());
    rest
}

pub(super) fn text_of(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, value) in pairs {
        text::push(&mut text, key, value);
    }
    text
}

/// Bytes that tell where they are.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index / 7 + index) as u8).collect()
}
