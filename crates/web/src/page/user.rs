//! The users of the page, for owners.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use dess_model::Role;
use dess_node::operations::{OperationError, UserChange, UserCreate, UserView};
use serde::Deserialize;

use super::account::Chosen;
use super::note::NoteQuery;
use super::service::NoFields;
use super::{ConfirmPage, OncePage, show};
use crate::access::password_random;
use crate::app::App;
use crate::catalog::{Catalog, Phrase};
use crate::frame::Frame;
use crate::problem::{Problem, encode, refusal};
use crate::view::{TokenRow, UserRow, role_word};
use crate::visitor::{Member, Signed};

#[derive(Template)]
#[template(path = "users.html")]
struct UsersPage {
    t: &'static Catalog,
    f: Frame,
    users: Vec<UserRow>,
    roles: Vec<(&'static str, Phrase)>,
    name: String,
    error: Option<String>,
}

fn roles(t: &Catalog) -> Vec<(&'static str, Phrase)> {
    let roles = Role::ALL.into_iter();
    roles
        .map(|role| (role.as_str(), role_word(t, role)))
        .collect()
}

/// `GET /users`
pub(crate) async fn users(
    State(app): State<App>,
    member: Member,
    Query(query): Query<NoteQuery>,
) -> Result<Html<String>, Problem> {
    list_page(&app, &member, &query, String::new(), None).await
}

async fn list_page(
    app: &App,
    member: &Member,
    query: &NoteQuery,
    name: String,
    error: Option<String>,
) -> Result<Html<String>, Problem> {
    let words = app.wording(member.visitor.language);
    let t = words.t;
    let users = app.feed.operations().user_list().await?;
    let mut frame = Frame::of(&words, member, app.site_name().await.as_deref(), "users");
    frame.path = "/users".into();
    frame.note = query.note(t, None);
    show(&UsersPage {
        t,
        f: frame,
        users: users
            .iter()
            .map(|user| UserRow::new(&words, user))
            .collect(),
        roles: roles(t),
        name,
        error,
    })
}

/// A user to make, as sent.
#[derive(Debug, Deserialize)]
pub(crate) struct UserForm {
    name: String,
    role: String,
}

/// `POST /users`: makes a user and shows the password, once.
pub(crate) async fn user_create(
    State(app): State<App>,
    Signed { member, form }: Signed<UserForm>,
) -> Result<Response, Problem> {
    let (password, hash) = new_password(&app).await?;
    let create = UserCreate {
        name: form.name.trim().to_owned(),
        role: form.role.parse().map_err(|_| Problem::Malformed)?,
        password_hash: hash,
    };
    match member.operations(&app).user_create(create).await {
        Ok(user) => password_page(&app, &member, &user.name, password).await,
        Err(error @ (OperationError::Invalid { .. } | OperationError::Conflict { .. })) => {
            let text = refusal(member.visitor.language.catalog(), &error);
            let query = NoteQuery::default();
            let page = list_page(&app, &member, &query, form.name, Some(text)).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn new_password(app: &App) -> Result<(String, String), Problem> {
    let password = password_random();
    let hash = app.passwords.hash(password.clone()).await;
    let hash = hash.map_err(|error| Problem::internal(&error, "cannot hash a password"))?;
    Ok((password, hash))
}

async fn password_page(
    app: &App,
    member: &Member,
    user: &str,
    password: String,
) -> Result<Response, Problem> {
    let words = app.wording(member.visitor.language);
    let t = words.t;
    OncePage {
        t,
        f: OncePage::frame(app, &words, member, "users").await,
        title: t.accounts.user_password_title.with("name", user).into(),
        lead: t.accounts.user_password_once,
        secrets: vec![password],
        hint: None,
        back: format!("/users/{}", encode(user)),
    }
    .answer()
}

#[derive(Template)]
#[template(path = "user.html")]
struct UserPage {
    t: &'static Catalog,
    f: Frame,
    user: UserRow,
    roles: Vec<(&'static str, Phrase)>,
    tokens: Vec<TokenRow>,
    tokens_action: String,
    error: Option<String>,
}

/// `GET /users/{name}`
pub(crate) async fn user(
    State(app): State<App>,
    member: Member,
    Path(name): Path<String>,
    Query(query): Query<NoteQuery>,
) -> Result<Html<String>, Problem> {
    page(&app, &member, &name, &query, None).await
}

async fn page(
    app: &App,
    member: &Member,
    name: &str,
    query: &NoteQuery,
    error: Option<String>,
) -> Result<Html<String>, Problem> {
    let words = app.wording(member.visitor.language);
    let t = words.t;
    let operations = app.feed.operations();
    let user: UserView = operations.user_get(name).await?;
    let tokens = operations.token_list(Some(name)).await?;
    let mut frame = Frame::of(&words, member, app.site_name().await.as_deref(), "users");
    frame.path = format!("/users/{}", encode(name));
    frame.note = query.note(t, None);
    show(&UserPage {
        t,
        f: frame,
        user: UserRow::new(&words, &user),
        roles: roles(t),
        tokens: tokens
            .into_iter()
            .map(|token| TokenRow::new(&words, token))
            .collect(),
        tokens_action: format!("/users/{}/tokens/revoke", encode(name)),
        error,
    })
}

/// The page of a user, with why a change was refused.
async fn refused(
    app: &App,
    member: &Member,
    name: &str,
    error: OperationError,
) -> Result<Response, Problem> {
    if !matches!(error, OperationError::Refused(_)) {
        return Err(error.into());
    }
    // The only thing that is refused about a user who exists.
    let text = member.visitor.language.catalog().accounts.user_last_owner;
    let query = NoteQuery::default();
    let page = page(app, member, name, &query, Some(text.into())).await?;
    Ok((StatusCode::CONFLICT, page).into_response())
}

fn done(name: &str) -> Response {
    Redirect::to(&format!("/users/{}?done=user", encode(name))).into_response()
}

/// What may be changed of a user, as sent.
#[derive(Debug, Deserialize)]
pub(crate) struct ChangeForm {
    role: String,
    /// `true` or `false`.
    disabled: String,
}

/// `POST /users/{name}`
pub(crate) async fn user_set(
    State(app): State<App>,
    Path(name): Path<String>,
    Signed { member, form }: Signed<ChangeForm>,
) -> Result<Response, Problem> {
    let change = UserChange {
        role: Some(form.role.parse().map_err(|_| Problem::Malformed)?),
        disabled: Some(form.disabled.parse().map_err(|_| Problem::Malformed)?),
    };
    if let Err(error) = member.operations(&app).user_set(&name, change).await {
        return refused(&app, &member, &name, error).await;
    }
    app.ask_who_everybody_is();
    Ok(done(&name))
}

/// `POST /users/{name}/password`: a new password, shown once; the user is logged out everywhere.
pub(crate) async fn user_password(
    State(app): State<App>,
    Path(name): Path<String>,
    Signed { member, .. }: Signed<NoFields>,
) -> Result<Response, Problem> {
    let (password, hash) = new_password(&app).await?;
    let operations = member.operations(&app);
    operations.user_password_set(&name, &hash, None).await?;
    app.guessed.succeeded(&name);
    app.ask_who_everybody_is();
    password_page(&app, &member, &name, password).await
}

/// `POST /users/{name}/totp-off`: for who lost the authenticator.
pub(crate) async fn user_totp_off(
    State(app): State<App>,
    Path(name): Path<String>,
    Signed { member, .. }: Signed<NoFields>,
) -> Result<Response, Problem> {
    member.operations(&app).second_factor_remove(&name).await?;
    Ok(done(&name))
}

/// `POST /users/{name}/tokens/revoke`
pub(crate) async fn user_token_revoke(
    State(app): State<App>,
    Path(name): Path<String>,
    Signed { member, form }: Signed<Chosen>,
) -> Result<Response, Problem> {
    let operations = member.operations(&app);
    operations.token_revoke(&form.id, Some(&name)).await?;
    Ok(done(&name))
}

/// `GET /users/{name}/remove`: asks first.
pub(crate) async fn user_remove_ask(
    State(app): State<App>,
    member: Member,
    Path(name): Path<String>,
) -> Result<Html<String>, Problem> {
    let user = app.feed.operations().user_get(&name).await?;
    let words = app.wording(member.visitor.language);
    let t = words.t;
    let here = format!("/users/{}", encode(&user.name));
    show(&ConfirmPage {
        t,
        f: Frame::of(&words, &member, app.site_name().await.as_deref(), "users"),
        key: "user-remove",
        title: t.accounts.user_remove_title.with("name", &user.name).into(),
        lines: vec![t.accounts.user_remove_what.into()],
        warning: None,
        severity: "bad",
        action: format!("{here}/remove"),
        hidden: vec![],
        yes: t.accounts.user_remove,
        back: here,
    })
}

/// `POST /users/{name}/remove`
pub(crate) async fn user_remove(
    State(app): State<App>,
    Path(name): Path<String>,
    Signed { member, .. }: Signed<NoFields>,
) -> Result<Response, Problem> {
    if let Err(error) = member.operations(&app).user_remove(&name).await {
        return refused(&app, &member, &name, error).await;
    }
    app.ask_who_everybody_is();
    Ok(Redirect::to("/users?done=user_removed").into_response())
}
