//! Style, script and icon, built in; their URLs carry a hash of the content, so browsers keep them.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use dess_node::operations::FLOOR_SIDE_MAX;
use sha2::{Digest, Sha256};

use crate::problem::Problem;

/// The URLs of the assets.
#[derive(Clone, Debug)]
pub(crate) struct Assets {
    pub(crate) css: String,
    pub(crate) js: String,
    /// The script of the room alone.
    pub(crate) room: String,
    pub(crate) icon: String,
}

const STYLE: &str = include_str!("../assets/app.css");
const JS: &str = include_str!("../assets/app.js");
const ROOM: &str = include_str!("../assets/room.js");
const ICON: &str = include_str!("../assets/icon.svg");

static ASSETS: LazyLock<Assets> = LazyLock::new(|| Assets {
    css: url("app", &CSS, "css"),
    js: url("app", JS, "js"),
    room: url("room", ROOM, "js"),
    icon: url("icon", ICON, "svg"),
});

/// The style sheet with the places of the plan: a page may not place its elements itself, since the
/// content policy allows no inline style.
static CSS: LazyLock<String> = LazyLock::new(|| {
    let mut css = String::with_capacity(STYLE.len());
    for line in STYLE.lines() {
        css.push_str(line.trim_start());
        css.push('\n');
    }
    for at in 1..=FLOOR_SIDE_MAX {
        css.push_str(&format!(
            "[data-x=\"{at}\"]{{grid-column-start:{at}}}\n\
             [data-y=\"{at}\"]{{grid-row-start:{at}}}\n\
             [data-w=\"{at}\"]{{grid-column-end:span {at}}}\n\
             [data-h=\"{at}\"]{{grid-row-end:span {at}}}\n"
        ));
    }
    css
});

pub(crate) fn assets() -> &'static Assets {
    &ASSETS
}

/// Bytes of all assets together.
#[cfg(test)]
pub(crate) fn weight() -> usize {
    CSS.len() + JS.len() + ROOM.len() + ICON.len()
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
        css if css == ASSETS.css => (CSS.as_str(), "text/css; charset=utf-8"),
        js if js == ASSETS.js => (JS, "text/javascript; charset=utf-8"),
        room if room == ASSETS.room => (ROOM, "text/javascript; charset=utf-8"),
        icon if icon == ASSETS.icon => (ICON, "image/svg+xml"),
        _ => return Err(Problem::NotFound),
    };
    let headers = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, content).into_response())
}
