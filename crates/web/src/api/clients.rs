//! `/api/v1/clients`

use axum::Json;
use axum::extract::State;
use dess_model::{DiskStatus, Timestamp};
use dess_node::operations::{BootAttemptView, ClientAdd, ClientChange, ClientView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Created, Page, Tagged, wanted};
use super::details::ProblemDetails;
use super::document::{NoContent, described};
use super::endpoints::Api;
use super::extract::{Asked, Body, IfMatch, Named};
use super::idempotency::Once;
use crate::app::App;
use crate::gate::Needs::{Operator, Viewer};
use crate::visitor::Member;

type Result<T> = std::result::Result<T, ProblemDetails>;

/// Boot attempts that are answered unless another number is asked for.
const BOOTS: u32 = 10;
/// Most boot attempts that are answered.
const BOOTS_MAX: u32 = 100;

pub(super) fn routes(api: Api) -> Api {
    api.get(
        "/api/v1/clients",
        Viewer,
        list,
        described("client_list", "Clients in the order of their seats."),
    )
    .post(
        "/api/v1/clients",
        Operator,
        add,
        described("client_add", "Registers a client, which may boot at once."),
    )
    .get(
        "/api/v1/clients/{client}",
        Viewer,
        show,
        described("client_show", "One client."),
    )
    .patch(
        "/api/v1/clients/{client}",
        Operator,
        change,
        described(
            "client_change",
            "Changes a client, all of it or nothing; but for limits from its next power-on.",
        ),
    )
    .delete(
        "/api/v1/clients/{client}",
        Operator,
        remove,
        described(
            "client_remove",
            "Removes a client with its disk and its history.",
        ),
    )
    .post(
        "/api/v1/clients/{client}/approve",
        Operator,
        approve,
        described("client_approve", "Lets a pending client boot."),
    )
    .post(
        "/api/v1/clients/{client}/reset",
        Operator,
        reset,
        described(
            "client_reset",
            "Drops everything that a client has written on its disk.",
        ),
    )
    .get(
        "/api/v1/clients/{client}/boots",
        Viewer,
        boots,
        described(
            "client_boots",
            "Its last boots, newest first, step by step.",
        ),
    )
}

/// Which client.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ClientName {
    /// Its id, seat number, name or MAC address.
    client: String,
}

/// What a client does, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum StateName {
    Pending,
    Off,
    Booting,
    Running,
    Fault,
}

impl StateName {
    fn key(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Off => "off",
            Self::Booting => "booting",
            Self::Running => "running",
            Self::Fault => "fault",
        }
    }
}

/// Which clients.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ClientQuery {
    /// Only those that do this.
    state: Option<StateName>,
    /// Only those of the group with this name.
    group: Option<String>,
    /// Only those whose name, MAC address or address contains this, in any case.
    q: Option<String>,
    /// Most items of a page [default: 100].
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

impl ClientQuery {
    fn matches(&self, client: &ClientView) -> bool {
        let contains = |wanted: &str| {
            let wanted = wanted.to_lowercase();
            let address = client.address.map(|address| address.to_string());
            client.name.to_lowercase().contains(&wanted)
                || client.mac.to_string().contains(&wanted)
                || address.is_some_and(|address| address.contains(&wanted))
        };
        self.state
            .is_none_or(|state| state.key() == client.state.key())
            && self
                .group
                .as_ref()
                .is_none_or(|group| *group == client.group)
            && self.q.as_deref().is_none_or(contains)
    }
}

async fn list(
    State(app): State<App>,
    member: Member,
    Asked(query): Asked<ClientQuery>,
) -> Result<Json<Page<ClientView>>> {
    let limit = wanted(query.limit)?;
    let clients = member.operations(&app).client_list().await?;
    let matching = clients.into_iter().filter(|client| query.matches(client));
    // Seats are unique, but may be swapped between two pages.
    let key = |client: &ClientView| format!("{:010}.{}", client.seat, client.id);
    Ok(Json(Page::after(
        matching,
        query.cursor.as_deref(),
        limit,
        key,
    )))
}

fn tagged(client: ClientView) -> Tagged<ClientView> {
    Tagged {
        revision: client.revision.clone(),
        resource: client,
    }
}

async fn add(
    State(app): State<App>,
    member: Member,
    once: Once,
    Body(client): Body<ClientAdd>,
) -> Result<Created<ClientView>> {
    let operations = member.operations(&app);
    let added = once
        .create(&operations, &client, operations.client_add(client.clone()))
        .await?;
    Ok(Created {
        location: format!("/api/v1/clients/{}", added.id),
        tagged: tagged(added),
    })
}

async fn show(
    State(app): State<App>,
    member: Member,
    Named(name): Named<ClientName>,
) -> Result<Tagged<ClientView>> {
    let client = member.operations(&app).client_find(&name.client).await?;
    Ok(tagged(client))
}

async fn change(
    State(app): State<App>,
    member: Member,
    Named(name): Named<ClientName>,
    seen: IfMatch,
    Body(change): Body<ClientChange>,
) -> Result<Tagged<ClientView>> {
    let operations = member.operations(&app);
    let id = operations.client_find(&name.client).await?.id;
    let changed = operations
        .client_set_if(id, change, seen.expected())
        .await?;
    Ok(tagged(changed))
}

/// How a client that runs is treated.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ForceQuery {
    /// Even if it runs: its sessions are ended first.
    force: bool,
}

async fn remove(
    State(app): State<App>,
    member: Member,
    Named(name): Named<ClientName>,
    seen: IfMatch,
    Asked(query): Asked<ForceQuery>,
) -> Result<NoContent> {
    let operations = member.operations(&app);
    let id = operations.client_find(&name.client).await?.id;
    operations
        .client_remove_if(id, query.force, seen.expected())
        .await?;
    Ok(NoContent)
}

async fn approve(
    State(app): State<App>,
    member: Member,
    Named(name): Named<ClientName>,
) -> Result<Tagged<ClientView>> {
    let operations = member.operations(&app);
    let id = operations.client_find(&name.client).await?.id;
    Ok(tagged(operations.client_approve(id).await?))
}

/// A client whose writes were dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResetView {
    /// Its fresh disk; none if it has none yet or the iSCSI service does not run: it gets a fresh one at its next power-on then.
    pub disk: Option<DiskStatus>,
    /// When.
    pub at: Timestamp,
}

async fn reset(
    State(app): State<App>,
    member: Member,
    Named(name): Named<ClientName>,
    Asked(query): Asked<ForceQuery>,
) -> Result<Json<ResetView>> {
    let operations = member.operations(&app);
    let id = operations.client_find(&name.client).await?.id;
    let disk = operations.client_reset(id, query.force).await?;
    let at = Timestamp::now();
    Ok(Json(ResetView { disk, at }))
}

/// How many boot attempts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BootsQuery {
    /// Most attempts [default: 10].
    #[schemars(range(min = 1, max = 100))]
    limit: Option<u32>,
}

async fn boots(
    State(app): State<App>,
    member: Member,
    Named(name): Named<ClientName>,
    Asked(query): Asked<BootsQuery>,
) -> Result<Json<Vec<BootAttemptView>>> {
    let limit = query.limit.unwrap_or(BOOTS);
    if !(1..=BOOTS_MAX).contains(&limit) {
        let detail = format!("limit: {limit} is not in 1 to {BOOTS_MAX}");
        return Err(ProblemDetails::bad_request("invalid_query", detail));
    }
    let operations = member.operations(&app);
    let id = operations.client_find(&name.client).await?.id;
    Ok(Json(operations.client_boots(id, limit).await?))
}
