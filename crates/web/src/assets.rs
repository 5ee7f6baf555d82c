//! Style, script and icon, built in; their URLs carry a hash of the content, so browsers keep them.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::problem::Problem;

/// The URLs of the assets.
#[derive(Clone, Debug)]
pub(crate) struct Assets {
    pub(crate) css: String,
    pub(crate) js: String,
    pub(crate) icon: String,
}

const CSS: &str = include_str!("../assets/app.css");
const JS: &str = include_str!("../assets/app.js");
const ICON: &str = include_str!("../assets/icon.svg");

static ASSETS: LazyLock<Assets> = LazyLock::new(|| Assets {
    css: url("app", CSS, "css"),
    js: url("app", JS, "js"),
    icon: url("icon", ICON, "svg"),
});

pub(crate) fn assets() -> &'static Assets {
    &ASSETS
}

fn url(name: &str, content: &str, extension: &str) -> String {
    let hash: String = Sha256::digest(content)
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("/assets/{name}-{hash}.{extension}")
}

/// `GET /assets/{file}`
pub(crate) async fn asset(Path(file): Path<String>) -> Result<Response, Problem> {
    let wanted = format!("/assets/{file}");
    let (content, kind) = match wanted {
        css if css == ASSETS.css => (CSS, "text/css; charset=utf-8"),
        js if js == ASSETS.js => (JS, "text/javascript; charset=utf-8"),
        icon if icon == ASSETS.icon => (ICON, "image/svg+xml"),
        _ => return Err(Problem::NotFound),
    };
    let headers = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, content).into_response())
}
