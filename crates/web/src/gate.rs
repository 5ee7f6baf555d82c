//! The gate: every address with who may use it, and the one place that asks.
//!
//! An address comes into the service only through [`Routes`], with what it [`Needs`]; before its
//! handler runs, [`admit`] finds out who asks (login session, API token), compares roles, and
//! leaves the [`Member`] for the handler. The table is kept, and a test walks all of it with every
//! role.

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use dess_model::Role;
use subtle::ConstantTimeEq;

use crate::app::App;
use crate::problem::Problem;
use crate::visitor::Member;

/// Header with the session's token against cross-site requests, for writes to the API by a
/// browser. Requests with an API token need none: no browser sends that by itself.
pub(crate) const CSRF_HEADER: &str = "x-csrf-token";

/// Who may use an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Strangers too.
    Nobody,
    Viewer,
    Operator,
    Owner,
}

impl Needs {
    /// The weakest role that may; none if nobody needs to be logged in.
    pub(crate) fn role(self) -> Option<Role> {
        match self {
            Self::Nobody => None,
            Self::Viewer => Some(Role::Viewer),
            Self::Operator => Some(Role::Operator),
            Self::Owner => Some(Role::Owner),
        }
    }
}

/// An address with a method and who may use it.
#[cfg(test)]
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
}

/// The table of all addresses.
pub(crate) struct Routes {
    app: App,
    router: Router<App>,
    #[cfg(test)]
    table: Vec<Entry>,
}

impl Routes {
    pub(crate) fn new(app: App) -> Self {
        Self {
            app,
            router: Router::new(),
            #[cfg(test)]
            table: Vec::new(),
        }
    }

    /// Adds `GET path` (and with it `HEAD`).
    pub(crate) fn get<H, T>(self, path: &'static str, needs: Needs, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        self.method(Method::GET, path, needs, on(MethodFilter::GET, handler))
    }

    /// Adds `POST path`.
    pub(crate) fn post<H, T>(self, path: &'static str, needs: Needs, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        self.method(Method::POST, path, needs, on(MethodFilter::POST, handler))
    }

    /// Adds an address whose `router` answers this method alone.
    pub(crate) fn method(
        mut self,
        #[cfg_attr(not(test), expect(unused_variables, reason = "for the walk"))] method: Method,
        path: &'static str,
        needs: Needs,
        router: MethodRouter<App>,
    ) -> Self {
        let gate = from_fn_with_state((self.app.clone(), needs), admit);
        self.router = self.router.route(path, router.route_layer(gate));
        #[cfg(test)]
        self.table.push(Entry {
            method,
            path,
            needs,
        });
        self
    }

    /// All addresses.
    pub(crate) fn router(self) -> Router<App> {
        self.router
    }

    /// Who may use them.
    #[cfg(test)]
    pub(crate) fn table(self) -> Vec<Entry> {
        self.table
    }
}

/// Lets a request through to its handler, or not.
async fn admit(
    State((app, needs)): State<(App, Needs)>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(role) = needs.role() else {
        return Ok(next.run(request).await);
    };
    let (mut parts, body) = request.into_parts();
    let member = Member::of(&parts, &app).await?;
    if !member.role.may(role) {
        tracing::info!(
            actor = member.actor(),
            path = parts.uri.path(),
            "{} {} needs the role {role}",
            parts.method,
            parts.uri.path()
        );
        return Err(Problem::Forbidden);
    }
    if !comes_from_our_page(&parts, &member) {
        return Err(Problem::Forged);
    }
    parts.extensions.insert(member);
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// False for a write to the API with a browser's session but without its token. (Forms of pages
/// carry the token in their body, where [`crate::visitor::Signed`] looks for it.)
fn comes_from_our_page(parts: &Parts, member: &Member) -> bool {
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    let Some(expected) = member.csrf() else {
        return true;
    };
    if reads || !parts.uri.path().starts_with("/api/") {
        return true;
    }
    let sent = parts.headers.get(CSRF_HEADER).map(HeaderValue::as_bytes);
    let sent = sent.unwrap_or_default();
    !expected.is_empty() && bool::from(sent.ct_eq(expected.as_bytes()))
}
