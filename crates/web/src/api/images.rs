//! `/api/v1/images`: images, and who boots them.

use axum::Json;
use axum::extract::State;
use dess_model::ClientId;
use dess_node::operations::{
    AssignTo, BootProfileView, Follow, ImageImport, ImageView, OperationError, PublishOrder,
    RolloutTo, RolloutView,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Ordered;
use super::details::ProblemDetails;
use super::document::{NoContent, described};
use super::endpoints::Api;
use super::extract::{Asked, Body, Named};
use super::idempotency::Once;
use crate::app::App;
use crate::gate::Needs::{Operator, Viewer};
use crate::visitor::Member;

type Result<T> = std::result::Result<T, ProblemDetails>;

pub(super) fn routes(api: Api) -> Api {
    maintenance_routes(api)
        .get(
            "/api/v1/images",
            Viewer,
            list,
            described("image_list", "All images with their versions, by name."),
        )
        .post(
            "/api/v1/images",
            Operator,
            import,
            described(
                "image_import",
                "Orders the import of a file on the server as a new image or version.",
            ),
        )
        .get(
            "/api/v1/images/{image}",
            Viewer,
            show,
            described("image_show", "One image."),
        )
        .post(
            "/api/v1/images/{image}/assign",
            Operator,
            assign,
            described("image_assign", "Chooses what clients boot."),
        )
        .post(
            "/api/v1/images/{image}/rollout",
            Operator,
            rollout,
            described(
                "image_rollout",
                "Gives a version to clients, from their next power-on on.",
            ),
        )
        .post(
            "/api/v1/images/{image}/rollback",
            Operator,
            rollback,
            described(
                "image_rollback",
                "Takes the last roll-out of an image back.",
            ),
        )
        .get(
            "/api/v1/boot-profiles",
            Viewer,
            profiles,
            described(
                "boot_profile_list",
                "What boots of each version read from the disk.",
            ),
        )
}

fn maintenance_routes(api: Api) -> Api {
    api.post(
        "/api/v1/images/{image}/maintain",
        Operator,
        maintain,
        described("image_maintain", "Lets one client write the next version."),
    )
    .post(
        "/api/v1/images/{image}/publish",
        Operator,
        publish,
        described(
            "image_publish",
            "Orders the next version: what the maintenance client wrote.",
        ),
    )
    .post(
        "/api/v1/images/{image}/discard",
        Operator,
        discard,
        described("image_discard", "Drops what the maintenance client wrote."),
    )
}

/// Which image.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ImageName {
    /// Its name.
    pub(super) image: String,
}

impl ImageName {
    /// As the operations name a version of it, or its newest one.
    fn version(&self, number: Option<u32>) -> String {
        match number {
            Some(number) => format!("{}@{number}", self.image),
            None => self.image.clone(),
        }
    }
}

async fn list(State(app): State<App>, member: Member) -> Result<Json<Vec<ImageView>>> {
    Ok(Json(member.operations(&app).image_list().await?))
}

async fn show(
    State(app): State<App>,
    member: Member,
    Named(ImageName { image }): Named<ImageName>,
) -> Result<Json<ImageView>> {
    let images = member.operations(&app).image_list().await?;
    let found = images.into_iter().find(|found| found.name == image);
    let (what, name) = ("image", image);
    let missing = || OperationError::NotFound { what, name };
    Ok(Json(found.ok_or_else(missing)?))
}

async fn import(
    State(app): State<App>,
    member: Member,
    once: Once,
    Body(order): Body<ImageImport>,
) -> Result<Ordered> {
    let operations = member.operations(&app);
    let start = operations.image_import_start(order.clone());
    let job = once.create(&operations, &order, start).await?;
    Ordered::of(&operations, job).await
}

/// Who boots an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignOrder {
    /// Number of the version [default: the newest].
    #[serde(default)]
    pub version: Option<u32>,
    /// Only this client [default: all without their own].
    #[serde(default)]
    pub client: Option<ClientId>,
    /// Whether newer versions are booted too.
    #[serde(default)]
    pub follow: Follow,
}

async fn assign(
    State(app): State<App>,
    member: Member,
    Named(name): Named<ImageName>,
    Body(order): Body<AssignOrder>,
) -> Result<NoContent> {
    let to = order
        .client
        .map_or(AssignTo::DefaultGroup, AssignTo::Client);
    let version = name.version(order.version);
    member
        .operations(&app)
        .image_assign(Some(&version), to, order.follow)
        .await?;
    Ok(NoContent)
}

/// Who gets a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutOrder {
    /// Number of the version [default: the newest].
    #[serde(default)]
    pub version: Option<u32>,
    /// Who.
    pub to: RolloutTo,
}

async fn rollout(
    State(app): State<App>,
    member: Member,
    Named(name): Named<ImageName>,
    Body(order): Body<RolloutOrder>,
) -> Result<Json<RolloutView>> {
    let version = name.version(order.version);
    Ok(Json(
        member
            .operations(&app)
            .image_rollout(&version, order.to)
            .await?,
    ))
}

async fn rollback(
    State(app): State<App>,
    member: Member,
    Named(name): Named<ImageName>,
) -> Result<Json<RolloutView>> {
    Ok(Json(
        member.operations(&app).image_rollback(&name.image).await?,
    ))
}

/// Who writes the next version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintainOrder {
    /// The client.
    pub client: ClientId,
    /// Number of the version to write on [default: the newest].
    #[serde(default)]
    pub version: Option<u32>,
}

async fn maintain(
    State(app): State<App>,
    member: Member,
    Named(name): Named<ImageName>,
    Body(order): Body<MaintainOrder>,
) -> Result<NoContent> {
    let version = name.version(order.version);
    member
        .operations(&app)
        .image_maintain(&version, order.client)
        .await?;
    Ok(NoContent)
}

/// What is new in a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PublishNote {
    /// For people.
    #[schemars(length(max = 500))]
    pub comment: String,
}

async fn publish(
    State(app): State<App>,
    member: Member,
    Named(ImageName { image }): Named<ImageName>,
    once: Once,
    Body(note): Body<PublishNote>,
) -> Result<Ordered> {
    let operations = member.operations(&app);
    let comment = note.comment;
    let order = PublishOrder { image, comment };
    let start = operations.image_publish_start(order.clone());
    let job = once.create(&operations, &order, start).await?;
    Ordered::of(&operations, job).await
}

/// How a maintenance client that runs is treated.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ForceQuery {
    /// Even if it runs: its sessions are ended first.
    force: bool,
}

async fn discard(
    State(app): State<App>,
    member: Member,
    Named(name): Named<ImageName>,
    Asked(query): Asked<ForceQuery>,
) -> Result<NoContent> {
    member
        .operations(&app)
        .image_discard(&name.image, query.force)
        .await?;
    Ok(NoContent)
}

/// What the iSCSI service knows of boots.
#[derive(Debug, Serialize, JsonSchema)]
struct BootProfiles {
    /// False if the iSCSI service does not run: nothing is known then.
    running: bool,
    /// By version.
    profiles: Vec<BootProfileView>,
}

async fn profiles(State(app): State<App>, member: Member) -> Result<Json<BootProfiles>> {
    let profiles = member.operations(&app).boot_profiles().await?;
    Ok(Json(BootProfiles {
        running: profiles.is_some(),
        profiles: profiles.unwrap_or_default(),
    }))
}
