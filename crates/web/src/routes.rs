//! Addresses, and the protections around them.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tower_http::csrf::CsrfLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

use crate::app::App;
use crate::problem::{Problem, show_problems};
use crate::{api, assets, live, page};

/// Largest body of a form in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest a page may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Nothing but our own files; scripts and styles never inline.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// All addresses.
pub(crate) fn router(app: App) -> Router {
    pages()
        .layer(TimeoutLayer::with_status_code(
            StatusCode::GATEWAY_TIMEOUT,
            ANSWER_WITHIN,
        ))
        .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX))
        .layer(CsrfLayer::new())
        .layer(from_fn_with_state(app.clone(), show_problems))
        .layer(fixed(CONTENT_SECURITY_POLICY, CONTENT_POLICY))
        .layer(fixed(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(fixed(X_FRAME_OPTIONS, "DENY"))
        // Not "no-referrer": browsers would then send `Origin: null` with forms.
        .layer(fixed(REFERRER_POLICY, "same-origin"))
        .layer(fixed(
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ))
        .layer(SetResponseHeaderLayer::if_not_present(
            CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
        .with_state(app)
}

fn pages() -> Router<App> {
    Router::new()
        .route("/", get(page::room))
        .route("/setup", get(page::setup_page).post(page::setup))
        .route("/login", get(page::login_page).post(page::login))
        .route("/logout", post(page::logout))
        .route("/language/{code}", get(page::language))
        .route("/services/{name}", get(page::service))
        .route(
            "/services/{name}/restart",
            get(page::restart_ask).post(page::restart),
        )
        .route("/clients/{id}", get(page::client))
        .route("/clients/{id}/approve", post(page::approve))
        .route(
            "/clients/{id}/reset",
            get(page::reset_ask).post(page::reset),
        )
        .route(
            "/clients/{id}/remove",
            get(page::remove_ask).post(page::remove),
        )
        .route("/clients/{id}/settings", post(page::settings))
        .route("/images", get(page::images))
        .route("/images/import", post(page::image_import))
        .route(
            "/images/default",
            get(page::default_ask).post(page::default_set),
        )
        .route("/jobs/{id}/cancel", post(page::job_cancel))
        .route("/live/{page}", get(live::live))
        .route("/assets/{file}", get(assets::asset))
        .route("/api/v1/clients", get(api::clients))
        .route("/api/v1/services", get(api::services))
        .route("/api/v1/session", get(api::session))
        .fallback(|| async { Problem::NotFound })
}

fn fixed(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
}

#[cfg(test)]
mod tests;
