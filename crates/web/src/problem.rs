//! Pages for what went wrong: in words, with the next step, in the reader's language.

use std::sync::Arc;

use askama::Template;
use axum::Json;
use axum::extract::rejection::FormRejection;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use dess_model::ControlError;
use dess_node::operations::OperationError;

use crate::api;
use crate::api::details::ProblemDetails;
use crate::app::App;
use crate::catalog::{Catalog, Phrase};
use crate::frame::Frame;
use crate::page::ServicesPart;
use crate::site::{Trouble, chain};
use crate::view::service_rows;
use crate::visitor::Visitor;

/// A request that gets no ordinary answer.
#[derive(Clone, Debug)]
pub(crate) enum Problem {
    /// Nobody is logged in; where to go, or none for a program.
    LoginNeeded(Option<String>),
    /// There is no such page or thing.
    NotFound,
    /// The role of who asks does not allow it.
    Forbidden,
    /// The request does not come from our page.
    Forged,
    /// The request cannot be read.
    Malformed,
    /// The request is too large.
    TooLarge,
    /// The server did not answer in time.
    Slow,
    /// The operation was refused.
    Refused(Arc<OperationError>),
    /// The database cannot be used.
    Trouble(Trouble),
    /// Our own fault; already logged.
    Internal,
}

impl Problem {
    pub(crate) fn login(visitor: &Visitor, method: &Method) -> Self {
        let program = visitor.path.starts_with("/api/") || visitor.path.starts_with("/live/");
        if program {
            return Self::LoginNeeded(None);
        }
        let back = match *method {
            Method::GET if visitor.path != "/" => format!("/login?back={}", encode(&visitor.path)),
            _ => "/login".to_owned(),
        };
        Self::LoginNeeded(Some(back))
    }

    pub(crate) fn of_form(rejection: &FormRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            _ => Self::Malformed,
        }
    }

    /// Logs our own fault.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static), what: &str) -> Self {
        tracing::error!(error, "{what}");
        Self::Internal
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::LoginNeeded(Some(_)) => StatusCode::SEE_OTHER,
            Self::LoginNeeded(None) => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Forbidden | Self::Forged => StatusCode::FORBIDDEN,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::GATEWAY_TIMEOUT,
            Self::Refused(_) => StatusCode::CONFLICT,
            Self::Trouble(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn key(&self) -> &'static str {
        match self {
            Self::LoginNeeded(_) => "login_needed",
            Self::NotFound => "not_found",
            Self::Forbidden => "forbidden",
            Self::Forged => "forged",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Slow => "slow",
            Self::Refused(error) => error.key(),
            Self::Trouble(Trouble::NoSite) => "no_site",
            Self::Trouble(Trouble::Database(_)) => "database",
            Self::Internal => "internal",
        }
    }

    /// Heading, what happened, and the next step.
    fn words(&self, t: &Catalog) -> (Phrase, String, Phrase) {
        match self {
            Self::LoginNeeded(_) => (t.log_in, t.log_in.into(), t.log_in),
            Self::NotFound => (
                t.problem_not_found,
                t.problem_not_found_what.into(),
                t.problem_not_found_next,
            ),
            Self::Forbidden => (
                t.problem_forbidden,
                t.problem_forbidden_what.into(),
                t.problem_forbidden_next,
            ),
            Self::Forged => (
                t.problem_forged,
                t.problem_forged_what.into(),
                t.problem_forged_next,
            ),
            Self::Malformed => (
                t.problem_malformed,
                t.problem_malformed_what.into(),
                t.problem_refused_next,
            ),
            Self::TooLarge => (
                t.problem_large,
                t.problem_malformed_what.into(),
                t.problem_refused_next,
            ),
            Self::Slow => (
                t.problem_slow,
                t.problem_slow_what.into(),
                t.problem_internal_next,
            ),
            Self::Refused(error) => (t.problem_refused, refusal(t, error), t.problem_refused_next),
            Self::Trouble(Trouble::NoSite) => {
                (t.no_site_title, t.no_site_what.into(), t.no_site_next)
            }
            Self::Trouble(Trouble::Database(_)) => {
                (t.database_title, t.database_what.into(), t.database_next)
            }
            Self::Internal => (
                t.problem_internal,
                t.problem_internal_what.into(),
                t.problem_internal_next,
            ),
        }
    }
}

/// Why an operation was refused, in the reader's language.
pub(crate) fn refusal(t: &Catalog, error: &OperationError) -> String {
    match error {
        OperationError::Invalid { field, reason } => invalid(t, field, reason),
        OperationError::Conflict {
            field,
            value,
            owner,
        } => t
            .refused_taken
            .with("field", field_word(t, field))
            .with("value", value)
            .with("owner", owner)
            .into(),
        OperationError::NotFound { name, .. } => t.refused_missing.with("name", name).into(),
        OperationError::Target(refusal) => match refusal {
            ControlError::Running { .. } => t.refused_running.into(),
            ControlError::NotApproved { .. }
            | ControlError::NoImage { .. }
            | ControlError::UnknownClient { .. } => t.refused_not_ready.into(),
            ControlError::NoRoom { .. } => t.fault_e51.into(),
            ControlError::Disk { .. } | ControlError::InUse { .. } => t.refused_disk.into(),
            ControlError::Malformed { .. } => t.refused_no_answer.into(),
        },
        OperationError::Service(_) => t.refused_no_answer.into(),
        OperationError::Store(_) => t.database_title.into(),
        OperationError::NoSite => t.no_site_title.into(),
        OperationError::Refused(_)
        | OperationError::SiteExists { .. }
        | OperationError::Stale { .. } => t.refused_state.into(),
    }
}

/// What a field may hold. For fields that no page sends, the operation's own words.
fn invalid(t: &Catalog, field: &str, reason: &str) -> String {
    match field {
        "seat" => t.invalid_seat.into(),
        "name" => t.invalid_name.into(),
        "MAC" => t.invalid_mac.into(),
        "address" => t.invalid_address.into(),
        "source" => t.invalid_source.into(),
        "boot file" => t.invalid_boot_file.into(),
        "user name" | "token name" => t.setup_name_wrong.into(),
        "scope" => t.refused_scope.into(),
        _ => t
            .refused_invalid
            .with("field", field_word(t, field))
            .with("reason", reason)
            .into(),
    }
}

fn field_word(t: &Catalog, field: &str) -> String {
    match field {
        "seat" => t.seat.into(),
        "name" => t.name.into(),
        "MAC" => t.mac.into(),
        "address" => t.address.into(),
        "boot file" => t.field_boot_file.into(),
        "user name" => t.user_name.into(),
        "token name" => t.field_token_name.into(),
        other => other.to_owned(),
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::NotFound { .. } => Self::NotFound,
            OperationError::NoSite | OperationError::Store(_) => Self::Trouble(Trouble::of(&error)),
            OperationError::Invalid { .. }
            | OperationError::Conflict { .. }
            | OperationError::SiteExists { .. }
            | OperationError::Stale { .. }
            | OperationError::Refused(_)
            | OperationError::Service(_)
            | OperationError::Target(_) => {
                // The page says it in the reader's words; here are the operation's own.
                tracing::info!(cause = chain(&error), "an operation was refused");
                Self::Refused(Arc::new(error))
            }
        }
    }
}

impl IntoResponse for Problem {
    /// An empty answer that carries the problem; [`show_problems`] gives it words.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    t: &'static Catalog,
    f: Frame,
    key: &'static str,
    title: Phrase,
    what: String,
    next: Phrase,
    detail: Option<String>,
    back: String,
    back_word: Phrase,
    refresh: bool,
    services: String,
}

/// Middleware: turns problems, and bare refusals of the layers below, into pages or JSON.
pub(crate) async fn show_problems(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let visitor = Visitor::of(&parts);
    let mut response = next.run(Request::from_parts(parts, body)).await;
    let problem = response
        .extensions_mut()
        .remove::<Problem>()
        .or_else(|| bare_refusal(&response, is_api(&visitor)));
    match problem {
        Some(problem) if is_api(&visitor) => ProblemDetails::of(&problem).into_response(),
        Some(problem) => render(&app, &visitor, problem).await,
        None if is_api(&visitor) && response.status() == StatusCode::METHOD_NOT_ALLOWED => {
            method_not_allowed(&response)
        }
        None => response,
    }
}

fn is_api(visitor: &Visitor) -> bool {
    visitor.path.starts_with(api::PREFIX)
}

/// Says which methods there are (RFC 9110 §15.5.6).
fn method_not_allowed(bare: &Response) -> Response {
    let details = ProblemDetails::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "There is no such method here",
        "the header Allow names those that there are".to_owned(),
    );
    let mut response = details.into_response();
    if let Some(allow) = bare.headers().get(ALLOW) {
        response.headers_mut().insert(ALLOW, allow.clone());
    }
    response
}

/// What a layer below refused without words; a page or JSON has its own.
fn bare_refusal(response: &Response, api: bool) -> Option<Problem> {
    let kind = response.headers().get(CONTENT_TYPE);
    let has_words = kind.is_some_and(|kind| !kind.as_bytes().starts_with(b"text/plain"));
    match response.status() {
        _ if has_words => None,
        StatusCode::METHOD_NOT_ALLOWED if api => None,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Some(Problem::NotFound),
        StatusCode::FORBIDDEN => Some(Problem::Forged),
        StatusCode::BAD_REQUEST
        | StatusCode::UNPROCESSABLE_ENTITY
        | StatusCode::UNSUPPORTED_MEDIA_TYPE => Some(Problem::Malformed),
        StatusCode::PAYLOAD_TOO_LARGE => Some(Problem::TooLarge),
        StatusCode::GATEWAY_TIMEOUT => Some(Problem::Slow),
        _ => None,
    }
}

async fn render(app: &App, visitor: &Visitor, problem: Problem) -> Response {
    let status = problem.status();
    if let Problem::LoginNeeded(Some(login)) = &problem {
        return Redirect::to(login).into_response();
    }
    let words = app.wording(visitor.language);
    let (title, what, next) = problem.words(words.t);
    if visitor.path.starts_with("/live/") {
        let body = serde_json::json!({ "error": { "key": problem.key(), "message": what, "next": next.to_string() } });
        let mut response = (status, Json(body)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §11.6.1: such an answer names how to log in.
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        return response;
    }
    let recovers = matches!(problem, Problem::Trouble(_));
    let services = if recovers {
        let seen = app.feed.services().await;
        ServicesPart::render_html(words.t, &service_rows(&words, seen.as_deref()), false)
    } else {
        String::new()
    };
    let page = ProblemPage {
        t: words.t,
        f: Frame::new(&words, visitor),
        key: problem.key(),
        title,
        what,
        next,
        // The cause names files of the server: for those who are logged in, in the log for all.
        detail: None,
        back: if recovers {
            visitor.path.clone()
        } else {
            "/".into()
        },
        back_word: if recovers {
            words.t.back_retry
        } else {
            words.t.back_home
        },
        refresh: recovers,
        services,
    };
    if let Problem::Trouble(Trouble::Database(cause)) = &problem {
        tracing::error!(cause, "the database cannot be read");
    }
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot render a problem page");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// As `encode`, for one segment of a path or a value of a query.
pub fn encode_segment(text: &str) -> String {
    encode(text).replace('/', "%2F")
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3) and `/`.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            other => {
                encoded.push_str(&format!("%{other:02X}"));
            }
        }
    }
    encoded
}
