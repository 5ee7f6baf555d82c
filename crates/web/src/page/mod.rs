//! The pages: extract, authorise, call, show.

mod account;
mod arrange;
mod audit;
mod batch;
mod case;
mod client;
mod client_action;
mod image;
mod image_action;
mod language;
mod login;
mod note;
mod room;
mod second_factor;
mod service;
mod setup;
mod user;
mod watched;

pub(crate) use account::{
    account, password_change, session_end, sessions_end, token_create, token_revoke,
};
pub(crate) use arrange::arrange;
pub(crate) use audit::audit_page;
pub(crate) use batch::{batch, batch_ask};
pub(crate) use case::{acknowledge, case, cases};
pub(crate) use client::client;
pub(crate) use client_action::{approve, remove, remove_ask, reset, reset_ask, settings};
pub(crate) use image::{default_ask, default_set, image_import, images, job_cancel};
pub(crate) use image_action::{image_action, image_action_ask};
pub(crate) use language::language;
pub(crate) use login::{HalfLogin, login, login_code, login_page, logout};
pub(crate) use room::{ServicesPart, room, room_parts};
pub(crate) use second_factor::{enrol, enrol_page, recovery_renew, turn_off};
pub(crate) use service::{probe, restart, restart_ask, service};
pub(crate) use setup::{setup, setup_page};
pub(crate) use user::{
    user, user_create, user_password, user_remove, user_remove_ask, user_set, user_token_revoke,
    user_totp_off, users,
};
pub(crate) use watched::Watched;

use askama::Template;
use axum::response::{Html, IntoResponse, Response};

use crate::app::App;
use crate::catalog::{Catalog, Phrase};
use crate::frame::Frame;
use crate::problem::Problem;
use crate::visitor::Member;
use crate::wording::Wording;

/// The HTML of a whole page.
fn show(page: &impl Template) -> Result<Html<String>, Problem> {
    page.render()
        .map(Html)
        .map_err(|error| Problem::internal(&error, "cannot render a page"))
}

/// A question before something is done.
#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmPage {
    t: &'static Catalog,
    f: Frame,
    key: &'static str,
    title: String,
    lines: Vec<String>,
    warning: Option<String>,
    /// `warn` or `bad`.
    severity: &'static str,
    action: String,
    hidden: Vec<(&'static str, String)>,
    yes: Phrase,
    back: String,
}

/// Something that is shown once and never again.
#[derive(Template)]
#[template(path = "once.html")]
struct OncePage {
    t: &'static Catalog,
    f: Frame,
    title: String,
    lead: Phrase,
    secrets: Vec<String>,
    /// How it is used, for programs.
    hint: Option<&'static str>,
    back: String,
}

impl OncePage {
    /// The frame of the answer to a form of this section.
    async fn frame(app: &App, words: &Wording, member: &Member, section: &'static str) -> Frame {
        let site = app.site_name().await;
        let mut frame = Frame::of(words, member, site.as_deref(), section);
        // The language link cannot repeat a form.
        frame.path = format!("/{section}");
        frame
    }

    fn answer(&self) -> Result<Response, Problem> {
        Ok(show(self)?.into_response())
    }
}
