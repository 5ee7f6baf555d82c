//! Who asks: language and address of anybody, session of those who are logged in.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::Form;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT_LANGUAGE, COOKIE};
use axum::http::request::Parts;
use dess_model::Timestamp;
use dess_node::operations::{Operations, SessionView};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq;

use crate::access::Token;
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

/// Anybody.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    pub(crate) language: Language,
    pub(crate) peer: IpAddr,
    /// Path and query of the request.
    pub(crate) path: String,
    /// Prefers the list to the cards.
    pub(crate) list_view: bool,
}

/// Somebody who is logged in.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) visitor: Visitor,
    pub(crate) session: SessionView,
    pub(crate) token_hash: String,
}

/// A form that somebody who is logged in sent from our own page.
#[derive(Clone, Debug)]
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
            path: parts
                .uri
                .path_and_query()
                .map_or_else(|| "/".to_owned(), ToString::to_string),
            list_view: cookie(headers, VIEW_COOKIE) == Some("list"),
        }
    }
}

impl Member {
    /// The operations in this person's name.
    pub(crate) fn operations(&self, app: &App) -> Operations {
        let actor = format!("web:{}@{}", self.session.user, self.visitor.peer);
        app.feed.operations().acting_as(actor)
    }

    async fn of(parts: &Parts, app: &App) -> Result<Self, Problem> {
        let visitor = Visitor::of(parts);
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
            session,
            token_hash,
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

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Self::of(parts, app).await
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
        let (parts, body) = request.into_parts();
        let member = Member::of(&parts, app).await?;
        let request = Request::from_parts(parts, body);
        let Form(sent) = Form::<WithToken<T>>::from_request(request, app)
            .await
            .map_err(|rejection| Problem::of_form(&rejection))?;
        let same = sent.csrf.as_bytes().ct_eq(member.session.csrf.as_bytes());
        if member.session.csrf.is_empty() || !bool::from(same) {
            return Err(Problem::Forged);
        }
        Ok(Self {
            member,
            form: sent.form,
        })
    }
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
