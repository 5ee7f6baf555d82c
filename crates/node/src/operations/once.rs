//! Orders that are carried out once, however often they arrive.

use dess_model::Timestamp;
use dess_store::RequestRecord;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{OperationError, Operations, Result, Revision};

/// How long what came of an order is kept, in milliseconds.
const KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// After this long, in milliseconds, an order whose end nobody noted is taken for lost: whoever carried it out was ended. No order
/// takes as long; a request ends after 20 s.
const LOST_MS: u64 = 60 * 1000;

/// What is known of an order.
enum Known {
    New,
    Answered(String),
}

impl Operations {
    /// Carries `work` out for an order under `key`; if the same actor ordered the same under it within a day, answers what came of
    /// that instead. What failed may be ordered again.
    ///
    /// # Errors
    /// Those of `work`; or if another order has the key, or the same one is under way.
    pub async fn once<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        order: &impl Serialize,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let fingerprint = Revision::of(&json!(order)).0;
        let known = self.order_note(key, &fingerprint).await?;
        if let Known::Answered(answer) = known {
            return serde_json::from_str(&answer).map_err(|_| {
                let reason = "what came of the order was noted by another release";
                OperationError::Refused(reason.to_owned())
            });
        }
        let (owner, store) = (self.owner(), self.store().await?);
        match work.await {
            Ok(value) => {
                let answer = &json!(value).to_string();
                store
                    .transact(|mut tx| async move {
                        Ok::<_, OperationError>(tx.request_answer(owner, key, answer).await?)
                    })
                    .await?;
                Ok(value)
            }
            Err(error) => {
                store
                    .transact(|mut tx| async move {
                        Ok::<_, OperationError>(tx.request_delete(owner, key).await?)
                    })
                    .await?;
                Err(error)
            }
        }
    }

    /// Who orders, wherever from.
    fn owner(&self) -> &str {
        self.actor.split('@').next().unwrap_or_default()
    }

    async fn order_note(&self, key: &str, fingerprint: &str) -> Result<Known> {
        let owner = self.owner();
        self.store()
            .await?
            .transact(|mut tx| async move {
                let now = Timestamp::now();
                let before = Timestamp(now.0.saturating_sub_unsigned(KEPT_MS));
                tx.request_delete_old(before).await?;
                if let Some(known) = tx.request_fetch(owner, key).await? {
                    if known.fingerprint != fingerprint {
                        let reason = "another order was given under this key";
                        return Err(OperationError::invalid("idempotency key", reason));
                    }
                    if let Some(answer) = known.answer {
                        return Ok(Known::Answered(answer));
                    }
                    if now.millis_since(known.created) < LOST_MS {
                        let reason = "the same order is under way under this key";
                        return Err(OperationError::Refused(reason.to_owned()));
                    }
                    tx.request_delete(owner, key).await?;
                }
                tx.request_insert(&RequestRecord {
                    owner: owner.to_owned(),
                    key: key.to_owned(),
                    fingerprint: fingerprint.to_owned(),
                    answer: None,
                    created: now,
                })
                .await?;
                Ok(Known::New)
            })
            .await
    }
}
