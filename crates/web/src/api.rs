//! A small JSON API for tests and tools, read-only; for sessions and API tokens.

use axum::Json;
use axum::extract::{Query, State};
use dess_model::Role;
use dess_node::operations::{AuditCursor, AuditQuery, AuditView, ClientView};
use dess_node::supervisor::protocol::ServiceStatus;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::gate::Needs::{Owner, Viewer};
use crate::gate::Routes;
use crate::problem::Problem;
use crate::visitor::{Entry, Member};

/// Adds the addresses of the API.
pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/api/v1/clients", Viewer, clients)
        .get("/api/v1/services", Viewer, services)
        .get("/api/v1/session", Viewer, session)
        .get("/api/v1/audit", Owner, audit)
}

/// `GET /api/v1/clients`
pub(crate) async fn clients(
    State(app): State<App>,
    _: Member,
) -> Result<Json<Vec<ClientView>>, Problem> {
    Ok(Json(app.feed.operations().client_list().await?))
}

/// The services, and whether anybody could be asked.
#[derive(Debug, Serialize)]
pub(crate) struct ServicesAnswer {
    /// False if the supervisor does not answer; `services` is then empty.
    supervised: bool,
    services: Vec<ServiceStatus>,
}

/// `GET /api/v1/services`
pub(crate) async fn services(State(app): State<App>, _: Member) -> Json<ServicesAnswer> {
    let seen = app.feed.services().await;
    Json(ServicesAnswer {
        supervised: seen.is_some(),
        services: seen.unwrap_or_default(),
    })
}

/// Who asks.
#[derive(Debug, Serialize)]
pub(crate) struct SessionAnswer {
    user: String,
    role: Role,
    /// End of the login; none for an API token.
    expires_ms: Option<i64>,
}

/// `GET /api/v1/session`: 401 once the login has ended.
pub(crate) async fn session(member: Member) -> Json<SessionAnswer> {
    Json(SessionAnswer {
        expires_ms: match &member.entry {
            Entry::Session { session, .. } => Some(session.expires.0),
            Entry::Token(_) => None,
        },
        user: member.user,
        role: member.role,
    })
}

/// Which lines of the audit log, all if nothing is asked for.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct AuditAsked {
    actor: Option<String>,
    action: Option<String>,
    subject: Option<String>,
    /// `next` of the answer before.
    before: Option<String>,
}

/// A page of the audit log, newest first.
#[derive(Debug, Serialize)]
pub(crate) struct AuditAnswer {
    lines: Vec<AuditView>,
    /// For `before` of the next page; none at the end.
    next: Option<String>,
}

/// Lines of one page of the audit log.
const AUDIT_LINES: u32 = 100;

/// `GET /api/v1/audit`
pub(crate) async fn audit(
    State(app): State<App>,
    Query(asked): Query<AuditAsked>,
) -> Result<Json<AuditAnswer>, Problem> {
    let before = asked.before.as_deref().map(AuditCursor::decode);
    if before == Some(None) {
        return Err(Problem::Malformed);
    }
    let query = AuditQuery {
        actor: asked.actor,
        action: asked.action,
        subject: asked.subject,
        since: None,
        before: before.flatten(),
    };
    let operations = app.feed.operations();
    let lines = operations.audit_find(&query, AUDIT_LINES).await?;
    let full = lines.len() == AUDIT_LINES as usize;
    let next = lines.last().filter(|_| full);
    let next = next.map(|line| line.cursor().encode());
    Ok(Json(AuditAnswer { lines, next }))
}
