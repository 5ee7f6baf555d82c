//! First start: the owner's account, for the person who has the code from the server.

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
    PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN, PasswordError, setup_code_discard, setup_code_matches,
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
    name: String,
    password: String,
    again: String,
}

impl SetupForm {
    fn faults(&self, t: &Catalog) -> Faults {
        let characters = self.password.chars().count();
        Faults {
            code: None,
            name: None,
            password: if !(PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX).contains(&characters) {
                Some(t.setup_password_short.into())
            } else if self.password != self.again {
                Some(t.setup_password_differs.into())
            } else {
                None
            },
        }
    }
}

async fn is_set_up(app: &App) -> Result<bool, Problem> {
    Ok(app.feed.operations().user_count().await? > 0)
}

/// `GET /setup`; leads to the login once there is a user.
pub(crate) async fn setup_page(
    State(app): State<App>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    if is_set_up(&app).await? {
        return Ok(Redirect::to("/login").into_response());
    }
    announce_setup_code(&app.paths);
    let form = SetupForm {
        name: "admin".into(),
        ..SetupForm::default()
    };
    Ok(page(&app, &visitor, &form, Faults::default())?.into_response())
}

fn page(
    app: &App,
    visitor: &Visitor,
    form: &SetupForm,
    faults: Faults,
) -> Result<Html<String>, Problem> {
    let words = app.wording(visitor.language);
    show(&SetupPage {
        t: words.t,
        f: Frame::new(&words, visitor),
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
    if is_set_up(&app).await? {
        return Ok(Redirect::to("/login").into_response());
    }
    let t = visitor.language.catalog();
    let mut faults = form.faults(t);
    let now = Instant::now();
    let status = if let Some(left) = app.throttle.locked_for(now, visitor.peer) {
        faults.code = Some(t.login_locked.with("n", left.as_secs() + 1).into());
        StatusCode::TOO_MANY_REQUESTS
    } else {
        app.throttle.failed(now, visitor.peer);
        let matches = setup_code_matches(&app.paths, &form.code)
            .map_err(|error| Problem::internal(&error, "cannot read the set-up code"))?;
        if matches {
            app.throttle.succeeded(visitor.peer);
        } else {
            tracing::warn!(peer = %visitor.peer, "set-up refused: wrong code");
            faults.code = Some(t.setup_code_wrong.into());
        }
        StatusCode::UNPROCESSABLE_ENTITY
    };
    if faults.any() {
        return Ok((status, page(&app, &visitor, &form, faults)?).into_response());
    }
    create(&app, &visitor, form).await
}

async fn create(app: &App, visitor: &Visitor, form: SetupForm) -> Result<Response, Problem> {
    let hash = match app.passwords.hash(form.password.clone()).await {
        Ok(hash) => hash,
        Err(PasswordError::Busy) => return Err(Problem::Slow),
        Err(error) => return Err(Problem::internal(&error, "cannot hash a password")),
    };
    let operations = app.feed.operations();
    let operations = operations.acting_as(format!("web:setup@{}", visitor.peer));
    match operations.user_create_first(&form.name, &hash).await {
        Ok(()) => {}
        Err(OperationError::Invalid { .. }) => {
            let faults = Faults {
                name: Some(visitor.language.catalog().setup_name_wrong.into()),
                ..Faults::default()
            };
            let page = page(app, visitor, &form, faults)?;
            return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
        }
        Err(error) => return Err(error.into()),
    }
    setup_code_discard(&app.paths);
    tracing::info!(peer = %visitor.peer, "the owner's account was created");
    let cookie = open_session(app, &form.name).await?;
    Ok((
        AppendHeaders([(SET_COOKIE, cookie)]),
        Redirect::to("/?done=setup"),
    )
        .into_response())
}
