//! What a request carries: path, query, body, precondition.

use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::{
    HeaderStyle, MediaType, Operation, Parameter, ParameterData, ParameterSchemaOrContent,
    RequestBody, Response as Documented, SchemaObject,
};
use aide::operation::{ParamLocation, add_parameters, parameters_from_schema, set_body};
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{CONTENT_TYPE, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use dess_node::operations::Revision;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::details::{ProblemDetails, early};
use crate::app::App;
use crate::visitor::Member;

/// Parts of the path.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

/// The query.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

/// A JSON body.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

/// `If-Match`: the settings that a change was made up from. A change without it is refused (RFC 6585 §3); `*` changes them
/// whatever they are.
#[derive(Debug)]
pub(super) struct IfMatch(Option<Revision>);

impl IfMatch {
    /// The settings that must still be in place.
    pub(super) fn expected(&self) -> Option<&Revision> {
        self.0.as_ref()
    }
}

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Named<T> {
    type Rejection = ProblemDetails;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ProblemDetails> {
        let path = Path::<T>::from_request_parts(parts, app).await;
        path.map(|Path(path)| Self(path))
            .map_err(|_| ProblemDetails::not_found("no such thing has such a name"))
    }
}

impl<T: DeserializeOwned> FromRequestParts<App> for Asked<T> {
    type Rejection = ProblemDetails;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ProblemDetails> {
        let query = Query::<T>::from_request_parts(parts, app).await;
        query.map(|Query(query)| Self(query)).map_err(|rejection| {
            ProblemDetails::bad_request("invalid_query", rejection.body_text())
        })
    }
}

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ProblemDetails;

    async fn from_request(request: Request, app: &App) -> Result<Self, ProblemDetails> {
        if !is_json(request.headers()) {
            return Err(ProblemDetails::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "media_type",
                "The body is not JSON",
                "send it with Content-Type: application/json".to_owned(),
            ));
        }
        let bytes = Bytes::from_request(request, app)
            .await
            .map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => crate::problem::Problem::TooLarge.into(),
                _ => ProblemDetails::bad_request("malformed", rejection.body_text()),
            })?;
        parse(&bytes).map(Self)
    }
}

/// The value, or where in it the first mistake is.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ProblemDetails> {
    // Left to itself, serde takes an array for the fields of an object in their order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(ProblemDetails::invalid(
            "",
            "invalid",
            "the body is not an object",
        ));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let pointer = pointer(error.path());
        let cause = error.into_inner();
        if cause.is_data() {
            ProblemDetails::invalid(&pointer, "invalid", &cause.to_string())
        } else {
            ProblemDetails::bad_request("malformed", format!("it is no JSON: {cause}"))
        }
    })?;
    json.end().map_err(|error| {
        ProblemDetails::bad_request("malformed", format!("it is no JSON: {error}"))
    })?;
    Ok(value)
}

/// As RFC 6901 writes it.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

impl FromRequestParts<App> for IfMatch {
    type Rejection = ProblemDetails;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ProblemDetails> {
        let Some(value) = parts.headers.get(IF_MATCH) else {
            return Err(ProblemDetails::new(
                StatusCode::PRECONDITION_REQUIRED,
                "precondition_required",
                "The change does not say what it was made up from",
                "send If-Match with the ETag that was read, or * to change it whatever it is"
                    .to_owned(),
            ));
        };
        let value = value.to_str().unwrap_or_default().trim();
        if value == "*" {
            return Ok(Self(None));
        }
        // A list of several, and weak ones, never match: nobody gets them from here.
        let tag = value.trim_matches('"');
        Ok(Self(Some(Revision(tag.to_owned()))))
    }
}

impl<T: JsonSchema> OperationInput for Named<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let schema = context.schema.subschema_for::<T>();
        let parameters = parameters_from_schema(context, schema, ParamLocation::Path);
        add_parameters(context, operation, parameters);
    }

    fn inferred_early_responses(
        context: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<u16>, Documented)> {
        early(context, operation, &[(404, "There is no such thing.")])
    }
}

impl<T: JsonSchema> OperationInput for Asked<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let schema = context.schema.subschema_for::<T>();
        let parameters = parameters_from_schema(context, schema, ParamLocation::Query);
        add_parameters(context, operation, parameters);
    }

    fn inferred_early_responses(
        context: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<u16>, Documented)> {
        early(context, operation, &[(400, "The query cannot be used.")])
    }
}

impl<T: JsonSchema> OperationInput for Body<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let media = MediaType {
            schema: Some(SchemaObject {
                json_schema: context.schema.subschema_for::<T>(),
                external_docs: None,
                example: None,
            }),
            ..MediaType::default()
        };
        let body = RequestBody {
            content: [("application/json".to_owned(), media)]
                .into_iter()
                .collect(),
            required: true,
            ..RequestBody::default()
        };
        set_body(context, operation, body);
    }

    fn inferred_early_responses(
        context: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<u16>, Documented)> {
        let answers = [
            (400, "The body is no JSON."),
            (413, "The body is too large."),
            (415, "The body is not sent as JSON."),
            (422, "A field has a value that cannot be accepted."),
        ];
        early(context, operation, &answers)
    }
}

impl OperationInput for IfMatch {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let parameter = header(
            context,
            "If-Match",
            "The ETag of the settings that the change was made up from; `*` for any.",
            true,
        );
        add_parameters(context, operation, [parameter]);
    }

    fn inferred_early_responses(
        context: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<u16>, Documented)> {
        let answers = [
            (412, "It was changed meanwhile."),
            (428, "The change does not say what it was made up from."),
        ];
        early(context, operation, &answers)
    }
}

impl OperationInput for Member {
    fn inferred_early_responses(
        context: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<u16>, Documented)> {
        let answers = [
            (401, "Nobody is logged in."),
            (403, "The role or the token does not allow it."),
            (503, "The database or a service cannot be used; try again."),
        ];
        early(context, operation, &answers)
    }
}

/// A header of a request, for the document.
pub(super) fn header(
    context: &mut GenContext,
    name: &str,
    description: &str,
    required: bool,
) -> Parameter {
    Parameter::Header {
        parameter_data: ParameterData {
            name: name.to_owned(),
            description: Some(description.to_owned()),
            required,
            deprecated: None,
            format: ParameterSchemaOrContent::Schema(SchemaObject {
                json_schema: context.schema.subschema_for::<String>(),
                external_docs: None,
                example: None,
            }),
            example: None,
            examples: Default::default(),
            explode: None,
            extensions: Default::default(),
        },
        style: HeaderStyle::Simple,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only parsed")]
    struct Outer {
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only parsed")]
    struct Inner {
        seat: u32,
    }

    #[test]
    fn a_wrong_value_is_pointed_at() {
        let problem = parse::<Outer>(br#"{"inner":[{"seat":1},{"seat":"a"}]}"#).unwrap_err();
        assert_eq!(problem.status, 422);
        assert_eq!(problem.errors[0].pointer, "/inner/1/seat");
    }

    #[test]
    fn what_is_no_json_is_refused_as_such() {
        for text in [&b"{"[..], b"", b"{\"inner\":[]} x", b"\xff"] {
            let problem = parse::<Outer>(text).unwrap_err();
            assert_eq!((problem.status, problem.code.as_str()), (400, "malformed"));
        }
    }
}
