//! Images: versions, import, default.

use std::path::PathBuf;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use dess_model::{BootPolicy, JobId};
use dess_node::operations::{AssignTo, ClientView, Follow, ImageImport, OperationError};
use serde::Deserialize;

use super::note::NoteQuery;
use super::service::NoFields;
use super::{ConfirmPage, show};
use crate::app::App;
use crate::catalog::Catalog;
use crate::frame::Frame;
use crate::parts::{CSRF_MARK, Parts, html};
use crate::problem::{Problem, encode, refusal};
use crate::site::Records;
use crate::view::{ImageRow, JobRow, SpacePanel, image_rows, job_rows, space_panel};
use crate::visitor::{Member, Signed};
use crate::wording::Wording;

#[derive(Template)]
#[template(path = "images.html")]
struct ImagesPage {
    t: &'static Catalog,
    f: Frame,
    jobs: String,
    list: String,
    space: String,
    source: String,
    name: String,
    error: Option<String>,
    may_operate: bool,
}

#[derive(Template)]
#[template(path = "part/jobs.html")]
struct JobsPart {
    t: &'static Catalog,
    jobs: Vec<JobRow>,
    may_operate: bool,
    csrf: &'static str,
}

#[derive(Template)]
#[template(path = "part/images.html")]
struct ListPart {
    t: &'static Catalog,
    images: Vec<ImageRow>,
    may_operate: bool,
}

#[derive(Template)]
#[template(path = "part/space.html")]
struct SpacePart {
    t: &'static Catalog,
    s: SpacePanel,
}

/// The live parts of the page.
pub(super) fn parts(words: &Wording, records: &Records, may_operate: bool) -> Parts {
    let t = words.t;
    let mut parts = Parts::default();
    let jobs = job_rows(words, records);
    let csrf = CSRF_MARK;
    parts.push(
        "jobs",
        html(&JobsPart {
            t,
            jobs,
            may_operate,
            csrf,
        }),
    );
    let images = image_rows(words, records);
    parts.push(
        "image-list",
        html(&ListPart {
            t,
            images,
            may_operate,
        }),
    );
    parts
}

/// `GET /images`
pub(crate) async fn images(
    State(app): State<App>,
    member: Member,
    Query(query): Query<NoteQuery>,
) -> Result<Html<String>, Problem> {
    page(&app, &member, &query, &Import::default(), None).await
}

async fn page(
    app: &App,
    member: &Member,
    query: &NoteQuery,
    sent: &Import,
    error: Option<String>,
) -> Result<Html<String>, Problem> {
    let words = app.wording(member.visitor.language);
    let t = words.t;
    let records = app.feed.records().await;
    if let Some(trouble) = records.trouble {
        return Err(Problem::Trouble(trouble));
    }
    let space = match app.feed.operations().space().await {
        Ok(space) => html(&SpacePart {
            t,
            s: space_panel(&words, &space),
        }),
        // The page is for images first.
        Err(error) => {
            tracing::warn!(%error, "the space cannot be shown");
            String::new()
        }
    };
    let may_operate = member.may_operate();
    let parts = parts(&words, &records, may_operate);
    let mut frame = Frame::of(&words, member, records.name.as_deref(), "images");
    frame.live = Some(format!("/live/images?seen={}", parts.fingerprint()));
    let label = query.on.clone().filter(|label| is_known(&records, label));
    frame.note = query.note(t, label);
    show(&ImagesPage {
        t,
        jobs: parts.html("jobs").replace(CSRF_MARK, member.form_token()),
        list: parts.html("image-list"),
        space,
        source: sent.source.clone(),
        name: sent.name.clone(),
        error,
        may_operate,
        f: frame,
    })
}

/// Boots the default image, but stays on its version until a reset.
fn keeps_its_version(client: &ClientView) -> bool {
    let inherited = client.image.as_ref().is_none_or(|image| image.inherited);
    inherited && client.policy == BootPolicy::Persistent
}

/// The name of an image, or the label of a version.
fn is_known(records: &Records, name: &str) -> bool {
    records.images.iter().any(|image| image.name == name) || has_version(records, name)
}

fn has_version(records: &Records, label: &str) -> bool {
    records
        .images
        .iter()
        .flat_map(|image| &image.versions)
        .any(|version| version.label == label)
}

/// An import as sent.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Import {
    source: String,
    name: String,
}

/// `POST /images/import`
pub(crate) async fn image_import(
    State(app): State<App>,
    Signed { member, form }: Signed<Import>,
) -> Result<Response, Problem> {
    let import = ImageImport {
        source: PathBuf::from(form.source.trim()),
        name: form.name.trim().to_owned(),
    };
    match member.operations(&app).image_import_start(import).await {
        Ok(_) => Ok(Redirect::to("/images?done=import").into_response()),
        Err(error @ OperationError::NoSite) => Err(error.into()),
        Err(error) => {
            let text = refusal(member.visitor.language.catalog(), &error);
            let page = page(&app, &member, &NoteQuery::default(), &form, Some(text)).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

/// Which version.
#[derive(Debug, Deserialize)]
pub(crate) struct Chosen {
    image: String,
}

/// `GET /images/default?image=`: asks first and says who gets it.
pub(crate) async fn default_ask(
    State(app): State<App>,
    member: Member,
    Query(Chosen { image }): Query<Chosen>,
) -> Result<Html<String>, Problem> {
    let words = app.wording(member.visitor.language);
    let t = words.t;
    let records = app.feed.records().await;
    if let Some(trouble) = records.trouble {
        return Err(Problem::Trouble(trouble));
    }
    if !has_version(&records, &image) {
        return Err(Problem::NotFound);
    }
    let mut lines = vec![t.default_what.into(), t.default_running.into()];
    if records.clients.iter().any(keeps_its_version) {
        lines.push(t.default_persistent.into());
    }
    show(&ConfirmPage {
        t,
        f: Frame::of(&words, &member, records.name.as_deref(), "images"),
        key: "default",
        title: t.default_title.with("name", &image).into(),
        lines,
        warning: None,
        severity: "warn",
        action: "/images/default".into(),
        hidden: vec![("image", image)],
        yes: t.make_default,
        back: "/images".into(),
    })
}

/// `POST /images/default`
pub(crate) async fn default_set(
    State(app): State<App>,
    Signed { member, form }: Signed<Chosen>,
) -> Result<Redirect, Problem> {
    member
        .operations(&app)
        .image_assign(Some(&form.image), AssignTo::DefaultGroup, Follow::Pinned)
        .await?;
    let label = encode(&form.image);
    Ok(Redirect::to(&format!("/images?done=default&on={label}")))
}

/// `POST /jobs/{id}/cancel`
pub(crate) async fn job_cancel(
    State(app): State<App>,
    Path(id): Path<String>,
    Signed { member, .. }: Signed<NoFields>,
) -> Result<Redirect, Problem> {
    let id: JobId = id.parse().map_err(|_| Problem::NotFound)?;
    member.operations(&app).job_cancel(id).await?;
    Ok(Redirect::to("/images?done=cancel"))
}
