//! The boot service's probe: the loaders by TFTP; a script and a part of a loader by HTTP.

use std::net::SocketAddr;

use dess_boot::boot_file;
use dess_model::{Architecture, PROBE_MAC, ProbeFailure, ProbeStep, SiteSnapshot};
use dess_tftp::{ErrorCode, Mode, Packet, Request};
use tokio::net::UdpSocket;

use crate::{Endpoints, failed, http, unusable, within};

/// Those whose loaders are fetched: without them hardly any room boots.
const ARCHITECTURES: [Architecture; 2] = [Architecture::Bios, Architecture::UefiX64];
/// Block size asked for, in bytes: fits an Ethernet frame.
const BLOCK_BYTES: usize = 1428;
/// Largest file fetched, in bytes.
const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Fetches what PCs fetch.
pub(crate) async fn probe(
    endpoints: &Endpoints,
    snapshot: &SiteSnapshot,
) -> Result<(), ProbeFailure> {
    let server = snapshot.server.address;
    let tftp = SocketAddr::from((server, endpoints.tftp_port));
    let web = SocketAddr::from((server, snapshot.server.http_port));
    let loader = |architecture| boot_file(snapshot, None, PROBE_MAC, Some(architecture), false);
    let loaders: Vec<String> = ARCHITECTURES.into_iter().filter_map(loader).collect();
    for file in &loaders {
        within(tftp, ProbeStep::Tftp, fetch(tftp, file)).await?;
    }
    let path = format!("/boot/{}.ipxe", PROBE_MAC.hyphenated());
    let script = http::get(web, &path, "", ProbeStep::Script).await?;
    if script.status != 200 || !script.body.starts_with("#!ipxe") {
        let detail = format!("status {}", script.status);
        return Err(unusable(web, ProbeStep::Script, detail));
    }
    let Some(file) = loaders.first() else {
        return Ok(());
    };
    let path = format!("/files/{file}");
    let part = http::get(web, &path, "range: bytes=0-511\r\n", ProbeStep::HttpFile).await?;
    match part.status {
        206 => Ok(()),
        status => Err(ProbeFailure::BootFile {
            file: file.clone(),
            detail: format!("HTTP status {status}"),
        }),
    }
}

/// Reads a file to its end (RFC 1350, with the block size of RFC 2348).
async fn fetch(server: SocketAddr, file: &str) -> Result<(), ProbeFailure> {
    let broke = |error: std::io::Error| failed(server, &error);
    let socket = UdpSocket::bind((server.ip(), 0)).await.map_err(broke)?;
    let blksize = BLOCK_BYTES.to_string();
    let question = Packet::ReadRequest(Request {
        file,
        mode: Mode::Octet,
        options: vec![("blksize", &blksize)],
    });
    socket
        .send_to(&question.to_vec(), server)
        .await
        .map_err(broke)?;
    let mut transfer = Transfer {
        block_bytes: 512,
        received_bytes: 0,
        next: 1,
    };
    let mut buffer = vec![0; BLOCK_BYTES + 4];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await.map_err(broke)?;
        if peer.ip() != server.ip() {
            continue;
        }
        let packet = Packet::decode(&buffer[..length])
            .map_err(|error| unusable(server, ProbeStep::Tftp, error.to_string()))?;
        let Progress { ack, done } = transfer.handle(packet, server, file)?;
        if let Some(block) = ack {
            let ack = Packet::Ack { block }.to_vec();
            socket.send_to(&ack, peer).await.map_err(broke)?;
        }
        if done {
            return Ok(());
        }
    }
}

/// A file on its way to us.
struct Transfer {
    block_bytes: usize,
    received_bytes: usize,
    /// The block that is awaited, modulo 65536.
    next: u16,
}

struct Progress {
    /// The block to acknowledge.
    ack: Option<u16>,
    done: bool,
}

impl Transfer {
    fn handle(
        &mut self,
        packet: Packet<'_>,
        server: SocketAddr,
        file: &str,
    ) -> Result<Progress, ProbeFailure> {
        match packet {
            Packet::OptionAck { .. } => {
                self.block_bytes = BLOCK_BYTES;
                Ok(Progress {
                    ack: Some(0),
                    done: false,
                })
            }
            Packet::Data { block, data } if block == self.next => {
                self.next = self.next.wrapping_add(1);
                self.received_bytes += data.len();
                if self.received_bytes > FILE_BYTES_MAX {
                    return Err(unusable(server, ProbeStep::Tftp, "no end of the file"));
                }
                Ok(Progress {
                    ack: Some(block),
                    done: data.len() < self.block_bytes,
                })
            }
            // Sent again, since our acknowledgement was slow.
            Packet::Data { block, .. } => Ok(Progress {
                ack: Some(block),
                done: false,
            }),
            Packet::Error { code, message } => Err(ProbeFailure::BootFile {
                file: file.to_owned(),
                detail: match code {
                    ErrorCode::FileNotFound => "file not found".to_owned(),
                    _ => format!("{code:?}: {message}"),
                },
            }),
            _ => Err(unusable(server, ProbeStep::Tftp, "a request")),
        }
    }
}
