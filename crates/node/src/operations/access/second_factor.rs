//! The second factor of a login: time-based codes (RFC 6238) and recovery codes.

use serde_json::json;

use super::users::existing;
use crate::operations::{OperationError, Operations, Result, audit};

/// A second factor to keep. Without `Debug`: it holds the key.
#[derive(Clone)]
pub struct SecondFactor {
    /// Key in base32, shared with the authenticator.
    pub secret: String,
    /// The time step whose code proved that the authenticator has it.
    pub step: i64,
    /// Hashes of the recovery codes.
    pub recovery_hashes: Vec<String>,
}

impl Operations {
    /// From now on the user needs a code of the authenticator to log in.
    ///
    /// # Errors
    /// If there is no such user.
    pub async fn second_factor_set(&self, user: &str, factor: SecondFactor) -> Result<()> {
        let actor = &*self.actor;
        let factor = &factor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let mut record = existing(&mut tx, user).await?;
                record.totp_secret = Some(factor.secret.clone());
                record.totp_step = Some(factor.step);
                tx.user_update(&record).await?;
                tx.recovery_codes_replace(user, &factor.recovery_hashes)
                    .await?;
                audit(&mut tx, actor, "user.totp_on", user, json!({})).await?;
                Ok(())
            })
            .await
    }

    /// From now on the password alone is enough.
    ///
    /// # Errors
    /// [`OperationError::Refused`] if the user has no second factor.
    pub async fn second_factor_remove(&self, user: &str) -> Result<()> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let mut record = existing(&mut tx, user).await?;
                if record.totp_secret.take().is_none() {
                    let reason = format!("{user} has no second factor");
                    return Err(OperationError::Refused(reason));
                }
                record.totp_step = None;
                tx.user_update(&record).await?;
                tx.recovery_codes_replace(user, &[]).await?;
                audit(&mut tx, actor, "user.totp_off", user, json!({})).await?;
                Ok(())
            })
            .await
    }

    /// Uses up the code of a time step: false if it, or a later one, was used before.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn totp_step_use(&self, user: &str, step: i64) -> Result<bool> {
        self.store()
            .await?
            .transact(|mut tx| async move {
                let mut record = existing(&mut tx, user).await?;
                if record.totp_step.is_some_and(|used| used >= step) {
                    return Ok(false);
                }
                record.totp_step = Some(step);
                tx.user_update(&record).await?;
                Ok(true)
            })
            .await
    }

    /// Uses up a recovery code: false if the user has none with this hash.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn recovery_code_use(&self, user: &str, code_hash: &str) -> Result<bool> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let used = tx.recovery_code_delete(user, code_hash).await?;
                if used {
                    let left = tx.recovery_code_count(user).await?;
                    let details = json!({ "left": left });
                    audit(&mut tx, actor, "user.recovery_code", user, details).await?;
                }
                Ok(used)
            })
            .await
    }

    /// How many recovery codes the user has left.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn recovery_codes_left(&self, user: &str) -> Result<u64> {
        Ok(self.read().await?.recovery_code_count(user).await?)
    }

    /// Gives a user new recovery codes; the old ones are void.
    ///
    /// # Errors
    /// [`OperationError::Refused`] if the user has no second factor.
    pub async fn recovery_codes_set(&self, user: &str, hashes: &[String]) -> Result<()> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                if existing(&mut tx, user).await?.totp_secret.is_none() {
                    let reason = format!("{user} has no second factor");
                    return Err(OperationError::Refused(reason));
                }
                tx.recovery_codes_replace(user, hashes).await?;
                audit(&mut tx, actor, "user.recovery_codes", user, json!({})).await?;
                Ok(())
            })
            .await
    }
}
