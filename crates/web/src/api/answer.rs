//! How resources are answered: with their revision, as created, as a job, page by page.

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{
    Header, HeaderStyle, Operation, ParameterSchemaOrContent, ReferenceOr, Response as Documented,
    SchemaObject,
};
use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{ETAG, LOCATION};
use axum::response::{IntoResponse, Response};
use dess_model::JobId;
use dess_node::operations::{JobView, Operations, Revision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::details::ProblemDetails;

/// Items of a page unless another number is asked for.
const ITEMS: u32 = 100;
/// Most items of a page.
const ITEMS_MAX: u32 = 1000;

/// A resource with the ETag of its settings.
#[derive(Debug)]
pub(super) struct Tagged<T> {
    pub(super) revision: Revision,
    pub(super) resource: T,
}

/// A resource that was made, with its address.
#[derive(Debug)]
pub(super) struct Created<T> {
    pub(super) location: String,
    pub(super) tagged: Tagged<T>,
}

/// A job that was ordered, with its address.
#[derive(Debug)]
pub(super) struct Ordered(JobView);

/// Some of many, in a stable order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The `cursor` of the next page; none on the last one.
    pub next: Option<String>,
}

impl Ordered {
    pub(super) async fn of(operations: &Operations, job: JobId) -> Result<Self, ProblemDetails> {
        Ok(Self(operations.job_get(job).await?))
    }
}

/// How many items are asked for.
///
/// # Errors
/// If it is 0 or too many.
pub(super) fn wanted(limit: Option<u32>) -> Result<usize, ProblemDetails> {
    match limit.unwrap_or(ITEMS) {
        limit @ 1..=ITEMS_MAX => Ok(limit as usize),
        other => Err(ProblemDetails::bad_request(
            "invalid_query",
            format!("limit: {other} is not in 1 to {ITEMS_MAX}"),
        )),
    }
}

impl<T> Page<T> {
    /// The items after `cursor`. `key` is unique and rises with the order of `items`, and is what the cursor holds: items that
    /// are added or removed meanwhile neither repeat nor hide others.
    pub(super) fn after(
        items: impl IntoIterator<Item = T>,
        cursor: Option<&str>,
        limit: usize,
        key: impl Fn(&T) -> String,
    ) -> Self {
        let later = |item: &T| cursor.is_none_or(|cursor| key(item).as_str() > cursor);
        let mut items = items.into_iter().filter(later);
        let page: Vec<T> = items.by_ref().take(limit).collect();
        let next = items.next().and_then(|_| page.last()).map(&key);
        Self { items: page, next }
    }
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let tag = format!("\"{}\"", self.revision.0);
        ([(ETAG, tag)], Json(self.resource)).into_response()
    }
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (
            StatusCode::CREATED,
            [(LOCATION, self.location)],
            self.tagged,
        )
            .into_response()
    }
}

impl IntoResponse for Ordered {
    fn into_response(self) -> Response {
        let location = format!("/api/v1/jobs/{}", self.0.id);
        (StatusCode::ACCEPTED, [(LOCATION, location)], Json(self.0)).into_response()
    }
}

impl<T: JsonSchema> OperationOutput for Tagged<T> {
    type Inner = T;

    fn operation_response(
        context: &mut GenContext,
        operation: &mut Operation,
    ) -> Option<Documented> {
        let mut response = Json::<T>::operation_response(context, operation)?;
        let etag = header(context, "Revision of the settings, for If-Match.");
        response.headers.insert("ETag".to_owned(), etag);
        Some(response)
    }

    fn inferred_responses(
        context: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<u16>, Documented)> {
        answered(200, Self::operation_response(context, operation))
    }
}

impl<T: JsonSchema> OperationOutput for Created<T> {
    type Inner = T;

    fn operation_response(
        context: &mut GenContext,
        operation: &mut Operation,
    ) -> Option<Documented> {
        let mut response = Tagged::<T>::operation_response(context, operation)?;
        let location = header(context, "Its address.");
        response.headers.insert("Location".to_owned(), location);
        Some(response)
    }

    fn inferred_responses(
        context: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<u16>, Documented)> {
        answered(201, Self::operation_response(context, operation))
    }
}

impl OperationOutput for Ordered {
    type Inner = JobView;

    fn operation_response(
        context: &mut GenContext,
        operation: &mut Operation,
    ) -> Option<Documented> {
        let mut response = Json::<JobView>::operation_response(context, operation)?;
        let location = header(context, "The address of the job.");
        response.headers.insert("Location".to_owned(), location);
        Some(response)
    }

    fn inferred_responses(
        context: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<u16>, Documented)> {
        answered(202, Self::operation_response(context, operation))
    }
}

fn answered(status: u16, response: Option<Documented>) -> Vec<(Option<u16>, Documented)> {
    let response = response.map(|response| (Some(status), response));
    response.into_iter().collect()
}

fn header(context: &mut GenContext, description: &str) -> ReferenceOr<Header> {
    ReferenceOr::Item(Header {
        description: Some(description.to_owned()),
        style: HeaderStyle::Simple,
        required: true,
        deprecated: None,
        format: ParameterSchemaOrContent::Schema(SchemaObject {
            json_schema: context.schema.subschema_for::<String>(),
            external_docs: None,
            example: None,
        }),
        example: None,
        examples: Default::default(),
        extensions: Default::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_neither_repeat_nor_skip_when_something_is_removed_meanwhile() {
        let key = |number: &u32| format!("{number:05}");
        let first = Page::after(1..=5, None, 2, key);
        assert_eq!(
            (first.items, first.next.as_deref()),
            (vec![1, 2], Some("00002"))
        );
        // 1 and 2 are gone meanwhile, 3 to 5 stay.
        let second = Page::after(3..=5, Some("00002"), 2, key);
        assert_eq!(second.items, [3, 4]);
        let last = Page::after(3..=5, second.next.as_deref(), 2, key);
        assert_eq!((last.items, last.next), (vec![5], None));
    }

    #[test]
    fn a_page_has_1_to_1000_items() {
        assert_eq!(wanted(None).unwrap(), 100);
        assert!(wanted(Some(0)).is_err() && wanted(Some(1001)).is_err());
    }
}
