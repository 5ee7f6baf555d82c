//! `/files/<name>`: boot files for UEFI HTTP boot and for iPXE.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use bytes::Bytes;
use dess_http::Ends;
use futures_util::stream;

use super::Service;
use crate::files::{BootFile, Content, FileError};
use crate::range::{ByteRange, byte_range};

/// Bytes handed to a connection at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// Answers with a file, a part of it, or only its size (HEAD).
pub(super) async fn handle(
    State(service): State<Arc<Service>>,
    Extension(ends): Extension<Ends>,
    method: Method,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Response<Body> {
    let peer = ends.peer.ip().to_canonical();
    let files = Arc::clone(&service.options.files);
    let wanted = name.clone();
    let opened = tokio::task::spawn_blocking(move || files.open(&wanted)).await;
    let file = match opened {
        Ok(Ok(file)) => file,
        Ok(Err(error)) => return refused(&service, peer, &error),
        Err(error) => {
            tracing::error!(%error, "opening a boot file failed");
            return status(StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    // Range means something to GET only (RFC 9110 §14.2).
    let range = headers
        .get(header::RANGE)
        .filter(|_| method == Method::GET)
        .and_then(|value| value.to_str().ok())
        .map_or(ByteRange::Whole, |value| byte_range(value, file.length));
    let length = file.length;
    let (code, start, end) = match range {
        ByteRange::Whole => (StatusCode::OK, 0, length),
        ByteRange::Part { start, end } => (StatusCode::PARTIAL_CONTENT, start, end),
        ByteRange::Unsatisfiable => {
            let mut response = status(StatusCode::RANGE_NOT_SATISFIABLE);
            put(
                &mut response,
                header::CONTENT_RANGE,
                &format!("bytes */{length}"),
            );
            return response;
        }
    };
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let sending = Sending {
            file,
            offset: start,
            end,
            sent: Sent {
                service,
                peer,
                name: name.clone(),
                bytes: 0,
            },
        };
        Body::from_stream(stream::try_unfold(sending, Sending::next))
    };
    let mut response = Response::new(body);
    *response.status_mut() = code;
    put(
        &mut response,
        header::CONTENT_LENGTH,
        &(end - start).to_string(),
    );
    put(&mut response, header::CONTENT_TYPE, content_type(&name));
    put(&mut response, header::ACCEPT_RANGES, "bytes");
    if code == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {start}-{}/{length}", end - 1);
        put(&mut response, header::CONTENT_RANGE, &range);
    }
    response
}

/// A body under way.
struct Sending {
    file: BootFile,
    offset: u64,
    end: u64,
    sent: Sent,
}

/// Tells the event when the body ends, complete or not.
struct Sent {
    service: Arc<Service>,
    peer: IpAddr,
    name: String,
    bytes: u64,
}

impl Sending {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        if self.offset >= self.end {
            return Ok(None);
        }
        let rest = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let (offset, length) = (self.offset, rest.min(CHUNK_BYTES));
        let chunk = match &self.file.content {
            Content::Memory(_) => self.file.read_at(offset, length)?,
            Content::Disk(_) => {
                let file = self.file.clone();
                tokio::task::spawn_blocking(move || file.read_at(offset, length))
                    .await
                    .map_err(io::Error::other)??
            }
        };
        if chunk.is_empty() {
            return Err(io::Error::other("the file was cut short while it was sent"));
        }
        self.offset += chunk.len() as u64;
        self.sent.bytes += chunk.len() as u64;
        Ok(Some((chunk, self)))
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.service.send(dess_model::EventKind::HttpFile {
            peer: self.peer,
            file: std::mem::take(&mut self.name),
            bytes: self.bytes,
        });
    }
}

/// One answer for each error.
fn refused(service: &Service, peer: IpAddr, error: &FileError) -> Response<Body> {
    match error {
        FileError::BadName { .. } => {
            service.count_malformed(peer, &error.to_string());
            status(StatusCode::BAD_REQUEST)
        }
        FileError::NotFound { .. } => {
            service.count_refused(peer, &format!("asked for a missing file: {error}"));
            status(StatusCode::NOT_FOUND)
        }
        FileError::NotRegular { .. } => {
            service.count_refused(peer, &format!("asked for what is not served: {error}"));
            status(StatusCode::FORBIDDEN)
        }
        FileError::Io { .. } => {
            let error = error as &dyn std::error::Error;
            tracing::error!(client.address = %peer, error, "cannot serve {peer}");
            status(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    response
}

fn put(response: &mut Response<Body>, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// EDK2 takes the content type to know an EFI program when the name does not tell.
fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "efi")) => "application/efi",
        Some((_, "ipxe")) => "text/plain",
        _ => "application/octet-stream",
    }
}
