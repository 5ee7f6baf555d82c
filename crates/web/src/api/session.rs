//! `/api/v1/session`

use axum::Json;
use dess_model::Role;
use schemars::JsonSchema;
use serde::Serialize;

use super::document::described;
use super::endpoints::Api;
use crate::gate::Needs::Viewer;
use crate::visitor::{Entry, Member};

pub(super) fn routes(api: Api) -> Api {
    let words = described("session_show", "Who asks; 401 once the login has ended.");
    api.get("/api/v1/session", Viewer, session, words)
}

/// Who asks.
#[derive(Debug, Serialize, JsonSchema)]
struct SessionAnswer {
    /// Name of the user.
    user: String,
    /// What this request may do.
    role: Role,
    /// End of the login; none for an API token.
    expires_ms: Option<i64>,
}

async fn session(member: Member) -> Json<SessionAnswer> {
    Json(SessionAnswer {
        expires_ms: match &member.entry {
            Entry::Session { session, .. } => Some(session.expires.0),
            Entry::Token(_) => None,
        },
        user: member.user,
        role: member.role,
    })
}
