//! The audit log, for owners.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Html;
use dess_node::operations::{AuditCursor, AuditQuery, AuditView};
use serde::Deserialize;

use super::show;
use crate::app::App;
use crate::catalog::Catalog;
use crate::frame::Frame;
use crate::problem::{Problem, encode};
use crate::view::AuditRow;
use crate::visitor::Member;

/// Lines on one page.
const LINES: u32 = 50;

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    t: &'static Catalog,
    f: Frame,
    rows: Vec<AuditRow>,
    asked: AuditAsked,
    /// Address of the next page.
    older: Option<String>,
}

/// Which lines; empty fields ask for all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AuditAsked {
    actor: String,
    action: String,
    subject: String,
    before: String,
}

impl AuditAsked {
    fn query(&self) -> Result<AuditQuery, Problem> {
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let before = text(&self.before)
            .map(|text| AuditCursor::decode(&text).ok_or(Problem::Malformed))
            .transpose()?;
        Ok(AuditQuery {
            actor: text(&self.actor),
            action: text(&self.action),
            subject: text(&self.subject),
            since: None,
            before,
        })
    }

    fn address(&self, before: AuditCursor) -> String {
        format!(
            "/audit?actor={}&action={}&subject={}&before={}",
            encode(&self.actor),
            encode(&self.action),
            encode(&self.subject),
            before.encode()
        )
    }
}

/// `GET /audit`
pub(crate) async fn audit_page(
    State(app): State<App>,
    member: Member,
    Query(asked): Query<AuditAsked>,
) -> Result<Html<String>, Problem> {
    let words = app.wording(member.visitor.language);
    let query = asked.query()?;
    // One more tells whether there is another page.
    let mut lines = app.feed.operations().audit_find(&query, LINES + 1).await?;
    let more = lines.len() > LINES as usize;
    lines.truncate(LINES as usize);
    let last = lines.last().filter(|_| more).map(AuditView::cursor);
    show(&AuditPage {
        t: words.t,
        f: Frame::of(&words, &member, app.site_name().await.as_deref(), "audit"),
        rows: lines
            .iter()
            .map(|line| AuditRow::new(&words, line))
            .collect(),
        older: last.map(|cursor| asked.address(cursor)),
        asked,
    })
}
