//! The DHCP exchange as a value: datagrams, time and the site in; answers, leases and events out.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use dess_model::{DhcpMode, EventKind, MacAddr, MalformedTally, PeerTally, Timestamp};

use crate::answer;
use crate::call::{self, Call};
use crate::lease::{Binding, LeaseTable};
use crate::malformed;
use crate::message::{Message, MessageType, Operation};
use crate::option::code;
use crate::phase::Requester;
use crate::recent::Recent;
use crate::rogue::RogueLedger;
use crate::service_probe;
use crate::site::SiteIndex;
use crate::supply::Supply;

/// Port of servers and relay agents.
pub const SERVER_PORT: u16 = 67;
/// Port of clients.
pub const CLIENT_PORT: u16 = 68;
/// Port of the PXE boot server (proxyDHCP, PXE 2.1 §2.2.3).
pub const PROXY_PORT: u16 = 4011;

/// How often an unknown network card is announced, in milliseconds.
const UNKNOWN_MS: i64 = 5 * 1000;
/// How long a card counts as booting after its firmware's or iPXE's last message, in milliseconds.
const BOOTING_MS: i64 = 60 * 1000;
/// How often the same trouble of one subnet or interface is logged, in milliseconds.
const TROUBLE_MS: i64 = 60 * 1000;

/// Where and when a datagram came in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Time; must not run backwards.
    pub now: Timestamp,
    /// Interface that it came in on.
    pub interface: &'a str,
    /// IPv4 addresses of that interface.
    pub local: &'a [Ipv4Addr],
    /// Sender.
    pub source: SocketAddrV4,
    /// Port that it was sent to: [`SERVER_PORT`] or [`PROXY_PORT`].
    pub port: u16,
}

/// An answer to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Receiver; the broadcast address goes out of the interface of the request.
    pub destination: SocketAddrV4,
    /// The datagram.
    pub payload: Vec<u8>,
}

/// What follows from one datagram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The answer. If there are records, it must not leave before they are in the lease file.
    pub transmit: Option<Transmit>,
    /// Changes of leases for the journal, in order.
    pub records: Vec<Binding>,
    /// Events for `node`.
    pub events: Vec<EventKind>,
}

/// All DHCP state of one server.
///
/// Feed it datagrams with [`handle_datagram`](Self::handle_datagram), the site with
/// [`adopt`](Self::adopt) and, now and then, the time with
/// [`handle_timeout`](Self::handle_timeout). Per network card it knows four conversations
/// (RFC 2131 §4.3.2), told apart by what a REQUEST carries:
///
/// ```text
///              server id   requested   ciaddr    answer
/// SELECTING    ours        offer       0         ACK, or NAK if the offer is gone to another
///              foreign                           none; the offer is dropped
/// INIT-REBOOT  -           former      0         ACK, or NAK (we are authoritative)
/// RENEWING     -           -           address   ACK, or NAK
/// REBINDING    -           -           address   as RENEWING
/// ```
#[derive(Debug)]
pub struct Exchange {
    pub(crate) site: Option<Arc<SiteIndex>>,
    pub(crate) supply: Supply,
    malformed: MalformedTally,
    rogues: RogueLedger,
    announced: Recent<MacAddr>,
    booting: Recent<MacAddr>,
    troubles: Recent<String>,
    refusals: PeerTally,
}

impl Exchange {
    /// An exchange that continues with the leases of the journal. It is silent until
    /// [`adopt`](Self::adopt).
    pub fn new(leases: LeaseTable) -> Self {
        Self {
            site: None,
            supply: Supply::new(leases),
            malformed: MalformedTally::new("dhcp"),
            rogues: RogueLedger::default(),
            announced: Recent::new(UNKNOWN_MS),
            booting: Recent::new(BOOTING_MS),
            troubles: Recent::new(TROUBLE_MS),
            refusals: PeerTally::default(),
        }
    }

    /// Tells that the last leases given before the start may be missing: until then, an address
    /// that is nobody's goes to a client that asks for this very one, and to any other only after
    /// a probe found it unused (behind a relay agent there are no probes).
    pub fn doubt(&mut self, until: Timestamp) {
        self.supply.doubt(until);
    }

    /// Takes a new revision of the site into force; leases stay.
    pub fn adopt(&mut self, site: Arc<SiteIndex>) {
        self.supply.rebuild(&site);
        self.site = Some(site);
    }

    /// The site in force.
    pub fn site(&self) -> Option<&Arc<SiteIndex>> {
        self.site.as_ref()
    }

    /// All leases, for compaction of the journal.
    pub fn leases(&self) -> &LeaseTable {
        self.supply.leases()
    }

    /// True if the network card's firmware or iPXE spoke DHCP within the last minute.
    pub fn is_booting(&self, mac: MacAddr, now: Timestamp) -> bool {
        self.booting.contains(&mac, now)
    }

    /// Handles a datagram to port 67 or 4011.
    pub fn handle_datagram(&mut self, arrival: Arrival<'_>, datagram: &[u8]) -> Outcome {
        let Some(site) = self.site.clone() else {
            return Outcome::default();
        };
        let request = match Message::decode(datagram) {
            Ok(message) => message,
            Err(reason) => {
                let peer = malformed::peer_name(arrival.source, datagram);
                let reason = reason.to_string();
                let event = self.malformed.record(arrival.now, &peer, &reason);
                event.iter().for_each(malformed::log);
                return Outcome {
                    events: event.into_iter().collect(),
                    ..Outcome::default()
                };
            }
        };
        let (Operation::Request, Some(kind)) = (request.op, request.message_type) else {
            return Outcome::default();
        };
        let Some(subnet) = self.find_subnet(&site, arrival, &request) else {
            return Outcome::default();
        };
        let requester = Requester::of(&request);
        let probe = service_probe::is_probe(&site, arrival, &request);
        if requester.boots() && !probe {
            self.booting.note(request.chaddr, arrival.now);
        }
        let call = Call {
            arrival,
            site: &site,
            subnet_at: subnet,
            subnet: site.subnet(subnet),
            client: site.client(request.chaddr),
            server_id: call::server_id(&site, site.subnet(subnet), arrival.local),
            request: &request,
            requester: &requester,
        };
        if probe {
            return self.handle_service_probe(&call, kind);
        }
        self.dispatch(&call, kind)
    }

    /// Handles a datagram to port 68, overheard: is it the answer of a foreign server? `mac` is
    /// the sender's network card, if known.
    pub fn handle_overheard(
        &mut self,
        arrival: Arrival<'_>,
        datagram: &[u8],
        mac: Option<MacAddr>,
    ) -> Option<EventKind> {
        let site = self.site.clone()?;
        let message = Message::decode(datagram).ok()?;
        let answers = [MessageType::Offer, MessageType::Ack].map(Some);
        if message.op != Operation::Reply || !answers.contains(&message.message_type) {
            return None;
        }
        let server = message.options.address(code::SERVER_IDENTIFIER)?;
        if site.is_own(server) || arrival.local.contains(&server) {
            return None;
        }
        // A proxy's offer gives no address; where it comes from nobody boots by it unless its
        // boot file wins, so it is as foreign as any.
        let mode =
            local_subnet(&site, arrival.local).map_or(DhcpMode::Server, |at| site.subnet(at).mode);
        self.rogues
            .observe(arrival.now, mode, arrival.interface, server, mac)
    }

    /// Time passes; to be called about once a second. Returns events that are due.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Vec<EventKind> {
        let events = self.malformed.handle_timeout(now);
        events.iter().for_each(malformed::log);
        events
    }

    /// The next addresses to probe on the subnets of these local addresses: is somebody there
    /// who has no lease? Tell the result with [`handle_probe`](Self::handle_probe).
    pub fn poll_probes(&mut self, now: Timestamp, local: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
        match self.site.clone() {
            Some(site) => self.supply.wanted_probes(now, &site, local),
            None => Vec::new(),
        }
    }

    /// The result of a probe: who uses the address. An address in use is quarantined, or, if the
    /// occupant's lease may have been lost, leased to it; the returned record goes to the journal.
    pub fn handle_probe(
        &mut self,
        now: Timestamp,
        address: Ipv4Addr,
        occupant: Option<MacAddr>,
    ) -> Option<Binding> {
        self.supply.handle_probe(now, address, occupant)
    }

    fn dispatch(&mut self, call: &Call<'_>, kind: MessageType) -> Outcome {
        if call.arrival.port == PROXY_PORT {
            return self.handle_boot_request(call, kind);
        }
        match (call.subnet.mode, kind) {
            (DhcpMode::Proxy, _) => self.handle_as_proxy(call, kind),
            (DhcpMode::Server, MessageType::Discover) => self.handle_discover(call),
            (DhcpMode::Server, MessageType::Request) => self.handle_request(call),
            (DhcpMode::Server, MessageType::Decline) => self.handle_decline(call),
            (DhcpMode::Server, MessageType::Release) => self.handle_release(call),
            (DhcpMode::Server, MessageType::Inform) => Self::handle_inform(call),
            (DhcpMode::Server, MessageType::Offer | MessageType::Ack | MessageType::Nak) => {
                Outcome::default()
            }
        }
    }

    fn handle_discover(&mut self, call: &Call<'_>) -> Outcome {
        let hint = call.request.options.address(code::REQUESTED_ADDRESS);
        let now = call.arrival.now;
        self.tell_of_taken_reservation(call);
        let Some(address) = self.supply.offer(now, call, hint) else {
            let network = call.subnet.network;
            if self.supply.in_doubt(now, call) {
                self.complain(now, || {
                    format!("no address of {network} is probed yet; a client must ask again")
                });
                return Outcome::default();
            }
            let told = self.complain(now, || format!("no address left in {network} for a client"));
            let event = told.then(|| EventKind::NoFreeAddress {
                mac: call.request.chaddr,
                network: network.to_string(),
            });
            return Outcome::default().with_events(event.into_iter().collect());
        };
        let mut reply = answer::reply(call.request, MessageType::Offer, call.server_id);
        reply.yiaddr = address;
        let boot_file = call.fill(&mut reply, true);
        let mut events = Vec::new();
        events.extend(self.announce(call, Some(address)));
        events.push(EventKind::DhcpOffer {
            mac: call.request.chaddr,
            phase: call.requester.phase,
            address: Some(address),
            architecture: call.requester.architecture,
            boot_file,
        });
        call.send(reply, call.destination()).with_events(events)
    }

    fn handle_request(&mut self, call: &Call<'_>) -> Outcome {
        let request = call.request;
        let now = call.arrival.now;
        let chosen = request.options.address(code::SERVER_IDENTIFIER);
        if let Some(server) = chosen.filter(|server| !call.is_ours(*server)) {
            self.supply.withdraw(now, request.chaddr);
            let interface = call.arrival.interface;
            let event = self
                .rogues
                .observe(now, DhcpMode::Server, interface, server, None);
            return Outcome::default().with_events(event.into_iter().collect());
        }
        let in_use = !request.ciaddr.is_unspecified();
        let wanted = match request.options.address(code::REQUESTED_ADDRESS) {
            Some(address) if !in_use => address,
            _ if in_use => request.ciaddr,
            _ => return Outcome::default(),
        };
        if chosen.is_none() && self.is_of_elsewhere(call, wanted) {
            return Outcome::default();
        }
        let Some(binding) = self.supply.grant(now, call, wanted, in_use) else {
            self.log_refusal(call, &format!("may not use {wanted}"));
            return call.refuse();
        };
        let mut reply = answer::reply(request, MessageType::Ack, call.server_id);
        reply.yiaddr = wanted;
        reply.ciaddr = request.ciaddr;
        call.fill(&mut reply, true);
        let event = EventKind::DhcpAck {
            mac: request.chaddr,
            phase: call.requester.phase,
            address: Some(wanted),
            renewal: in_use,
        };
        let mut outcome = call.send(reply, call.destination());
        outcome.records.push(binding);
        outcome.with_events(vec![event])
    }

    fn handle_decline(&mut self, call: &Call<'_>) -> Outcome {
        let mac = call.request.chaddr;
        let declined = call
            .request
            .options
            .address(code::REQUESTED_ADDRESS)
            .and_then(|address| self.supply.quarantine(call.arrival.now, address, mac));
        if let Some(binding) = declined {
            let address = binding.address;
            self.log_refusal(
                call,
                &format!("found {address} in use by another machine; nobody gets it for a while"),
            );
        }
        let event = declined.map(|binding| EventKind::AddressConflict {
            address: binding.address,
            found_by: Some(mac),
            used_by: None,
        });
        Outcome {
            records: declined.into_iter().collect(),
            ..Outcome::default()
        }
        .with_events(event.into_iter().collect())
    }

    fn handle_release(&mut self, call: &Call<'_>) -> Outcome {
        let (mac, address) = (call.request.chaddr, call.request.ciaddr);
        let released = self.supply.release(call.arrival.now, address, mac);
        Outcome {
            records: released.into_iter().collect(),
            ..Outcome::default()
        }
    }

    /// RFC 2131 §4.3.5: everything but an address and times.
    fn handle_inform(call: &Call<'_>) -> Outcome {
        let address = call.request.ciaddr;
        if !call.subnet.network.contains(&address) {
            return Outcome::default();
        }
        let mut reply = answer::reply(call.request, MessageType::Ack, call.server_id);
        reply.ciaddr = address;
        call.fill(&mut reply, false);
        call.send(reply, SocketAddrV4::new(address, CLIENT_PORT))
    }

    /// Announces a PC that nobody registered. Machines that do not netboot are not announced.
    pub(crate) fn announce(
        &mut self,
        call: &Call<'_>,
        address: Option<Ipv4Addr>,
    ) -> Option<EventKind> {
        let mac = call.request.chaddr;
        let unknown = call.client.is_none() && call.requester.boots();
        (unknown && self.announced.is_first(mac, call.arrival.now)).then(|| {
            EventKind::UnknownClient {
                mac,
                architecture: call.requester.architecture,
                uuid: call.requester.uuid.clone(),
                address,
            }
        })
    }

    /// True if the client speaks of another network that shares our wire: RFC 2131 §4.3.2 wants
    /// a server to be silent that has no record of the client.
    fn is_of_elsewhere(&self, call: &Call<'_>, wanted: Ipv4Addr) -> bool {
        call.site.subnet_at(wanted).is_none()
            && self.supply.leases().by_mac(call.request.chaddr).is_none()
            && call.client.and_then(|client| client.address).is_none()
    }

    /// Says once a minute why a client is not offered its reserved address: what it is offered
    /// instead is not enough to boot from its disk.
    fn tell_of_taken_reservation(&mut self, call: &Call<'_>) {
        let Some(reserved) = call.client.and_then(|client| client.address) else {
            return;
        };
        let now = call.arrival.now;
        let mac = call.request.chaddr;
        let held = self.supply.leases().by_address(reserved);
        if let Some(&Binding { mac: holder, .. }) =
            held.filter(|held| held.is_live(now) && held.mac != mac)
        {
            self.complain(now, || {
                format!(
                    "{mac} cannot boot yet: its reserved address {reserved} is still used by \
                     {holder}; restart that machine, or wait until its lease ends"
                )
            });
        }
    }

    fn log_refusal(&mut self, call: &Call<'_>, text: &str) {
        let mac = call.request.chaddr;
        let now = call.arrival.now;
        if let Some(told) = self.refusals.record(now, &mac.to_string(), text) {
            tracing::warn!(
                client.mac = told.peer,
                count = told.count,
                "{mac} {}",
                told.reason
            );
        }
    }

    fn find_subnet(
        &mut self,
        site: &SiteIndex,
        arrival: Arrival<'_>,
        request: &Message,
    ) -> Option<usize> {
        if !request.giaddr.is_unspecified() {
            let found = site.subnet_at(request.giaddr);
            if found.is_none() {
                self.complain(arrival.now, || {
                    format!("relay agent {} is in no subnet of the site", request.giaddr)
                });
            }
            return found;
        }
        // A renewal comes by unicast, perhaps through a router: its address tells the subnet.
        if !request.ciaddr.is_unspecified()
            && let Some(at) = site.subnet_at(request.ciaddr)
        {
            return Some(at);
        }
        let found = local_subnet(site, arrival.local);
        if found.is_none() {
            self.complain(arrival.now, || {
                format!(
                    "no address of {} is in a subnet of the site",
                    arrival.interface
                )
            });
        }
        found
    }

    /// Logs a trouble once in a while; true if it did.
    fn complain(&mut self, now: Timestamp, text: impl FnOnce() -> String) -> bool {
        let text = text();
        let told = self.troubles.is_first(text.clone(), now);
        if told {
            tracing::warn!("{text}");
        }
        told
    }
}

impl Outcome {
    pub(crate) fn with_events(mut self, events: Vec<EventKind>) -> Self {
        self.events = events;
        self
    }
}

/// The subnet of an interface with these addresses.
fn local_subnet(site: &SiteIndex, local: &[Ipv4Addr]) -> Option<usize> {
    local.iter().find_map(|address| site.subnet_at(*address))
}

#[cfg(test)]
mod tests;
