//! What can be done to an image or one of its versions: asked first, with what it means, then done.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{Html, Redirect};
use dess_model::ClientId;
use dess_node::operations::{
    ClientView, ImageView, OperationError, Operations, PublishOrder, RolloutTo, VersionView,
};
use serde::Deserialize;

use super::show;
use crate::app::App;
use crate::catalog::{Catalog, Phrase};
use crate::frame::Frame;
use crate::problem::{Problem, encode};
use crate::site::Records;
use crate::view::counted;
use crate::visitor::{Member, Signed};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Act {
    /// A client's writes become the next version.
    Maintain,
    /// They do so now.
    Publish,
    /// They are dropped.
    Discard,
    /// Seats get a version.
    Rollout,
    /// They get back what they had.
    Rollback,
    /// A version needs no other one any more.
    Flatten,
    /// A version goes.
    Remove,
}

impl Act {
    fn key(self) -> &'static str {
        match self {
            Self::Maintain => "maintain",
            Self::Publish => "publish",
            Self::Discard => "discard",
            Self::Rollout => "rollout",
            Self::Rollback => "rollback",
            Self::Flatten => "flatten",
            Self::Remove => "remove",
        }
    }

    /// The button, the heading with `{name}`, and what it means.
    fn words(self, t: &Catalog) -> (Phrase, Phrase, Phrase) {
        match self {
            Self::Maintain => (t.maintain_do, t.maintain_title, t.maintain_what),
            Self::Publish => (t.publish_do, t.publish_title, t.publish_what),
            Self::Discard => (t.discard_do, t.discard_title, t.discard_what),
            Self::Rollout => (t.rollout_do, t.rollout_title, t.rollout_what),
            Self::Rollback => (t.rollback_do, t.rollback_title, t.rollback_what),
            Self::Flatten => (t.flatten_do, t.flatten_title, t.flatten_what),
            Self::Remove => (
                t.version_remove_do,
                t.version_remove_title,
                t.version_remove_what,
            ),
        }
    }

    fn drops_something(self) -> bool {
        matches!(self, Self::Discard | Self::Remove)
    }
}

#[derive(Template)]
#[template(path = "image_action.html")]
struct ActionPage {
    t: &'static Catalog,
    f: Frame,
    act: Act,
    image: String,
    title: String,
    yes: Phrase,
    what: Phrase,
    /// Who stands in the way, or is touched.
    warning: Option<String>,
    /// Nothing can be done while this is so.
    refused: bool,
    /// Id and name of those who can become the maintenance client.
    clients: Vec<(String, String)>,
    /// Who boots the image now, version by version.
    runs: Vec<(String, String)>,
    force: bool,
}

/// What is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    act: Act,
    /// `name` or `name@version`.
    image: String,
}

/// `GET /images/action?act=&image=`
pub(crate) async fn image_action_ask(
    State(app): State<App>,
    member: Member,
    Query(asked): Query<Asked>,
) -> Result<Html<String>, Problem> {
    let records = app.feed.records().await;
    if let Some(trouble) = records.trouble {
        return Err(Problem::Trouble(trouble));
    }
    let (image, version) = find(&records, &asked.image).ok_or(Problem::NotFound)?;
    let words = app.wording(member.visitor.language);
    let t = words.t;
    let running = maintenance_client(&records, image).filter(|client| is_on(client));
    let mut warning = match asked.act {
        Act::Publish => running.map(|client| t.publish_running.with("name", titled(client)).into()),
        Act::Discard => running.map(|client| t.discard_running.with("name", titled(client)).into()),
        _ => None,
    };
    let mut refused = asked.act == Act::Publish && running.is_some();
    if asked.act == Act::Remove
        && let Some(version) = version
    {
        let (_, users) = app
            .feed
            .operations()
            .version_dependents(version.version)
            .await?;
        refused = !users.is_empty();
        warning = refused.then(|| t.version_remove_used.with("who", users.join(", ")).into());
    }
    let (yes, title, what) = asked.act.words(t);
    let approved = records.clients.iter().filter(|client| client.approved);
    show(&ActionPage {
        t,
        act: asked.act,
        title: title.with("name", &asked.image).into(),
        yes,
        what,
        warning,
        refused,
        clients: approved
            .map(|client| (client.id.to_string(), titled(client)))
            .collect(),
        runs: runs(t, image),
        force: running.is_some(),
        f: Frame::of(&words, &member, records.name.as_deref(), "images"),
        image: asked.image,
    })
}

fn find<'r>(records: &'r Records, name: &str) -> Option<(&'r ImageView, Option<&'r VersionView>)> {
    records.images.iter().find_map(|image| {
        let version = image.versions.iter().find(|version| version.label == name);
        (image.name == name || version.is_some()).then_some((image, version))
    })
}

fn maintenance_client<'r>(records: &'r Records, image: &ImageView) -> Option<&'r ClientView> {
    records.client(image.maintenance.as_ref()?.client)
}

fn is_on(client: &ClientView) -> bool {
    matches!(client.state.key(), "running" | "booting")
}

fn titled(client: &ClientView) -> String {
    format!("{:02} {}", client.seat, client.name)
}

fn runs(t: &Catalog, image: &ImageView) -> Vec<(String, String)> {
    let booted = image
        .versions
        .iter()
        .rev()
        .filter(|version| version.clients > 0);
    booted
        .map(|version| {
            let seats = counted(version.clients as usize, t.seats_one, t.seats_count);
            (version.label.clone(), seats)
        })
        .collect()
}

/// The order as sent.
#[derive(Debug, Deserialize)]
pub(crate) struct Ordered {
    act: Act,
    image: String,
    #[serde(default)]
    client: String,
    #[serde(default)]
    comment: String,
    /// Seats that get the version first: `1, 4-8`; all if empty.
    #[serde(default)]
    seats: String,
    #[serde(default)]
    force: String,
}

/// `POST /images/action`
pub(crate) async fn image_action(
    State(app): State<App>,
    Signed { member, form }: Signed<Ordered>,
) -> Result<Redirect, Problem> {
    let to = match form.act {
        Act::Rollout => Some(whom(&app, &form.seats).await?),
        _ => None,
    };
    let (act, image) = (form.act, encode(&form.image));
    carry_out(&member.operations(&app), form, to).await?;
    Ok(Redirect::to(&format!(
        "/images?done=image_{}&on={image}",
        act.key()
    )))
}

async fn carry_out(
    operations: &Operations,
    form: Ordered,
    to: Option<RolloutTo>,
) -> Result<(), Problem> {
    let image = &*form.image;
    let done: Result<(), OperationError> = match form.act {
        Act::Maintain => {
            let client = form.client.parse().map_err(|_| Problem::Malformed)?;
            operations.image_maintain(image, client).await
        }
        Act::Publish => {
            let order = PublishOrder {
                image: image.to_owned(),
                comment: form.comment.trim().to_owned(),
            };
            operations.image_publish_start(order).await.map(drop)
        }
        Act::Discard => operations.image_discard(image, form.force == "true").await,
        Act::Rollout => {
            let to = to.unwrap_or(RolloutTo::All);
            operations.image_rollout(image, to).await.map(drop)
        }
        Act::Rollback => operations.image_rollback(image).await.map(drop),
        Act::Flatten => operations.version_flatten_start(image).await.map(drop),
        Act::Remove => operations.version_remove(image).await.map(drop),
    };
    Ok(done?)
}

/// Who a roll-out is for.
async fn whom(app: &App, text: &str) -> Result<RolloutTo, Problem> {
    if text.trim().is_empty() {
        return Ok(RolloutTo::All);
    }
    let ranges = ranges(text).ok_or(Problem::Malformed)?;
    let records = app.feed.records().await;
    let wanted = |client: &&ClientView| ranges.iter().any(|range| range.contains(&client.seat));
    let clients: Vec<ClientId> = records
        .clients
        .iter()
        .filter(wanted)
        .map(|client| client.id)
        .collect();
    match clients.is_empty() {
        true => Err(Problem::NotFound),
        false => Ok(RolloutTo::Clients(clients)),
    }
}

/// Seat numbers and ranges of them: `1, 4-8`.
fn ranges(text: &str) -> Option<Vec<std::ops::RangeInclusive<u32>>> {
    let pieces = text
        .split([',', ' '])
        .map(str::trim)
        .filter(|piece| !piece.is_empty());
    pieces
        .map(|piece| {
            let (first, last) = piece.split_once(['-', '~']).unwrap_or((piece, piece));
            Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_numbers_and_ranges_and_nothing_else() {
        assert_eq!(ranges("1, 4-8 12~13").unwrap(), [1..=1, 4..=8, 12..=13]);
        for wrong in ["1, x", "-", "4-", "1-2-3", "99999999999"] {
            assert_eq!(ranges(wrong), None, "{wrong}");
        }
    }
}
