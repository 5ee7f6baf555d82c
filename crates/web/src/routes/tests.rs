//! The pages over a real database, without a socket.

mod access;
mod account;
mod api;
mod live;
mod pages;
mod roles;
mod room;
mod secrets;
mod services;

use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::header::{COOKIE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, Request, StatusCode};
use dess_model::host::Paths;
use dess_model::{AddressRange, DhcpMode, MacAddr, Registration};
use dess_node::operations::{ClientAdd, ClientView, Operations, SiteSetup};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::router;
use crate::access::setup_code;
use crate::app::App;

const PASSWORD: &str = "correct horse 한글";

/// A site with its pages and one browser.
struct Hall {
    directory: tempfile::TempDir,
    operations: Operations,
    app: App,
    router: Router,
    cookies: Vec<(String, String)>,
    language: &'static str,
    peer: std::net::IpAddr,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn location(&self) -> &str {
        self.headers
            .get(LOCATION)
            .map_or("", |to| to.to_str().unwrap())
    }
}

fn site_setup() -> SiteSetup {
    SiteSetup {
        name: "테스트 매장".into(),
        server_address: [10, 77, 0, 1].into(),
        interfaces: vec!["br0".into()],
        subnet: "10.77.0.0/24".parse().unwrap(),
        mode: DhcpMode::Server,
        pool: Some(AddressRange {
            first: [10, 77, 0, 100].into(),
            last: [10, 77, 0, 199].into(),
        }),
        router: None,
        dns: vec![],
        lease_secs: 600,
        http_port: 80,
        portals: vec![],
        registration: Registration::Hold,
    }
}

impl Hall {
    /// Without a database.
    fn bare() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths {
            state: directory.path().join("state"),
            runtime: directory.path().join("run"),
        };
        std::fs::create_dir(&paths.state).unwrap();
        std::fs::create_dir(&paths.runtime).unwrap();
        let app = App::new(Operations::new(paths.clone()), CancellationToken::new());
        Self {
            directory,
            operations: Operations::new(paths),
            router: router(app.clone()),
            app,
            cookies: vec![],
            language: "en",
            peer: [192, 0, 2, 7].into(),
        }
    }

    /// A site without a user.
    async fn new() -> Self {
        let hall = Self::bare();
        hall.operations.site_init(site_setup()).await.unwrap();
        hall
    }

    /// A site whose owner is logged in.
    async fn logged_in() -> Self {
        let mut hall = Self::new().await;
        let answer = hall.set_up(None).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        hall
    }

    /// Sends the set-up form; the right code unless another is given.
    async fn set_up(&mut self, code: Option<&str>) -> Answer {
        self.get("/setup").await;
        let right = setup_code(&self.app.paths).unwrap().unwrap_or_default();
        let code = code.unwrap_or(&right);
        let fields = [
            ("code", code),
            ("name", "admin"),
            ("password", PASSWORD),
            ("again", PASSWORD),
        ];
        self.post("/setup", &fields).await
    }

    async fn get(&mut self, path: &str) -> Answer {
        let request = Request::get(path).header("accept-language", self.language);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let origin = [("origin", "http://dess.test"), ("host", "dess.test")];
        self.post_from(path, fields, &origin).await
    }

    /// Sends a form with the token of our own page.
    async fn post_signed(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf().await;
        let token = [("csrf", csrf.as_str())];
        self.post(path, &[&token, fields].concat()).await
    }

    async fn post_from(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let body: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", crate::problem::encode(value)))
            .collect();
        let mut request = Request::post(path)
            .header("accept-language", self.language)
            .header("content-type", "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.join("&"))).unwrap())
            .await
    }

    async fn send(&mut self, mut request: Request<Body>) -> Answer {
        let peer = SocketAddr::new(self.peer, 50_000);
        request.extensions_mut().insert(ConnectInfo(peer));
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            request
                .headers_mut()
                .insert(COOKIE, cookies.join("; ").parse().unwrap());
        }
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        for set in parts.headers.get_all(SET_COOKIE) {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        let bytes = to_bytes(body, 4 << 20).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// The token of the page's forms.
    async fn csrf(&mut self) -> String {
        let page = self.get("/").await.text;
        let at = page.find("name=\"csrf\" value=\"").unwrap() + 19;
        page[at..]
            .split('"')
            .next()
            .unwrap()
            .trim_start_matches('"')
            .to_owned()
    }

    async fn add(&self, last_byte: u8, name: &str) -> ClientView {
        let client = ClientAdd {
            mac: MacAddr([0x52, 0x54, 0, 0x77, 0, last_byte]),
            seat: None,
            name: Some(name.to_owned()),
            address: None,
            policy: None,
            image: None,
        };
        self.operations.client_add(client).await.unwrap()
    }
}
