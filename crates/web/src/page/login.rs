//! Login and logout.

use std::time::{Duration, Instant};

use askama::Template;
use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};
use dess_model::Timestamp;
use dess_node::operations::{Credentials, SessionCreate};
use serde::Deserialize;

use super::note::NoteQuery;
use super::service::NoFields;
use super::show;
use crate::access::{
    CodeUse, PASSWORD_CHARS_MAX, PasswordError, SESSION_MS, Token, TotpKey, network, recovery_hash,
    waiting_code,
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
    let t = visitor.language.catalog();
    let (note, warning) = (query.note.note(t, None), query.note.warning(t, None));
    Ok(page(&app, &visitor, &form, note, warning)?.into_response())
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

/// Who gave the right password and owes the code of the authenticator.
#[derive(Clone)]
pub(crate) struct HalfLogin {
    user: String,
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
    let user = app.feed.operations().user_credentials(&form.name).await?;
    let user = user.filter(|user| !user.disabled);
    if let Some(left) = locked_for(&app, &visitor, &form.name, user.as_ref()) {
        let text = t.login_locked.with("n", left.as_secs() + 1);
        return refuse(StatusCode::TOO_MANY_REQUESTS, text.into());
    }
    // Counted before the check, so that many tries at once do not slip through.
    count_failure(&app, &visitor, &form.name);
    let hash = user.as_ref().map(|user| user.password_hash.clone());
    match check(&app, &form.password, hash).await {
        Ok(true) => {}
        Ok(false) => {
            tracing::warn!(peer = %visitor.peer, "login refused: wrong name or password");
            audit(&app, &visitor, "login.refused", &form.name).await;
            return refuse(StatusCode::UNAUTHORIZED, t.login_wrong.into());
        }
        Err(PasswordError::Busy) => {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, t.login_busy.into());
        }
        Err(error) => return Err(Problem::internal(&error, "cannot check a password")),
    }
    let half = HalfLogin {
        user: form.name.clone(),
        back: local_path(&form.back).to_owned(),
    };
    if user.is_some_and(|user| user.totp_secret.is_some()) {
        let ticket = app.half_logins.keep(Instant::now(), half);
        return Ok(code_page(&app, &visitor, ticket, None)?.into_response());
    }
    finish(&app, &visitor, half).await
}

/// How long this login has to wait. Failures from one network lock that network. Failures from
/// anywhere lock the user, but not for the network of the user's own last login: no stranger keeps
/// a user out.
fn locked_for(
    app: &App,
    visitor: &Visitor,
    name: &str,
    user: Option<&Credentials>,
) -> Option<Duration> {
    let (now, network) = (Instant::now(), network(visitor.peer));
    let by_network = app.throttle.locked_for(now, &network);
    let at_home = user
        .and_then(|user| user.last_login_from.as_deref())
        .is_some_and(|known| known == network.to_string());
    let by_user = app.guessed.locked_for(now, &throttled(name));
    by_network.max(by_user.filter(|_| !at_home))
}

fn count_failure(app: &App, visitor: &Visitor, name: &str) {
    let now = Instant::now();
    app.throttle.failed(now, &network(visitor.peer));
    app.guessed.failed(now, &throttled(name));
}

/// The name under which failures are counted; bounded, since anybody may send anything.
fn throttled(name: &str) -> String {
    name.chars().take(64).collect()
}

/// True if this is the password of the hash; without a hash it takes as long.
pub(super) async fn check(
    app: &App,
    password: &str,
    hash: Option<String>,
) -> Result<bool, PasswordError> {
    if password.chars().count() > PASSWORD_CHARS_MAX {
        return Ok(false);
    }
    app.passwords.verify(password.to_owned(), hash).await
}

/// All that was asked for is given: the session begins.
async fn finish(app: &App, visitor: &Visitor, half: HalfLogin) -> Result<Response, Problem> {
    app.throttle.succeeded(&network(visitor.peer));
    app.guessed.succeeded(&throttled(&half.user));
    let cookie = open_session(app, visitor, &half.user).await?;
    audit(app, visitor, "login", &half.user).await;
    let back = Redirect::to(&half.back);
    Ok((AppendHeaders([(SET_COOKIE, cookie)]), back).into_response())
}

#[derive(Template)]
#[template(path = "login_code.html")]
struct CodePage {
    t: &'static Catalog,
    f: Frame,
    ticket: String,
    error: Option<String>,
}

fn code_page(
    app: &App,
    visitor: &Visitor,
    ticket: String,
    error: Option<String>,
) -> Result<Html<String>, Problem> {
    let words = app.wording(visitor.language);
    let mut frame = Frame::new(&words, visitor);
    // The language link cannot repeat a form.
    frame.path = "/login".into();
    show(&CodePage {
        t: words.t,
        f: frame,
        ticket,
        error,
    })
}

/// The second step as sent. Without `Debug`: it holds the code.
#[derive(Deserialize)]
pub(crate) struct CodeForm {
    ticket: String,
    code: String,
}

/// `POST /login/code`: the code of the authenticator, or a recovery code.
pub(crate) async fn login_code(
    State(app): State<App>,
    visitor: Visitor,
    form: Result<Form<CodeForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form.map_err(|rejection| Problem::of_form(&rejection))?;
    let Some(half) = app.half_logins.look(Instant::now(), &form.ticket) else {
        return Ok(Redirect::to("/login?done=code_late").into_response());
    };
    count_failure(&app, &visitor, &half.user);
    let user = app.feed.operations().user_credentials(&half.user).await?;
    let key = user
        .filter(|user| !user.disabled)
        .and_then(|user| TotpKey::from_base32(&user.totp_secret?));
    if let Some(key) = key
        && code_is_good(&app, &visitor, &half.user, &key, &form.code).await?
    {
        app.half_logins.forget(&form.ticket);
        return finish(&app, &visitor, half).await;
    }
    tracing::warn!(peer = %visitor.peer, "login refused: wrong code of the authenticator");
    audit(&app, &visitor, "login.code_refused", &half.user).await;
    let text = visitor.language.catalog().accounts.login_code_wrong.into();
    let page = code_page(&app, &visitor, form.ticket, Some(text))?;
    Ok((StatusCode::UNAUTHORIZED, page).into_response())
}

/// True for a code that counts now and was not used before, or for a recovery code, which is used
/// up by it.
async fn code_is_good(
    app: &App,
    visitor: &Visitor,
    user: &str,
    key: &TotpKey,
    code: &str,
) -> Result<bool, Problem> {
    let operations = app.feed.operations();
    let operations = operations.acting_as(format!("web:{user}@{}", visitor.peer));
    if let Some(step) = key.step_of(code, Timestamp::now().0 / 1000) {
        return Ok(operations.totp_step_use(user, step).await?);
    }
    let hash = recovery_hash(user, code);
    Ok(operations.recovery_code_use(user, &hash).await?)
}

async fn audit(app: &App, visitor: &Visitor, action: &str, name: &str) {
    let name = throttled(name);
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
