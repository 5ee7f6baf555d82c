//! One client: its state, its boots, its facts and settings.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::Html;
use dess_model::{BootPolicy, ClientId};
use dess_node::operations::BootAttemptView;

use super::note::NoteQuery;
use super::show;
use crate::app::App;
use crate::catalog::Catalog;
use crate::frame::Frame;
use crate::parts::{CSRF_MARK, Parts, html};
use crate::problem::Problem;
use crate::site::Records;
use crate::view::{BootRow, CaseLink, ClientForm, Fact, Seat, Trouble, boot_rows, facts};
use crate::visitor::Member;
use crate::wording::Wording;

#[derive(Template)]
#[template(path = "client.html")]
struct ClientPage {
    t: &'static Catalog,
    f: Frame,
    c: Seat,
    head: String,
    boots: String,
    facts: Vec<Fact>,
    form: ClientForm,
    error: Option<String>,
    keeps_writes: bool,
    may_operate: bool,
}

#[derive(Template)]
#[template(path = "part/client_head.html")]
struct HeadPart {
    t: &'static Catalog,
    c: Seat,
    trouble: Option<Trouble>,
    cases: Vec<CaseLink>,
    may_operate: bool,
    csrf: &'static str,
}

#[derive(Template)]
#[template(path = "part/boots.html")]
struct BootsPart {
    t: &'static Catalog,
    boots: Vec<BootRow>,
}

/// The live parts of a client's page; of another shape once the client is gone.
pub(super) fn parts(
    words: &Wording,
    records: &Records,
    (id, boots): (ClientId, &[BootAttemptView]),
    may_operate: bool,
) -> Parts {
    let t = words.t;
    let Some(client) = records.client(id) else {
        return Parts {
            shape: 1,
            ..Parts::default()
        };
    };
    let c = Seat::new(words, client);
    let mut parts = Parts {
        say: format!("{} {}", c.word, c.stage.as_deref().unwrap_or_default()),
        ..Parts::default()
    };
    let trouble = Trouble::of(t, client);
    let cases = CaseLink::of_seat(t, &records.cases, id);
    let csrf = CSRF_MARK;
    parts.push(
        "client-head",
        html(&HeadPart {
            t,
            c,
            trouble,
            cases,
            may_operate,
            csrf,
        }),
    );
    let boots = boot_rows(words, boots);
    parts.push("client-boots", html(&BootsPart { t, boots }));
    parts
}

/// `GET /clients/{id}`
pub(crate) async fn client(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
    Query(query): Query<NoteQuery>,
) -> Result<Html<String>, Problem> {
    let id = id.parse().map_err(|_| Problem::NotFound)?;
    page(&app, &member, id, &query, None).await
}

/// The page, with what was wrong with the settings that were sent.
pub(super) async fn page(
    app: &App,
    member: &Member,
    id: ClientId,
    query: &NoteQuery,
    error: Option<String>,
) -> Result<Html<String>, Problem> {
    let words = app.wording(member.visitor.language);
    let t = words.t;
    let records = app.feed.records().await;
    if let Some(trouble) = records.trouble {
        return Err(Problem::Trouble(trouble));
    }
    let client = records.client(id).ok_or(Problem::NotFound)?;
    let boots = app.feed.boots(id).await?;
    let may_operate = member.may_operate();
    let parts = parts(&words, &records, (id, &boots), may_operate);
    let mut frame = Frame::of(&words, member, records.name.as_deref(), "");
    frame.live = Some(format!("/live/client-{id}?seen={}", parts.fingerprint()));
    frame.note = query.note(t, Some(client.name.clone()));
    show(&ClientPage {
        t,
        c: Seat::new(&words, client),
        head: parts
            .html("client-head")
            .replace(CSRF_MARK, member.form_token()),
        boots: parts.html("client-boots"),
        facts: facts(&words, client),
        form: ClientForm::of(t, client, &records),
        error,
        keeps_writes: client.policy == BootPolicy::Persistent,
        may_operate,
        f: frame,
    })
}
