//! The pages: extract, authorise, call, show.

mod client;
mod client_action;
mod image;
mod language;
mod login;
mod note;
mod room;
mod service;
mod setup;
mod watched;

pub(crate) use client::client;
pub(crate) use client_action::{approve, remove, remove_ask, reset, reset_ask, settings};
pub(crate) use image::{default_ask, default_set, image_import, images, job_cancel};
pub(crate) use language::language;
pub(crate) use login::{login, login_page, logout};
pub(crate) use room::{ServicesPart, room, room_parts};
pub(crate) use service::{restart, restart_ask, service};
pub(crate) use setup::{setup, setup_page};
pub(crate) use watched::Watched;

use askama::Template;
use axum::response::Html;

use crate::catalog::{Catalog, Phrase};
use crate::frame::Frame;
use crate::problem::Problem;

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
