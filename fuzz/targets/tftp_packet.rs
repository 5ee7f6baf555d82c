//! Any datagram decodes or is refused; what decodes survives a round trip.
#![no_main]

use dess_tftp::Packet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let Ok(packet) = Packet::decode(datagram) else { return };
    let mut encoded = Vec::new();
    packet.encode(&mut encoded);
    assert_eq!(Packet::decode(&encoded), Ok(packet), "what we send, we can read");
});
