//! Any datagram decodes or is refused; what decodes survives a round trip.
#![no_main]

use std::collections::BTreeMap;

use dess_dhcp::{MESSAGE_BYTES_MAX, Message, Options};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let Ok(message) = Message::decode(datagram) else { return };
    let mut encoded = vec![0xa5];
    if message.encode(MESSAGE_BYTES_MAX, &mut encoded).is_err() {
        assert_eq!(encoded, [0xa5], "what does not fit leaves nothing behind");
        return;
    }
    let again = Message::decode(&encoded[1..]).expect("what we send, we can read");
    assert_eq!(sorted(again), sorted(message), "nothing is lost or changed on the way");
});

/// Options may change places: option 82 goes last, others where they fit. Nothing else may.
fn sorted(mut message: Message) -> (Message, BTreeMap<u8, Vec<u8>>) {
    let options = message.options.iter().map(|(code, value)| (code, value.to_vec())).collect();
    message.options = Options::default();
    (message, options)
}
