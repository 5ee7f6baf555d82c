//! The cases: what the server found, what was seen, and what to do.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{Html, Redirect};

use super::note::NoteQuery;
use super::service::NoFields;
use super::show;
use crate::app::App;
use crate::catalog::Catalog;
use crate::frame::Frame;
use crate::problem::Problem;
use crate::view::CaseRow;
use crate::visitor::{Member, Signed};

/// Cases on the list, open or over.
const LISTED: u32 = 100;

#[derive(Template)]
#[template(path = "cases.html")]
struct CasesPage {
    t: &'static Catalog,
    f: Frame,
    open: Vec<CaseRow>,
    over: Vec<CaseRow>,
}

#[derive(Template)]
#[template(path = "case.html")]
struct CasePage {
    t: &'static Catalog,
    f: Frame,
    c: CaseRow,
    may_operate: bool,
}

/// `GET /cases`
pub(crate) async fn cases(
    State(app): State<App>,
    member: Member,
    Query(query): Query<NoteQuery>,
) -> Result<Html<String>, Problem> {
    let words = app.wording(member.visitor.language);
    let records = app.feed.records().await;
    if let Some(trouble) = records.trouble {
        return Err(Problem::Trouble(trouble));
    }
    let row = |case: &_| CaseRow::new(&words, case, &records.clients);
    let open = records.cases.iter().map(row).collect();
    let all = app.feed.operations().case_list_all(LISTED).await?;
    let over = all.iter().filter(|case| case.resolved.is_some());
    let mut frame = Frame::of(&words, &member, records.name.as_deref(), "cases");
    frame.note = query.note(words.t, None);
    show(&CasesPage {
        t: words.t,
        open,
        over: over.map(row).collect(),
        f: frame,
    })
}

/// `GET /cases/{id}`
pub(crate) async fn case(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
) -> Result<Html<String>, Problem> {
    let id = id.parse().map_err(|_| Problem::NotFound)?;
    let words = app.wording(member.visitor.language);
    let records = app.feed.records().await;
    if let Some(trouble) = records.trouble {
        return Err(Problem::Trouble(trouble));
    }
    let case = app.feed.operations().case_get(id).await?;
    show(&CasePage {
        t: words.t,
        c: CaseRow::new(&words, &case, &records.clients),
        may_operate: member.role >= dess_model::Role::Operator,
        f: Frame::of(&words, &member, records.name.as_deref(), "cases"),
    })
}

/// `POST /cases/{id}/acknowledge`
pub(crate) async fn acknowledge(
    State(app): State<App>,
    Path(id): Path<String>,
    Signed { member, .. }: Signed<NoFields>,
) -> Result<Redirect, Problem> {
    let id = id.parse().map_err(|_| Problem::NotFound)?;
    member.operations(&app).case_acknowledge(id).await?;
    Ok(Redirect::to(&format!("/cases/{id}")))
}
