//! ProxyDHCP (PXE 2.1 §2.2): boot information beside another server that gives the addresses.
//!
//! Offers carry no address and are marked `PXEClient`; who does not netboot gets no answer. The
//! boot file is already in the offer (iPXE and most ROMs take it from there); ROMs that ask again
//! do so on port 4011, or on port 67 naming us in option 54.

use dess_model::{DhcpPhase, EventKind};

use crate::answer;
use crate::call::Call;
use crate::exchange::{Exchange, Outcome};
use crate::message::{Message, MessageType};
use crate::option::code;
use crate::phase::BootClass;

impl Exchange {
    /// A datagram to port 67 on a subnet where another server gives the addresses.
    pub(crate) fn handle_as_proxy(&mut self, call: &Call<'_>, kind: MessageType) -> Outcome {
        let selected = call.request.options.address(code::SERVER_IDENTIFIER);
        match kind {
            MessageType::Discover => self.offer_boot(call),
            MessageType::Request if selected.is_some_and(|server| call.is_ours(server)) => {
                self.handle_boot_request(call, kind)
            }
            MessageType::Request => overheard_request(call),
            MessageType::Inform
            | MessageType::Decline
            | MessageType::Release
            | MessageType::Offer
            | MessageType::Ack
            | MessageType::Nak => Outcome::default(),
        }
    }

    /// A request for boot information alone: port 4011 in any mode.
    pub(crate) fn handle_boot_request(&mut self, call: &Call<'_>, kind: MessageType) -> Outcome {
        let asks = matches!(
            kind,
            MessageType::Request | MessageType::Inform | MessageType::Discover
        );
        let selected = call.request.options.address(code::SERVER_IDENTIFIER);
        let ours = selected.is_none_or(|server| call.is_ours(server));
        if !asks || !ours || !is_boot_client(call) {
            return Outcome::default();
        }
        let (reply, _) = boot_reply(call, MessageType::Ack);
        let event = EventKind::DhcpAck {
            mac: call.request.chaddr,
            phase: call.requester.phase,
            address: None,
            renewal: false,
        };
        call.send(reply, call.destination())
            .with_events(vec![event])
    }

    fn offer_boot(&mut self, call: &Call<'_>) -> Outcome {
        if !is_boot_client(call) {
            return Outcome::default();
        }
        let (reply, boot_file) = boot_reply(call, MessageType::Offer);
        let mut events = Vec::new();
        events.extend(self.announce(call, None));
        events.push(EventKind::DhcpOffer {
            mac: call.request.chaddr,
            phase: call.requester.phase,
            address: None,
            architecture: call.requester.architecture,
            boot_file,
        });
        call.send(reply, call.destination()).with_events(events)
    }
}

/// The client takes the address of the site's own server. That a registered client's system does
/// so tells that it is up; nothing is answered.
fn overheard_request(call: &Call<'_>) -> Outcome {
    if call.client.is_none() || call.requester.boots() {
        return Outcome::default();
    }
    let event = EventKind::DhcpAck {
        mac: call.request.chaddr,
        phase: DhcpPhase::Os,
        address: None,
        renewal: !call.request.ciaddr.is_unspecified(),
    };
    Outcome::default().with_events(vec![event])
}

/// UEFI's iSCSI initiator takes no proxy offers: its root path must come with its address.
fn is_boot_client(call: &Call<'_>) -> bool {
    match call.requester.phase {
        DhcpPhase::Ipxe => true,
        DhcpPhase::Firmware => call.requester.class != Some(BootClass::Iscsi),
        DhcpPhase::Os => false,
    }
}

pub(crate) fn boot_reply(call: &Call<'_>, kind: MessageType) -> (Message, Option<String>) {
    let mut reply = answer::reply(call.request, kind, call.server_id);
    if kind == MessageType::Ack {
        reply.ciaddr = call.request.ciaddr;
    }
    let boot_file = answer::add_boot(&mut reply, call.subject());
    // iPXE, too, knows a proxy's offer by this mark.
    if !reply.options.contains(code::VENDOR_CLASS) {
        reply.options.set(code::VENDOR_CLASS, *b"PXEClient");
    }
    answer::add_machine_echo(&mut reply, call.request);
    (reply, boot_file)
}
