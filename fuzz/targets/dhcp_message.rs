//! Any datagram decodes or is refused; what decodes survives a round trip.
#![no_main]

use dess_dhcp::Message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let Ok(message) = Message::decode(datagram) else { return };
    let encoded = message.encode();
    let again = Message::decode(&encoded);
    assert_eq!(again.as_ref(), Ok(&message), "what we send, we can read");
});
