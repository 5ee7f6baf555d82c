//! Operational keys and what they are negotiated to (RFC 7143 §13).

use crate::connection::Limits;
use crate::directory::SessionType;
use crate::text;

/// What a session was negotiated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionParameters {
    /// CRC32C after each header.
    pub header_digest: bool,
    /// CRC32C after each data segment.
    pub data_digest: bool,
    /// The initiator waits for R2T before it sends data beyond immediate data.
    pub initial_r2t: bool,
    /// Commands may carry data.
    pub immediate_data: bool,
    /// Longest data segment that the initiator takes, in bytes.
    pub initiator_max_recv_data_segment_length: u32,
    /// Longest data segment that we take, in bytes.
    pub target_max_recv_data_segment_length: u32,
    /// Longest data sequence, in bytes.
    pub max_burst_length: u32,
    /// Most unsolicited data of a command, in bytes.
    pub first_burst_length: u32,
    /// Most R2Ts of a command without an answer.
    pub max_outstanding_r2t: u16,
    /// Seconds that an initiator waits before it logs in again.
    pub default_time2wait: u16,
}

impl Default for SessionParameters {
    /// What holds if nothing is negotiated.
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            initial_r2t: true,
            immediate_data: true,
            initiator_max_recv_data_segment_length: DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH,
            target_max_recv_data_segment_length: DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH,
            max_burst_length: 262_144,
            first_burst_length: 65_536,
            max_outstanding_r2t: 1,
            default_time2wait: 2,
        }
    }
}

/// MaxRecvDataSegmentLength of a side that declares none, and of both during login.
pub const DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH: u32 = 8192;

/// Range of the length keys (RFC 7143 §13.12 to §13.14).
const LENGTH_MIN: u32 = 512;
const LENGTH_MAX: u32 = (1 << 24) - 1;

const REJECT: &str = "Reject";
const IRRELEVANT: &str = "Irrelevant";
const NOT_UNDERSTOOD: &str = "NotUnderstood";

/// What an offered key gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This value.
    Value(String),
    /// Nothing: the key is a declaration.
    Declaration,
    /// A declaration that cannot be: the login fails.
    Invalid,
}

impl Answer {
    fn of(value: impl ToString) -> Self {
        Self::Value(value.to_string())
    }

    fn yes_or_no(value: bool) -> Self {
        Self::of(if value { "Yes" } else { "No" })
    }

    fn reject() -> Self {
        Self::of(REJECT)
    }
}

/// Our side of an operational negotiation.
#[derive(Clone, Debug)]
pub struct Negotiation {
    limits: Limits,
    session_type: SessionType,
    parameters: SessionParameters,
}

impl Negotiation {
    /// Starts with the defaults of the RFC.
    pub fn new(limits: Limits, session_type: SessionType) -> Self {
        Self {
            limits,
            session_type,
            parameters: SessionParameters::default(),
        }
    }

    /// Our own MaxRecvDataSegmentLength as text; from then on it holds.
    pub(crate) fn declare(&mut self) -> String {
        let length = self.limits.max_recv_data_segment_length;
        self.parameters.target_max_recv_data_segment_length = length;
        length.to_string()
    }

    /// The outcome so far.
    pub fn parameters(&self) -> SessionParameters {
        let mut parameters = self.parameters;
        parameters.first_burst_length = parameters
            .first_burst_length
            .min(parameters.max_burst_length);
        parameters
    }

    /// Takes one offered key and gives the answer. Keys of the security stage and the names of
    /// the login are not meant for this.
    pub fn offer(&mut self, key: &str, value: &str) -> Answer {
        match key {
            "MaxRecvDataSegmentLength" => return self.max_recv_data_segment_length(value),
            "InitiatorAlias" => return Answer::Declaration,
            _ => {}
        }
        if self.session_type == SessionType::Discovery && is_irrelevant_for_discovery(key) {
            return Answer::of(IRRELEVANT);
        }
        match key {
            "HeaderDigest" => digest(value, &mut self.parameters.header_digest),
            "DataDigest" => digest(value, &mut self.parameters.data_digest),
            "InitialR2T" => self.initial_r2t(value),
            "ImmediateData" => self.immediate_data(value),
            "MaxBurstLength" => {
                let ours = self.limits.max_burst_length;
                minimum(value, LENGTH_MIN, LENGTH_MAX, ours, |length| {
                    self.parameters.max_burst_length = length;
                })
            }
            "FirstBurstLength" => {
                let ours = self.limits.first_burst_length;
                let ours = ours.min(self.limits.max_burst_length);
                minimum(value, LENGTH_MIN, LENGTH_MAX, ours, |length| {
                    self.parameters.first_burst_length = length;
                })
            }
            "MaxOutstandingR2T" => {
                let ours = u32::from(self.limits.max_outstanding_r2t);
                minimum(value, 1, 65_535, ours, |count| {
                    self.parameters.max_outstanding_r2t = count as u16;
                })
            }
            "MaxConnections" => minimum(value, 1, 65_535, 1, |_| {}),
            "ErrorRecoveryLevel" => minimum(value, 0, 2, 0, |_| {}),
            "DefaultTime2Retain" => minimum(value, 0, 3600, 0, |_| {}),
            // The maximum of both; ours is 0.
            "DefaultTime2Wait" => minimum(value, 0, 3600, 3600, |seconds| {
                self.parameters.default_time2wait = seconds as u16;
            }),
            // The logical or of both; ours is Yes.
            "DataPDUInOrder" | "DataSequenceInOrder" => match boolean(value) {
                Some(_) => Answer::yes_or_no(true),
                None => Answer::reject(),
            },
            _ => other_key(key, value),
        }
    }

    fn max_recv_data_segment_length(&mut self, value: &str) -> Answer {
        match text::number(value) {
            Some(length @ LENGTH_MIN..=LENGTH_MAX) => {
                self.parameters.initiator_max_recv_data_segment_length = length;
                Answer::Declaration
            }
            _ => Answer::Invalid,
        }
    }

    fn initial_r2t(&mut self, value: &str) -> Answer {
        let Some(theirs) = boolean(value) else {
            return Answer::reject();
        };
        self.parameters.initial_r2t = theirs || self.limits.initial_r2t;
        Answer::yes_or_no(self.parameters.initial_r2t)
    }

    fn immediate_data(&mut self, value: &str) -> Answer {
        let Some(theirs) = boolean(value) else {
            return Answer::reject();
        };
        self.parameters.immediate_data = theirs && self.limits.immediate_data;
        Answer::yes_or_no(self.parameters.immediate_data)
    }
}

/// Keys with a meaning only where SCSI commands are (RFC 7143 §13).
fn is_irrelevant_for_discovery(key: &str) -> bool {
    matches!(
        key,
        "MaxConnections"
            | "InitialR2T"
            | "ImmediateData"
            | "MaxBurstLength"
            | "FirstBurstLength"
            | "MaxOutstandingR2T"
            | "DataPDUInOrder"
            | "DataSequenceInOrder"
            | "TaskReporting"
    )
}

/// Keys that are obsolete, of extensions, only for targets, only for another phase, or unknown.
fn other_key(key: &str, value: &str) -> Answer {
    match key {
        // RFC 7143 §13.25: obsolete; may be answered with No, must not be with NotUnderstood.
        "IFMarker" | "OFMarker" | "RDMAExtensions" => Answer::yes_or_no(false),
        "TaskReporting" if offers(value, "RFC3720") => Answer::of("RFC3720"),
        "TaskReporting" | "IFMarkInt" | "OFMarkInt" => Answer::reject(),
        "iSCSIProtocolLevel" => minimum(value, 0, 31, 1, |_| {}),
        "SendTargets" | "TargetAddress" | "TargetAlias" | "TargetPortalGroupTag" => {
            Answer::reject()
        }
        _ => Answer::of(NOT_UNDERSTOOD),
    }
}

fn offers(list: &str, wanted: &str) -> bool {
    list.split(',').any(|value| value == wanted)
}

/// The first digest of the initiator's list that we have.
fn digest(list: &str, chosen: &mut bool) -> Answer {
    for value in list.split(',') {
        match value {
            "None" => {
                *chosen = false;
                return Answer::of(value);
            }
            "CRC32C" => {
                *chosen = true;
                return Answer::of(value);
            }
            _ => {}
        }
    }
    Answer::reject()
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

/// The minimum of an offer within the range of its key and our own value.
fn minimum(value: &str, low: u32, high: u32, ours: u32, keep: impl FnOnce(u32)) -> Answer {
    match text::number(value) {
        Some(theirs) if (low..=high).contains(&theirs) => {
            let chosen = theirs.min(ours);
            keep(chosen);
            Answer::of(chosen)
        }
        _ => Answer::reject(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
