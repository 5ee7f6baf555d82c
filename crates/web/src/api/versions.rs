//! `/api/v1/images/{image}/versions`

use axum::Json;
use axum::extract::State;
use dess_node::operations::{DifferenceView, OperationError, VersionView};
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::Ordered;
use super::details::ProblemDetails;
use super::document::described;
use super::endpoints::Api;
use super::extract::{Asked, Named};
use super::idempotency::Once;
use super::images::ImageName;
use crate::app::App;
use crate::gate::Needs::{Operator, Viewer};
use crate::visitor::Member;

type Result<T> = std::result::Result<T, ProblemDetails>;

pub(super) fn routes(api: Api) -> Api {
    api.get(
        "/api/v1/images/{image}/versions",
        Viewer,
        list,
        described("version_list", "The versions of an image, oldest first."),
    )
    .delete(
        "/api/v1/images/{image}/versions/{number}",
        Operator,
        remove,
        described(
            "version_remove",
            "Removes a version that nobody needs; its files are removed by a job.",
        ),
    )
    .post(
        "/api/v1/images/{image}/versions/{number}/flatten",
        Operator,
        flatten,
        described(
            "version_flatten",
            "Orders that a version is made whole, so that it needs no other one.",
        ),
    )
    .get(
        "/api/v1/images/{image}/difference",
        Viewer,
        difference,
        described(
            "version_difference",
            "How much was written between two versions.",
        ),
    )
}

/// Which version.
#[derive(Debug, Deserialize, JsonSchema)]
struct VersionName {
    /// Name of the image.
    image: String,
    /// Number of the version.
    number: u32,
}

impl VersionName {
    fn label(&self) -> String {
        format!("{}@{}", self.image, self.number)
    }
}

async fn list(
    State(app): State<App>,
    member: Member,
    Named(ImageName { image }): Named<ImageName>,
) -> Result<Json<Vec<VersionView>>> {
    let images = member.operations(&app).image_list().await?;
    let found = images.into_iter().find(|found| found.name == image);
    let (what, name) = ("image", image);
    let missing = || OperationError::NotFound { what, name };
    Ok(Json(found.ok_or_else(missing)?.versions))
}

async fn remove(
    State(app): State<App>,
    member: Member,
    Named(name): Named<VersionName>,
) -> Result<Ordered> {
    let operations = member.operations(&app);
    let job = operations.version_remove(&name.label()).await?;
    Ordered::of(&operations, job).await
}

async fn flatten(
    State(app): State<App>,
    member: Member,
    Named(name): Named<VersionName>,
    once: Once,
) -> Result<Ordered> {
    let operations = member.operations(&app);
    let label = name.label();
    let start = operations.version_flatten_start(&label);
    let job = once.create(&operations, &label, start).await?;
    Ordered::of(&operations, job).await
}

/// Between which versions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DifferenceQuery {
    /// Number of one.
    from: u32,
    /// Number of the other.
    to: u32,
}

async fn difference(
    State(app): State<App>,
    member: Member,
    Named(ImageName { image }): Named<ImageName>,
    Asked(query): Asked<DifferenceQuery>,
) -> Result<Json<DifferenceView>> {
    let (one, other) = (
        format!("{image}@{}", query.from),
        format!("{image}@{}", query.to),
    );
    Ok(Json(
        member
            .operations(&app)
            .version_difference(&one, &other)
            .await?,
    ))
}
