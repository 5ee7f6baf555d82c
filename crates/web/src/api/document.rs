//! The OpenAPI document, made of the handlers' types.

use aide::OperationOutput;
use aide::generate::{GenContext, in_context};
use aide::openapi::{
    ApiKeyLocation, Info, OpenApi, Operation, Response as Documented, SecurityScheme,
};
use aide::transform::{TransformOpenApi, TransformOperation};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;

/// Under which all of the API lies.
pub(crate) const PREFIX: &str = "/api/v1";

const DESCRIPTION: &str = "\
Everything that the admin page and the `dess` command can do. \
Times are milliseconds since the Unix epoch (UTC), sizes are bytes. \
Errors are problem details (RFC 9457): `code` is stable, `detail` is for people, `errors` points at fields. \
Lists that can grow long are answered page by page: `next` is the `cursor` of the next page. \
Clients and groups carry an `ETag` of their settings (not of what they do just now); \
changing or removing one needs `If-Match`: 428 without it, 412 if it was changed meanwhile. \
Long work is answered with 202 and a job. \
Creations take an `Idempotency-Key`.";

/// An answer without content.
#[derive(Debug)]
pub(super) struct NoContent;

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl OperationOutput for NoContent {
    type Inner = ();

    fn operation_response(_: &mut GenContext, _: &mut Operation) -> Option<Documented> {
        Some(Documented {
            description: "Done.".to_owned(),
            ..Documented::default()
        })
    }

    fn inferred_responses(
        context: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<u16>, Documented)> {
        let response = Self::operation_response(context, operation);
        response
            .map(|response| (Some(204), response))
            .into_iter()
            .collect()
    }
}

/// Names an operation, and says what it does.
pub(super) fn described(
    id: &'static str,
    what: &'static str,
) -> impl for<'t> FnOnce(TransformOperation<'t>) -> TransformOperation<'t> {
    let tag = id.split('_').next().unwrap_or(id);
    move |operation| operation.id(id).summary(what).tag(tag)
}

/// Prepares this thread to describe routes: OpenAPI 3.1 takes JSON Schema 2020-12.
pub(super) fn begin() {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    in_context(|context| context.schema = SchemaGenerator::new(settings));
}

/// The document before the routes.
pub(super) fn empty() -> OpenApi {
    OpenApi {
        info: Info {
            title: "DESS".to_owned(),
            summary: Some("Boots a room full of PCs that have no disks.".to_owned()),
            description: Some(DESCRIPTION.to_owned()),
            version: "1".to_owned(),
            ..Info::default()
        },
        ..OpenApi::default()
    }
}

/// How a request proves who sends it.
pub(super) fn secured(document: TransformOpenApi<'_>) -> TransformOpenApi<'_> {
    let token = SecurityScheme::Http {
        scheme: "bearer".to_owned(),
        bearer_format: None,
        description: Some("A token of the API.".to_owned()),
        extensions: Default::default(),
    };
    let session = SecurityScheme::ApiKey {
        location: ApiKeyLocation::Cookie,
        name: crate::visitor::SESSION_COOKIE.to_owned(),
        description: Some("The login of the admin page.".to_owned()),
        extensions: Default::default(),
    };
    document
        .security_scheme("token", token)
        .security_scheme("session", session)
        .security_requirement("token")
        .security_requirement("session")
}
