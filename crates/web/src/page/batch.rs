//! One action on many seats: first what will happen to whom, then what came of it.

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};
use dess_model::{BootPolicy, ClientId};
use dess_node::operations::{ClientChange, ClientView, LimitsChange, OperationError, Operations};
use serde::Deserialize;

use super::show;
use crate::app::App;
use crate::catalog::{Catalog, Phrase};
use crate::frame::Frame;
use crate::problem::{Problem, refusal};
use crate::site::Records;
use crate::view::{counted, image_labels};
use crate::visitor::{Member, Signed};

/// What can be done to many seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    Reset,
    Image,
    Policy,
    Limits,
    Approve,
}

impl Action {
    fn key(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Image => "image",
            Self::Policy => "policy",
            Self::Limits => "limits",
            Self::Approve => "approve",
        }
    }

    fn from_key(key: &str) -> Option<Self> {
        [
            Self::Reset,
            Self::Image,
            Self::Policy,
            Self::Limits,
            Self::Approve,
        ]
        .into_iter()
        .find(|action| action.key() == key)
    }

    fn title(self, t: &Catalog) -> Phrase {
        match self {
            Self::Reset => t.reset,
            Self::Image => t.batch_image,
            Self::Policy => t.batch_policy,
            Self::Limits => t.batch_limits,
            Self::Approve => t.approve,
        }
    }

    /// What happens to those who are off, and to those who are on.
    fn consequences(self, t: &Catalog) -> (Phrase, Phrase) {
        match self {
            Self::Reset => (t.batch_reset_off, t.batch_reset_on),
            Self::Image => (t.batch_image_off, t.batch_image_on),
            Self::Policy => (t.batch_policy_off, t.batch_policy_on),
            Self::Limits => (t.batch_limits_off, t.batch_limits_on),
            Self::Approve => (t.batch_approve_what, t.batch_approve_what),
        }
    }
}

#[derive(Template)]
#[template(path = "batch.html")]
struct BatchPage {
    t: &'static Catalog,
    f: Frame,
    action: Action,
    title: String,
    yes: Phrase,
    /// Seats as they are sent: `1,2,7`.
    seats: String,
    off: Option<Part>,
    on: Option<Part>,
    images: Vec<String>,
}

/// Some of the chosen seats, and what happens to them.
struct Part {
    count: String,
    names: Vec<String>,
    what: Phrase,
}

#[derive(Template)]
#[template(path = "batch_done.html")]
struct DonePage {
    t: &'static Catalog,
    f: Frame,
    title: String,
    done: String,
    failed: Vec<(String, String)>,
}

/// `GET /clients/batch?do=&s=&s=`: asks first, names the seats, those that are on apart.
pub(crate) async fn batch_ask(
    State(app): State<App>,
    member: Member,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = query.unwrap_or_default();
    let values = |key: &'static str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .filter(move |(name, _)| *name == key)
            .map(|(_, value)| value)
    };
    let action = values("do")
        .find_map(Action::from_key)
        .ok_or(Problem::NotFound)?;
    let wanted: Vec<u32> = values("s").filter_map(|seat| seat.parse().ok()).collect();
    let records = app.feed.records().await;
    if let Some(trouble) = records.trouble {
        return Err(Problem::Trouble(trouble));
    }
    let chosen = choose(&records, action, &wanted);
    if chosen.is_empty() {
        return Ok(Redirect::to("/").into_response());
    }
    let words = app.wording(member.visitor.language);
    let frame = Frame::of(&words, &member, records.name.as_deref(), "room");
    let page = ask_page(words.t, frame, action, &chosen, image_labels(&records));
    show(&page).map(IntoResponse::into_response)
}

fn ask_page(
    t: &'static Catalog,
    f: Frame,
    action: Action,
    chosen: &[&ClientView],
    images: Vec<String>,
) -> BatchPage {
    let (on, off): (Vec<_>, Vec<_>) = chosen.iter().copied().partition(|client| is_on(client));
    let (what_off, what_on) = action.consequences(t);
    let some = |clients: Vec<&ClientView>, what| {
        (!clients.is_empty()).then(|| Part {
            count: counted(clients.len(), t.seats_one, t.seats_count),
            names: clients.into_iter().map(titled).collect(),
            what,
        })
    };
    let seats: Vec<_> = chosen
        .iter()
        .map(|client| client.seat.to_string())
        .collect();
    BatchPage {
        t,
        f,
        action,
        title: t
            .batch_title
            .with("n", chosen.len())
            .with("action", action.title(t))
            .into(),
        yes: action.title(t),
        seats: seats.join(","),
        off: some(off, what_off),
        on: some(on, what_on),
        images,
    }
}

fn is_on(client: &ClientView) -> bool {
    matches!(client.state.key(), "running" | "booting")
}

fn titled(client: &ClientView) -> String {
    format!("{:02} {}", client.seat, client.name)
}

/// The clients at these seats to which the action can be done at all.
fn choose<'r>(records: &'r Records, action: Action, wanted: &[u32]) -> Vec<&'r ClientView> {
    let fits = |client: &&ClientView| client.approved != (action == Action::Approve);
    let clients = records.clients.iter().filter(fits);
    clients
        .filter(|client| wanted.contains(&client.seat))
        .collect()
}

/// The order as sent.
#[derive(Debug, Deserialize)]
pub(crate) struct Order {
    action: Action,
    seats: String,
    /// `true` if those that are on are reset as well.
    #[serde(default)]
    running: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    policy: String,
    /// Megabytes per second; empty for no limit.
    #[serde(default)]
    read: String,
    #[serde(default)]
    write: String,
}

/// The same, understood.
#[derive(Clone, Debug)]
enum Work {
    Reset { running: bool },
    Change(Box<ClientChange>),
    Approve,
}

impl Order {
    fn work(&self) -> Result<Work, Problem> {
        let change = |change| Ok(Work::Change(Box::new(change)));
        match self.action {
            Action::Reset => Ok(Work::Reset {
                running: self.running == "true",
            }),
            Action::Approve => Ok(Work::Approve),
            Action::Image => change(ClientChange {
                image: Some(Some(self.image.clone()).filter(|image| !image.is_empty())),
                ..ClientChange::default()
            }),
            Action::Policy => change(ClientChange {
                policy: Some(match self.policy.as_str() {
                    "" => None,
                    "volatile" => Some(BootPolicy::Volatile),
                    "persistent" => Some(BootPolicy::Persistent),
                    _ => return Err(Problem::Malformed),
                }),
                ..ClientChange::default()
            }),
            Action::Limits => change(ClientChange {
                limits: LimitsChange {
                    read_bytes_per_sec: Some(rate(&self.read)?),
                    write_bytes_per_sec: Some(rate(&self.write)?),
                    ..LimitsChange::default()
                },
                ..ClientChange::default()
            }),
        }
    }
}

/// Bytes per second from megabytes per second; none if empty.
fn rate(text: &str) -> Result<Option<u64>, Problem> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let megabytes: u32 = text.parse().map_err(|_| Problem::Malformed)?;
    Ok(Some(u64::from(megabytes) << 20))
}

/// `POST /clients/batch`
pub(crate) async fn batch(
    State(app): State<App>,
    Signed { member, form }: Signed<Order>,
) -> Result<Response, Problem> {
    let work = form.work()?;
    let wanted: Vec<u32> = form
        .seats
        .split(',')
        .filter_map(|seat| seat.parse().ok())
        .collect();
    let records = app.feed.records().await;
    if let Some(trouble) = records.trouble {
        return Err(Problem::Trouble(trouble));
    }
    let skips = matches!(work, Work::Reset { running: false });
    let chosen: Vec<_> = choose(&records, form.action, &wanted)
        .into_iter()
        .filter(|client| !(skips && is_on(client)))
        .map(|client| (client.id, titled(client)))
        .collect();
    let operations = member.operations(&app);
    // A task of its own: it goes on if the browser does not wait for its end.
    let outcome = tokio::spawn(carry_out(operations, work, chosen)).await;
    let outcome = outcome.map_err(|error| Problem::internal(&error, "a batch ended early"))?;
    let words = app.wording(member.visitor.language);
    let t = words.t;
    let (done, failed): (Vec<_>, Vec<_>) =
        outcome.into_iter().partition(|(_, result)| result.is_ok());
    if failed.is_empty() {
        return Ok(Redirect::to("/?done=batch").into_response());
    }
    let page = DonePage {
        t,
        f: Frame::of(&words, &member, records.name.as_deref(), "room"),
        title: t.batch_failed_title.with("n", failed.len()).into(),
        done: t.batch_done_count.with("n", done.len()).into(),
        failed: failed
            .into_iter()
            .filter_map(|(name, result)| Some((name, refusal(t, &result.err()?))))
            .collect(),
    };
    show(&page).map(IntoResponse::into_response)
}

async fn carry_out(
    operations: Operations,
    work: Work,
    clients: Vec<(ClientId, String)>,
) -> Vec<(String, Result<(), OperationError>)> {
    let mut outcome = Vec::with_capacity(clients.len());
    for (id, name) in clients {
        let result = match &work {
            Work::Reset { running } => operations.client_reset(id, *running).await.map(drop),
            Work::Change(change) => operations
                .client_set(id, change.as_ref().clone())
                .await
                .map(drop),
            Work::Approve => operations.client_approve(id).await.map(drop),
        };
        outcome.push((name, result));
    }
    outcome
}
