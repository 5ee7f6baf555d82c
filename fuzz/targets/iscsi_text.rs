//! Login text of a peer: pairs, numbers and binary values.
#![no_main]

use dess_iscsi::text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(pairs) = text::parse(bytes) else { return };
    let mut written = Vec::new();
    for (key, value) in &pairs {
        let _ = text::number(value);
        if let Ok(binary) = text::decode_binary(value) {
            let again = text::decode_binary(&text::encode_hex(&binary));
            assert_eq!(again.as_ref(), Ok(&binary), "what we send, we can read");
        }
        text::push(&mut written, key, value);
    }
    assert_eq!(text::parse(&written), Ok(pairs), "what we send, we can read");
});
