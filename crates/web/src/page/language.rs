//! The choice of the language.

use axum::extract::{Path, Query};
use axum::http::header::SET_COOKIE;
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use serde::Deserialize;

use crate::catalog::Language;
use crate::problem::Problem;
use crate::visitor::{LANGUAGE_COOKIE, local_path};

#[derive(Debug, Deserialize)]
pub(crate) struct Back {
    #[serde(default)]
    back: String,
}

/// `GET /language/{code}?back=`: remembers the language and goes back.
pub(crate) async fn language(
    Path(code): Path<String>,
    Query(Back { back }): Query<Back>,
) -> Result<Response, Problem> {
    let language = Language::from_code(&code).ok_or(Problem::NotFound)?;
    let cookie = format!(
        "{LANGUAGE_COOKIE}={}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax",
        language.code()
    );
    Ok((
        AppendHeaders([(SET_COOKIE, cookie)]),
        Redirect::to(local_path(&back)),
    )
        .into_response())
}
