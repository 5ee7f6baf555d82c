//! Requests to another server.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use axum::http::{Method, Request, StatusCode, Uri};
use dess_web::api::ProblemDetails;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde_json::Value;

use super::RemoteError;

/// Longest that a request may take; the restart of a service takes the longest.
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest answer in bytes: a page of 1000 clients has some 2 MB.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Largest file of a token in bytes.
const TOKEN_BYTES_MAX: u64 = 4096;

/// Another server's REST API.
pub(crate) struct Server {
    /// Without a `/` at its end.
    url: String,
    authorization: HeaderValue,
    client: Client<HttpConnector, Body>,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    body: Vec<u8>,
}

impl Server {
    /// The API at `url`, used with the token in the environment or in `token_file`.
    ///
    /// # Errors
    /// If the URL is not one of HTTP, or there is no token.
    pub(crate) fn new(url: &str, token: Option<&str>, token_file: Option<&Path>) -> Result<Self> {
        let parsed: Uri = url.parse().with_context(|| {
            format!("\"{url}\" is not the URL of a server, as http://10.0.0.1:8080")
        })?;
        match parsed.scheme_str() {
            Some("http") => {}
            Some("https") => bail!(
                "{url}: the admin page speaks HTTP; reach it through a tunnel (ssh -L 8080:localhost:8080) or VPN as http://"
            ),
            _ => bail!("\"{url}\" is not the URL of a server, as http://10.0.0.1:8080"),
        }
        let token = match (token_file, token) {
            (Some(file), _) => read_token(file)?,
            (None, Some(token)) => token.to_owned(),
            (None, None) => bail!("give a token of {url} with --token-file or DESS_TOKEN"),
        };
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .context("the token holds a character that no token has")?;
        authorization.set_sensitive(true);
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            authorization,
            client: Client::builder(TokioExecutor::new()).build_http(),
        })
    }

    /// Asks for `path` below the API.
    ///
    /// # Errors
    /// If the server cannot be reached, or answers with a problem.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        revision: Option<&str>,
        body: Option<&impl Serialize>,
    ) -> Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/api/v1{path}", self.url))
            .header(AUTHORIZATION, self.authorization.clone());
        if let Some(revision) = revision {
            request = request.header("if-match", format!("\"{revision}\""));
        }
        let body = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Body::from(serde_json::to_vec(body)?)
            }
            None => Body::empty(),
        };
        let asked = tokio::time::timeout(PATIENCE, self.exchange(request.body(body)?));
        let answer = match asked.await {
            Ok(answer) => answer?,
            Err(_) => {
                let reason = format!("it did not answer within {} s", PATIENCE.as_secs());
                return Err(self.unreachable(reason).into());
            }
        };
        if answer.status.is_success() {
            return Ok(answer);
        }
        match serde_json::from_slice::<ProblemDetails>(&answer.body) {
            Ok(details) => Err(RemoteError::Problem(Box::new(details)).into()),
            Err(_) => {
                let reason = format!("it answered {}; is it a DESS server?", answer.status);
                Err(self.unreachable(reason).into())
            }
        }
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Answer> {
        let response = self.client.request(request).await;
        let response = response
            .map_err(|error| self.unreachable(format!("{:#}", anyhow::Error::new(error))))?;
        let status = response.status();
        let body = to_bytes(Body::new(response.into_body()), ANSWER_BYTES_MAX).await;
        let body = body.map_err(|error| self.unreachable(error.to_string()))?;
        let body = body.to_vec();
        Ok(Answer { status, body })
    }

    fn unreachable(&self, reason: String) -> RemoteError {
        let url = self.url.clone();
        RemoteError::Unreachable { url, reason }
    }
}

impl Answer {
    /// The JSON that came.
    ///
    /// # Errors
    /// If it is not what was asked for: the server has another release.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .context("the server answered something else; does it have another release?")
    }
}

/// No body.
pub(super) const EMPTY: Option<&Value> = None;

fn read_token(file: &Path) -> Result<String> {
    let shown = file.display();
    let size = std::fs::metadata(file).with_context(|| format!("cannot read the token {shown}"))?;
    if size.len() > TOKEN_BYTES_MAX {
        bail!("{shown} is too large for a token");
    }
    let token =
        std::fs::read_to_string(file).with_context(|| format!("cannot read the token {shown}"))?;
    Ok(token)
}
