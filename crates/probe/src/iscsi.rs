//! The iSCSI service's probe: at each portal a login with CHAP to the probe disk, block 0 of it, a logout.

use std::net::SocketAddr;

use dess_iscsi::chap;
use dess_iscsi::pdu::{
    DataIn, HEADER_BYTES, Header, LoginRequest, LoginResponse, LogoutReason, LogoutRequest,
    ScsiRequest, Segments, Stage, padding,
};
use dess_iscsi::text;
use dess_model::host::Paths;
use dess_model::{
    PROBE_DISK_MARK, PROBE_INITIATOR, PROBE_TARGET, ProbeFailure, ProbeStep, is_own_peer,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{failed, reachable, unusable, within};

/// Longest data segment read, in bytes.
const SEGMENT_BYTES_MAX: usize = 64 * 1024;
/// Size of a logical block.
const BLOCK_BYTES: u32 = 512;
/// READ (10) of block 0 (SBC-3 §5.11).
const READ_BLOCK_0: [u8; 16] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
/// Opcodes of answers (RFC 7143 §11.2.1.2) and the SCSI status of a unit attention (SAM-5 §5.3.1).
const SCSI_RESPONSE: u8 = 0x21;
const CHECK_CONDITION: u8 = 0x02;
/// A new session begins with one unit attention or two.
const TRIES_MAX: u32 = 4;
/// Locally assigned (RFC 7143 §11.12.5); one probe follows the other.
const ISID: [u8; 6] = [0x80, 0x44, 0x45, 0x53, 0, 1];

/// Reads block 0 at each portal.
pub(crate) async fn probe(paths: &Paths, portals: &[SocketAddr]) -> Result<(), ProbeFailure> {
    let path = paths.probe_secret();
    for &portal in portals {
        let at = reachable(portal);
        // Each time anew: a service that was started meanwhile has another.
        let secret = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => ProbeFailure::NotPermitted,
            _ => ProbeFailure::NoSecret { path: path.clone() },
        })?;
        let mut session = within(at, ProbeStep::Login, login(at, &secret)).await?;
        let block = within(at, ProbeStep::Read, session.read_block_0()).await?;
        if !block.starts_with(PROBE_DISK_MARK) {
            return Err(unusable(
                at,
                ProbeStep::Read,
                "block 0 holds something else",
            ));
        }
        within(at, ProbeStep::Read, session.log_out()).await?;
    }
    Ok(())
}

/// A session of the probe.
struct Session {
    stream: TcpStream,
    at: SocketAddr,
    itt: u32,
    cmd_sn: u32,
    exp_stat_sn: u32,
}

async fn login(at: SocketAddr, secret: &str) -> Result<Session, ProbeFailure> {
    let broke = |error: std::io::Error| failed(at, &error);
    let stream = TcpStream::connect(at).await.map_err(broke)?;
    let local = stream.local_addr().map_err(broke)?;
    if !is_own_peer(local.ip(), at.ip()) {
        return Err(unusable(
            at,
            ProbeStep::Login,
            "the portal is not of this server",
        ));
    }
    let mut session = Session {
        stream,
        at,
        itt: 1,
        cmd_sn: 1,
        exp_stat_sn: 0,
    };
    let names = [
        ("InitiatorName", PROBE_INITIATOR),
        ("TargetName", PROBE_TARGET),
        ("SessionType", "Normal"),
        ("AuthMethod", "CHAP"),
    ];
    session.negotiate(Stage::Security, None, &names).await?;
    let challenge = session
        .negotiate(Stage::Security, None, &[("CHAP_A", "5")])
        .await?;
    let answer = chap_answer(&challenge, secret)
        .ok_or_else(|| unusable(at, ProbeStep::Login, "no CHAP challenge"))?;
    let proof = [("CHAP_N", PROBE_INITIATOR), ("CHAP_R", answer.as_str())];
    let next = Some(Stage::Operational);
    session.negotiate(Stage::Security, next, &proof).await?;
    let offers = [
        ("HeaderDigest", "None"),
        ("DataDigest", "None"),
        ("ErrorRecoveryLevel", "0"),
        ("MaxRecvDataSegmentLength", "65536"),
    ];
    let next = Some(Stage::FullFeature);
    session.negotiate(Stage::Operational, next, &offers).await?;
    Ok(session)
}

/// CHAP_R for the challenge in a target's text (RFC 1994 §4.1).
fn chap_answer(challenge: &[u8], secret: &str) -> Option<String> {
    let pairs = text::parse(challenge).ok()?;
    let value = |key: &str| {
        let pair = pairs.iter().find(|(known, _)| *known == key)?;
        Some(pair.1)
    };
    let identifier = value("CHAP_I")?.parse().ok()?;
    let challenge = text::decode_binary(value("CHAP_C")?).ok()?;
    let response = chap::response(identifier, secret.as_bytes(), &challenge);
    Some(text::encode_hex(&response))
}

impl Session {
    /// One step of the login; returns the target's text.
    async fn negotiate(
        &mut self,
        csg: Stage,
        nsg: Option<Stage>,
        pairs: &[(&str, &str)],
    ) -> Result<Vec<u8>, ProbeFailure> {
        let mut keys = Vec::new();
        for (key, value) in pairs {
            text::push(&mut keys, key, value);
        }
        let request = LoginRequest {
            immediate: true,
            more: false,
            csg,
            nsg,
            version_max: 0,
            version_min: 0,
            isid: ISID,
            tsih: 0,
            itt: self.itt,
            cid: 0,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
        };
        self.send(request.encode(keys.len()), &keys).await?;
        let (header, text) = self.receive(ProbeStep::Login).await?;
        let answer = LoginResponse::decode(&header)
            .map_err(|error| unusable(self.at, ProbeStep::Login, error.to_string()))?;
        match answer.status {
            0 => Ok(text),
            status => Err(ProbeFailure::LoginRefused { status }),
        }
    }

    /// Block 0 of the disk, after the unit attentions of a new session.
    async fn read_block_0(&mut self) -> Result<Vec<u8>, ProbeFailure> {
        for _ in 0..TRIES_MAX {
            if let Some(block) = self.try_read_block_0().await? {
                return Ok(block);
            }
        }
        Err(unusable(
            self.at,
            ProbeStep::Read,
            "the disk does not become ready",
        ))
    }

    async fn try_read_block_0(&mut self) -> Result<Option<Vec<u8>>, ProbeFailure> {
        self.itt += 1;
        let request = ScsiRequest {
            immediate: false,
            last: true,
            read: true,
            write: false,
            attribute: 1,
            lun: 0,
            itt: self.itt,
            expected_data_transfer_length: BLOCK_BYTES,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
            cdb: READ_BLOCK_0,
        };
        self.cmd_sn += 1;
        self.send(request.encode(0), &[]).await?;
        let mut block = Vec::new();
        loop {
            let (header, data) = self.receive(ProbeStep::Read).await?;
            if header[0] & 0x3f == SCSI_RESPONSE {
                return match header[3] {
                    0 => Ok(Some(block)),
                    CHECK_CONDITION => Ok(None),
                    status => {
                        let detail = format!("SCSI status {status:#04x}");
                        Err(unusable(self.at, ProbeStep::Read, detail))
                    }
                };
            }
            let answer = DataIn::decode(&header)
                .map_err(|error| unusable(self.at, ProbeStep::Read, error.to_string()))?;
            block.extend_from_slice(&data);
            match answer.status.map(|ended| ended.status) {
                Some(0) => return Ok(Some(block)),
                Some(_) => return Ok(None),
                None => {}
            }
        }
    }

    async fn log_out(&mut self) -> Result<(), ProbeFailure> {
        self.itt += 1;
        let request = LogoutRequest {
            immediate: true,
            reason: LogoutReason::CloseSession,
            itt: self.itt,
            cid: 0,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
        };
        self.send(request.encode(), &[]).await?;
        self.receive(ProbeStep::Read).await.map(drop)
    }

    async fn send(&mut self, header: Header, data: &[u8]) -> Result<(), ProbeFailure> {
        let mut bytes = header.to_vec();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len() + padding(data.len()), 0);
        let sent = self.stream.write_all(&bytes).await;
        sent.map_err(|error| failed(self.at, &error))
    }

    async fn receive(&mut self, step: ProbeStep) -> Result<(Header, Vec<u8>), ProbeFailure> {
        let at = self.at;
        let broke = |error: std::io::Error| failed(at, &error);
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header).await.map_err(broke)?;
        let length = Segments::of(&header).data_bytes;
        if length > SEGMENT_BYTES_MAX {
            return Err(unusable(at, step, format!("{length} bytes at once")));
        }
        let mut data = vec![0; length + padding(length)];
        self.stream.read_exact(&mut data).await.map_err(broke)?;
        data.truncate(length);
        let stat_sn = u32::from_be_bytes([header[24], header[25], header[26], header[27]]);
        self.exp_stat_sn = stat_sn.wrapping_add(1);
        Ok((header, data))
    }
}
