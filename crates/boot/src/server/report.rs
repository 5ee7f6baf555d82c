//! `/report/<mac>`: iPXE tells why it did not boot.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dess_http::Ends;
use serde::Deserialize;

use super::Service;
use crate::failure::{FailureReport, advice};
use crate::plan::{Access, script_access};
use crate::script::report_script;

/// What the URL carries.
#[derive(Debug, Deserialize)]
pub(super) struct ReportQuery {
    stage: String,
    errno: String,
}

/// Sends the event and answers with a script that says what the error means.
pub(super) async fn handle(
    State(service): State<Arc<Service>>,
    Extension(ends): Extension<Ends>,
    method: Method,
    Path(mac): Path<String>,
    query: Result<Query<ReportQuery>, QueryRejection>,
) -> Response {
    let peer = ends.peer.ip().to_canonical();
    let Ok(Query(query)) = query else {
        service.count_malformed(peer, "a failure report without stage and errno");
        return (StatusCode::BAD_REQUEST, "stage and errno are missing\n").into_response();
    };
    let report = match FailureReport::parse(&mac, &query.stage, &query.errno) {
        Ok(report) => report,
        Err(error) => {
            service.count_malformed(peer, &error.to_string());
            return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response();
        }
    };
    let advice = advice(report.errno);
    let snapshot = service.snapshots.current();
    let client = snapshot
        .as_ref()
        .and_then(|snapshot| Some((snapshot, snapshot.client_by_mac(report.mac)?)));
    match client {
        // Nobody speaks for another client, and nobody for one that does not exist.
        Some((snapshot, client)) if script_access(snapshot, client, peer) == Access::Granted => {
            if method == Method::GET {
                tracing::warn!(
                    client.mac = %report.mac, errno = format!("{:#010x}", report.errno),
                    "seat {} could not boot: {} {}", client.seat, advice.code, advice.problem
                );
                service.send(report.to_event());
            }
        }
        _ => {
            let mac = report.mac;
            service.count_refused(peer, &format!("reported a failure of {mac}; passed over"));
        }
    }
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=us-ascii")];
    (headers, report_script(&advice)).into_response()
}
