//! The REST API: the same operations as the page and the command, for programs.
//!
//! A handler extracts, calls one operation and answers its view; `details` words what went wrong, and the types of the handlers
//! are the OpenAPI `document`.

mod answer;
mod audit;
mod clients;
pub(crate) mod details;
mod document;
mod endpoints;
mod events;
mod extract;
mod groups;
mod idempotency;
mod images;
mod jobs;
mod services;
mod session;
mod site;
mod versions;

use std::sync::OnceLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::gate::Needs::Viewer;
use crate::gate::Routes;
use endpoints::Api;

pub use crate::problem::encode_segment as escaped;
pub use answer::Page;
pub use clients::ResetView;
pub use details::{FieldProblem, ProblemDetails};
pub(crate) use document::PREFIX;
pub use images::{AssignOrder, MaintainOrder, PublishNote, RolloutOrder};
pub use services::ServicesView;
pub use site::{DataPathAnswer, SiteChange, SnapshotView};

/// Adds the addresses of the API.
pub(crate) fn routes(routes: Routes) -> Routes {
    let routes = routes.get("/api/v1/openapi.json", Viewer, openapi);
    let (routes, _) = endpoints(Api::new(Some(routes))).finish();
    // They were given, so they come back.
    routes.expect("the routes that were passed in")
}

fn endpoints(api: Api) -> Api {
    [
        clients::routes,
        groups::routes,
        images::routes,
        versions::routes,
        jobs::routes,
        services::routes,
        site::routes,
        audit::routes,
        session::routes,
        events::routes,
    ]
    .into_iter()
    .fold(api, |api, add| add(api))
}

/// The OpenAPI 3.1 document as JSON, with a line feed at its end.
pub fn openapi_json() -> &'static str {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let (_, document) = endpoints(Api::new(None)).finish();
        let json = serde_json::to_string_pretty(&document);
        // Schemas and strings: nothing in it can fail to be written.
        json.map(|json| json + "\n").unwrap_or_default()
    })
}

/// `GET /api/v1/openapi.json`
async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], openapi_json())
}
