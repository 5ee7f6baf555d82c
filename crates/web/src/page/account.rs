//! One's own account: password, second factor, sessions, API tokens.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use dess_model::{Role, Scope, Timestamp};
use dess_node::operations::{OpenSession, OperationError, TokenCreate, TokenView, UserView};
use serde::Deserialize;

use super::login::check;
use super::note::NoteQuery;
use super::service::NoFields;
use super::setup::password_fault;
use super::{OncePage, show};
use crate::access::{ApiToken, PasswordError};
use crate::app::App;
use crate::catalog::{Catalog, Phrase};
use crate::frame::Frame;
use crate::problem::{Problem, refusal};
use crate::view::{SessionRow, TokenRow, role_word, scope_word};
use crate::visitor::{Entry, Member, Signed};

/// Days until a token ends that the page offers; 0 is never.
const TOKEN_DAYS: [i64; 4] = [30, 90, 365, 0];
const DAY_MS: i64 = 24 * 3600 * 1000;

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    t: &'static Catalog,
    f: Frame,
    user: UserView,
    role: Phrase,
    codes_left: u64,
    sessions: Vec<SessionRow>,
    others: bool,
    tokens: Vec<TokenRow>,
    tokens_action: &'static str,
    scopes: Vec<(&'static str, Phrase)>,
    days: Vec<(i64, String)>,
    faults: Faults,
}

/// What is wrong, by form.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) password: Option<String>,
    pub(super) second_factor: Option<String>,
    pub(super) token: Option<String>,
}

/// `GET /account`
pub(crate) async fn account(
    State(app): State<App>,
    member: Member,
    Query(query): Query<NoteQuery>,
) -> Result<Html<String>, Problem> {
    page(&app, &member, &query, Faults::default()).await
}

/// The page with what was wrong with a form, as an answer to it.
pub(super) async fn refused(
    app: &App,
    member: &Member,
    faults: Faults,
) -> Result<Response, Problem> {
    let page = page(app, member, &NoteQuery::default(), faults).await?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
}

async fn page(
    app: &App,
    member: &Member,
    query: &NoteQuery,
    faults: Faults,
) -> Result<Html<String>, Problem> {
    let words = app.wording(member.visitor.language);
    let t = words.t;
    let operations = app.feed.operations();
    let user = operations.user_get(&member.user).await?;
    let codes_left = operations.recovery_codes_left(&member.user).await?;
    let own = own_session(member);
    let sessions = operations.session_list(&member.user).await?;
    let others = sessions.len() > 1;
    let sessions = sessions
        .into_iter()
        .map(|session| SessionRow::new(&words, session, &own))
        .collect();
    let tokens = operations.token_list(Some(&member.user)).await?;
    let tokens = tokens
        .into_iter()
        .map(|token: TokenView| TokenRow::new(&words, token))
        .collect();
    let mut frame = Frame::of(&words, member, app.site_name().await.as_deref(), "account");
    frame.path = "/account".into();
    frame.note = query.note(t, None);
    show(&AccountPage {
        t,
        f: frame,
        role: role_word(t, member.role),
        user,
        codes_left,
        sessions,
        others,
        tokens,
        tokens_action: "/account/tokens/revoke",
        scopes: scopes_of(t, member.role),
        days: TOKEN_DAYS.map(|days| (days, days_word(t, days))).into(),
        faults,
    })
}

/// The id of the session of this request.
fn own_session(member: &Member) -> String {
    match &member.entry {
        Entry::Session { token_hash, .. } => OpenSession::id_of(token_hash),
        Entry::Token(_) => String::new(),
    }
}

fn scopes_of(t: &Catalog, role: Role) -> Vec<(&'static str, Phrase)> {
    Scope::ALL
        .into_iter()
        .filter(|scope| role.may(scope.role()))
        .map(|scope| (scope.as_str(), scope_word(t, scope)))
        .collect()
}

fn days_word(t: &Catalog, days: i64) -> String {
    match days {
        0 => t.accounts.token_no_end.into(),
        n => t.accounts.token_days.with("n", n).into(),
    }
}

/// Whether this is the password of who asks.
pub(super) async fn is_own_password(
    app: &App,
    member: &Member,
    password: &str,
) -> Result<bool, Problem> {
    let user = app.feed.operations().user_credentials(&member.user).await?;
    let hash = user.map(|user| user.password_hash);
    match check(app, password, hash).await {
        Ok(fits) => Ok(fits),
        Err(PasswordError::Busy) => Err(Problem::Slow),
        Err(error) => Err(Problem::internal(&error, "cannot check a password")),
    }
}

/// A new password as sent. Without `Debug`.
#[derive(Deserialize)]
pub(crate) struct PasswordForm {
    present: String,
    password: String,
    again: String,
}

/// `POST /account/password`: ends the user's other sessions.
pub(crate) async fn password_change(
    State(app): State<App>,
    Signed { member, form }: Signed<PasswordForm>,
) -> Result<Response, Problem> {
    let t = member.visitor.language.catalog();
    let mut fault = password_fault(t, &form.password, &form.again);
    if fault.is_none() && !is_own_password(&app, &member, &form.present).await? {
        fault = Some(t.accounts.own_password_wrong.into());
    }
    if fault.is_some() {
        let faults = Faults {
            password: fault,
            ..Faults::default()
        };
        return refused(&app, &member, faults).await;
    }
    let hash = app.passwords.hash(form.password).await;
    let hash = hash.map_err(|error| Problem::internal(&error, "cannot hash a password"))?;
    let kept = match &member.entry {
        Entry::Session { token_hash, .. } => Some(token_hash.as_str()),
        Entry::Token(_) => None,
    };
    let operations = member.operations(&app);
    operations
        .user_password_set(&member.user, &hash, kept)
        .await?;
    app.ask_who_everybody_is();
    Ok(Redirect::to("/account?done=own_password").into_response())
}

/// Which one of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Chosen {
    pub(super) id: String,
}

/// `POST /account/sessions/end`
pub(crate) async fn session_end(
    State(app): State<App>,
    Signed { member, form }: Signed<Chosen>,
) -> Result<Redirect, Problem> {
    let operations = member.operations(&app);
    operations.session_end_of(&member.user, &form.id).await?;
    app.ask_who_everybody_is();
    Ok(Redirect::to("/account?done=session"))
}

/// `POST /account/sessions/others`
pub(crate) async fn sessions_end(
    State(app): State<App>,
    Signed { member, .. }: Signed<NoFields>,
) -> Result<Redirect, Problem> {
    if let Entry::Session { token_hash, .. } = &member.entry {
        let operations = member.operations(&app);
        operations
            .session_end_others(&member.user, token_hash)
            .await?;
        app.ask_who_everybody_is();
    }
    Ok(Redirect::to("/account?done=sessions"))
}

/// A token to make, as sent.
#[derive(Debug, Deserialize)]
pub(crate) struct TokenForm {
    name: String,
    scope: String,
    days: String,
}

/// `POST /account/tokens`: shows the new token, once.
pub(crate) async fn token_create(
    State(app): State<App>,
    Signed { member, form }: Signed<TokenForm>,
) -> Result<Response, Problem> {
    let days: i64 = form.days.parse().map_err(|_| Problem::Malformed)?;
    if !TOKEN_DAYS.contains(&days) {
        return Err(Problem::Malformed);
    }
    let token = ApiToken::random();
    let create = TokenCreate {
        user: member.user.clone(),
        name: form.name.trim().to_owned(),
        scope: form.scope.parse().map_err(|_| Problem::Malformed)?,
        token_hash: token.hash(),
        expires: (days > 0).then(|| Timestamp(Timestamp::now().0 + days * DAY_MS)),
    };
    let words = app.wording(member.visitor.language);
    let t = words.t;
    match member.operations(&app).token_create(create).await {
        Ok(made) => Ok(OncePage {
            t,
            f: OncePage::frame(&app, &words, &member, "account").await,
            title: t.accounts.token_made.with("name", &made.name).into(),
            lead: t.accounts.token_once,
            secrets: vec![token.expose().to_owned()],
            hint: Some("Authorization: Bearer ..."),
            back: "/account".into(),
        }
        .answer()?),
        Err(error @ (OperationError::Invalid { .. } | OperationError::Conflict { .. })) => {
            let faults = Faults {
                token: Some(refusal(t, &error)),
                ..Faults::default()
            };
            refused(&app, &member, faults).await
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /account/tokens/revoke`
pub(crate) async fn token_revoke(
    State(app): State<App>,
    Signed { member, form }: Signed<Chosen>,
) -> Result<Redirect, Problem> {
    let operations = member.operations(&app);
    operations
        .token_revoke(&form.id, Some(&member.user))
        .await?;
    Ok(Redirect::to("/account?done=token"))
}
