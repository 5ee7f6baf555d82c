//! The security stage (RFC 7143 §12).

use tracing::debug;

use super::LoginStatus;
use crate::chap::{ALGORITHM_MD5, Answer, Challenge};
use crate::directory::ChapCredentials;
use crate::text;

/// How far authentication is.
pub(super) enum Security {
    /// Nothing to prove.
    Open,
    /// CHAP is required and not yet chosen.
    Required(Secret),
    /// CHAP was chosen; its algorithm is next.
    Algorithm(Secret),
    /// Our challenge is out.
    Challenged(Secret),
    /// The initiator proved itself.
    Proven,
    /// Authentication failed; no way back within this login.
    Failed,
}

/// What CHAP works with.
pub(super) struct Secret {
    credentials: ChapCredentials,
    challenge: Challenge,
}

/// The keys of the security stage in one step.
#[derive(Debug, Default)]
pub(super) struct SecurityKeys<'a> {
    auth_method: Option<&'a str>,
    algorithm: Option<&'a str>,
    answer: Answer<'a>,
    count: usize,
}

impl<'a> SecurityKeys<'a> {
    /// Takes the pair if it belongs to the security stage.
    ///
    /// # Errors
    /// If the key came before in the same step.
    pub(super) fn take(&mut self, key: &str, value: &'a str) -> Result<bool, LoginStatus> {
        let slot = match key {
            "AuthMethod" => &mut self.auth_method,
            "CHAP_A" => &mut self.algorithm,
            "CHAP_N" => &mut self.answer.name,
            "CHAP_R" => &mut self.answer.response,
            "CHAP_I" => &mut self.answer.identifier,
            "CHAP_C" => &mut self.answer.challenge,
            _ => return Ok(false),
        };
        if slot.replace(value).is_some() {
            return Err(LoginStatus::InitiatorError);
        }
        self.count += 1;
        Ok(true)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Security {
    pub(super) fn new(chap: Option<ChapCredentials>, seed: &[u8; 32]) -> Self {
        match chap {
            None => Self::Open,
            Some(credentials) => Self::Required(Secret {
                credentials,
                challenge: Challenge::from_seed(seed),
            }),
        }
    }

    /// Nothing is left to prove: the stage may be left, or not be entered at all.
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Open | Self::Proven)
    }

    pub(super) fn is_authenticated(&self) -> bool {
        matches!(self, Self::Proven)
    }

    /// Takes the keys of one request and appends the answers.
    ///
    /// # Errors
    /// If authentication fails or the keys are out of order.
    pub(super) fn step(
        &mut self,
        keys: &SecurityKeys<'_>,
        answers: &mut Vec<u8>,
    ) -> Result<(), LoginStatus> {
        let (next, outcome) = match std::mem::replace(self, Self::Failed) {
            Self::Open => (Self::Open, choose_none(keys, answers)),
            Self::Required(secret) => return self.choose_chap(secret, keys, answers),
            Self::Algorithm(secret) => return self.send_challenge(secret, keys, answers),
            Self::Challenged(secret) => return self.check_answer(&secret, keys, answers),
            Self::Proven if keys.is_empty() => (Self::Proven, Ok(())),
            Self::Proven => (Self::Proven, Err(LoginStatus::InitiatorError)),
            Self::Failed => (Self::Failed, Err(LoginStatus::AuthenticationFailure)),
        };
        *self = next;
        outcome
    }

    fn choose_chap(
        &mut self,
        secret: Secret,
        keys: &SecurityKeys<'_>,
        answers: &mut Vec<u8>,
    ) -> Result<(), LoginStatus> {
        let Some(methods) = keys.auth_method else {
            // Nothing offered: wait for an offer, unless it tries to leave the stage.
            *self = Self::Required(secret);
            return if keys.is_empty() {
                Err(LoginStatus::AuthenticationFailure)
            } else {
                Err(LoginStatus::InitiatorError)
            };
        };
        if !methods.split(',').any(|method| method == "CHAP") {
            return Err(LoginStatus::AuthenticationFailure);
        }
        text::push(answers, "AuthMethod", "CHAP");
        if keys.algorithm.is_some() {
            // Some initiators save a round trip and offer the algorithms at once.
            return self.send_challenge(secret, keys, answers);
        }
        *self = Self::Algorithm(secret);
        Ok(())
    }

    fn send_challenge(
        &mut self,
        secret: Secret,
        keys: &SecurityKeys<'_>,
        answers: &mut Vec<u8>,
    ) -> Result<(), LoginStatus> {
        let algorithms = keys.algorithm.ok_or(LoginStatus::InitiatorError)?;
        if !algorithms.split(',').any(|name| name == ALGORITHM_MD5) {
            return Err(LoginStatus::AuthenticationFailure);
        }
        let challenge = &secret.challenge;
        text::push(answers, "CHAP_A", ALGORITHM_MD5);
        text::push(answers, "CHAP_I", &challenge.identifier.to_string());
        text::push(answers, "CHAP_C", &text::encode_hex(&challenge.bytes));
        *self = Self::Challenged(secret);
        Ok(())
    }

    fn check_answer(
        &mut self,
        secret: &Secret,
        keys: &SecurityKeys<'_>,
        answers: &mut Vec<u8>,
    ) -> Result<(), LoginStatus> {
        match secret.challenge.check(keys.answer, &secret.credentials) {
            Ok(None) => {}
            Ok(Some((name, proof))) => {
                text::push(answers, "CHAP_N", &name);
                text::push(answers, "CHAP_R", &proof);
            }
            Err(error) => {
                debug!(%error, "CHAP failed");
                return Err(LoginStatus::AuthenticationFailure);
            }
        }
        *self = Self::Proven;
        Ok(())
    }
}

fn choose_none(keys: &SecurityKeys<'_>, answers: &mut Vec<u8>) -> Result<(), LoginStatus> {
    let Some(methods) = keys.auth_method else {
        return if keys.is_empty() {
            Ok(())
        } else {
            Err(LoginStatus::InitiatorError)
        };
    };
    if methods.split(',').any(|method| method == "None") {
        text::push(answers, "AuthMethod", "None");
        Ok(())
    } else {
        // The initiator insists on a proof of identity that we have no secret for.
        Err(LoginStatus::AuthenticationFailure)
    }
}
