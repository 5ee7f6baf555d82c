//! One table for the router, the gate and the document.

use aide::axum::ApiRouter;
use aide::axum::routing::{ApiMethodRouter, delete_with, get_with, patch_with, post_with};
use aide::openapi::OpenApi;
use aide::operation::{OperationHandler, OperationInput, OperationOutput};
use aide::transform::TransformOperation;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, on};

use super::document;
use crate::app::App;
use crate::gate::{Needs, Routes};

/// The API under construction.
pub(super) struct Api {
    /// None if only the document is wanted.
    routes: Option<Routes>,
    documented: ApiRouter<App>,
}

/// What adds an endpoint with one method.
macro_rules! endpoint {
    ($(#[$doc:meta])* $name:ident, $method:ident, $with:ident) => {
        $(#[$doc])*
        pub(super) fn $name<H, I, O, T>(
            self,
            path: &'static str,
            needs: Needs,
            handler: H,
            words: impl FnOnce(TransformOperation<'_>) -> TransformOperation<'_>,
        ) -> Self
        where
            H: Handler<T, App> + OperationHandler<I, O>,
            I: OperationInput + Send + 'static,
            O: OperationOutput + Send + 'static,
            T: 'static,
        {
            let documented = $with(handler.clone(), |operation| words(operation).with(role(needs)));
            let answers = on(MethodFilter::$method, handler);
            self.add(Method::$method, path, needs, documented, answers)
        }
    };
}

impl Api {
    /// Adds the endpoints to `routes`, or only describes them.
    pub(super) fn new(routes: Option<Routes>) -> Self {
        document::begin();
        Self {
            routes,
            documented: ApiRouter::new(),
        }
    }

    endpoint! {
        /// Adds `GET path`.
        get, GET, get_with
    }
    endpoint! {
        /// Adds `POST path`.
        post, POST, post_with
    }
    endpoint! {
        /// Adds `PATCH path`.
        patch, PATCH, patch_with
    }
    endpoint! {
        /// Adds `DELETE path`.
        delete, DELETE, delete_with
    }

    fn add(
        mut self,
        method: Method,
        path: &'static str,
        needs: Needs,
        documented: ApiMethodRouter<App>,
        answers: axum::routing::MethodRouter<App>,
    ) -> Self {
        self.routes = self
            .routes
            .map(|routes| routes.method(method, path, needs, answers));
        self.documented = self.documented.api_route(path, documented);
        self
    }

    /// The routes, if they were wanted, and the document.
    pub(super) fn finish(self) -> (Option<Routes>, OpenApi) {
        let mut document = document::empty();
        // Its router stands beside the gate: only what it says is used.
        drop(
            self.documented
                .finish_api_with(&mut document, document::secured),
        );
        (self.routes, document)
    }
}

/// Says which role is needed.
fn role(needs: Needs) -> impl FnOnce(TransformOperation<'_>) -> TransformOperation<'_> {
    move |mut operation| {
        if let Some(role) = needs.role() {
            let named = serde_json::json!(role);
            operation
                .inner_mut()
                .extensions
                .insert("x-dess-role".to_owned(), named);
        }
        operation
    }
}
