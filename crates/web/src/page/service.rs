//! One service: how it is, its last words, and its restart.

use std::collections::HashSet;
use std::time::Duration;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{Html, Redirect};
use dess_model::host::request;
use dess_model::{TargetReply, TargetRequest};
use dess_node::services;
use dess_node::supervisor::protocol::ServiceName;
use serde::Deserialize;

use super::note::NoteQuery;
use super::{ConfirmPage, show};
use crate::app::App;
use crate::catalog::Catalog;
use crate::frame::Frame;
use crate::parts::{CSRF_MARK, Parts, html};
use crate::problem::Problem;
use crate::site::Site;
use crate::view::{ServiceRow, counted, service_name, service_rows};
use crate::visitor::{Member, Signed};
use crate::wording::Wording;

/// How long the page waits for a restart before it shows the service as it is.
const RESTART_SHOWN_AFTER: Duration = Duration::from_secs(8);
/// How long the iSCSI service may take to say who is connected.
const STATUS_WAIT: Duration = Duration::from_secs(2);

#[derive(Template)]
#[template(path = "service.html")]
struct ServicePage {
    t: &'static Catalog,
    f: Frame,
    s: ServiceRow,
    detail: String,
}

#[derive(Template)]
#[template(path = "part/service_detail.html")]
struct DetailPart {
    t: &'static Catalog,
    s: ServiceRow,
    may_operate: bool,
    csrf: &'static str,
}

fn row(words: &Wording, site: &Site, name: ServiceName) -> Option<ServiceRow> {
    service_rows(words, site.services.as_deref())
        .into_iter()
        .find(|row| row.key == name.as_str())
}

/// The live parts of a service's page.
pub(super) fn parts(words: &Wording, site: &Site, name: ServiceName, may_operate: bool) -> Parts {
    let mut parts = Parts::default();
    if let Some(s) = row(words, site, name) {
        parts.say = format!("{}: {}", s.name, s.state);
        parts.push(
            "service-detail",
            html(&DetailPart {
                t: words.t,
                s,
                may_operate,
                csrf: CSRF_MARK,
            }),
        );
    }
    parts
}

fn named(name: &str) -> Result<ServiceName, Problem> {
    name.parse().map_err(|_| Problem::NotFound)
}

/// `GET /services/{name}`
pub(crate) async fn service(
    State(app): State<App>,
    member: Member,
    Path(name): Path<String>,
    Query(query): Query<NoteQuery>,
) -> Result<Html<String>, Problem> {
    let name = named(&name)?;
    let words = app.wording(member.visitor.language);
    let t = words.t;
    let site = app.feed.site().await;
    let s = row(&words, &site, name).ok_or(Problem::NotFound)?;
    let parts = parts(&words, &site, name, member.may_operate());
    let mut frame = Frame::of(&words, &member, site.records.name.as_deref(), "");
    frame.live = Some(format!("/live/service-{name}?seen={}", parts.fingerprint()));
    frame.note = query.note(t, Some(service_name(t, name).into()));
    frame.warning = query.warning(t, Some(service_name(t, name).into()));
    let detail = parts
        .html("service-detail")
        .replace(CSRF_MARK, member.form_token());
    show(&ServicePage {
        t,
        f: frame,
        s,
        detail,
    })
}

/// `GET /services/{name}/restart`: asks first.
pub(crate) async fn restart_ask(
    State(app): State<App>,
    member: Member,
    Path(name): Path<String>,
) -> Result<Html<String>, Problem> {
    let name = named(&name)?;
    let words = app.wording(member.visitor.language);
    let t = words.t;
    let site = app.feed.site().await;
    let (lines, warning) = match name {
        ServiceName::Iscsi => match running(&app, &site).await {
            Some(0) => (
                vec![t.restart_brief.into(), t.restart_iscsi_none.into()],
                None,
            ),
            Some(n) => (
                vec![],
                Some(counted(n, t.restart_iscsi_one, t.restart_iscsi)),
            ),
            None => (vec![], Some(t.restart_iscsi_unknown.into())),
        },
        ServiceName::Web => (vec![t.restart_web.into()], None),
        _ => {
            let row = row(&words, &site, name).ok_or(Problem::NotFound)?;
            (vec![row.job.into(), t.restart_brief.into()], None)
        }
    };
    show(&ConfirmPage {
        t,
        f: Frame::of(&words, &member, site.records.name.as_deref(), ""),
        key: "restart",
        title: t.restart_title.with("name", service_name(t, name)).into(),
        lines,
        severity: if warning.is_some() { "bad" } else { "warn" },
        warning,
        action: format!("/services/{name}/restart"),
        hidden: vec![],
        yes: t.restart_do,
        back: format!("/services/{name}"),
    })
}

/// How many clients have a disk open: the iSCSI service knows best, else the database.
async fn running(app: &App, site: &Site) -> Option<usize> {
    let control = app.paths.target_control();
    if let Ok(TargetReply::Status { sessions, .. }) =
        request(&control, &TargetRequest::Status, STATUS_WAIT).await
    {
        let clients: HashSet<_> = sessions.iter().map(|session| session.client).collect();
        return Some(clients.len());
    }
    (site.records.trouble.is_none()).then(|| site.records.powered_on())
}

/// A form without fields of its own.
#[derive(Debug, Deserialize)]
pub(crate) struct NoFields {}

/// `POST /services/{name}/restart`
pub(crate) async fn restart(
    State(app): State<App>,
    Path(name): Path<String>,
    Signed { member, .. }: Signed<NoFields>,
) -> Result<Redirect, Problem> {
    let name = named(&name)?;
    let operations = member.operations(&app);
    // Not with the database down: the restart matters more than its audit row.
    if let Err(error) = operations
        .audit_append("service.restart", name.as_str(), serde_json::json!({}))
        .await
    {
        tracing::warn!(%error, actor = member.user, "restart of {name} is not in the audit log");
    }
    tracing::info!(actor = member.user, service.name = %name, "restart of {name} asked for");
    let paths = app.paths.clone();
    let task = tokio::spawn(async move { services::restart(&paths, name).await });
    let page = format!("/services/{name}");
    if name == ServiceName::Web {
        return Ok(Redirect::to(&page));
    }
    match tokio::time::timeout(RESTART_SHOWN_AFTER, task).await {
        Ok(Ok(Ok(_))) => Ok(Redirect::to(&format!("{page}?done=restarted"))),
        Ok(Ok(Err(error))) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "{name} was not restarted"
            );
            Ok(Redirect::to(&format!("{page}?done=restart_failed")))
        }
        // Still under way: the page shows how it goes.
        Err(_) | Ok(Err(_)) => Ok(Redirect::to(&page)),
    }
}

/// `POST /services/{name}/probe`
pub(crate) async fn probe(
    State(app): State<App>,
    Path(name): Path<String>,
    _: Signed<NoFields>,
) -> Result<Redirect, Problem> {
    let name = named(&name)?;
    let page = format!("/services/{name}");
    let reports = services::probe(&app.paths, Some(name)).await;
    let done = match reports.as_deref() {
        Some([report]) if report.works() => "probed",
        _ => "probe_failed",
    };
    Ok(Redirect::to(&format!("{page}?done={done}")))
}
