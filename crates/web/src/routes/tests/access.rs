//! First start, login, and what strangers may not.

use super::live::watch;
use super::*;
use crate::access::reset_code_issue;

#[tokio::test]
async fn a_stranger_is_led_to_the_set_up_then_to_the_login_and_sees_nothing() {
    let mut hall = Hall::new().await;
    assert_eq!(hall.get("/").await.location(), "/login");
    assert_eq!(hall.get("/login").await.location(), "/setup");
    assert_eq!(hall.get("/images").await.location(), "/login?back=/images");
    let api = hall.get("/api/v1/clients").await;
    assert_eq!(api.status, StatusCode::UNAUTHORIZED);
    assert!(api.text.contains("login_needed"), "{}", api.text);
    assert_eq!(
        hall.get("/live/room").await.status,
        StatusCode::UNAUTHORIZED
    );
    hall.set_up(None).await;
    hall.cookies.clear();
    assert_eq!(hall.get("/").await.location(), "/login");
    assert_eq!(hall.get("/setup").await.location(), "/login");
    for path in [
        "/",
        "/images",
        "/services/iscsi",
        "/services/iscsi/restart",
        "/clients/x",
    ] {
        assert_eq!(hall.get(path).await.status, StatusCode::SEE_OTHER, "{path}");
    }
}

#[tokio::test]
async fn only_the_code_from_the_server_sets_the_page_up_and_only_once() {
    let mut hall = Hall::new().await;
    let page = hall.get("/setup").await;
    let code = setup_code(&hall.app.paths).unwrap().unwrap();
    assert!(
        !page.text.contains(&code),
        "the page does not give the code away"
    );
    let wrong = hall.set_up(Some("AAAA-AAAA")).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        wrong.text.contains("This is not the right code"),
        "{}",
        wrong.text
    );
    assert!(
        !wrong.text.contains(PASSWORD),
        "a password never comes back"
    );
    let fields = |name, password| {
        [
            ("code", code.as_str()),
            ("name", name),
            ("password", password),
            ("again", password),
        ]
    };
    let short = hall.post("/setup", &fields("admin", "short")).await;
    assert!(
        short.text.contains("8 characters or more."),
        "{}",
        short.text
    );
    let spaced = hall.post("/setup", &fields("a b", PASSWORD)).await;
    assert!(
        spaced.text.contains("aria-describedby=\"name-error\""),
        "{}",
        spaced.text
    );
    assert_eq!(hall.operations.user_count().await.unwrap(), 0);
    assert_eq!(hall.set_up(None).await.location(), "/?done=setup");
    assert_eq!(hall.operations.user_count().await.unwrap(), 1);
    assert_eq!(setup_code(&hall.app.paths).unwrap(), None);
    assert!(
        hall.get("/?done=setup")
            .await
            .text
            .contains("The owner account is ready.")
    );
    assert_eq!(hall.set_up(Some(&code)).await.location(), "/login");
    assert_eq!(hall.operations.user_count().await.unwrap(), 1);
}

#[tokio::test]
async fn guessing_the_set_up_code_is_slowed_down() {
    let mut hall = Hall::new().await;
    for _ in 0..5 {
        assert_eq!(
            hall.set_up(Some("X")).await.status,
            StatusCode::UNPROCESSABLE_ENTITY
        );
    }
    assert_eq!(
        hall.set_up(Some("X")).await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(
        hall.set_up(None).await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
}

async fn log_in(hall: &mut Hall, password: &str) -> Answer {
    let fields = [
        ("name", "admin"),
        ("password", password),
        ("back", "/images"),
    ];
    hall.post("/login", &fields).await
}

#[tokio::test]
async fn a_login_opens_a_session_that_a_logout_ends() {
    let mut hall = Hall::logged_in().await;
    let csrf = hall.csrf().await;
    let old = hall.cookies.clone();
    assert_eq!(
        hall.post("/logout", &[("csrf", &csrf)]).await.location(),
        "/login?done=logout"
    );
    assert_eq!(hall.get("/").await.location(), "/login");
    hall.cookies = old;
    assert_eq!(
        hall.get("/").await.location(),
        "/login",
        "the session is gone on the server too"
    );
    hall.cookies.clear();
    let wrong = log_in(&mut hall, "wrong password").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(
        wrong
            .text
            .contains("The user name or the password is wrong.")
    );
    assert!(hall.cookies.is_empty());
    let right = log_in(&mut hall, PASSWORD).await;
    assert_eq!(
        (right.status, right.location()),
        (StatusCode::SEE_OTHER, "/images")
    );
    let cookie = right.headers.get(SET_COOKIE).unwrap().to_str().unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
    assert_eq!(hall.get("/").await.status, StatusCode::OK);
    let audit = hall.operations.audit_list(10).await.unwrap();
    let actions: Vec<_> = audit.iter().map(|line| line.action.as_str()).collect();
    assert!(
        actions.contains(&"login") && actions.contains(&"login.refused"),
        "{actions:?}"
    );
}

#[tokio::test]
async fn too_many_wrong_passwords_lock_the_address_out_in_words() {
    let mut hall = Hall::logged_in().await;
    hall.cookies.clear();
    hall.language = "ko";
    for _ in 0..5 {
        assert_eq!(
            log_in(&mut hall, "wrong password").await.status,
            StatusCode::UNAUTHORIZED
        );
    }
    let locked = log_in(&mut hall, PASSWORD).await;
    assert_eq!(locked.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(
        locked.text.contains("로그인에 여러 번 실패했습니다."),
        "{}",
        locked.text
    );
}

#[tokio::test]
async fn a_form_from_elsewhere_or_without_its_token_changes_nothing() {
    let mut hall = Hall::logged_in().await;
    let client = hall.add(1, "PC-01").await;
    let csrf = hall.csrf().await;
    let path = format!("/clients/{}/remove", client.id);
    let fields = [("csrf", csrf.as_str()), ("force", "false")];
    let foreign = [("origin", "http://evil.test"), ("host", "dess.test")];
    let answer = hall.post_from(&path, &fields, &foreign).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(
        answer.text.contains("The request was refused"),
        "{}",
        answer.text
    );
    let cross = [("sec-fetch-site", "cross-site")];
    assert_eq!(
        hall.post_from(&path, &fields, &cross).await.status,
        StatusCode::FORBIDDEN
    );
    for token in ["", "wrong"] {
        let fields = [("csrf", token), ("force", "false")];
        assert_eq!(
            hall.post(&path, &fields).await.status,
            StatusCode::FORBIDDEN
        );
    }
    assert_eq!(
        hall.post(&path, &[("force", "false")]).await.status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(hall.operations.client_list().await.unwrap().len(), 1);
    assert_eq!(hall.post(&path, &fields).await.location(), "/?done=removed");
    assert!(hall.operations.client_list().await.unwrap().is_empty());
}

#[tokio::test]
async fn oversized_and_garbled_requests_get_a_page_in_words() {
    let mut hall = Hall::logged_in().await;
    let csrf = hall.csrf().await;
    let huge = "x".repeat(100_000);
    let fields = [
        ("csrf", csrf.as_str()),
        ("source", huge.as_str()),
        ("name", "a"),
    ];
    let answer = hall.post("/images/import", &fields).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        answer.text.contains("The request is too large"),
        "{}",
        answer.text
    );
    for path in [
        "/nothing",
        "/clients/x",
        "/services/x",
        "/live/x",
        "/assets/app.css",
        "/language/fr",
    ] {
        assert_eq!(hall.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(
        hall.get("/images/default").await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn every_answer_carries_the_protecting_headers() {
    let mut hall = Hall::logged_in().await;
    for path in ["/", "/nothing", "/login"] {
        let answer = hall.get(path).await;
        let header = |name: &str| {
            answer
                .headers
                .get(name)
                .map_or("", |value| value.to_str().unwrap())
        };
        let policy = header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "same-origin");
        assert_eq!(header("cache-control"), "no-store");
        assert!(
            !answer.text.contains(" style=\""),
            "inline styles would be blocked"
        );
        assert!(!answer.text.contains(" onclick"));
    }
}

#[tokio::test]
async fn a_forgotten_password_is_set_anew_with_a_code_from_the_server() {
    let mut hall = Hall::logged_in().await;
    let mut open_page = watch(&hall, "/live/images").await;
    open_page.next("hello").await;
    let old_session = std::mem::take(&mut hall.cookies);
    for _ in 0..6 {
        log_in(&mut hall, "forgotten 1").await;
    }
    let login = hall.get("/login").await.text;
    assert!(login.contains("dess web reset-password"), "{login}");
    let reset = |code: &str, password: &'static str| {
        let fields = [("code", code), ("password", password), ("again", password)];
        fields.map(|(name, value)| (name, value.to_owned()))
    };
    let post = async |hall: &mut Hall, fields: [(&str, String); 3]| {
        let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        hall.post("/setup", &fields).await
    };
    let unasked = post(&mut hall, reset("AAAA-AAAA", "new password 1")).await;
    assert_eq!(unasked.location(), "/login", "not without a code");

    let code = reset_code_issue(&hall.app.paths).unwrap();
    let login = hall.get("/login").await.text;
    assert!(
        login.contains("href=\"/setup\""),
        "noticed at once: {login}"
    );
    let page = hall.get("/setup").await.text;
    assert!(page.contains("Set a new password") && !page.contains(&code));
    let wrong = post(&mut hall, reset("AAAA-AAAA", "new password 1")).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let done = post(&mut hall, reset(&code, "new password 1")).await;
    assert_eq!(done.location(), "/?done=password", "{}", done.text);
    assert_eq!(hall.get("/").await.status, StatusCode::OK, "logged in");

    let again = post(&mut hall, reset(&code, "new password 2")).await;
    assert_eq!(again.location(), "/login", "a code works once");
    open_page.end().await;
    hall.cookies = old_session;
    assert_eq!(hall.get("/").await.location(), "/login", "others are out");
    assert_eq!(
        log_in(&mut hall, PASSWORD).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        log_in(&mut hall, "new password 1").await.location(),
        "/images"
    );
    let audit = hall.operations.audit_list(20).await.unwrap();
    assert!(audit.iter().any(|line| line.action == "user.password"));
}
