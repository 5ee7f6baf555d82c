//! The login phase (RFC 7143 §6.3, §12): from the first Login Request to full feature phase.
//!
//! ```text
//!              AuthMethod=None, or nothing to prove
//!   Security ------------------------------------------> Operational ---> full feature phase
//!      |  ^                                                   ^                  ^
//!      v  | AuthMethod=CHAP, CHAP_A, CHAP_N + CHAP_R          |                  |
//!     (CHAP) -------------------------------------------------+------------------+
//! ```
//!
//! The initiator may start at either stage and asks for each transition by the T bit.

mod identity;
mod security;
mod status;

use std::net::{IpAddr, SocketAddr};

pub use status::LoginStatus;

use crate::connection::{ConnectionConfig, Limits};
use crate::directory::{Access, LoginIdentity, SessionType, TargetDirectory};
use crate::event::{InitiatorFamily, LoggedIn};
use crate::negotiation::{Answer, Negotiation};
use crate::pdu::{LoginRequest, Stage};
use crate::text;

use identity::Declared;
use security::{Security, SecurityKeys};

/// Most text of one negotiation step, over all PDUs that it is spread over by the C bit.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Longest answer: what an initiator takes that has not declared more (RFC 7143 §13.12).
const ANSWER_BYTES_MAX: usize = 8192;

/// Most keys that one login may offer besides names and security; the RFC defines about 20.
const OFFERS_MAX: usize = 128;

/// Most requests of one login. CHAP over two stages needs five.
const REQUESTS_MAX: u32 = 64;

/// The answer to one Login Request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Stage that is gone to.
    pub(crate) nsg: Option<Stage>,
    /// Text of the response.
    pub(crate) text: Vec<u8>,
}

/// A login in progress.
pub(crate) struct Login {
    peer: IpAddr,
    portal: SocketAddr,
    portal_group_tag: u16,
    seed: [u8; 32],
    limits: Limits,
    requests: u32,
    first: Option<FirstRequest>,
    stage: Stage,
    text: Vec<u8>,
    declared: Declared,
    offered: Vec<String>,
    habits: Habits,
    admitted: Option<Admitted>,
}

/// What all requests of one login have in common.
struct FirstRequest {
    isid: [u8; 6],
    cid: u16,
}

/// A login whose identity the directory accepted.
struct Admitted {
    identity: LoginIdentity,
    cookie: u64,
    security: Security,
    negotiation: Negotiation,
    tag_sent: bool,
    length_declared: bool,
}

/// Offers by which initiators are told apart.
#[derive(Clone, Copy, Debug, Default)]
struct Habits {
    small_segments: bool,
    no_immediate_data: bool,
    retain_20: bool,
    alias: bool,
}

impl Login {
    pub(crate) fn new(config: &ConnectionConfig) -> Self {
        Self {
            peer: config.peer,
            portal: config.portal,
            portal_group_tag: config.portal_group_tag,
            seed: config.seed,
            limits: config.limits,
            requests: 0,
            first: None,
            stage: Stage::Security,
            text: Vec::new(),
            declared: Declared::default(),
            offered: Vec::new(),
            habits: Habits::default(),
            admitted: None,
        }
    }

    /// Takes one request. A reply that goes to full feature phase ends the login:
    /// [`finish`](Self::finish) then gives its outcome.
    ///
    /// # Errors
    /// The status with which the login is refused.
    pub(crate) fn handle(
        &mut self,
        request: &LoginRequest,
        data: &[u8],
        directory: &dyn TargetDirectory,
    ) -> Result<Reply, LoginStatus> {
        self.check_header(request)?;
        if self.text.len() + data.len() > TEXT_BYTES_MAX {
            return Err(LoginStatus::InitiatorError);
        }
        self.text.extend_from_slice(data);
        if request.more {
            // The text goes on: an empty answer asks for the rest (RFC 7143 §6.2).
            return Ok(Reply::default());
        }
        let step = std::mem::take(&mut self.text);
        let pairs = text::parse(&step).map_err(|_| LoginStatus::InitiatorError)?;
        let reply = self.step(request, &pairs, directory)?;
        if reply.text.len() > ANSWER_BYTES_MAX {
            return Err(LoginStatus::InitiatorError);
        }
        if let Some(next) = reply.nsg {
            self.stage = next;
        }
        Ok(reply)
    }

    /// The connection id of the login.
    pub(crate) fn cid(&self) -> u16 {
        self.first.as_ref().map_or(0, |first| first.cid)
    }

    /// Who logs in, as far as that is known.
    pub(crate) fn identity(&self) -> Option<&LoginIdentity> {
        self.admitted.as_ref().map(|admitted| &admitted.identity)
    }

    /// The identity that the initiator claims, also if it was not admitted.
    pub(crate) fn claimed_identity(&self) -> Option<LoginIdentity> {
        self.identity()
            .cloned()
            .or_else(|| self.declared.identity(self.peer, self.portal).ok())
    }

    /// The outcome of a login that reached full feature phase.
    pub(crate) fn finish(self, tsih: u16) -> Option<LoggedIn> {
        let isid = self.first?.isid;
        let admitted = self.admitted?;
        Some(LoggedIn {
            isid,
            tsih,
            cookie: admitted.cookie,
            authenticated: admitted.security.is_authenticated(),
            family: self.habits.family(isid),
            parameters: admitted.negotiation.parameters(),
            identity: admitted.identity,
        })
    }

    fn check_header(&mut self, request: &LoginRequest) -> Result<(), LoginStatus> {
        self.requests += 1;
        if self.requests > REQUESTS_MAX {
            return Err(LoginStatus::InitiatorError);
        }
        match &self.first {
            None => {
                if request.version_min > 0 {
                    return Err(LoginStatus::UnsupportedVersion);
                }
                if request.tsih != 0 {
                    // One connection per session, so there is nothing to join.
                    return Err(LoginStatus::SessionDoesNotExist);
                }
                self.first = Some(FirstRequest {
                    isid: request.isid,
                    cid: request.cid,
                });
                self.stage = request.csg;
            }
            Some(first) if first.isid != request.isid || first.cid != request.cid => {
                return Err(LoginStatus::InvalidRequest);
            }
            Some(_) => {}
        }
        let forward = match request.nsg {
            Some(_) if request.more => false,
            None | Some(Stage::FullFeature) => true,
            Some(next) => request.csg == Stage::Security && next == Stage::Operational,
        };
        if request.csg == Stage::FullFeature || request.csg != self.stage || !forward {
            return Err(LoginStatus::InvalidRequest);
        }
        Ok(())
    }

    fn step(
        &mut self,
        request: &LoginRequest,
        pairs: &[(&str, &str)],
        directory: &dyn TargetDirectory,
    ) -> Result<Reply, LoginStatus> {
        for (key, value) in pairs {
            self.declared.take(key, value)?;
        }
        let mut admitted = match self.admitted.take() {
            Some(admitted) => admitted,
            None => self.admit(directory)?,
        };
        let mut answers = Vec::new();
        if !admitted.tag_sent && admitted.identity.session_type == SessionType::Normal {
            let tag = self.portal_group_tag.to_string();
            text::push(&mut answers, "TargetPortalGroupTag", &tag);
        }
        admitted.tag_sent = true;
        let outcome = self
            .answer_keys(request.csg, pairs, &mut admitted, &mut answers)
            .map(|()| {
                let may_go = request.csg == Stage::Operational || admitted.security.is_done();
                request.nsg.filter(|_| may_go)
            });
        let nsg = outcome?;
        if nsg == Some(Stage::FullFeature) {
            let family = self.habits.family(request.isid);
            directory.admit(&admitted.identity, family)?;
        }
        self.admitted = Some(admitted);
        Ok(Reply { nsg, text: answers })
    }

    fn admit(&self, directory: &dyn TargetDirectory) -> Result<Admitted, LoginStatus> {
        let identity = self.declared.identity(self.peer, self.portal)?;
        let Access { chap, cookie } = directory.access(&identity)?;
        Ok(Admitted {
            cookie,
            security: Security::new(chap, &self.seed),
            negotiation: Negotiation::new(self.limits, identity.session_type),
            tag_sent: false,
            length_declared: false,
            identity,
        })
    }

    fn answer_keys(
        &mut self,
        csg: Stage,
        pairs: &[(&str, &str)],
        admitted: &mut Admitted,
        answers: &mut Vec<u8>,
    ) -> Result<(), LoginStatus> {
        let mut keys = SecurityKeys::default();
        for &(key, value) in pairs {
            if Declared::is_known(key) || keys.take(key, value)? {
                continue;
            }
            self.habits.observe(key, value);
            // Each key is negotiated once (RFC 7143 §6.2); a second answer makes EDK2 give up.
            if self.offered.iter().any(|offered| offered == key) {
                return Err(LoginStatus::InitiatorError);
            }
            if self.offered.len() == OFFERS_MAX {
                return Err(LoginStatus::InitiatorError);
            }
            self.offered.push(key.to_owned());
            match admitted.negotiation.offer(key, value) {
                Answer::Value(value) => text::push(answers, key, &value),
                Answer::Declaration => {}
                Answer::Invalid => return Err(LoginStatus::InitiatorError),
            }
        }
        if csg == Stage::Security {
            return admitted.security.step(&keys, answers);
        }
        if !keys.is_empty() {
            return Err(LoginStatus::InvalidRequest);
        }
        if !admitted.security.is_done() {
            return Err(LoginStatus::AuthenticationFailure);
        }
        if !admitted.length_declared {
            admitted.length_declared = true;
            let length = admitted.negotiation.declare();
            text::push(answers, "MaxRecvDataSegmentLength", &length);
        }
        Ok(())
    }
}

impl Habits {
    fn observe(&mut self, key: &str, value: &str) {
        match (key, value) {
            ("MaxRecvDataSegmentLength", "8192") => self.small_segments = true,
            ("ImmediateData", "No") => self.no_immediate_data = true,
            ("DefaultTime2Retain", "20") => self.retain_20 = true,
            ("InitiatorAlias", _) => self.alias = true,
            _ => {}
        }
    }

    /// ISIDs are named after vendors (RFC 7143 §11.12.5); seen with each initiator.
    fn family(self, isid: [u8; 6]) -> InitiatorFamily {
        match isid {
            // Enterprise number 10019, Fen Systems.
            [0x40, 0x00, 0x27, 0x23, ..] => InitiatorFamily::Ipxe,
            _ if self.small_segments && self.no_immediate_data => InitiatorFamily::Ipxe,
            [0x40, 0x00, 0x01, 0x37, ..] => InitiatorFamily::Microsoft,
            [0x00, 0x02, 0x3d, ..] => InitiatorFamily::OpenIscsi,
            [0x80..=0xbf, ..] => InitiatorFamily::Libiscsi,
            // Seen: EDK2 makes its ISID of the MAC address and asks to be kept for 20 s.
            [0x00..=0x3f, ..] if self.retain_20 && !self.alias => InitiatorFamily::Edk2,
            _ => InitiatorFamily::Other,
        }
    }
}
