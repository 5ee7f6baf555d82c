//! A small JSON API for tests and tools; authorised by the session cookie, read-only.

use axum::Json;
use axum::extract::State;
use dess_node::operations::ClientView;
use dess_node::supervisor::protocol::ServiceStatus;
use serde::Serialize;

use crate::app::App;
use crate::problem::Problem;
use crate::visitor::Member;

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

/// Who is logged in.
#[derive(Debug, Serialize)]
pub(crate) struct SessionAnswer {
    user: String,
    expires_ms: i64,
}

/// `GET /api/v1/session`: 401 once the login has ended.
pub(crate) async fn session(member: Member) -> Json<SessionAnswer> {
    Json(SessionAnswer {
        user: member.session.user,
        expires_ms: member.session.expires.0,
    })
}
