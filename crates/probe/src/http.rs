//! One HTTP request (RFC 9112): no client of ours asks for more than a short answer.

use std::net::SocketAddr;

use dess_model::{ProbeFailure, ProbeStep};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{failed, unusable, within};

/// Longest answer read, in bytes.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// An answer that was read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// As text; what is no UTF-8 is replaced.
    pub(crate) body: String,
}

/// Asks for a path. `fields` are further header lines, each with its line end.
pub(crate) async fn get(
    at: SocketAddr,
    path: &str,
    fields: &str,
    step: ProbeStep,
) -> Result<Answer, ProbeFailure> {
    let question =
        format!("GET {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n{fields}\r\n");
    let exchange = async {
        let mut stream = TcpStream::connect(at).await?;
        stream.write_all(question.as_bytes()).await?;
        let mut answer = Vec::new();
        stream
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut answer)
            .await?;
        Ok(answer)
    };
    let read = async { exchange.await.map_err(|error| failed(at, &error)) };
    let answer = within(at, step, read).await?;
    parse(&answer).ok_or_else(|| unusable(at, step, "no HTTP"))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer {
        status,
        body: body.to_owned(),
    })
}
