//! A connection takes any bytes in any state: login, negotiation, full feature phase.
//!
//! The first byte chooses whether a valid login goes before; the rest arrives in pieces whose
//! lengths are taken from the data itself. Commands are answered, so that the state moves on.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dess_iscsi::{
    Access, Budget, Connection, ConnectionConfig, Event, Limits, LoginIdentity, LoginStatus,
    ScsiResponse, TargetDirectory, TargetPortals, TaskManagementResponse,
};
use libfuzzer_sys::fuzz_target;

/// Most output that a connection may queue for so little input.
const OUTPUT_BYTES_MAX: usize = 16 << 20;

struct Open;

impl TargetDirectory for Open {
    fn access(&self, _: &LoginIdentity) -> Result<Access, LoginStatus> {
        Ok(Access { chap: None, cookie: 1 })
    }

    fn discover(&self, _: &LoginIdentity) -> Vec<TargetPortals> {
        Vec::new()
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, mut rest)) = data.split_first() else { return };
    let now = Instant::now();
    let mut connection = Connection::new(
        now,
        ConnectionConfig {
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            portal: SocketAddr::from((Ipv4Addr::LOCALHOST, 3260)),
            portal_group_tag: 1,
            tsih: 1,
            seed: [7; 32],
            memory: Arc::new(Budget::new(1 << 20)),
            limits: Limits::default(),
        },
    );
    if choice & 1 == 1 {
        feed(&mut connection, now, &login());
    }
    while !rest.is_empty() {
        let length = usize::from(rest[0]).clamp(1, rest.len());
        let (piece, later) = rest.split_at(length);
        feed(&mut connection, now, piece);
        rest = later;
    }
    connection.handle_timeout(now + Duration::from_secs(60));
    while connection.poll_event().is_some() {}
});

fn feed(connection: &mut Connection, now: Instant, bytes: &[u8]) {
    connection.receive_buffer().extend_from_slice(bytes);
    connection.handle_received(now, &Open);
    while let Some(event) = connection.poll_event() {
        match event {
            Event::Command(command) => connection.complete(command.task, ScsiResponse::good(0)),
            Event::TaskManagement(request) => connection
                .task_management_response(request.task, TaskManagementResponse::FunctionComplete),
            Event::LoggedIn(_) | Event::LoginRefused(_) | Event::Closed(_) => {}
        }
    }
    let waiting = connection.output_bytes();
    assert!(waiting <= OUTPUT_BYTES_MAX, "{waiting} bytes of output");
    connection.advance_output(waiting);
}

/// A login that goes from the operational stage to full feature phase in one request.
fn login() -> Vec<u8> {
    let text = b"InitiatorName=iqn.2026-11.io.dess:fuzz\0TargetName=iqn.2026-11.io.dess:disk\0\
        SessionType=Normal\0InitialR2T=No\0ImmediateData=Yes\0";
    let mut pdu = vec![0; 48];
    pdu[0] = 0x43;
    pdu[1] = 0x87;
    pdu[5..8].copy_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_be_bytes()[1..]);
    pdu[8] = 0x80;
    pdu.extend_from_slice(text);
    pdu.resize(pdu.len().next_multiple_of(4), 0);
    pdu
}
