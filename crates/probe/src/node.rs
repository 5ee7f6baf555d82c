//! The management daemon's probe.

use dess_model::host::{Paths, RequestError, request};
use dess_model::{ProbeFailure, ProbeStep};
use serde_json::{Value, json};

use crate::{STEP_LIMIT, failed, silent, unusable};

/// Asks the daemon how it is.
pub(crate) async fn probe(paths: &Paths) -> Result<(), ProbeFailure> {
    let socket = paths.node_control();
    let at = socket.display().to_string();
    let question = json!({ "request": "status" });
    let reply: Result<Value, _> = request(&socket, &question, STEP_LIMIT).await;
    match reply {
        Ok(reply) if reply["reply"] == "status" => Ok(()),
        Ok(_) => Err(unusable(at, ProbeStep::Control, "another answer")),
        Err(RequestError::TimedOut { .. }) => Err(silent(at, ProbeStep::Control)),
        Err(RequestError::Connect { source, .. } | RequestError::Io { source, .. }) => {
            Err(failed(at, &source))
        }
        Err(RequestError::Malformed { source, .. }) => {
            Err(unusable(at, ProbeStep::Control, source.to_string()))
        }
    }
}
