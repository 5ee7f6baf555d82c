//! `/api/v1/groups`

use axum::Json;
use axum::extract::State;
use dess_model::GroupId;
use dess_node::operations::{GroupChange, GroupView, OperationError, Operations};
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::Tagged;
use super::details::ProblemDetails;
use super::document::described;
use super::endpoints::Api;
use super::extract::{Body, IfMatch, Named};
use crate::app::App;
use crate::gate::Needs::{Operator, Viewer};
use crate::visitor::Member;

type Result<T> = std::result::Result<T, ProblemDetails>;

pub(super) fn routes(api: Api) -> Api {
    api.get(
        "/api/v1/groups",
        Viewer,
        list,
        described(
            "group_list",
            "All groups of clients, the default one first.",
        ),
    )
    .get(
        "/api/v1/groups/{group}",
        Viewer,
        show,
        described("group_show", "One group."),
    )
    .patch(
        "/api/v1/groups/{group}",
        Operator,
        change,
        described("group_change", "Changes a group, all of it or nothing."),
    )
}

/// Which group.
#[derive(Debug, Deserialize, JsonSchema)]
struct GroupName {
    /// Its id or name.
    group: String,
}

impl GroupName {
    async fn find(&self, operations: &Operations) -> Result<GroupId> {
        let groups = operations.group_list().await?;
        let named =
            |group: &&GroupView| group.name == self.group || group.id.to_string() == self.group;
        let found = groups.iter().find(named).map(|group| group.id);
        found.ok_or_else(|| {
            let (what, name) = ("group", self.group.clone());
            OperationError::NotFound { what, name }.into()
        })
    }
}

fn tagged(group: GroupView) -> Tagged<GroupView> {
    Tagged {
        revision: group.revision.clone(),
        resource: group,
    }
}

async fn list(State(app): State<App>, member: Member) -> Result<Json<Vec<GroupView>>> {
    Ok(Json(member.operations(&app).group_list().await?))
}

async fn show(
    State(app): State<App>,
    member: Member,
    Named(name): Named<GroupName>,
) -> Result<Tagged<GroupView>> {
    let operations = member.operations(&app);
    let id = name.find(&operations).await?;
    Ok(tagged(operations.group_get(id).await?))
}

async fn change(
    State(app): State<App>,
    member: Member,
    Named(name): Named<GroupName>,
    seen: IfMatch,
    Body(change): Body<GroupChange>,
) -> Result<Tagged<GroupView>> {
    let operations = member.operations(&app);
    let id = name.find(&operations).await?;
    let changed = operations.group_set(id, change, seen.expected()).await?;
    Ok(tagged(changed))
}
