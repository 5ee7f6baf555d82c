//! The site: settings, snapshot, space, notices, and what its data path moves.

use axum::Json;
use axum::extract::State;
use dess_model::host::SnapshotReader;
use dess_model::{Registration, Timestamp};
use dess_node::operations::{
    DataPathView, NoticeView, OperationError, Operations, Overview, PoolChange, SiteView, SpaceView,
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::details::ProblemDetails;
use super::document::described;
use super::endpoints::Api;
use super::extract::{Asked, Body};
use crate::app::App;
use crate::gate::Needs::{Operator, Viewer};
use crate::visitor::Member;

type Result<T> = std::result::Result<T, ProblemDetails>;

/// How far back notices are answered unless another time is asked for, in milliseconds.
const NOTICES_WITHIN_MS: u64 = 60 * 60 * 1000;

pub(super) fn routes(api: Api) -> Api {
    api.get(
        "/api/v1/site",
        Viewer,
        show,
        described("site_show", "The settings of the site."),
    )
    .patch(
        "/api/v1/site",
        Operator,
        change,
        described(
            "site_change",
            "Changes settings of the site; what is not named stays.",
        ),
    )
    .get(
        "/api/v1/overview",
        Viewer,
        overview,
        described(
            "overview_show",
            "How many clients are in which state, and the faults.",
        ),
    )
    .get(
        "/api/v1/snapshot",
        Viewer,
        snapshot,
        described(
            "snapshot_show",
            "Which state of the site the data path works with.",
        ),
    )
    .get(
        "/api/v1/space",
        Viewer,
        space,
        described(
            "space_show",
            "The space for clients' writes, and who uses it.",
        ),
    )
    .get(
        "/api/v1/notices",
        Viewer,
        notices,
        described(
            "notice_list",
            "What an operator should know, the newest first.",
        ),
    )
    .get(
        "/api/v1/data-path",
        Viewer,
        data_path,
        described(
            "data_path_show",
            "Open iSCSI sessions, and counters of the clients.",
        ),
    )
}

async fn site_of(operations: &Operations) -> Result<SiteView> {
    Ok(operations.site().await?.ok_or(OperationError::NoSite)?)
}

async fn show(State(app): State<App>, member: Member) -> Result<Json<SiteView>> {
    Ok(Json(site_of(&member.operations(&app)).await?))
}

/// Changes of the site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SiteChange {
    /// What to do with unknown PCs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    /// Marks of the space for clients' writes.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolChange>,
}

/// An object or `null`. Left to itself, serde takes an array too, for the fields in their order.
fn object<'de, T, D>(deserializer: D) -> std::result::Result<Option<T>, D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    let fields = Option::<serde_json::Map<_, _>>::deserialize(deserializer)?;
    let value = fields.map(|fields| T::deserialize(serde_json::Value::Object(fields)));
    value.transpose().map_err(serde::de::Error::custom)
}

async fn change(
    State(app): State<App>,
    member: Member,
    Body(change): Body<SiteChange>,
) -> Result<Json<SiteView>> {
    let operations = member.operations(&app);
    // The one that can be refused first.
    if let Some(pool) = change.pool {
        operations.pool_set(pool).await?;
    }
    if let Some(registration) = change.registration {
        operations.registration_set(registration).await?;
    }
    Ok(Json(site_of(&operations).await?))
}

async fn overview(State(app): State<App>, member: Member) -> Result<Json<Overview>> {
    Ok(Json(member.operations(&app).overview().await?))
}

/// The state that the data path works with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotView {
    /// Revision of the site.
    pub site_revision: u64,
    /// Revision of the snapshot; none before the first one.
    pub published_revision: Option<u64>,
    /// When that was made.
    pub compiled_at: Option<Timestamp>,
    /// True if the data path works with the present settings.
    pub current: bool,
}

async fn snapshot(State(app): State<App>, member: Member) -> Result<Json<SnapshotView>> {
    let site = site_of(&member.operations(&app)).await?;
    let file = app.paths.snapshot();
    let read = tokio::task::spawn_blocking(move || SnapshotReader::new(file).current());
    let published = read.await.ok().flatten();
    let published_revision = published.as_ref().map(|snapshot| snapshot.revision);
    Ok(Json(SnapshotView {
        site_revision: site.revision,
        published_revision,
        compiled_at: published.map(|snapshot| snapshot.compiled_at),
        current: published_revision == Some(site.revision),
    }))
}

async fn space(State(app): State<App>, member: Member) -> Result<Json<SpaceView>> {
    Ok(Json(member.operations(&app).space().await?))
}

/// Which notices.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoticeQuery {
    /// Only those of the last so many milliseconds [default: an hour].
    within_ms: Option<u32>,
}

async fn notices(
    State(app): State<App>,
    member: Member,
    Asked(query): Asked<NoticeQuery>,
) -> Result<Json<Vec<NoticeView>>> {
    let within_ms = query.within_ms.map_or(NOTICES_WITHIN_MS, u64::from);
    Ok(Json(member.operations(&app).notice_list(within_ms).await?))
}

/// What the iSCSI service tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataPathAnswer {
    /// False if the iSCSI service does not run: nothing is known then.
    pub running: bool,
    /// Sessions and counters.
    #[serde(flatten)]
    pub seen: DataPathView,
}

async fn data_path(State(app): State<App>, member: Member) -> Result<Json<DataPathAnswer>> {
    let seen = member.operations(&app).data_path().await?;
    Ok(Json(DataPathAnswer {
        running: seen.is_some(),
        seen: seen.unwrap_or_default(),
    }))
}
