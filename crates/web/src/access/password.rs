//! Password hashes (argon2id, 19 MiB, 2 passes: the OWASP minimum).

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use rand::RngExt;
use tokio::sync::Semaphore;

/// Fewest characters of a new password.
pub(crate) const PASSWORD_CHARS_MIN: usize = 8;
/// Most characters of a password; longer ones are refused before any hashing.
pub(crate) const PASSWORD_CHARS_MAX: usize = 256;
/// How many characters a new password may have.
pub const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX;
/// Hashings at once; each takes 19 MiB and a core for some 70 ms.
const HASHINGS_MAX: usize = 2;
/// Requests that may wait for a hashing; the rest is turned away.
const WAITING_MAX: usize = 16;

/// Hashes and checks passwords off the async threads, a few at a time.
#[derive(Clone, Debug)]
pub(crate) struct Passwords {
    hashings: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// No answer about a password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    /// Too many logins at once.
    #[error("too many password checks are under way")]
    Busy,
    /// The hash function failed.
    #[error("cannot hash a password")]
    Hash(#[from] argon2::password_hash::Error),
    /// The hashing thread ended.
    #[error("the hashing thread ended early")]
    Thread(#[from] tokio::task::JoinError),
}

impl Passwords {
    pub(crate) fn new() -> Self {
        Self {
            hashings: Arc::new(Semaphore::new(HASHINGS_MAX)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }

    /// The hash of a new password in PHC string form.
    pub(crate) async fn hash(&self, password: String) -> Result<String, PasswordError> {
        self.run(move || Ok(password_hash(&password)?)).await
    }

    /// True if the password has this hash. Without a hash (no such user) it takes as long and is
    /// false, so that the answer's time does not tell which users exist.
    pub(crate) async fn verify(
        &self,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, PasswordError> {
        self.run(move || {
            let known = hash.is_some();
            let text = hash.unwrap_or_else(|| NOBODY.to_owned());
            let parsed = PasswordHash::new(&text).map_err(argon2::password_hash::Error::from)?;
            let fits = Argon2::default().verify_password(password.as_bytes(), &parsed);
            Ok(fits.is_ok() && known)
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _place = self
            .waiting
            .try_acquire()
            .map_err(|_| PasswordError::Busy)?;
        let _turn = self
            .hashings
            .acquire()
            .await
            .map_err(|_| PasswordError::Busy)?;
        tokio::task::spawn_blocking(work).await?
    }
}

/// The hash of a new password in PHC string form; takes a core for some 70 ms.
///
/// # Errors
/// If the hash function fails.
pub fn password_hash(password: &str) -> Result<String, argon2::password_hash::Error> {
    let hash = Argon2::default().hash_password(password.as_bytes())?;
    Ok(hash.to_string())
}

/// A password to be given to somebody: 79 random bits, `abcd-efgh-...`.
pub fn password_random() -> String {
    // No 0/o, 1/i/l.
    const LETTERS: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";
    let mut rng = rand::rng();
    let fours: Vec<String> = (0..4)
        .map(|_| {
            let letters = (0..4).map(|_| char::from(LETTERS[rng.random_range(0..31)]));
            letters.collect()
        })
        .collect();
    fours.join("-")
}

/// A hash that no password is meant to have, with the default cost.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_fits_its_hash() {
        let passwords = Passwords::new();
        let hash = passwords.hash("열려라 참깨".into()).await.unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        let fits = |password: &str, hash: Option<String>| {
            let passwords = passwords.clone();
            let password = password.to_owned();
            async move { passwords.verify(password, hash).await.unwrap() }
        };
        assert!(fits("열려라 참깨", Some(hash.clone())).await);
        assert!(!fits("열려라 참께", Some(hash)).await);
        assert!(!fits("열려라 참깨", None).await);
    }
}
