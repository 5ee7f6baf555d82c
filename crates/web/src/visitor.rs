//! Who asks: language and address of anybody, session of those who are logged in.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::Form;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE, USER_AGENT};
use axum::http::request::Parts;
use dess_model::{Role, Timestamp};
use dess_node::operations::{Operations, SessionView};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq;

use crate::access::{ApiToken, Token};
use crate::app::App;
use crate::catalog::Language;
use crate::problem::Problem;
use crate::site::Trouble;

/// Cookie of the login session.
pub(crate) const SESSION_COOKIE: &str = "dess_session";
/// Cookie of the chosen language.
pub(crate) const LANGUAGE_COOKIE: &str = "dess_language";
/// Cookie of the chosen view of the room; set by the script as well.
pub(crate) const VIEW_COOKIE: &str = "dess_view";

/// How the room is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RoomView {
    /// As the seats stand.
    #[default]
    Map,
    /// As cards.
    Grid,
    /// As a list.
    List,
}

impl RoomView {
    /// As it is named in the address, the cookie and the page.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Map => "map",
            Self::Grid => "grid",
            Self::List => "list",
        }
    }

    pub(crate) fn from_key(key: &str) -> Option<Self> {
        [Self::Map, Self::Grid, Self::List]
            .into_iter()
            .find(|view| view.key() == key)
    }
}

/// Anybody.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    pub(crate) language: Language,
    pub(crate) peer: IpAddr,
    /// What the browser calls itself.
    pub(crate) agent: String,
    /// Path and query of the request.
    pub(crate) path: String,
    /// The view of the room that was chosen last.
    pub(crate) room_view: Option<RoomView>,
}

/// Somebody who was let in. Only [`crate::gate`] makes one.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) visitor: Visitor,
    /// Name of the user.
    pub(crate) user: String,
    /// What this request may do.
    pub(crate) role: Role,
    pub(crate) entry: Entry,
}

/// What let somebody in.
#[derive(Clone)]
pub(crate) enum Entry {
    /// The login session of a browser.
    Session {
        session: SessionView,
        token_hash: String,
    },
    /// An API token of this name.
    Token(String),
}

/// A form that somebody who is logged in sent from our own page.
#[derive(Clone)]
pub(crate) struct Signed<T> {
    pub(crate) member: Member,
    pub(crate) form: T,
}

impl Visitor {
    pub(crate) fn of(parts: &Parts) -> Self {
        let headers = &parts.headers;
        let accepted = || {
            headers
                .get(ACCEPT_LANGUAGE)
                .and_then(|value| value.to_str().ok())
                .map_or(Language::English, Language::negotiate)
        };
        let peer = parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| info.0.ip());
        Self {
            language: cookie(headers, LANGUAGE_COOKIE)
                .and_then(Language::from_code)
                .unwrap_or_else(accepted),
            peer: peer.to_canonical(),
            agent: headers
                .get(USER_AGENT)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
            path: parts
                .uri
                .path_and_query()
                .map_or_else(|| "/".to_owned(), ToString::to_string),
            room_view: cookie(headers, VIEW_COOKIE).and_then(RoomView::from_key),
        }
    }
}

impl Member {
    /// The operations in this person's name.
    pub(crate) fn operations(&self, app: &App) -> Operations {
        app.feed.operations().acting_as(self.actor())
    }

    /// As the audit log names who does this, and from where.
    pub(crate) fn actor(&self) -> String {
        let (user, peer) = (&self.user, self.visitor.peer);
        match &self.entry {
            Entry::Session { .. } => format!("web:{user}@{peer}"),
            Entry::Token(name) => format!("token:{user}/{name}@{peer}"),
        }
    }

    /// True if this person may run the room; others are shown no buttons for it.
    pub(crate) fn may_operate(&self) -> bool {
        self.role.may(Role::Operator)
    }

    /// The token against cross-site requests; none for those that no browser sends.
    pub(crate) fn csrf(&self) -> Option<&str> {
        match &self.entry {
            Entry::Session { session, .. } => Some(&session.csrf),
            Entry::Token(_) => None,
        }
    }

    /// The token against cross-site requests for the forms of a page.
    pub(crate) fn form_token(&self) -> &str {
        self.csrf().unwrap_or_default()
    }

    /// Who sends this request: by an API token if it has one and it is for the API, else by the
    /// session of its cookie.
    pub(crate) async fn of(parts: &Parts, app: &App) -> Result<Self, Problem> {
        let visitor = Visitor::of(parts);
        if parts.uri.path().starts_with("/api/") && parts.headers.contains_key(AUTHORIZATION) {
            return Self::of_token(visitor, parts, app).await;
        }
        let Some(token) = cookie(&parts.headers, SESSION_COOKIE).and_then(Token::from_cookie)
        else {
            return Err(Problem::login(&visitor, &parts.method));
        };
        let token_hash = token.hash();
        let session = match app.feed.operations().session_fetch(&token_hash).await {
            Ok(Some(session)) => {
                app.sessions.remember(&token_hash, &session);
                session
            }
            Ok(None) => {
                app.sessions.forget(&token_hash);
                return Err(Problem::login(&visitor, &parts.method));
            }
            Err(error) => app
                .sessions
                .recall(&token_hash, Timestamp::now())
                .ok_or_else(|| Problem::Trouble(Trouble::of(&error)))?,
        };
        Ok(Self {
            visitor,
            user: session.user.clone(),
            role: session.role,
            entry: Entry::Session {
                session,
                token_hash,
            },
        })
    }

    async fn of_token(visitor: Visitor, parts: &Parts, app: &App) -> Result<Self, Problem> {
        let Some(token) = bearer(&parts.headers).and_then(ApiToken::from_header) else {
            return Err(Problem::LoginNeeded(None));
        };
        let login = app.feed.operations().token_use(&token.hash()).await;
        let login = login.map_err(|error| Problem::Trouble(Trouble::of(&error)))?;
        let login = login.ok_or(Problem::LoginNeeded(None))?;
        Ok(Self {
            visitor,
            user: login.token.user,
            role: login.role,
            entry: Entry::Token(login.token.name),
        })
    }
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

impl FromRequestParts<App> for Member {
    type Rejection = Problem;

    /// Takes what the gate left. An address that lets strangers in leaves nobody.
    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!(path = parts.uri.path(), "this address asks for no login");
            Problem::Internal
        })
    }
}

#[derive(Deserialize)]
struct WithToken<T> {
    csrf: String,
    #[serde(flatten)]
    form: T,
}

impl<T: DeserializeOwned> FromRequest<App> for Signed<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let member = Member::from_request_parts(&mut parts, app).await?;
        let request = Request::from_parts(parts, body);
        let Form(sent) = Form::<WithToken<T>>::from_request(request, app)
            .await
            .map_err(|rejection| Problem::of_form(&rejection))?;
        let expected = member.form_token();
        let same = sent.csrf.as_bytes().ct_eq(expected.as_bytes());
        if expected.is_empty() || !bool::from(same) {
            return Err(Problem::Forged);
        }
        Ok(Self {
            member,
            form: sent.form,
        })
    }
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The value of a cookie (RFC 6265 §5.4: `name=value` pairs separated by `; `).
pub(crate) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// A path of this server that a link or form names as the way back; `/` for anything else.
pub(crate) fn local_path(text: &str) -> &str {
    let local = text.starts_with('/')
        && !text.starts_with("//")
        && !text.contains('\\')
        && text.len() <= 512
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if local { text } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_never_leaves_this_server() {
        assert_eq!(local_path("/clients/1?x=%20"), "/clients/1?x=%20");
        for text in [
            "//evil.example",
            "https://evil.example",
            "/\\evil",
            "",
            "/a\r\nb",
            "/한글",
        ] {
            assert_eq!(local_path(text), "/", "{text}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=1; dess_view=list".parse().unwrap());
        headers.append(COOKIE, "dess_language=ko;".parse().unwrap());
        assert_eq!(cookie(&headers, VIEW_COOKIE), Some("list"));
        assert_eq!(cookie(&headers, LANGUAGE_COOKIE), Some("ko"));
        assert_eq!(cookie(&headers, "view"), None);
    }
}
