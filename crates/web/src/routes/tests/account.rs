//! One's own account, the second step of the login, and the users.

use std::time::{Duration, Instant};

use dess_model::{Role, Timestamp};

use super::*;
use crate::access::TotpKey;

const OTHER: &str = "another password";

fn hidden<'a>(page: &'a str, name: &str) -> &'a str {
    let mark = format!("name=\"{name}\" value=\"");
    let at = page.find(&mark).unwrap_or_else(|| panic!("{name}: {page}")) + mark.len();
    page[at..].split('"').next().unwrap()
}

/// What is shown once.
fn shown(page: &str) -> Vec<String> {
    let marks = page.split("<li class=\"secret mono\">").skip(1);
    marks
        .map(|rest| rest.split('<').next().unwrap().to_owned())
        .collect()
}

impl Hall {
    async fn log_in_as(&mut self, name: &str, password: &str) -> Answer {
        self.cookies.clear();
        let fields = [("name", name), ("password", password), ("back", "/images")];
        self.post("/login", &fields).await
    }

    /// Sends a form with the token of the page.
    async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf().await;
        let mut all = vec![("csrf", csrf.as_str())];
        all.extend(fields);
        self.post(path, &all).await
    }

    /// Turns the second factor on: its key and the recovery codes.
    async fn enrol(&mut self) -> (TotpKey, Vec<String>) {
        let page = self.get("/account/totp").await.text;
        assert!(page.contains("<path d=\"M4 4h1v1h-1z"), "a picture: {page}");
        let at = page.find("<p class=\"secret mono\">").unwrap() + 23;
        let key = page[at..].split('<').next().unwrap().replace(' ', "");
        let key = TotpKey::from_base32(&key).unwrap();
        let ticket = hidden(&page, "ticket").to_owned();
        let wrong = [("ticket", ticket.as_str()), ("code", "12345")];
        let answer = self.submit("/account/totp", &wrong).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        let code = code_now(&key, -1);
        let right = [("ticket", ticket.as_str()), ("code", code.as_str())];
        let answer = self.submit("/account/totp", &right).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        (key, shown(&answer.text))
    }
}

/// The code of a step from now.
fn code_now(key: &TotpKey, steps: i64) -> String {
    key.code_text(Timestamp::now().0 / 1000 + steps * 30)
}

#[tokio::test]
async fn the_second_step_asks_for_a_code_that_works_once_or_a_recovery_code() {
    let mut hall = Hall::logged_in().await;
    let (key, codes) = hall.enrol().await;
    assert_eq!(codes.len(), 10);
    let account = hall.get("/account").await.text;
    assert!(account.contains("10 recovery codes left"), "{account}");
    assert!(!account.contains(&codes[0]) && !account.contains(&key.base32()));

    let first = hall.log_in_as("admin", PASSWORD).await;
    assert_eq!(first.status, StatusCode::OK);
    assert!(hall.cookies.is_empty(), "no session yet");
    assert_eq!(hall.get("/").await.location(), "/login");
    let ticket = hidden(&first.text, "ticket").to_owned();
    // The step before was used when the factor was turned on.
    let used = code_now(&key, -1);
    for wrong in ["000000", used.as_str(), "AAAAA-AAAAA"] {
        let fields = [("ticket", ticket.as_str()), ("code", wrong)];
        let answer = hall.post("/login/code", &fields).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{wrong}");
    }
    let code = code_now(&key, 0);
    let fields = [("ticket", ticket.as_str()), ("code", code.as_str())];
    let answer = hall.post("/login/code", &fields).await;
    assert_eq!(answer.location(), "/images", "{}", answer.text);
    assert_eq!(hall.get("/").await.status, StatusCode::OK);
    let answer = hall.post("/login/code", &fields).await;
    assert_eq!(answer.location(), "/login?done=code_late", "a ticket once");

    for (code, good) in [(&codes[3], true), (&codes[3], false)] {
        let page = hall.log_in_as("admin", PASSWORD).await.text;
        let typed = code.to_lowercase();
        let fields = [("ticket", hidden(&page, "ticket")), ("code", &typed)];
        let answer = hall.post("/login/code", &fields).await;
        assert_eq!(
            answer.status == StatusCode::SEE_OTHER,
            good,
            "{}",
            answer.text
        );
    }
}

#[tokio::test]
async fn the_second_factor_is_turned_off_with_the_password_alone_or_by_an_owner() {
    let mut hall = Hall::logged_in().await;
    hall.enrol().await;
    let wrong = [("password", OTHER)];
    let answer = hall.submit("/account/totp/off", &wrong).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let right = [("password", PASSWORD)];
    let renewed = hall.submit("/account/recovery", &right).await;
    assert_eq!(shown(&renewed.text).len(), 10);
    let answer = hall.submit("/account/totp/off", &right).await;
    assert_eq!(answer.location(), "/account?done=totp_off");
    assert_eq!(
        hall.log_in_as("admin", PASSWORD).await.location(),
        "/images"
    );
}

#[tokio::test]
async fn a_new_password_ends_the_other_logins_but_not_this_one() {
    let mut hall = Hall::logged_in().await;
    let first = hall.cookies.clone();
    hall.log_in_as("admin", PASSWORD).await;
    let fields = |present, password, again| {
        [
            ("present", present),
            ("password", password),
            ("again", again),
        ]
    };
    for (fields, text) in [
        (
            fields(OTHER, OTHER, OTHER),
            "The present password is wrong.",
        ),
        (fields(PASSWORD, "short", "short"), "8 characters or more."),
        (
            fields(PASSWORD, OTHER, PASSWORD),
            "The two passwords differ. Please enter them again.",
        ),
    ] {
        let answer = hall.submit("/account/password", &fields).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(answer.text.contains(text), "{text}: {}", answer.text);
    }
    let answer = hall
        .submit("/account/password", &fields(PASSWORD, OTHER, OTHER))
        .await;
    assert_eq!(answer.location(), "/account?done=own_password");
    assert_eq!(hall.get("/account").await.status, StatusCode::OK);
    hall.cookies = first;
    assert_eq!(hall.get("/").await.location(), "/login");
    assert_eq!(
        hall.log_in_as("admin", PASSWORD).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(hall.log_in_as("admin", OTHER).await.location(), "/images");
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let mut hall = Hall::logged_in().await;
    let first = hall.cookies.clone();
    hall.log_in_as("admin", PASSWORD).await;
    let page = hall.get("/account").await.text;
    assert_eq!(page.matches("action=\"/account/sessions/end\"").count(), 1);
    let id = hidden(&page, "id").to_owned();
    let answer = hall.submit("/account/sessions/end", &[("id", &id)]).await;
    assert_eq!(answer.location(), "/account?done=session");
    let second = std::mem::replace(&mut hall.cookies, first);
    assert_eq!(hall.get("/").await.location(), "/login");
    hall.log_in_as("admin", PASSWORD).await;
    let answer = hall.submit("/account/sessions/others", &[]).await;
    assert_eq!(answer.location(), "/account?done=sessions");
    hall.cookies = second;
    assert_eq!(hall.get("/").await.location(), "/login");
}

#[tokio::test]
async fn a_token_is_shown_once_and_revoked() {
    let mut hall = Hall::logged_in().await;
    let fields = [("name", "monitor"), ("scope", "operate"), ("days", "90")];
    let made = hall.submit("/account/tokens", &fields).await;
    let token = shown(&made.text).remove(0);
    assert!(token.starts_with("dess_"), "{token}");
    let ask = async |hall: &mut Hall| {
        let cookies = std::mem::take(&mut hall.cookies);
        let request = Request::get("/api/v1/session");
        let request = request.header("authorization", format!("Bearer {token}"));
        let answer = hall.send(request.body(Body::empty()).unwrap()).await;
        hall.cookies = cookies;
        answer
    };
    let answer = ask(&mut hall).await;
    assert!(
        answer.text.contains("\"role\":\"operator\""),
        "{}",
        answer.text
    );
    let again = hall.submit("/account/tokens", &fields).await;
    assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        again.text.contains("monitor is already used"),
        "{}",
        again.text
    );
    let page = hall.get("/account").await.text;
    assert!(page.contains("monitor") && !page.contains(&token));
    let id = hidden(&page, "id").to_owned();
    let answer = hall.submit("/account/tokens/revoke", &[("id", &id)]).await;
    assert_eq!(answer.location(), "/account?done=token");
    assert_eq!(ask(&mut hall).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_owner_makes_changes_and_removes_users() {
    let mut hall = Hall::logged_in().await;
    let made = hall
        .submit("/users", &[("name", "kim"), ("role", "viewer")])
        .await;
    let password = shown(&made.text).remove(0);
    let owner = hall.cookies.clone();
    assert_eq!(hall.log_in_as("kim", &password).await.location(), "/images");
    let kim = hall.cookies.clone();
    assert_eq!(hall.get("/users").await.status, StatusCode::FORBIDDEN);
    hall.cookies = owner.clone();
    let taken = hall
        .submit("/users", &[("name", "kim"), ("role", "viewer")])
        .await;
    assert_eq!(taken.status, StatusCode::UNPROCESSABLE_ENTITY);
    let fields = [("role", "operator"), ("disabled", "false")];
    let answer = hall.submit("/users/kim", &fields).await;
    assert_eq!(answer.location(), "/users/kim?done=user");
    assert_eq!(
        hall.operations.user_get("kim").await.unwrap().role,
        Role::Operator
    );
    let lower = [("role", "viewer"), ("disabled", "false")];
    let answer = hall.submit("/users/admin", &lower).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(answer.text.contains("last owner"), "{}", answer.text);
    let renewed = hall.submit("/users/kim/password", &[]).await;
    let renewed = shown(&renewed.text).remove(0);
    hall.cookies = kim;
    assert_eq!(hall.get("/").await.location(), "/login", "logged out");
    assert_eq!(
        hall.log_in_as("kim", &password).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(hall.log_in_as("kim", &renewed).await.location(), "/images");
    let kim = hall.cookies.clone();
    hall.cookies = owner;
    let out = [("role", "operator"), ("disabled", "true")];
    hall.submit("/users/kim", &out).await;
    let owner = std::mem::replace(&mut hall.cookies, kim);
    assert_eq!(hall.get("/").await.location(), "/login", "blocked");
    assert_eq!(
        hall.log_in_as("kim", &renewed).await.status,
        StatusCode::UNAUTHORIZED
    );
    hall.cookies = owner;
    let ask = hall.get("/users/kim/remove").await.text;
    assert!(ask.contains("data-confirm=\"user-remove\""), "{ask}");
    let answer = hall.submit("/users/kim/remove", &[]).await;
    assert_eq!(answer.location(), "/users?done=user_removed");
    let answer = hall.submit("/users/admin/remove", &[]).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    let log = hall.get("/audit?action=user").await.text;
    for word in [
        "user.create",
        "user.set",
        "user.remove",
        "web:admin",
        "192.0.2.7",
    ] {
        assert!(log.contains(word), "{word}: {log}");
    }
    assert!(
        log.contains("<span class=\"soft\">role</span> viewer"),
        "{log}"
    );
    assert!(!log.contains("client."), "filtered");
}

#[tokio::test]
async fn the_audit_log_is_paged() {
    let mut hall = Hall::logged_in().await;
    for number in 0..120 {
        let subject = format!("S-{number}");
        hall.operations
            .audit_append("test.line", &subject, serde_json::json!({}))
            .await
            .unwrap();
    }
    let mut seen = Vec::new();
    let mut path = "/audit?action=test".to_owned();
    loop {
        let page = hall.get(&path).await.text;
        let subjects = page.split(">S-").skip(1);
        seen.extend(subjects.map(|rest| rest.split('<').next().unwrap().to_owned()));
        let Some(at) = page.find("rel=\"next\"") else {
            break;
        };
        let before = &page[..at];
        let start = before.rfind("href=\"").unwrap() + 6;
        path = before[start..]
            .split('"')
            .next()
            .unwrap()
            .replace("&#38;", "&");
    }
    let expected: Vec<String> = (0..120).rev().map(|n| n.to_string()).collect();
    assert_eq!(seen, expected);
    let wrong = hall.get("/audit?before=nonsense").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_stranger_who_guesses_does_not_lock_the_owner_out_at_home() {
    let mut hall = Hall::logged_in().await;
    let now = Instant::now();
    for _ in 0..50 {
        hall.app.guessed.failed(now, &"admin".to_owned());
    }
    let wait = hall.app.guessed.locked_for(now, &"admin".to_owned());
    assert!(wait.unwrap() <= Duration::from_secs(15 * 60), "bounded");
    assert_eq!(
        hall.log_in_as("admin", PASSWORD).await.location(),
        "/images",
        "from the network of the last login"
    );
    for _ in 0..6 {
        hall.app.guessed.failed(now, &"admin".to_owned());
    }
    hall.peer = [198, 51, 100, 9].into();
    let elsewhere = hall.log_in_as("admin", PASSWORD).await;
    assert_eq!(elsewhere.status, StatusCode::TOO_MANY_REQUESTS);
}
