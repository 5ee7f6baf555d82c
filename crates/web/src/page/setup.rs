//! For the person who has a code from the server: the owner's account at the first start, and a
//! new password for an owner who forgot it.

use std::time::Instant;

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};
use dess_node::operations::OperationError;
use serde::Deserialize;

use super::login::open_session;
use super::show;
use crate::access::{
    CodeUse, PASSWORD_CHARS, PasswordError, code_discard, code_matches, network, waiting_code,
};
use crate::app::App;
use crate::catalog::Catalog;
use crate::frame::Frame;
use crate::problem::Problem;
use crate::serve::announce_setup_code;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "setup.html")]
struct SetupPage {
    t: &'static Catalog,
    f: Frame,
    /// The account is there; only its password is set.
    reset: bool,
    code: String,
    name: String,
    code_error: Option<String>,
    name_error: Option<String>,
    password_error: Option<String>,
}

/// What is wrong, by field.
#[derive(Default)]
struct Faults {
    code: Option<String>,
    name: Option<String>,
    password: Option<String>,
}

impl Faults {
    fn any(&self) -> bool {
        self.code.is_some() || self.name.is_some() || self.password.is_some()
    }
}

/// The account as sent. Without `Debug`: it holds the password.
#[derive(Default, Deserialize)]
pub(crate) struct SetupForm {
    code: String,
    /// Absent when only the password is set.
    #[serde(default)]
    name: String,
    password: String,
    again: String,
}

impl SetupForm {
    fn faults(&self, t: &Catalog) -> Faults {
        Faults {
            code: None,
            name: None,
            password: password_fault(t, &self.password, &self.again),
        }
    }
}

/// What is wrong with a new password, typed twice.
pub(super) fn password_fault(t: &Catalog, password: &str, again: &str) -> Option<String> {
    let characters = password.chars().count();
    if !PASSWORD_CHARS.contains(&characters) {
        Some(t.setup_password_short.into())
    } else if password != again {
        Some(t.setup_password_differs.into())
    } else {
        None
    }
}

/// What the page is for now; none if there is nothing to set up.
async fn purpose(app: &App) -> Result<Option<CodeUse>, Problem> {
    if app.feed.operations().user_count().await? == 0 {
        return Ok(Some(CodeUse::Setup));
    }
    let waiting = waiting_code(&app.paths, CodeUse::Reset)
        .map_err(|error| Problem::internal(&error, "cannot read the reset code"))?;
    Ok(waiting.map(|_| CodeUse::Reset))
}

/// `GET /setup`; leads to the login once there is a user, unless the password is to be reset.
pub(crate) async fn setup_page(
    State(app): State<App>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let Some(code_use) = purpose(&app).await? else {
        return Ok(Redirect::to("/login").into_response());
    };
    if code_use == CodeUse::Setup {
        announce_setup_code(&app.paths);
    }
    let form = SetupForm {
        name: "admin".into(),
        ..SetupForm::default()
    };
    Ok(page(&app, &visitor, code_use, &form, Faults::default())?.into_response())
}

fn page(
    app: &App,
    visitor: &Visitor,
    code_use: CodeUse,
    form: &SetupForm,
    faults: Faults,
) -> Result<Html<String>, Problem> {
    let words = app.wording(visitor.language);
    show(&SetupPage {
        t: words.t,
        f: Frame::new(&words, visitor),
        reset: code_use == CodeUse::Reset,
        code: form.code.clone(),
        name: form.name.clone(),
        code_error: faults.code,
        name_error: faults.name,
        password_error: faults.password,
    })
}

/// `POST /setup`
pub(crate) async fn setup(
    State(app): State<App>,
    visitor: Visitor,
    form: Result<Form<SetupForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form.map_err(|rejection| Problem::of_form(&rejection))?;
    let Some(code_use) = purpose(&app).await? else {
        return Ok(Redirect::to("/login").into_response());
    };
    let t = visitor.language.catalog();
    let mut faults = form.faults(t);
    let now = Instant::now();
    let status = if let Some(left) = app.codes.locked_for(now, &network(visitor.peer)) {
        faults.code = Some(t.login_locked.with("n", left.as_secs() + 1).into());
        StatusCode::TOO_MANY_REQUESTS
    } else {
        app.codes.failed(now, &network(visitor.peer));
        let matches = code_matches(&app.paths, code_use, &form.code)
            .map_err(|error| Problem::internal(&error, "cannot read the set-up code"))?;
        if matches {
            app.codes.succeeded(&network(visitor.peer));
        } else {
            tracing::warn!(peer = %visitor.peer, "set-up refused: wrong code");
            faults.code = Some(t.setup_code_wrong.into());
        }
        StatusCode::UNPROCESSABLE_ENTITY
    };
    if faults.any() {
        return Ok((status, page(&app, &visitor, code_use, &form, faults)?).into_response());
    }
    let hash = match app.passwords.hash(form.password.clone()).await {
        Ok(hash) => hash,
        Err(PasswordError::Busy) => return Err(Problem::Slow),
        Err(error) => return Err(Problem::internal(&error, "cannot hash a password")),
    };
    match code_use {
        CodeUse::Setup => create(&app, &visitor, form, hash).await,
        CodeUse::Reset => set_anew(&app, &visitor, hash).await,
    }
}

/// The owner's account, at the first start.
async fn create(
    app: &App,
    visitor: &Visitor,
    form: SetupForm,
    hash: String,
) -> Result<Response, Problem> {
    let operations = app.feed.operations();
    let operations = operations.acting_as(format!("web:setup@{}", visitor.peer));
    match operations.user_create_first(&form.name, &hash).await {
        Ok(()) => {}
        Err(OperationError::Invalid { .. }) => {
            let faults = Faults {
                name: Some(visitor.language.catalog().setup_name_wrong.into()),
                ..Faults::default()
            };
            let page = page(app, visitor, CodeUse::Setup, &form, faults)?;
            return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
        }
        Err(error) => return Err(error.into()),
    }
    code_discard(&app.paths, CodeUse::Setup);
    tracing::info!(peer = %visitor.peer, "the owner's account was created");
    enter(app, visitor, &form.name, "/?done=setup").await
}

/// The owner's new password; all who were logged in are out.
async fn set_anew(app: &App, visitor: &Visitor, hash: String) -> Result<Response, Problem> {
    let operations = app.feed.operations();
    let operations = operations.acting_as(format!("web:reset@{}", visitor.peer));
    let owner = operations.owner_name().await?.ok_or(Problem::NotFound)?;
    operations.user_password_set(&owner, &hash, None).await?;
    code_discard(&app.paths, CodeUse::Reset);
    app.ask_who_everybody_is();
    app.throttle.succeeded(&network(visitor.peer));
    app.guessed.succeeded(&owner);
    tracing::info!(peer = %visitor.peer, "the owner's password was set anew with a code from the server");
    enter(app, visitor, &owner, "/?done=password").await
}

/// Logs the user in and leads on.
async fn enter(app: &App, visitor: &Visitor, user: &str, to: &str) -> Result<Response, Problem> {
    let cookie = open_session(app, visitor, user).await?;
    Ok((AppendHeaders([(SET_COOKIE, cookie)]), Redirect::to(to)).into_response())
}
