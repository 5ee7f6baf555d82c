//! CHAP with MD5 (RFC 1994, RFC 7143 §12.1.3), the authenticator's side.

use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;

use crate::directory::{ChapCredentials, ChapSecret};
use crate::text;

/// The only algorithm that every boot initiator speaks: MD5.
pub(crate) const ALGORITHM_MD5: &str = "5";

const RESPONSE_BYTES: usize = 16;
const CHALLENGE_BYTES: usize = 16;

/// Response to a challenge: MD5 over identifier, secret and challenge.
pub fn response(identifier: u8, secret: &[u8], challenge: &[u8]) -> [u8; RESPONSE_BYTES] {
    let mut hash = Md5::new();
    hash.update([identifier]);
    hash.update(secret);
    hash.update(challenge);
    hash.finalize().into()
}

/// A challenge that we sent.
#[derive(Clone, Debug)]
pub(crate) struct Challenge {
    pub(crate) identifier: u8,
    pub(crate) bytes: [u8; CHALLENGE_BYTES],
}

/// The pairs of the initiator's answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answer<'a> {
    /// CHAP_N.
    pub(crate) name: Option<&'a str>,
    /// CHAP_R.
    pub(crate) response: Option<&'a str>,
    /// CHAP_I, for mutual CHAP.
    pub(crate) identifier: Option<&'a str>,
    /// CHAP_C, for mutual CHAP.
    pub(crate) challenge: Option<&'a str>,
}

/// Why an answer was refused; the peer is told only that it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChapError {
    /// A pair is missing or malformed.
    #[error("the answer is incomplete or malformed")]
    Malformed,
    /// Wrong name or secret.
    #[error("wrong name or secret")]
    Wrong,
    /// The initiator sent our challenge, or a challenge under the same secret, back to us.
    #[error("the challenge or the secret is reflected")]
    Reflected,
    /// The initiator wants the target to prove itself, which is not configured.
    #[error("mutual CHAP is asked for but not configured")]
    NoMutual,
}

impl Challenge {
    /// A challenge from fresh random bytes.
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Self {
        let mut bytes = [0; CHALLENGE_BYTES];
        bytes.copy_from_slice(&seed[..CHALLENGE_BYTES]);
        Self {
            identifier: seed[CHALLENGE_BYTES],
            bytes,
        }
    }

    /// Checks the initiator's answer; gives what proves the target, if it asked for that.
    pub(crate) fn check(
        &self,
        answer: Answer<'_>,
        credentials: &ChapCredentials,
    ) -> Result<Option<(String, String)>, ChapError> {
        let (Some(name), Some(given)) = (answer.name, answer.response) else {
            return Err(ChapError::Malformed);
        };
        let given = text::decode_binary(given).map_err(|_| ChapError::Malformed)?;
        let expected = response(self.identifier, &credentials.initiator.secret, &self.bytes);
        let name_fits = name.as_bytes().ct_eq(credentials.initiator.user.as_bytes());
        let response_fits = given.as_slice().ct_eq(expected.as_slice());
        if !bool::from(name_fits & response_fits) {
            return Err(ChapError::Wrong);
        }
        match (answer.identifier, answer.challenge) {
            (None, None) => Ok(None),
            (Some(identifier), Some(challenge)) => self
                .prove_target(identifier, challenge, credentials)
                .map(Some),
            _ => Err(ChapError::Malformed),
        }
    }

    fn prove_target(
        &self,
        identifier: &str,
        challenge: &str,
        credentials: &ChapCredentials,
    ) -> Result<(String, String), ChapError> {
        let identifier = text::number(identifier)
            .and_then(|number| u8::try_from(number).ok())
            .ok_or(ChapError::Malformed)?;
        let challenge = text::decode_binary(challenge).map_err(|_| ChapError::Malformed)?;
        let ChapSecret { user, secret } = credentials.target.as_ref().ok_or(ChapError::NoMutual)?;
        // Answering either would let an impostor use us to compute the answer to our own challenge.
        if challenge == self.bytes || *secret == credentials.initiator.secret {
            return Err(ChapError::Reflected);
        }
        let proof = response(identifier, secret, &challenge);
        Ok((user.clone(), text::encode_hex(&proof)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(target: Option<&str>) -> ChapCredentials {
        ChapCredentials {
            initiator: ChapSecret {
                user: "seat-1".into(),
                secret: b"initiatorsecret".to_vec(),
            },
            target: target.map(|secret| ChapSecret {
                user: "server".into(),
                secret: secret.as_bytes().to_vec(),
            }),
        }
    }

    fn right_answer(challenge: &Challenge) -> String {
        text::encode_hex(&response(
            challenge.identifier,
            b"initiatorsecret",
            &challenge.bytes,
        ))
    }

    #[test]
    fn the_response_is_md5_over_identifier_secret_and_challenge() {
        // md5("\x01" "ab" "c") computed by md5sum.
        let expected = Md5::digest(b"\x01abc");
        assert_eq!(response(1, b"ab", b"c").as_slice(), expected.as_slice());
    }

    #[test]
    fn only_the_right_name_and_secret_pass() {
        let challenge = Challenge::from_seed(&[7; 32]);
        let right = right_answer(&challenge);
        let check = |name, response| {
            let answer = Answer {
                name,
                response,
                ..Answer::default()
            };
            challenge.check(answer, &credentials(None))
        };
        assert_eq!(check(Some("seat-1"), Some(&right)), Ok(None));
        assert_eq!(check(Some("seat-2"), Some(&right)), Err(ChapError::Wrong));
        assert_eq!(check(Some("seat-1"), Some("0x00")), Err(ChapError::Wrong));
        assert_eq!(check(Some("seat-1"), Some("?")), Err(ChapError::Malformed));
        assert_eq!(check(None, Some(&right)), Err(ChapError::Malformed));
        assert_eq!(check(Some("seat-1"), None), Err(ChapError::Malformed));
    }

    #[test]
    fn the_target_proves_itself_when_asked() {
        let challenge = Challenge::from_seed(&[7; 32]);
        let right = right_answer(&challenge);
        let answer = Answer {
            name: Some("seat-1"),
            response: Some(&right),
            identifier: Some("9"),
            challenge: Some("0x010203"),
        };
        let proof = challenge
            .check(answer, &credentials(Some("targetsecret")))
            .unwrap()
            .unwrap();
        let expected = text::encode_hex(&response(9, b"targetsecret", &[1, 2, 3]));
        assert_eq!(proof, ("server".into(), expected));
        assert_eq!(
            challenge.check(answer, &credentials(None)),
            Err(ChapError::NoMutual)
        );
        let half = Answer {
            identifier: None,
            ..answer
        };
        assert_eq!(
            challenge.check(half, &credentials(Some("targetsecret"))),
            Err(ChapError::Malformed)
        );
    }

    #[test]
    fn reflection_is_refused() {
        let challenge = Challenge::from_seed(&[7; 32]);
        let right = right_answer(&challenge);
        let own = text::encode_hex(&challenge.bytes);
        let reflected = Answer {
            name: Some("seat-1"),
            response: Some(&right),
            identifier: Some("7"),
            challenge: Some(&own),
        };
        let different = credentials(Some("targetsecret"));
        assert_eq!(
            challenge.check(reflected, &different),
            Err(ChapError::Reflected)
        );
        let fresh = Answer {
            challenge: Some("0x0102"),
            ..reflected
        };
        let same_secret = credentials(Some("initiatorsecret"));
        assert_eq!(
            challenge.check(fresh, &same_secret),
            Err(ChapError::Reflected)
        );
    }
}
