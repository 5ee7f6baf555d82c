//! What an answer holds: network, lease and boot options.

use std::net::Ipv4Addr;

use dess_model::{ClientEntry, DhcpPhase, MacAddr, Subnet};

use crate::message::{Message, MessageType, Operation};
use crate::option::{Options, code};
use crate::phase::{BootClass, Requester};
use crate::site::SiteIndex;

/// PXE vendor options: discovery control (6), length 1, bit 3 = "boot the file given, discover
/// nothing" (PXE 2.1 table 2-1); then END.
const PXE_BOOT_FILE_GIVEN: [u8; 4] = [6, 1, 8, 255];
/// iPXE option 176 "no-pxedhcp" = 1: do not wait two seconds for other proxy offers.
const IPXE_NO_PROXY_WAIT: [u8; 3] = [176, 1, 1];

/// Who asks, as far as the answer depends on it.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) site: &'a SiteIndex,
    pub(crate) mac: MacAddr,
    pub(crate) client: Option<&'a ClientEntry>,
    pub(crate) requester: &'a Requester,
}

/// An answer with what every answer has: the transaction, option 54 and the options to be echoed
/// (61 by RFC 6842, 82 by RFC 3046).
pub(crate) fn reply(request: &Message, kind: MessageType, server_id: Ipv4Addr) -> Message {
    let mut options = Options::default();
    options.set_address(code::SERVER_IDENTIFIER, server_id);
    for echoed in [code::CLIENT_IDENTIFIER, code::RELAY_AGENT] {
        if let Some(value) = request.options.value(echoed) {
            options.set(echoed, value);
        }
    }
    Message {
        op: Operation::Reply,
        message_type: Some(kind),
        hops: 0,
        xid: request.xid,
        secs: 0,
        broadcast: request.broadcast,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: Ipv4Addr::UNSPECIFIED,
        siaddr: Ipv4Addr::UNSPECIFIED,
        giaddr: request.giaddr,
        chaddr: request.chaddr,
        sname: Vec::new(),
        file: Vec::new(),
        options,
    }
}

/// Lease time, T1 = 1/2 and T2 = 7/8 of it (RFC 2131 §4.4.5).
pub(crate) fn add_lease(options: &mut Options, lease_secs: u32) {
    options.set_u32(code::LEASE_TIME, lease_secs);
    options.set_u32(code::RENEWAL_TIME, lease_secs / 2);
    options.set_u32(code::REBINDING_TIME, lease_secs - lease_secs / 8);
}

/// Mask for everybody; router, name servers and host name for operating systems only.
///
/// A gateway told to firmware ends up in the iBFT and makes Windows route its storage traffic
/// through it. Firmware gets one only where the boot server is beyond it (relayed subnets).
pub(crate) fn add_network(options: &mut Options, subnet: &Subnet, subject: Subject<'_>) {
    let network = subnet.network;
    options.set_address(code::SUBNET_MASK, network.netmask());
    let server = subject.site.snapshot().server.address;
    let is_system = subject.requester.phase == DhcpPhase::Os;
    if let Some(router) = subnet.router
        && (is_system || !network.contains(&server))
    {
        options.set_address(code::ROUTER, router);
    }
    if !is_system {
        return;
    }
    if !subnet.dns.is_empty() {
        let servers: Vec<u8> = subnet.dns.iter().flat_map(Ipv4Addr::octets).collect();
        options.set(code::DOMAIN_NAME_SERVER, servers);
    }
    if let Some(client) = subject.client {
        options.set(code::HOST_NAME, host_name(client));
    }
    if network.prefix_len() < 31 {
        options.set_address(code::BROADCAST_ADDRESS, network.broadcast());
    }
}

/// The boot file or root path; returns the file or URL told. Nothing for operating systems.
///
/// A script and a root path never go together: iPXE would attach the root path's disk first and
/// the script's `sanboot` would fail.
pub(crate) fn add_boot(reply: &mut Message, subject: Subject<'_>) -> Option<String> {
    let Requester { phase, class, .. } = *subject.requester;
    if phase == DhcpPhase::Os {
        return None;
    }
    if phase == DhcpPhase::Firmware && class == Some(BootClass::Iscsi) {
        if let Some(path) = root_path(subject) {
            reply.options.set(code::ROOT_PATH, path);
        }
        return None;
    }
    let snapshot = subject.site.snapshot();
    reply.siaddr = snapshot.server.address;
    if phase == DhcpPhase::Ipxe {
        reply.options.set(code::IPXE, IPXE_NO_PROXY_WAIT);
    } else {
        add_firmware_marks(&mut reply.options, class);
    }
    let file = dess_boot::boot_file(
        snapshot,
        subject.client,
        subject.mac,
        subject.requester.architecture,
        phase == DhcpPhase::Ipxe,
    )?;
    // Both places: some ROMs read only the field, HTTP firmware prefers the option.
    if file.len() < 128 {
        reply.file = file.clone().into_bytes();
    }
    reply.options.set(code::BOOT_FILE_NAME, file.as_bytes());
    if class == Some(BootClass::Pxe) && phase == DhcpPhase::Firmware {
        let server = snapshot.server.address.to_string();
        reply.options.set(code::TFTP_SERVER_NAME, server);
    }
    Some(file)
}

/// Echo of option 97 (RFC 4578 §2.3: PXE firmware compares it).
pub(crate) fn add_machine_echo(reply: &mut Message, request: &Message) {
    if let Some(uuid) = request.options.value(code::MACHINE_IDENTIFIER) {
        reply.options.set(code::MACHINE_IDENTIFIER, uuid);
    }
}

/// The vendor class that makes firmware take the offer as one for it.
pub(crate) fn add_firmware_marks(options: &mut Options, class: Option<BootClass>) {
    match class {
        Some(BootClass::Http) => options.set(code::VENDOR_CLASS, *b"HTTPClient"),
        Some(BootClass::Pxe) => {
            options.set(code::VENDOR_CLASS, *b"PXEClient");
            options.set(code::VENDOR_SPECIFIC, PXE_BOOT_FILE_GIVEN);
        }
        Some(BootClass::Iscsi) | None => {}
    }
}

/// Bytes of the answer within the client's limit. What least matters is left out first; option 82
/// goes before the answer would be too long (RFC 3046 §2.2).
pub(crate) fn encode(mut reply: Message, limit: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(limit);
    let dispensable = [
        code::HOST_NAME,
        code::BROADCAST_ADDRESS,
        code::CLIENT_IDENTIFIER,
        code::TFTP_SERVER_NAME,
        code::RELAY_AGENT,
    ];
    let mut dispensable = dispensable.into_iter();
    while reply.encode(limit, &mut bytes).is_err() {
        let dropped = dispensable.next()?;
        if reply.options.remove(dropped) {
            tracing::debug!(option = dropped, client.mac = %reply.chaddr, "answer too long; option left out");
        }
    }
    Some(bytes)
}

/// The client's name if it is a host name (RFC 1123 §2.1); names for people, in Korean say, are
/// refused or mangled by systems, so the seat number stands in.
fn host_name(client: &ClientEntry) -> String {
    let name = client.name.as_bytes();
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    let is_label = (1..=63).contains(&name.len())
        && name.iter().all(legal)
        && !name.starts_with(b"-")
        && !name.ends_with(b"-");
    if is_label {
        client.name.clone()
    } else {
        format!("seat-{}", client.seat)
    }
}

/// RFC 4173 §5, for the registered and approved client with an image. The unit's number is in
/// groups of at most four digits: EDK2 drops an offer with 16 in a row.
fn root_path(subject: Subject<'_>) -> Option<String> {
    let client = subject.client.filter(|client| client.approved)?;
    client.version?;
    let portal = subject.site.snapshot().server.portals.first()?;
    Some(format!(
        "iscsi:{}:6:{}:0:{}",
        portal.ip(),
        portal.port(),
        client.iscsi.target_iqn
    ))
}
