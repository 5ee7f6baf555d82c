//! The admin page's probe.

use std::net::SocketAddr;

use dess_model::{ProbeFailure, ProbeStep};

use crate::{http, reachable, unusable};

/// Asks for the page of the login. That the database cannot be used is told there, and no fault of the page.
pub(crate) async fn probe(listen: SocketAddr) -> Result<(), ProbeFailure> {
    let at = reachable(listen);
    let answer = http::get(at, "/login", "", ProbeStep::Page).await?;
    let is_page = answer.body.contains("<html");
    match answer.status {
        200..400 | 503 if is_page || answer.status / 100 == 3 => Ok(()),
        status => Err(unusable(at, ProbeStep::Page, format!("status {status}"))),
    }
}
