//! Addresses, and the protections around them.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::middleware::from_fn_with_state;
use tower_http::csrf::CsrfLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

use crate::app::App;
use crate::gate::Needs::{Nobody, Operator, Owner, Viewer};
use crate::gate::Routes;
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
    routes(app.clone())
        .router()
        .fallback(|| async { Problem::NotFound })
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

/// Every address with who may use it.
pub(crate) fn routes(app: App) -> Routes {
    let routes = Routes::new(app)
        .get("/setup", Nobody, page::setup_page)
        .post("/setup", Nobody, page::setup)
        .get("/login", Nobody, page::login_page)
        .post("/login", Nobody, page::login)
        .post("/login/code", Nobody, page::login_code)
        .post("/logout", Viewer, page::logout)
        .get("/language/{code}", Nobody, page::language)
        .get("/assets/{file}", Nobody, assets::asset)
        .get("/live/{page}", Viewer, live::live)
        .get("/", Viewer, page::room)
        .get("/services/{name}", Viewer, page::service)
        .get("/services/{name}/restart", Operator, page::restart_ask)
        .post("/services/{name}/restart", Operator, page::restart)
        .post("/services/{name}/probe", Operator, page::probe)
        .post("/room/plan", Operator, page::arrange)
        .get("/clients/batch", Operator, page::batch_ask)
        .post("/clients/batch", Operator, page::batch)
        .get("/clients/{id}", Viewer, page::client)
        .post("/clients/{id}/approve", Operator, page::approve)
        .get("/clients/{id}/reset", Operator, page::reset_ask)
        .post("/clients/{id}/reset", Operator, page::reset)
        .get("/clients/{id}/remove", Operator, page::remove_ask)
        .post("/clients/{id}/remove", Operator, page::remove)
        .post("/clients/{id}/settings", Operator, page::settings)
        .get("/cases", Viewer, page::cases)
        .get("/cases/{id}", Viewer, page::case)
        .post("/cases/{id}/acknowledge", Operator, page::acknowledge)
        .get("/images", Viewer, page::images)
        .get("/images/action", Operator, page::image_action_ask)
        .post("/images/action", Operator, page::image_action)
        .post("/images/import", Operator, page::image_import)
        .get("/images/default", Operator, page::default_ask)
        .post("/images/default", Operator, page::default_set)
        .post("/jobs/{id}/cancel", Operator, page::job_cancel);
    api::routes(access_routes(routes))
}

/// Accounts, users and the audit log.
fn access_routes(routes: Routes) -> Routes {
    routes
        .get("/account", Viewer, page::account)
        .post("/account/password", Viewer, page::password_change)
        .get("/account/totp", Viewer, page::enrol_page)
        .post("/account/totp", Viewer, page::enrol)
        .post("/account/totp/off", Viewer, page::turn_off)
        .post("/account/recovery", Viewer, page::recovery_renew)
        .post("/account/sessions/end", Viewer, page::session_end)
        .post("/account/sessions/others", Viewer, page::sessions_end)
        .post("/account/tokens", Viewer, page::token_create)
        .post("/account/tokens/revoke", Viewer, page::token_revoke)
        .get("/users", Owner, page::users)
        .post("/users", Owner, page::user_create)
        .get("/users/{name}", Owner, page::user)
        .post("/users/{name}", Owner, page::user_set)
        .post("/users/{name}/password", Owner, page::user_password)
        .post("/users/{name}/totp-off", Owner, page::user_totp_off)
        .post(
            "/users/{name}/tokens/revoke",
            Owner,
            page::user_token_revoke,
        )
        .get("/users/{name}/remove", Owner, page::user_remove_ask)
        .post("/users/{name}/remove", Owner, page::user_remove)
        .get("/audit", Owner, page::audit_page)
}

fn fixed(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
}

#[cfg(test)]
mod tests;
