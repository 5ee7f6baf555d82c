//! Login tokens, and what is remembered of valid ones while the database cannot be read.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use dess_model::Timestamp;
use dess_node::operations::SessionView;
use rand::RngExt;
use sha2::{Digest, Sha256};

/// How long a login lasts: 7 days, in milliseconds.
pub(crate) const SESSION_MS: i64 = 7 * 24 * 3600 * 1000;
/// Most sessions kept in memory; the one that ends first goes first.
const REMEMBERED_MAX: usize = 256;

/// What the browser holds: 256 random bits. Only its hash is stored.
pub(crate) struct Token(String);

impl Token {
    pub(crate) fn random() -> Self {
        Self(hex(&rand::rng().random::<[u8; 32]>()))
    }

    /// The token in a cookie, if it can be one.
    pub(crate) fn from_cookie(text: &str) -> Option<Self> {
        (text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then(|| Self(text.to_owned()))
    }

    /// For the `Set-Cookie` header alone.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// SHA-256; enough for a value with 256 random bits.
    pub(crate) fn hash(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes()))
    }
}

/// What an API client holds: `dess_` and 256 random bits. Only its hash is stored.
pub struct ApiToken(String);

/// Tells people, and tools that look for leaked secrets, what it is.
const API_TOKEN_PREFIX: &str = "dess_";

impl ApiToken {
    /// A new token.
    pub fn random() -> Self {
        Self(format!("{API_TOKEN_PREFIX}{}", Token::random().0))
    }

    /// The token of a header, if it can be one.
    pub(crate) fn from_header(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(API_TOKEN_PREFIX)?;
        Token::from_cookie(digits).map(|_| Self(text.to_owned()))
    }

    /// The token itself: to be shown to its user once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// SHA-256; enough for a value with 256 random bits.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes()))
    }
}

/// Sessions that were valid when the database was last asked: while it cannot be read, they go
/// on to work, so that the operator who has to repair it sees the page.
#[derive(Default)]
pub(crate) struct SessionCache(Mutex<HashMap<String, SessionView>>);

impl SessionCache {
    pub(crate) fn remember(&self, token_hash: &str, session: &SessionView) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= REMEMBERED_MAX && !kept.contains_key(token_hash) {
            let first = kept
                .iter()
                .min_by_key(|(_, session)| session.expires)
                .map(|(hash, _)| hash.clone());
            if let Some(hash) = first {
                kept.remove(&hash);
            }
        }
        kept.insert(token_hash.to_owned(), session.clone());
    }

    pub(crate) fn forget(&self, token_hash: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(token_hash);
    }

    pub(crate) fn forget_all(&self) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
    }

    pub(crate) fn recall(&self, token_hash: &str, now: Timestamp) -> Option<SessionView> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(token_hash)
            .filter(|session| session.expires > now)
            .cloned()
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_only_well_formed_ones_are_taken_from_a_cookie() {
        let token = Token::random();
        assert_ne!(token.expose(), Token::random().expose());
        assert_ne!(token.hash(), token.expose());
        assert_eq!(
            Token::from_cookie(token.expose()).unwrap().hash(),
            token.hash()
        );
        for text in ["", "한글", &"g".repeat(64), &"a".repeat(63)] {
            assert!(Token::from_cookie(text).is_none());
        }
    }

    #[test]
    fn the_cache_is_bounded_and_knows_no_expired_session() {
        let cache = SessionCache::default();
        let session = |expires| SessionView {
            user: "owner".into(),
            role: dess_model::Role::Owner,
            csrf: String::new(),
            expires: Timestamp(expires),
        };
        for number in 0..300 {
            cache.remember(&number.to_string(), &session(number));
        }
        assert!(cache.recall("0", Timestamp(-1)).is_none());
        assert!(cache.recall("299", Timestamp(298)).is_some());
        assert!(cache.recall("299", Timestamp(299)).is_none());
        assert_eq!(cache.0.lock().unwrap().len(), REMEMBERED_MAX);
        cache.forget_all();
        assert!(cache.recall("299", Timestamp(298)).is_none());
    }
}
