//! Control sockets: one JSON line of request, one of reply, over a Unix stream socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Longest request line in bytes.
const REQUEST_BYTES_MAX: u64 = 64 * 1024;
/// Longest reply line in bytes.
const REPLY_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Requests under way at once.
const CONNECTIONS_MAX: usize = 64;
/// How long a peer may take to send its line.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A request that got no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nobody listens: the service is down.
    #[error("cannot reach {}; is the service running?", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to {} broke", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("no answer from {} within {} ms", path.display(), limit.as_millis())]
    TimedOut {
        /// The socket.
        path: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// The answer was not understood.
    #[error("malformed answer from {}", path.display())]
    Malformed {
        /// The socket.
        path: PathBuf,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
}

/// Sends one request and waits for its reply, at most `limit`.
///
/// # Errors
/// If the service is down, slow or answers nonsense.
pub async fn request<Q, R>(path: &Path, question: &Q, limit: Duration) -> Result<R, RequestError>
where
    Q: Serialize + Sync,
    R: DeserializeOwned,
{
    let exchange = async {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| RequestError::Connect {
                path: path.to_owned(),
                source,
            })?;
        let line = exchange(stream, question)
            .await
            .map_err(|source| RequestError::Io {
                path: path.to_owned(),
                source,
            })?;
        serde_json::from_slice(&line).map_err(|source| RequestError::Malformed {
            path: path.to_owned(),
            source,
        })
    };
    timeout(limit, exchange).await.unwrap_or_else(|_| {
        Err(RequestError::TimedOut {
            path: path.to_owned(),
            limit,
        })
    })
}

async fn exchange<Q: Serialize>(mut stream: UnixStream, question: &Q) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut reply = Vec::new();
    BufReader::new(stream.take(REPLY_BYTES_MAX))
        .read_until(b'\n', &mut reply)
        .await?;
    Ok(reply)
}

/// Binds a control socket that only its owner can use, replacing one that a dead process left.
///
/// # Errors
/// If the path cannot be bound.
pub fn bind_control(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers requests until the future is dropped. `malformed` answers a line that is no request.
pub async fn serve_control<Q, R, F, Fut>(
    listener: UnixListener,
    handle: F,
    malformed: fn(String) -> R,
) where
    Q: DeserializeOwned + Send,
    R: Serialize + Send + Sync + 'static,
    F: Fn(Q) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send,
{
    let handle = Arc::new(handle);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let handle = Arc::clone(&handle);
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, handle.as_ref(), malformed).await {
                        tracing::debug!(%error, "control connection broke");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a control connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer<Q, R, F, Fut>(
    mut stream: UnixStream,
    handle: &F,
    malformed: fn(String) -> R,
) -> io::Result<()>
where
    Q: DeserializeOwned,
    R: Serialize,
    F: Fn(Q) -> Fut,
    Fut: Future<Output = R>,
{
    let mut line = Vec::new();
    let mut reader = BufReader::new((&mut stream).take(REQUEST_BYTES_MAX));
    timeout(REQUEST_TIMEOUT, reader.read_until(b'\n', &mut line)).await??;
    let reply = match serde_json::from_slice(&line) {
        Ok(question) => handle(question).await,
        Err(error) => malformed(error.to_string()),
    };
    let mut line = serde_json::to_vec(&reply)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_answered_and_nonsense_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let limit = Duration::from_secs(5);
        let down = request::<_, u32>(&path, &1, limit).await.unwrap_err();
        assert!(matches!(down, RequestError::Connect { .. }), "{down}");
        let listener = bind_control(&path).unwrap();
        let server = tokio::spawn(serve_control(
            listener,
            |n: u32| async move { n + 1 },
            |_| u32::MAX,
        ));
        assert_eq!(request::<_, u32>(&path, &41, limit).await.unwrap(), 42);
        assert_eq!(
            request::<_, u32>(&path, &"no number", limit).await.unwrap(),
            u32::MAX
        );
        server.abort();
    }
}
