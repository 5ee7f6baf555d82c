//! Any datagram decodes or is refused; what decodes survives a round trip.
#![no_main]

use dess_dhcp::{MESSAGE_BYTES_MAX, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let Ok(message) = Message::decode(datagram) else { return };
    let mut encoded = vec![0xa5];
    if message.encode(MESSAGE_BYTES_MAX, &mut encoded).is_err() {
        assert_eq!(encoded, [0xa5], "what does not fit leaves nothing behind");
        return;
    }
    let again = Message::decode(&encoded[1..]);
    assert_eq!(again.as_ref(), Ok(&message), "what we send, we can read");
});
