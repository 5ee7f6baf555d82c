//! One request on its way to its answer.

use std::net::{Ipv4Addr, SocketAddrV4};

use dess_model::{ClientEntry, DhcpPhase, Subnet};

use crate::answer::{self, Subject};
use crate::exchange::{Arrival, CLIENT_PORT, Outcome, PROXY_PORT, SERVER_PORT, Transmit};
use crate::message::{Message, MessageType};
use crate::option::code;
use crate::phase::Requester;
use crate::site::SiteIndex;

/// One request with everything that its answer depends on.
pub(crate) struct Call<'a> {
    pub(crate) arrival: Arrival<'a>,
    pub(crate) site: &'a SiteIndex,
    pub(crate) subnet_at: usize,
    pub(crate) subnet: &'a Subnet,
    pub(crate) client: Option<&'a ClientEntry>,
    pub(crate) server_id: Ipv4Addr,
    pub(crate) request: &'a Message,
    pub(crate) requester: &'a Requester,
}

impl Call<'_> {
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            site: self.site,
            mac: self.request.chaddr,
            client: self.client,
            requester: self.requester,
        }
    }

    /// True for a server identifier that means this server.
    pub(crate) fn is_ours(&self, server: Ipv4Addr) -> bool {
        server == self.server_id || self.site.is_own(server) || self.arrival.local.contains(&server)
    }

    /// RFC 2131 §4.1; what would need a forged ARP entry is broadcast instead (ADR 0003).
    pub(crate) fn destination(&self) -> SocketAddrV4 {
        if self.arrival.port == PROXY_PORT {
            return self.arrival.source;
        }
        if !self.request.giaddr.is_unspecified() {
            return SocketAddrV4::new(self.request.giaddr, SERVER_PORT);
        }
        if !self.request.ciaddr.is_unspecified() {
            return SocketAddrV4::new(self.request.ciaddr, CLIENT_PORT);
        }
        SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT)
    }

    pub(crate) fn send(&self, reply: Message, destination: SocketAddrV4) -> Outcome {
        let payload = answer::encode(reply, self.request.reply_limit());
        if payload.is_none() {
            // A client that wants so short an answer is made up, or asks for its own trouble.
            tracing::debug!(client.mac = %self.request.chaddr, "the answer does not fit into a DHCP message");
        }
        Outcome {
            transmit: payload.map(|payload| Transmit {
                destination,
                payload,
            }),
            ..Outcome::default()
        }
    }

    /// A NAK always goes by broadcast: the client may not have the address it claims.
    pub(crate) fn refuse(&self) -> Outcome {
        let mut reply = answer::reply(self.request, MessageType::Nak, self.server_id);
        reply.options.set(code::MESSAGE, *b"address not available");
        let relay = self.request.giaddr;
        if relay.is_unspecified() {
            return self.send(reply, SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT));
        }
        reply.broadcast = true;
        self.send(reply, SocketAddrV4::new(relay, SERVER_PORT))
    }

    /// Adds the options of a full server's answer; returns the boot file told.
    pub(crate) fn fill(&self, reply: &mut Message, leases: bool) -> Option<String> {
        let subject = self.subject();
        if leases {
            answer::add_lease(&mut reply.options, self.subnet.lease_secs);
        }
        answer::add_network(&mut reply.options, self.subnet, subject);
        let boot_file = answer::add_boot(reply, subject);
        if self.requester.phase != DhcpPhase::Os {
            answer::add_machine_echo(reply, self.request);
        }
        boot_file
    }
}

/// The server address if it is in the client's subnet, else the interface's there.
pub(crate) fn server_id(site: &SiteIndex, subnet: &Subnet, local: &[Ipv4Addr]) -> Ipv4Addr {
    let server = site.snapshot().server.address;
    if subnet.network.contains(&server) {
        return server;
    }
    let on_link = local
        .iter()
        .find(|address| subnet.network.contains(*address));
    on_link.copied().unwrap_or(server)
}
