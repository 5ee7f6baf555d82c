//! `/api/v1/services`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dess_node::services;
use dess_node::supervisor::protocol::{ServiceName, ServiceStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::details::ProblemDetails;
use super::document::described;
use super::endpoints::Api;
use super::extract::Named;
use crate::app::App;
use crate::gate::Needs::{Operator, Viewer};
use crate::site::chain;
use crate::visitor::Member;

type Result<T> = std::result::Result<T, ProblemDetails>;

pub(super) fn routes(api: Api) -> Api {
    api.get("/api/v1/services", Viewer, list, described("service_list", "The services of the server."))
        .post("/api/v1/services/{service}/restart", Operator, restart, |operation| {
            let what = "Restarts a service and waits until it is ready. The page's own is restarted behind the answer.";
            described("service_restart", what)(operation)
                .response::<200, Json<ServiceStatus>>()
                .response_with::<202, (), _>(|answer| answer.description("It restarts now."))
        })
}

/// The services, and whether anybody could be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServicesView {
    /// False if nobody who looks after the services answers; `services` is then empty.
    pub supervised: bool,
    /// In start order.
    pub services: Vec<ServiceStatus>,
}

async fn list(State(app): State<App>, _: Member) -> Json<ServicesView> {
    let seen = app.feed.services().await;
    Json(ServicesView {
        supervised: seen.is_some(),
        services: seen.unwrap_or_default(),
    })
}

/// Which service.
#[derive(Debug, Deserialize, JsonSchema)]
struct Service {
    /// Its name.
    service: ServiceName,
}

async fn restart(
    State(app): State<App>,
    member: Member,
    Named(Service { service }): Named<Service>,
) -> Result<Response> {
    let operations = member.operations(&app);
    // Not with the database down: the restart matters more than its audit row.
    let noted = operations.audit_append("service.restart", service.as_str(), serde_json::json!({}));
    if let Err(error) = noted.await {
        tracing::warn!(%error, "restart of {service} is not in the audit log");
    }
    let paths = app.paths.clone();
    let task = tokio::spawn(async move { services::restart(&paths, service).await });
    if service == ServiceName::Web {
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    match task.await {
        Ok(Ok(status)) => Ok(Json(status).into_response()),
        Ok(Err(error)) => Err(not_restarted(chain(&error))),
        Err(error) => Err(not_restarted(error.to_string())),
    }
}

fn not_restarted(cause: String) -> ProblemDetails {
    ProblemDetails::unavailable("service", "The service was not restarted", cause)
}
