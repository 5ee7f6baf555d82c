//! Every address with every role, with no login, and with API tokens.

use axum::http::Method;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use dess_model::{Role, Scope, Timestamp};
use dess_node::operations::{SessionCreate, TokenCreate, UserCreate};

use super::*;
use crate::access::{ApiToken, Token};
use crate::gate::{CSRF_HEADER, Entry, Needs};
use crate::routes::routes;

/// Who may use the pages, weakest first. What is not here may nobody use; a new page has to be
/// entered, so that nobody opens one by an oversight.
const PAGES: &[(&str, &[&str])] = &[
    (
        "nobody",
        &[
            "GET /assets/{file}",
            "GET /language/{code}",
            "GET /login",
            "GET /setup",
            "POST /login",
            "POST /login/code",
            "POST /setup",
        ],
    ),
    (
        "viewer",
        &[
            "GET /",
            "GET /account",
            "GET /account/totp",
            "GET /cases",
            "GET /cases/{id}",
            "GET /clients/{id}",
            "GET /images",
            "GET /live/{page}",
            "GET /services/{name}",
            "POST /account/password",
            "POST /account/recovery",
            "POST /account/sessions/end",
            "POST /account/sessions/others",
            "POST /account/tokens",
            "POST /account/tokens/revoke",
            "POST /account/totp",
            "POST /account/totp/off",
            "POST /logout",
        ],
    ),
    (
        "owner",
        &[
            "GET /audit",
            "GET /users",
            "GET /users/{name}",
            "GET /users/{name}/remove",
            "POST /users",
            "POST /users/{name}",
            "POST /users/{name}/password",
            "POST /users/{name}/remove",
            "POST /users/{name}/tokens/revoke",
            "POST /users/{name}/totp-off",
        ],
    ),
    (
        "operator",
        &[
            "GET /clients/batch",
            "GET /clients/{id}/remove",
            "GET /clients/{id}/reset",
            "GET /images/action",
            "GET /images/default",
            "GET /services/{name}/restart",
            "POST /cases/{id}/acknowledge",
            "POST /clients/batch",
            "POST /clients/{id}/approve",
            "POST /clients/{id}/remove",
            "POST /clients/{id}/reset",
            "POST /clients/{id}/settings",
            "POST /images/action",
            "POST /images/default",
            "POST /images/import",
            "POST /jobs/{id}/cancel",
            "POST /room/plan",
            "POST /services/{name}/probe",
            "POST /services/{name}/restart",
        ],
    ),
];

fn table() -> Vec<Entry> {
    routes(Hall::bare().app).table()
}

fn word(needs: Needs) -> &'static str {
    needs.role().map_or("nobody", Role::as_str)
}

/// The address with values in place of its parameters; none of them exists, so nothing happens
/// even to who is let in.
fn filled(path: &str) -> String {
    path.split('/')
        .map(|part| match part {
            "{name}" => "dhcp",
            "{page}" => "room",
            "{file}" => "none.css",
            "{code}" => "ko",
            part if part.starts_with('{') => "0195f000-0000-7000-8000-00000000ffff",
            part => part,
        })
        .collect::<Vec<_>>()
        .join("/")
}

/// How a request was let in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Session,
    Token,
}

impl Hall {
    async fn user(&self, name: &str, role: Role) {
        let user = UserCreate {
            name: name.into(),
            role,
            password_hash: String::new(),
        };
        self.operations.user_create(user).await.unwrap();
    }

    /// A new session: its cookie and its token against cross-site requests.
    async fn session_of(&self, user: &str) -> (String, String) {
        let (token, csrf) = (Token::random(), Token::random().expose().to_owned());
        let session = SessionCreate {
            token_hash: token.hash(),
            user: user.into(),
            csrf: csrf.clone(),
            peer: String::new(),
            network: String::new(),
            agent: String::new(),
            expires: Timestamp(Timestamp::now().0 + 600_000),
        };
        self.operations.session_create(session).await.unwrap();
        (format!("dess_session={}", token.expose()), csrf)
    }

    async fn api_token(&self, user: &str, scope: Scope, expires: Option<Timestamp>) -> ApiToken {
        let token = ApiToken::random();
        let create = TokenCreate {
            user: user.into(),
            name: format!("t{}", &token.hash()[..8]),
            scope,
            token_hash: token.hash(),
            expires,
        };
        self.operations.token_create(create).await.unwrap();
        token
    }

    /// The status of an answer and, if it is not a stream, its text.
    async fn ask(&self, request: Request<Body>) -> (StatusCode, String, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let header = |name| {
            let value = parts.headers.get(name);
            value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
        };
        if header(CONTENT_TYPE).starts_with("text/event-stream") {
            return (parts.status, String::new(), String::new());
        }
        let bytes = to_bytes(body, 4 << 20).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (parts.status, header(LOCATION), text)
    }
}

/// True if the gate let this request through.
async fn is_let_in(hall: &Hall, entry: &Entry, who: Option<(&str, Role, Way)>) -> bool {
    let path = filled(entry.path);
    let mut request = Request::builder().method(&entry.method).uri(&path);
    let mut form = String::new();
    match who {
        Some((name, role, Way::Token)) => {
            let scope = Scope::ALL.into_iter().find(|scope| scope.role() == role);
            let token = hall.api_token(name, scope.unwrap(), None).await;
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        Some((name, _, Way::Session)) => {
            let (cookie, csrf) = hall.session_of(name).await;
            request = request.header(COOKIE, cookie).header(CSRF_HEADER, &csrf);
            form = format!("csrf={csrf}");
        }
        None => {}
    }
    if entry.method != Method::GET {
        request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    let (status, location, text) = hall.ask(request.body(Body::from(form)).unwrap()).await;
    let what = format!("{} {path} {who:?}: {status} {text}", entry.method);
    assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{what}");
    let to_login = location.starts_with("/login") && !location.contains("done=");
    let refused = status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN;
    if entry.needs.role().is_some() && (to_login || refused) {
        let expected = match (who, path.starts_with("/api/") || path.starts_with("/live/")) {
            (Some(_), _) => StatusCode::FORBIDDEN,
            (None, true) => StatusCode::UNAUTHORIZED,
            (None, false) => StatusCode::SEE_OTHER,
        };
        assert_eq!(status, expected, "{what}");
        return false;
    }
    assert_ne!(status, StatusCode::FORBIDDEN, "{what}");
    true
}

#[tokio::test]
async fn every_address_lets_in_exactly_those_who_may() {
    let hall = Hall::logged_in().await;
    for role in Role::ALL {
        hall.user(&format!("a-{role}"), role).await;
    }
    for entry in table() {
        let api = entry.path.starts_with("/api/");
        let stranger = is_let_in(&hall, &entry, None).await;
        assert_eq!(stranger, entry.needs == Needs::Nobody, "{entry:?}");
        for role in Role::ALL {
            let expected = entry.needs.role().is_none_or(|needed| role.may(needed));
            let name = format!("a-{role}");
            for way in [Way::Session, Way::Token] {
                // A token opens no page.
                if way == Way::Token && !api {
                    continue;
                }
                let found = is_let_in(&hall, &entry, Some((&name, role, way))).await;
                assert_eq!(found, expected, "{entry:?} {role} {way:?}");
            }
        }
    }
}

#[test]
fn who_may_use_an_address_is_as_agreed() {
    let mut found = std::collections::BTreeMap::<&str, Vec<String>>::new();
    for entry in table() {
        let line = format!("{} {}", entry.method, entry.path);
        let writes = entry.method != Method::GET;
        if entry.path.starts_with("/api/") {
            let least = if writes { Role::Operator } else { Role::Viewer };
            let own = ["/api/v1/session"].contains(&entry.path);
            let enough = entry.needs.role().is_some_and(|role| role.may(least));
            assert!(enough || (own && entry.needs != Needs::Nobody), "{line}");
            continue;
        }
        found.entry(word(entry.needs)).or_default().push(line);
    }
    for (who, expected) in PAGES {
        let mut lines = found.remove(who).unwrap_or_default();
        lines.sort();
        assert_eq!(lines, *expected, "{who}");
    }
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn a_token_is_for_the_api_alone_and_ends() {
    let mut hall = Hall::logged_in().await;
    let ask = async |hall: &Hall, path: &str, header: &str| {
        let request = Request::get(path).header(AUTHORIZATION, header);
        hall.ask(request.body(Body::empty()).unwrap()).await
    };
    let token = hall.api_token("admin", Scope::Read, None).await;
    let bearer = format!("Bearer {}", token.expose());
    let (status, _, text) = ask(&hall, "/api/v1/session", &bearer).await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("\"role\":\"viewer\""), "{text}");
    let (status, location, _) = ask(&hall, "/", &bearer).await;
    assert_eq!(
        (status, location.as_str()),
        (StatusCode::SEE_OTHER, "/login")
    );
    for wrong in [
        "Bearer ",
        "Basic YTpi",
        &bearer.to_uppercase(),
        &format!("{bearer}0"),
        &format!("Bearer {}", ApiToken::random().expose()),
    ] {
        let (status, _, _) = ask(&hall, "/api/v1/clients", wrong).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{wrong}");
    }
    // A bad token is not made up for by a good session.
    hall.get("/").await;
    let request = Request::get("/api/v1/clients").header(AUTHORIZATION, "Bearer nonsense");
    let answer = hall.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
    let id = hall.operations.token_list(None).await.unwrap()[0]
        .id
        .clone();
    hall.operations.token_revoke(&id, None).await.unwrap();
    let (status, _, _) = ask(&hall, "/api/v1/session", &bearer).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_viewer_is_shown_no_button_that_changes_anything() {
    let mut hall = Hall::logged_in().await;
    let client = hall.add(1, "PC-01").await;
    hall.user("seer", Role::Viewer).await;
    let paths = [
        "/".to_owned(),
        "/images".to_owned(),
        "/services/iscsi".to_owned(),
        format!("/clients/{}", client.id),
    ];
    let actions = |text: &str| -> Vec<String> {
        let marks = ["action=\"", "href=\""];
        let found = marks.iter().flat_map(|mark| text.split(mark).skip(1));
        let targets = found.map(|rest| rest.split('"').next().unwrap().to_owned());
        let gated = [
            "/reset",
            "/remove",
            "/approve",
            "/settings",
            "/restart",
            "/import",
        ];
        targets
            .filter(|to| gated.iter().any(|end| to.ends_with(end)) || to.contains("/default"))
            .collect()
    };
    for path in &paths {
        let page = hall.get(path).await;
        let own = matches!(path.as_str(), "/" | "/services/iscsi");
        assert!(
            own || !actions(&page.text).is_empty(),
            "{path}: the owner has some"
        );
    }
    let (cookie, _) = hall.session_of("seer").await;
    let (name, value) = cookie.split_once('=').unwrap();
    hall.cookies = vec![(name.to_owned(), value.to_owned())];
    for path in &paths {
        let page = hall.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert_eq!(actions(&page.text), Vec::<String>::new(), "{path}");
    }
    let page = hall.get(&format!("/clients/{}/reset", client.id)).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert!(page.text.contains("You may not do this"), "{}", page.text);
}

#[tokio::test]
async fn a_write_to_the_api_by_a_browser_needs_its_token() {
    let hall = Hall::logged_in().await;
    let writes: Vec<_> = table()
        .into_iter()
        .filter(|entry| entry.path.starts_with("/api/") && entry.method != Method::GET)
        .collect();
    for entry in writes {
        let (cookie, _) = hall.session_of("admin").await;
        let request = Request::builder()
            .method(entry.method)
            .uri(filled(entry.path));
        let request = request.header(COOKIE, cookie).header(CSRF_HEADER, "wrong");
        let (status, _, text) = hall.ask(request.body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{}: {text}", entry.path);
        assert!(text.contains("forged"), "{text}");
    }
}
