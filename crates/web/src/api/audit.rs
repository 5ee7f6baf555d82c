//! `/api/v1/audit`

use axum::Json;
use axum::extract::State;
use dess_model::Timestamp;
use dess_node::operations::{AuditCursor, AuditQuery, AuditView};
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{Page, wanted};
use super::details::ProblemDetails;
use super::document::described;
use super::endpoints::Api;
use super::extract::Asked;
use crate::app::App;
use crate::gate::Needs::Owner;
use crate::visitor::Member;

pub(super) fn routes(api: Api) -> Api {
    let words = described("audit_list", "The audit log, newest first.");
    api.get("/api/v1/audit", Owner, list, words)
}

/// Which lines.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AuditAsked {
    /// Only those of this actor, e.g. `web:owner`.
    actor: Option<String>,
    /// Only those of this action or kind of action: `client` finds `client.reset`.
    action: Option<String>,
    /// Only those about this.
    subject: Option<String>,
    /// Only those from this time on, in milliseconds since the Unix epoch.
    since: Option<i64>,
    /// Most items of a page [default: 100].
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

async fn list(
    State(app): State<App>,
    member: Member,
    Asked(asked): Asked<AuditAsked>,
) -> Result<Json<Page<AuditView>>, ProblemDetails> {
    let limit = wanted(asked.limit)?;
    let before = asked.cursor.as_deref().map(AuditCursor::decode);
    if before == Some(None) {
        let detail = "cursor: it is not the `next` of an answer";
        return Err(ProblemDetails::bad_request("invalid_query", detail));
    }
    let query = AuditQuery {
        actor: asked.actor,
        action: asked.action,
        subject: asked.subject,
        since: asked.since.map(Timestamp),
        before: before.flatten(),
    };
    let more = u32::try_from(limit).unwrap_or(u32::MAX).saturating_add(1);
    let mut items = member.operations(&app).audit_find(&query, more).await?;
    let next = (items.len() > limit).then(|| items[limit - 1].cursor().encode());
    items.truncate(limit);
    Ok(Json(Page { items, next }))
}
