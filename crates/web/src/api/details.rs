//! What went wrong, as RFC 9457 problem details.

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{MediaType, Operation, Response as Documented, SchemaObject};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use dess_model::ControlError;
use dess_node::operations::OperationError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::site::{Trouble, chain};

/// Media type of problem details (RFC 9457 §3).
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";
/// Before each code in `type`: names the kind of problem, and is no address (RFC 4151).
const TYPE_PREFIX: &str = "tag:dess.io,2026-11:problem/";
/// When to try again after 503, in seconds.
const RETRY_AFTER_SECS: HeaderValue = HeaderValue::from_static("2");

/// What went wrong (RFC 9457 §3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProblemDetails {
    /// Names the kind of problem; ends with `code`.
    #[serde(rename = "type")]
    #[schemars(regex(pattern = "^tag:"))]
    pub kind: Box<str>,
    /// The kind of problem in words.
    pub title: String,
    /// The HTTP status.
    #[schemars(range(min = 400, max = 599))]
    pub status: u16,
    /// What happened this time, and what would help.
    pub detail: String,
    /// Stable key of the kind of problem, e.g. `conflict`.
    pub code: String,
    /// What is wrong with which field of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldProblem {
    /// Where in the request's body (RFC 6901), e.g. `/seat`.
    pub pointer: String,
    /// Stable key, e.g. `invalid`.
    pub code: String,
    /// What is wrong and what would be right.
    pub detail: String,
}

impl ProblemDetails {
    pub(crate) fn new(status: StatusCode, code: &str, title: &str, detail: String) -> Self {
        Self {
            kind: format!("{TYPE_PREFIX}{code}").into(),
            title: title.to_owned(),
            status: status.as_u16(),
            detail,
            code: code.to_owned(),
            errors: Vec::new(),
        }
    }

    /// There is nothing at this address.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        let title = "There is no such thing";
        Self::new(StatusCode::NOT_FOUND, "not_found", title, detail.into())
    }

    /// A part of the address, a query or a header that cannot be used.
    pub(crate) fn bad_request(code: &str, detail: impl Into<String>) -> Self {
        let title = "The request cannot be used";
        Self::new(StatusCode::BAD_REQUEST, code, title, detail.into())
    }

    /// A field of the body that cannot be accepted.
    pub(crate) fn invalid(pointer: &str, code: &str, detail: &str) -> Self {
        let title = "A field has a value that cannot be accepted";
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::new(status, "invalid", title, detail.to_owned()).at(pointer, code, detail)
    }

    fn at(mut self, pointer: &str, code: &str, detail: &str) -> Self {
        self.errors.push(FieldProblem {
            pointer: pointer.to_owned(),
            code: code.to_owned(),
            detail: detail.to_owned(),
        });
        self
    }

    fn of_operation(error: &OperationError) -> Self {
        let (code, detail) = (error.key(), error.to_string());
        match error {
            OperationError::Invalid { field, .. } => {
                Self::invalid(&pointer(field), "invalid", &detail)
            }
            OperationError::Conflict { field, .. } => {
                let title = "The value is taken";
                Self::new(StatusCode::CONFLICT, code, title, detail.clone()).at(
                    &pointer(field),
                    code,
                    &detail,
                )
            }
            OperationError::NotFound { .. } => Self::not_found(detail),
            OperationError::SiteExists { .. } | OperationError::Refused(_) => {
                let title = "The present state does not allow it";
                Self::new(StatusCode::CONFLICT, code, title, detail)
            }
            OperationError::Stale { .. } => {
                let title = "It was changed meanwhile";
                Self::new(StatusCode::PRECONDITION_FAILED, code, title, detail)
            }
            OperationError::Target(refusal) => Self::of_target(refusal),
            OperationError::Service(_) => {
                Self::unavailable(code, "A service does not answer", detail)
            }
            OperationError::NoSite | OperationError::Store(_) => {
                Self::of_trouble(&Trouble::of(error))
            }
        }
    }

    /// Why the iSCSI service refused.
    fn of_target(refusal: &ControlError) -> Self {
        let detail = refusal.to_string();
        let conflict =
            |code: &str, title: &str| Self::new(StatusCode::CONFLICT, code, title, detail.clone());
        match refusal {
            ControlError::Running { .. } => conflict("client_running", "The client is running"),
            ControlError::UnknownClient { .. }
            | ControlError::NotApproved { .. }
            | ControlError::NoImage { .. } => {
                conflict("client_not_ready", "The client has no disk yet")
            }
            ControlError::InUse { .. } | ControlError::Disk { .. } => {
                conflict("disk", "The disk cannot be used")
            }
            ControlError::NoRoom { .. } => {
                let title = "There is no room for it";
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "no_room", title, detail)
            }
            ControlError::Malformed { .. } => {
                Self::unavailable("service", "A service does not answer", detail)
            }
        }
    }

    fn of_trouble(trouble: &Trouble) -> Self {
        match trouble {
            Trouble::NoSite => {
                let detail = OperationError::NoSite.to_string();
                Self::unavailable("no_site", "The site is not set up yet", detail)
            }
            // The cause names files of the server: in the log.
            Trouble::Database(cause) => {
                tracing::error!(cause, "the database cannot be used");
                let detail = "nothing was changed, or it is not known whether it was; try again";
                let title = "The database cannot be used";
                Self::unavailable("database", title, detail.to_owned())
            }
        }
    }

    pub(crate) fn unavailable(code: &str, title: &str, detail: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, title, detail)
    }

    /// A problem of the page, for a program.
    pub(crate) fn of(problem: &Problem) -> Self {
        let of = |status, code, title: &str, detail: &str| {
            Self::new(status, code, title, detail.to_owned())
        };
        match problem {
            Problem::LoginNeeded(_) => of(
                StatusCode::UNAUTHORIZED,
                "login_needed",
                "Nobody is logged in",
                "send a token (Authorization: Bearer) or the cookie of a login that has not ended",
            ),
            Problem::NotFound => Self::not_found("there is nothing at this address"),
            Problem::Forbidden => of(
                StatusCode::FORBIDDEN,
                "forbidden",
                "The role or the token does not allow it",
                "ask somebody whose role allows it, or use a token with a wider scope",
            ),
            Problem::Forged => of(
                StatusCode::FORBIDDEN,
                "forged",
                "The request comes from another site",
                "it was sent by a page of another site in a browser",
            ),
            Problem::Malformed => Self::bad_request("malformed", "it cannot be read"),
            Problem::TooLarge => of(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "The request is too large",
                "a body has at most 64 KiB",
            ),
            Problem::Slow => of(
                StatusCode::GATEWAY_TIMEOUT,
                "slow",
                "The server did not answer in time",
                "it is not known whether it was done; look first, then try again",
            ),
            Problem::Refused(error) => Self::of_operation(error),
            Problem::Trouble(trouble) => Self::of_trouble(trouble),
            Problem::Internal => of(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "The server made a mistake",
                "its log says more",
            ),
        }
    }
}

/// Where in a body a field of an operation stands.
fn pointer(field: &str) -> String {
    match field {
        "MAC" => "/mac".to_owned(),
        "read bytes" => "/limits/read_bytes_per_sec".to_owned(),
        "write bytes" => "/limits/write_bytes_per_sec".to_owned(),
        "read IOPS" => "/limits/read_iops".to_owned(),
        "write IOPS" => "/limits/write_iops".to_owned(),
        "burst" => "/limits/burst_ms".to_owned(),
        "overlay size" => "/limits".to_owned(),
        "data disk" => "/data_disks".to_owned(),
        "pool marks" | "pool rate" => "/pool".to_owned(),
        other => format!("/{}", other.replace(' ', "_").to_lowercase()),
    }
}

impl From<OperationError> for ProblemDetails {
    fn from(error: OperationError) -> Self {
        if !matches!(error, OperationError::NotFound { .. }) {
            tracing::info!(cause = chain(&error), "an operation was refused");
        }
        Self::of_operation(&error)
    }
}

impl From<Problem> for ProblemDetails {
    fn from(problem: Problem) -> Self {
        Self::of(&problem)
    }
}

impl IntoResponse for ProblemDetails {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECS);
        }
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            headers.insert(axum::http::header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl OperationOutput for ProblemDetails {
    type Inner = Self;

    fn operation_response(context: &mut GenContext, _: &mut Operation) -> Option<Documented> {
        let media = MediaType {
            schema: Some(SchemaObject {
                json_schema: context.schema.subschema_for::<Self>(),
                external_docs: None,
                example: None,
            }),
            ..MediaType::default()
        };
        Some(Documented {
            description: "What went wrong.".to_owned(),
            content: [(PROBLEM_JSON.to_owned(), media)].into_iter().collect(),
            ..Documented::default()
        })
    }

    fn inferred_responses(
        context: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<u16>, Documented)> {
        let response = Self::operation_response(context, operation);
        response
            .map(|response| (None, response))
            .into_iter()
            .collect()
    }
}

/// What an extractor answers instead of the handler, for the document.
pub(super) fn early(
    context: &mut GenContext,
    operation: &mut Operation,
    answers: &[(u16, &str)],
) -> Vec<(Option<u16>, Documented)> {
    let of = |(status, description): &(u16, &str)| {
        let mut response = ProblemDetails::operation_response(context, operation)?;
        response.description = (*description).to_owned();
        Some((Some(*status), response))
    };
    answers.iter().filter_map(of).collect()
}
