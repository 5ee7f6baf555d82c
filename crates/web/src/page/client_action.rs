//! What can be done to one client.

use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use dess_model::{BootPolicy, ClientId};
use dess_node::operations::{ClientChange, ClientView, OperationError};
use serde::Deserialize;

use super::note::NoteQuery;
use super::service::NoFields;
use super::{ConfirmPage, client, show};
use crate::app::App;
use crate::frame::Frame;
use crate::problem::{Problem, refusal};
use crate::site::Records;
use crate::visitor::{Member, Signed};

fn id_of(text: &str) -> Result<ClientId, Problem> {
    text.parse().map_err(|_| Problem::NotFound)
}

async fn fetch(app: &App, text: &str) -> Result<(Records, ClientView), Problem> {
    let id = id_of(text)?;
    let records = app.feed.records().await;
    if let Some(trouble) = records.trouble {
        return Err(Problem::Trouble(trouble));
    }
    let client = records.client(id).cloned().ok_or(Problem::NotFound)?;
    Ok((records, client))
}

fn is_on(client: &ClientView) -> bool {
    matches!(client.state.key(), "running" | "booting")
}

/// `POST /clients/{id}/approve`
pub(crate) async fn approve(
    State(app): State<App>,
    Path(id): Path<String>,
    Signed { member, .. }: Signed<NoFields>,
) -> Result<Redirect, Problem> {
    let id = id_of(&id)?;
    member.operations(&app).client_approve(id).await?;
    Ok(Redirect::to(&format!("/?done=approved&on={id}")))
}

/// `GET /clients/{id}/reset`: asks first and says what is lost.
pub(crate) async fn reset_ask(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
) -> Result<Html<String>, Problem> {
    let (records, client) = fetch(&app, &id).await?;
    let words = app.wording(member.visitor.language);
    let t = words.t;
    let on = is_on(&client);
    let mut lines = vec![t.reset_what.into()];
    if client.policy == BootPolicy::Volatile {
        lines.push(t.reset_volatile.into());
    }
    show(&ConfirmPage {
        t,
        f: Frame::of(&words, &member, records.name.as_deref(), ""),
        key: "reset",
        title: t.reset_title.with("name", titled(&client)).into(),
        lines,
        warning: on.then(|| t.reset_running.into()),
        severity: "bad",
        action: format!("/clients/{}/reset", client.id),
        hidden: vec![("force", on.to_string())],
        yes: if on { t.reset_do_force } else { t.reset_do },
        back: format!("/clients/{}", client.id),
    })
}

/// Seat and name: `07 (PC-07)`.
fn titled(client: &ClientView) -> String {
    format!("{:02} ({})", client.seat, client.name)
}

/// What the person agreed to.
#[derive(Debug, Deserialize)]
pub(crate) struct Forced {
    /// `true` if the person was told that the client runs.
    force: String,
}

/// `POST /clients/{id}/reset`
pub(crate) async fn reset(
    State(app): State<App>,
    Path(id): Path<String>,
    Signed { member, form }: Signed<Forced>,
) -> Result<Redirect, Problem> {
    let id = id_of(&id)?;
    let force = form.force == "true";
    let done = member.operations(&app).client_reset(id, force).await?;
    let key = if done.is_some() {
        "reset"
    } else {
        "reset_later"
    };
    Ok(Redirect::to(&format!("/clients/{id}?done={key}")))
}

/// `GET /clients/{id}/remove`: asks first and says what is lost.
pub(crate) async fn remove_ask(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
) -> Result<Html<String>, Problem> {
    let (records, client) = fetch(&app, &id).await?;
    let words = app.wording(member.visitor.language);
    let t = words.t;
    let on = is_on(&client);
    show(&ConfirmPage {
        t,
        f: Frame::of(&words, &member, records.name.as_deref(), ""),
        key: "remove",
        title: t.remove_title.with("name", titled(&client)).into(),
        lines: vec![t.remove_what.into()],
        warning: on.then(|| t.remove_running.into()),
        severity: "bad",
        action: format!("/clients/{}/remove", client.id),
        hidden: vec![("force", on.to_string())],
        yes: t.remove,
        back: format!("/clients/{}", client.id),
    })
}

/// `POST /clients/{id}/remove`
pub(crate) async fn remove(
    State(app): State<App>,
    Path(id): Path<String>,
    Signed { member, form }: Signed<Forced>,
) -> Result<Redirect, Problem> {
    let id = id_of(&id)?;
    let force = form.force == "true";
    member.operations(&app).client_remove(id, force).await?;
    Ok(Redirect::to("/?done=removed"))
}

/// The settings as sent. An empty choice is "as its group".
#[derive(Debug, Deserialize)]
pub(crate) struct Settings {
    seat: String,
    name: String,
    image: String,
    policy: String,
    /// `true` if the person was told what is lost.
    #[serde(default)]
    agreed: String,
}

impl Settings {
    /// The client's own policy; none for its group's.
    fn policy(&self) -> Result<Option<BootPolicy>, Problem> {
        match self.policy.as_str() {
            "" => Ok(None),
            "volatile" => Ok(Some(BootPolicy::Volatile)),
            "persistent" => Ok(Some(BootPolicy::Persistent)),
            _ => Err(Problem::Malformed),
        }
    }

    /// True if the client keeps its writes now and no longer would: they are lost at its next
    /// power-on.
    fn drops_writes(&self, client: &ClientView, records: &Records) -> Result<bool, Problem> {
        let group = records
            .groups
            .iter()
            .find(|group| group.name == client.group);
        let inherited = group.map_or(BootPolicy::Volatile, |group| group.policy);
        let policy = self.policy()?.unwrap_or(inherited);
        Ok(client.policy == BootPolicy::Persistent && policy == BootPolicy::Volatile)
    }

    fn change(self) -> Result<ClientChange, Problem> {
        let policy = self.policy()?;
        Ok(ClientChange {
            seat: Some(self.seat.trim().parse().map_err(|_| Problem::Malformed)?),
            name: Some(self.name.trim().to_owned()),
            image: Some(Some(self.image).filter(|image| !image.is_empty())),
            policy: Some(policy),
            ..ClientChange::default()
        })
    }
}

/// `POST /clients/{id}/settings`
pub(crate) async fn settings(
    State(app): State<App>,
    Path(id): Path<String>,
    Signed { member, form }: Signed<Settings>,
) -> Result<Response, Problem> {
    if form.agreed != "true" {
        let (records, client) = fetch(&app, &id).await?;
        if form.drops_writes(&client, &records)? {
            return Ok(volatile_ask(&app, &member, &records, &client, form)?.into_response());
        }
    }
    let id = id_of(&id)?;
    match member.operations(&app).client_set(id, form.change()?).await {
        Ok(_) => Ok(Redirect::to(&format!("/clients/{id}?done=saved")).into_response()),
        Err(error @ (OperationError::Invalid { .. } | OperationError::Conflict { .. })) => {
            let text = refusal(member.visitor.language.catalog(), &error);
            let page = client::page(&app, &member, id, &NoteQuery::default(), Some(text)).await?;
            Ok((axum::http::StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

/// Asks before a client no longer keeps its writes, and says what is lost.
fn volatile_ask(
    app: &App,
    member: &Member,
    records: &Records,
    client: &ClientView,
    form: Settings,
) -> Result<Html<String>, Problem> {
    let words = app.wording(member.visitor.language);
    let t = words.t;
    let back = format!("/clients/{}", client.id);
    let mut frame = Frame::of(&words, member, records.name.as_deref(), "");
    // The language link cannot repeat a form.
    frame.path.clone_from(&back);
    show(&ConfirmPage {
        t,
        f: frame,
        key: "volatile",
        title: t.volatile_title.with("name", titled(client)).into(),
        lines: vec![],
        warning: Some(t.volatile_what.into()),
        severity: "bad",
        action: format!("{back}/settings"),
        hidden: vec![
            ("seat", form.seat),
            ("name", form.name),
            ("image", form.image),
            ("policy", form.policy),
            ("agreed", "true".to_owned()),
        ],
        yes: t.volatile_do,
        back,
    })
}
