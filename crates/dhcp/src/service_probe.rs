//! The probe of this service: a DISCOVER that the server sends to itself.
//!
//! It goes the way of any other, over the socket, the codec and the site in force, and gets the offer that new firmware
//! would get. But it holds no address, leaves no lease, registers nobody and is answered where it came from, so that
//! nothing of it is on the wire. Anybody else who uses its MAC address is an ordinary client.

use dess_model::{DhcpMode, PROBE_MAC};

use crate::answer;
use crate::call::Call;
use crate::exchange::{Arrival, Exchange, Outcome};
use crate::message::{Message, MessageType};
use crate::proxy::boot_reply;
use crate::site::SiteIndex;

/// True for a request of the probe: it has the probe's MAC address and comes from the server itself.
pub(crate) fn is_probe(site: &SiteIndex, arrival: Arrival<'_>, request: &Message) -> bool {
    let sender = arrival.source.ip();
    let own = site.is_own(*sender) || arrival.local.contains(sender);
    request.chaddr == PROBE_MAC && own
}

impl Exchange {
    /// Answers a DISCOVER of the probe and nothing else. Without a free address the offer has none: that is no fault of
    /// the service.
    pub(crate) fn handle_service_probe(&self, call: &Call<'_>, kind: MessageType) -> Outcome {
        if kind != MessageType::Discover {
            return Outcome::default();
        }
        let reply = match call.subnet.mode {
            DhcpMode::Proxy => boot_reply(call, MessageType::Offer).0,
            DhcpMode::Server => {
                let mut reply = answer::reply(call.request, MessageType::Offer, call.server_id);
                if let Some(address) = self.supply.vacant(call.arrival.now, call) {
                    reply.yiaddr = address;
                }
                call.fill(&mut reply, true);
                reply
            }
        };
        call.send(reply, call.arrival.source)
    }
}
