//! `/api/v1/jobs`

use axum::Json;
use axum::extract::State;
use dess_model::JobId;
use dess_node::operations::JobView;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{Page, wanted};
use super::details::ProblemDetails;
use super::document::described;
use super::endpoints::Api;
use super::extract::{Asked, Named};
use crate::app::App;
use crate::gate::Needs::{Operator, Viewer};
use crate::visitor::Member;

type Result<T> = std::result::Result<T, ProblemDetails>;

pub(super) fn routes(api: Api) -> Api {
    api.get(
        "/api/v1/jobs",
        Viewer,
        list,
        described("job_list", "Jobs, newest first."),
    )
    .get(
        "/api/v1/jobs/{job}",
        Viewer,
        show,
        described("job_show", "One job."),
    )
    .post(
        "/api/v1/jobs/{job}/cancel",
        Operator,
        cancel,
        described(
            "job_cancel",
            "Asks for the end of a job: a queued one ends at once, a running one soon.",
        ),
    )
}

/// Which job.
#[derive(Debug, Deserialize, JsonSchema)]
struct JobName {
    /// Its id.
    job: JobId,
}

/// Which jobs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JobQuery {
    /// Most items of a page [default: 100].
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<JobId>,
}

async fn list(
    State(app): State<App>,
    member: Member,
    Asked(query): Asked<JobQuery>,
) -> Result<Json<Page<JobView>>> {
    let limit = wanted(query.limit)?;
    let more = u32::try_from(limit).unwrap_or(u32::MAX).saturating_add(1);
    let mut items = member
        .operations(&app)
        .job_list_before(query.cursor, more)
        .await?;
    let next = (items.len() > limit).then(|| items[limit - 1].id.to_string());
    items.truncate(limit);
    Ok(Json(Page { items, next }))
}

async fn show(
    State(app): State<App>,
    member: Member,
    Named(name): Named<JobName>,
) -> Result<Json<JobView>> {
    Ok(Json(member.operations(&app).job_get(name.job).await?))
}

async fn cancel(
    State(app): State<App>,
    member: Member,
    Named(name): Named<JobName>,
) -> Result<Json<JobView>> {
    let operations = member.operations(&app);
    operations.job_cancel(name.job).await?;
    Ok(Json(operations.job_get(name.job).await?))
}
