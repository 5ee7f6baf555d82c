//! Text requests in full feature phase: SendTargets (RFC 7143 §11.10, Appendix C).

use super::error::ProtocolError;
use super::full_feature::{FullFeature, protocol};
use super::outbox::Outbox;
use super::receive::Pdu;
use crate::directory::{SessionType, TargetDirectory, TargetPortals};
use crate::event::CloseReason;
use crate::negotiation::{Answer, Negotiation};
use crate::pdu::{NO_TAG, RejectReason, TextRequest, TextResponse};
use crate::text;

/// Most text of one request, over all PDUs that it is spread over by the C bit.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// An exchange that takes more than one PDU each way.
pub(super) struct TextExchange {
    ttt: u32,
    /// The request so far.
    request: Vec<u8>,
    /// What is still to be answered.
    answer: Vec<u8>,
}

impl FullFeature {
    pub(super) fn text_request(
        &mut self,
        outbox: &mut Outbox,
        request: &TextRequest,
        pdu: &Pdu,
        directory: &dyn TargetDirectory,
    ) -> Result<(), CloseReason> {
        if request.itt == NO_TAG || (request.last && request.more) {
            return self.reject(outbox, pdu, RejectReason::InvalidPduField);
        }
        // A new exchange drops what was left of the last one.
        let mut exchange = match self.text.take() {
            Some(exchange) if request.ttt == exchange.ttt => exchange,
            _ if request.ttt == NO_TAG => TextExchange {
                ttt: self.next_ttt(),
                request: Vec::new(),
                answer: Vec::new(),
            },
            _ => return self.reject(outbox, pdu, RejectReason::InvalidPduField),
        };
        if exchange.request.len() + pdu.data.len() > TEXT_BYTES_MAX {
            return Err(protocol(ProtocolError::Text));
        }
        exchange.request.extend_from_slice(&pdu.data);
        if request.more {
            self.send_text(outbox, request.itt, exchange, false);
            return Ok(());
        }
        if exchange.answer.is_empty() {
            let text = std::mem::take(&mut exchange.request);
            exchange.answer = self.answer_text(&text, directory)?;
        }
        self.send_text(outbox, request.itt, exchange, request.last);
        Ok(())
    }

    /// Sends as much of the answer as the initiator takes at once.
    fn send_text(
        &mut self,
        outbox: &mut Outbox,
        itt: u32,
        mut exchange: TextExchange,
        may_end: bool,
    ) {
        let limit = self.parameters.initiator_max_recv_data_segment_length as usize;
        let rest = exchange.answer.split_off(exchange.answer.len().min(limit));
        let now = std::mem::replace(&mut exchange.answer, rest);
        let more = !exchange.answer.is_empty();
        let last = may_end && !more;
        let response = TextResponse {
            last,
            more,
            itt,
            ttt: if last { NO_TAG } else { exchange.ttt },
            sequence: outbox.next_sequence(),
        };
        outbox.send(&response.encode(now.len()), &now);
        if !last {
            self.text = Some(exchange);
        }
    }

    fn answer_text(
        &mut self,
        request: &[u8],
        directory: &dyn TargetDirectory,
    ) -> Result<Vec<u8>, CloseReason> {
        let pairs = text::parse(request).map_err(|_| protocol(ProtocolError::Text))?;
        let mut answer = Vec::new();
        for (key, value) in pairs {
            match key {
                "SendTargets" => match self.visible(value, directory) {
                    Some(targets) => push_targets(&mut answer, &targets, self.portal_group_tag),
                    None => text::push(&mut answer, key, "Reject"),
                },
                "MaxRecvDataSegmentLength" => {
                    let mut negotiation = Negotiation::new(self.limits, self.identity.session_type);
                    if negotiation.offer(key, value) == Answer::Invalid {
                        return Err(protocol(ProtocolError::Text));
                    }
                    self.parameters.initiator_max_recv_data_segment_length = negotiation
                        .parameters()
                        .initiator_max_recv_data_segment_length;
                }
                "InitiatorAlias" => {}
                _ if is_login_only(key) => text::push(&mut answer, key, "Reject"),
                _ => text::push(&mut answer, key, "NotUnderstood"),
            }
        }
        Ok(answer)
    }

    /// The targets that a SendTargets value asks for; `None` if it may not ask that here.
    fn visible(&self, value: &str, directory: &dyn TargetDirectory) -> Option<Vec<TargetPortals>> {
        let targets = directory.discover(&self.identity);
        let is_discovery = self.identity.session_type == SessionType::Discovery;
        let wanted = match value {
            "All" if is_discovery => return Some(targets),
            "All" => return None,
            "" if is_discovery => return None,
            "" => self.identity.target_name.as_deref()?,
            name => name,
        };
        let mut targets = targets;
        targets.retain(|target| target.target_name == wanted);
        Some(targets)
    }
}

fn push_targets(answer: &mut Vec<u8>, targets: &[TargetPortals], tag: u16) {
    for target in targets {
        text::push(answer, "TargetName", &target.target_name);
        for portal in &target.portals {
            text::push(answer, "TargetAddress", &format!("{portal},{tag}"));
        }
    }
}

/// Keys of RFC 7143 §13 that have no place in full feature phase.
fn is_login_only(key: &str) -> bool {
    matches!(
        key,
        "HeaderDigest"
            | "DataDigest"
            | "MaxConnections"
            | "InitiatorName"
            | "TargetName"
            | "TargetAlias"
            | "TargetAddress"
            | "TargetPortalGroupTag"
            | "InitialR2T"
            | "ImmediateData"
            | "MaxBurstLength"
            | "FirstBurstLength"
            | "DefaultTime2Wait"
            | "DefaultTime2Retain"
            | "MaxOutstandingR2T"
            | "DataPDUInOrder"
            | "DataSequenceInOrder"
            | "ErrorRecoveryLevel"
            | "SessionType"
            | "AuthMethod"
            | "TaskReporting"
            | "iSCSIProtocolLevel"
            | "IFMarker"
            | "OFMarker"
            | "IFMarkInt"
            | "OFMarkInt"
    )
}
