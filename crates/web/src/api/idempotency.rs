//! `Idempotency-Key`: a creation that is ordered twice is done once.

use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::Operation;
use aide::operation::add_parameters;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use dess_node::operations::{OperationError, Operations};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::details::ProblemDetails;
use super::extract::header;
use crate::app::App;

/// Name of the header.
const HEADER: &str = "idempotency-key";
/// Longest key in characters.
const KEY_MAX: usize = 128;

/// The key of a request, if it has one.
#[derive(Debug)]
pub(super) struct Once(Option<Key>);

#[derive(Debug)]
struct Key {
    text: String,
    /// What is ordered: the same key under two addresses is not the same order.
    path: String,
}

impl Once {
    /// Carries `work` out, unless the same was ordered under this key before: answers what came of that then.
    pub(super) async fn create<T: Serialize + DeserializeOwned>(
        &self,
        operations: &Operations,
        request: &impl Serialize,
        work: impl Future<Output = Result<T, OperationError>>,
    ) -> Result<T, ProblemDetails> {
        match &self.0 {
            None => Ok(work.await?),
            Some(key) => Ok(operations
                .once(&key.text, &(&key.path, request), work)
                .await?),
        }
    }
}

impl FromRequestParts<App> for Once {
    type Rejection = ProblemDetails;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ProblemDetails> {
        let Some(value) = parts.headers.get(HEADER) else {
            return Ok(Self(None));
        };
        let key = value.to_str().unwrap_or_default();
        if key.is_empty() || key.len() > KEY_MAX {
            let detail = format!("Idempotency-Key: 1 to {KEY_MAX} printable ASCII characters");
            return Err(ProblemDetails::bad_request("invalid_key", detail));
        }
        let (text, path) = (key.to_owned(), parts.uri.path().to_owned());
        Ok(Self(Some(Key { text, path })))
    }
}

impl OperationInput for Once {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let words = "Chosen by the sender, e.g. a UUID: the same request with the same key within a day is carried out once.";
        let parameter = header(context, "Idempotency-Key", words, false);
        add_parameters(context, operation, [parameter]);
    }
}
