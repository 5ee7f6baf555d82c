//! Login and logout.

use std::time::Instant;

use askama::Template;
use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};
use dess_model::Timestamp;
use dess_node::operations::{OperationError, SessionCreate};
use serde::Deserialize;

use super::note::NoteQuery;
use super::service::NoFields;
use super::show;
use crate::access::{
    CodeUse, PASSWORD_CHARS_MAX, PasswordError, SESSION_MS, Token, network, waiting_code,
};
use crate::app::App;
use crate::catalog::Catalog;
use crate::frame::Frame;
use crate::problem::Problem;
use crate::visitor::{Entry, SESSION_COOKIE, Signed, Visitor, local_path};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    t: &'static Catalog,
    f: Frame,
    back: String,
    name: String,
    error: Option<String>,
    /// A code to set a new password waits to be used.
    resettable: bool,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct LoginQuery {
    #[serde(default)]
    back: String,
    #[serde(flatten)]
    note: NoteQuery,
}

/// `GET /login`; leads to the set-up while there is no user.
pub(crate) async fn login_page(
    State(app): State<App>,
    visitor: Visitor,
    Query(query): Query<LoginQuery>,
) -> Result<Response, Problem> {
    if app.feed.operations().user_count().await? == 0 {
        return Ok(Redirect::to("/setup").into_response());
    }
    let form = LoginForm {
        back: query.back,
        ..LoginForm::default()
    };
    let note = query.note.note(visitor.language.catalog(), None);
    Ok(page(&app, &visitor, &form, note, None)?.into_response())
}

fn page(
    app: &App,
    visitor: &Visitor,
    form: &LoginForm,
    note: Option<String>,
    error: Option<String>,
) -> Result<Html<String>, Problem> {
    let words = app.wording(visitor.language);
    let mut frame = Frame::new(&words, visitor);
    frame.path = "/login".into();
    frame.note = note;
    show(&LoginPage {
        t: words.t,
        f: frame,
        back: local_path(&form.back).to_owned(),
        name: form.name.clone(),
        error,
        resettable: matches!(waiting_code(&app.paths, CodeUse::Reset), Ok(Some(_))),
    })
}

/// A login as sent. Without `Debug`: it holds the password.
#[derive(Default, Deserialize)]
pub(crate) struct LoginForm {
    name: String,
    password: String,
    #[serde(default)]
    back: String,
}

/// `POST /login`
pub(crate) async fn login(
    State(app): State<App>,
    visitor: Visitor,
    form: Result<Form<LoginForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form.map_err(|rejection| Problem::of_form(&rejection))?;
    let t = visitor.language.catalog();
    let refuse = |status, text: String| {
        let page = page(&app, &visitor, &form, None, Some(text))?;
        Ok((status, page).into_response())
    };
    let now = Instant::now();
    if let Some(left) = app.throttle.locked_for(now, visitor.peer) {
        let text = t.login_locked.with("n", left.as_secs() + 1);
        return refuse(StatusCode::TOO_MANY_REQUESTS, text.into());
    }
    // Counted before the check, so that many tries at once do not slip through.
    app.throttle.failed(now, visitor.peer);
    match check(&app, &form).await {
        Ok(true) => {}
        Ok(false) => {
            tracing::warn!(peer = %visitor.peer, "login refused: wrong name or password");
            audit(&app, &visitor, "login.refused", &form.name).await;
            return refuse(StatusCode::UNAUTHORIZED, t.login_wrong.into());
        }
        Err(LoginError::Password(PasswordError::Busy)) => {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, t.login_busy.into());
        }
        Err(LoginError::Password(error)) => {
            return Err(Problem::internal(&error, "cannot check a password"));
        }
        Err(LoginError::Operation(error)) => return Err(error.into()),
    }
    app.throttle.succeeded(visitor.peer);
    let cookie = open_session(&app, &visitor, &form.name).await?;
    audit(&app, &visitor, "login", &form.name).await;
    let back = Redirect::to(local_path(&form.back));
    Ok((AppendHeaders([(SET_COOKIE, cookie)]), back).into_response())
}

enum LoginError {
    Password(PasswordError),
    Operation(OperationError),
}

async fn check(app: &App, form: &LoginForm) -> Result<bool, LoginError> {
    if form.password.chars().count() > PASSWORD_CHARS_MAX {
        return Ok(false);
    }
    let user = app
        .feed
        .operations()
        .user_credentials(&form.name)
        .await
        .map_err(LoginError::Operation)?;
    let user = user.filter(|user| !user.disabled);
    app.passwords
        .verify(form.password.clone(), user.map(|user| user.password_hash))
        .await
        .map_err(LoginError::Password)
}

async fn audit(app: &App, visitor: &Visitor, action: &str, name: &str) {
    let name: String = name.chars().take(64).collect();
    let operations = app
        .feed
        .operations()
        .acting_as(format!("web:{name}@{}", visitor.peer));
    if let Err(error) = operations
        .audit_append(action, &name, serde_json::json!({}))
        .await
    {
        tracing::warn!(%error, "a login is not in the audit log");
    }
}

/// Opens a session and answers its cookie.
pub(super) async fn open_session(
    app: &App,
    visitor: &Visitor,
    user: &str,
) -> Result<String, Problem> {
    let token = Token::random();
    let session = SessionCreate {
        token_hash: token.hash(),
        user: user.to_owned(),
        csrf: Token::random().expose().to_owned(),
        peer: visitor.peer.to_string(),
        network: network(visitor.peer).to_string(),
        agent: visitor.agent.clone(),
        expires: Timestamp(Timestamp::now().0 + SESSION_MS),
    };
    app.feed.operations().session_create(session).await?;
    Ok(format!(
        "{SESSION_COOKIE}={}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax",
        token.expose(),
        SESSION_MS / 1000
    ))
}

/// `POST /logout`
pub(crate) async fn logout(
    State(app): State<App>,
    Signed { member, .. }: Signed<NoFields>,
) -> Result<Response, Problem> {
    if let Entry::Session { token_hash, .. } = &member.entry {
        app.sessions.forget(token_hash);
        member.operations(&app).session_end(token_hash).await?;
    }
    let cookie = format!("{SESSION_COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
    Ok((
        AppendHeaders([(SET_COOKIE, cookie)]),
        Redirect::to("/login?done=logout"),
    )
        .into_response())
}
