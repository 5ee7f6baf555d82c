//! Setting up and ending one's own second factor.

use std::time::Instant;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use dess_model::Timestamp;
use dess_node::operations::SecondFactor;
use serde::Deserialize;

use super::account::{Faults, is_own_password, refused};
use super::{OncePage, show};
use crate::access::{Picture, TotpKey, picture, recovery_codes, recovery_hash};
use crate::app::App;
use crate::catalog::Catalog;
use crate::frame::Frame;
use crate::problem::Problem;
use crate::visitor::{Member, Signed};

#[derive(Template)]
#[template(path = "second_factor.html")]
struct EnrolPage {
    t: &'static Catalog,
    f: Frame,
    ticket: String,
    key: String,
    picture: Option<Picture>,
    error: Option<String>,
}

/// `GET /account/totp`: a new key, which counts once its first code was entered.
pub(crate) async fn enrol_page(
    State(app): State<App>,
    member: Member,
) -> Result<Html<String>, Problem> {
    let key = TotpKey::random();
    let waiting = (member.user.clone(), key.clone());
    let ticket = app.enrolments.keep(Instant::now(), waiting);
    page(&app, &member, &key, ticket, None).await
}

async fn page(
    app: &App,
    member: &Member,
    key: &TotpKey,
    ticket: String,
    error: Option<String>,
) -> Result<Html<String>, Problem> {
    let words = app.wording(member.visitor.language);
    let site = app.feed.operations().site().await?;
    let site = site.map_or("DESS".to_owned(), |site| site.name);
    let mut frame = Frame::of(&words, member, Some(&site), "account");
    frame.path = "/account/totp".into();
    let key_text = key.base32();
    let fours = key_text
        .as_bytes()
        .chunks(4)
        .map(|four| String::from_utf8_lossy(four).into_owned());
    show(&EnrolPage {
        t: words.t,
        f: frame,
        ticket,
        key: fours.collect::<Vec<_>>().join(" "),
        picture: picture(&key.address(&site, &member.user)),
        error,
    })
}

/// The first code of a new authenticator. Without `Debug`.
#[derive(Deserialize)]
pub(crate) struct EnrolForm {
    ticket: String,
    code: String,
}

/// `POST /account/totp`: turns the second factor on and shows the recovery codes, once.
pub(crate) async fn enrol(
    State(app): State<App>,
    Signed { member, form }: Signed<EnrolForm>,
) -> Result<Response, Problem> {
    let waiting = app.enrolments.look(Instant::now(), &form.ticket);
    let Some((_, key)) = waiting.filter(|(user, _)| *user == member.user) else {
        return Ok(Redirect::to("/account/totp").into_response());
    };
    let Some(step) = key.step_of(&form.code, Timestamp::now().0 / 1000) else {
        let text = member
            .visitor
            .language
            .catalog()
            .accounts
            .login_code_wrong
            .into();
        let page = page(&app, &member, &key, form.ticket, Some(text)).await?;
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    };
    app.enrolments.forget(&form.ticket);
    let codes = recovery_codes();
    let factor = SecondFactor {
        secret: key.base32(),
        step,
        recovery_hashes: hashes(&member.user, &codes),
    };
    let operations = member.operations(&app);
    operations.second_factor_set(&member.user, factor).await?;
    show_codes(&app, &member, codes).await
}

fn hashes(user: &str, codes: &[String]) -> Vec<String> {
    codes.iter().map(|code| recovery_hash(user, code)).collect()
}

async fn show_codes(app: &App, member: &Member, codes: Vec<String>) -> Result<Response, Problem> {
    let words = app.wording(member.visitor.language);
    let t = words.t;
    OncePage {
        t,
        f: OncePage::frame(app, &words, member, "account").await,
        title: t.accounts.recovery_title.into(),
        lead: t.accounts.recovery_lead,
        secrets: codes,
        hint: None,
        back: "/account?done=totp".into(),
    }
    .answer()
}

/// The password again, before the login gets weaker. Without `Debug`.
#[derive(Deserialize)]
pub(crate) struct Proof {
    password: String,
}

/// The answer to a wrong password; none for the right one.
async fn unproven(app: &App, member: &Member, proof: &Proof) -> Result<Option<Response>, Problem> {
    if is_own_password(app, member, &proof.password).await? {
        return Ok(None);
    }
    let t = member.visitor.language.catalog();
    let faults = Faults {
        second_factor: Some(t.accounts.own_password_wrong.into()),
        ..Faults::default()
    };
    refused(app, member, faults).await.map(Some)
}

/// `POST /account/totp/off`
pub(crate) async fn turn_off(
    State(app): State<App>,
    Signed { member, form }: Signed<Proof>,
) -> Result<Response, Problem> {
    if let Some(answer) = unproven(&app, &member, &form).await? {
        return Ok(answer);
    }
    let operations = member.operations(&app);
    operations.second_factor_remove(&member.user).await?;
    Ok(Redirect::to("/account?done=totp_off").into_response())
}

/// `POST /account/recovery`: new recovery codes, shown once; the old ones are void.
pub(crate) async fn recovery_renew(
    State(app): State<App>,
    Signed { member, form }: Signed<Proof>,
) -> Result<Response, Problem> {
    if let Some(answer) = unproven(&app, &member, &form).await? {
        return Ok(answer);
    }
    let codes = recovery_codes();
    let operations = member.operations(&app);
    operations
        .recovery_codes_set(&member.user, &hashes(&member.user, &codes))
        .await?;
    show_codes(&app, &member, codes).await
}
