use super::*;
use proptest::prelude::*;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 0x10]);

fn message() -> Message {
    let mut options = Options::default();
    options.set_address(code::SERVER_IDENTIFIER, Ipv4Addr::new(10, 77, 0, 1));
    Message {
        op: Operation::Reply,
        message_type: Some(MessageType::Offer),
        hops: 1,
        xid: 0x0123_4567,
        secs: 9,
        broadcast: true,
        ciaddr: Ipv4Addr::new(10, 77, 0, 2),
        yiaddr: Ipv4Addr::new(10, 77, 0, 3),
        siaddr: Ipv4Addr::new(10, 77, 0, 4),
        giaddr: Ipv4Addr::new(10, 77, 0, 5),
        chaddr: MAC,
        sname: b"server".to_vec(),
        file: b"undionly.kpxe".to_vec(),
        options,
    }
}

fn encoded(message: &Message, limit: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(limit, &mut bytes).unwrap();
    bytes
}

/// A request of just a header and these raw options.
fn request(options: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..3].copy_from_slice(&[1, 1, 6]);
    bytes[28..34].copy_from_slice(&MAC.0);
    bytes[236..240].copy_from_slice(&COOKIE);
    bytes.extend_from_slice(options);
    bytes
}

fn value(datagram: &[u8], code: u8) -> Option<Vec<u8>> {
    let message = Message::decode(datagram).unwrap();
    message.options.value(code).map(<[u8]>::to_vec)
}

#[test]
fn every_field_comes_back_as_sent() {
    let message = message();
    assert_eq!(Message::decode(&encoded(&message, 548)), Ok(message));
}

#[test]
fn a_short_message_is_padded_with_zeros_whatever_the_buffer_held() {
    let message = message();
    let clean = encoded(&message, 548);
    assert_eq!(clean.len(), MESSAGE_BYTES_MIN);
    let mut dirty = Vec::with_capacity(2048);
    dirty.resize(2048, 0xff_u8);
    dirty.truncate(7);
    message.encode(548, &mut dirty).unwrap();
    assert_eq!(dirty[..7], [0xff; 7]);
    assert_eq!(dirty[7..], clean);
}

#[test]
fn the_wire_form_is_the_rfcs() {
    let bytes = encoded(&message(), 548);
    assert_eq!(
        bytes[..12],
        [2, 1, 6, 1, 0x01, 0x23, 0x45, 0x67, 0, 9, 0x80, 0]
    );
    assert_eq!(bytes[28..34], MAC.0);
    assert_eq!(bytes[44..51], *b"server\0");
    assert_eq!(bytes[108..122], *b"undionly.kpxe\0");
    assert_eq!(
        bytes[236..252],
        [99, 130, 83, 99, 53, 1, 2, 54, 4, 10, 77, 0, 1, 255, 0, 0]
    );
}

#[test]
fn options_in_several_instances_are_one_value() {
    let datagram = request(&[43, 2, 1, 2, 12, 1, b'a', 43, 1, 3, 255, 43, 1, 9]);
    assert_eq!(value(&datagram, 43), Some(vec![1, 2, 3]));
    assert_eq!(value(&datagram, 12), Some(b"a".to_vec()));
}

#[test]
fn overloaded_fields_are_read_after_the_options_field_file_first() {
    let mut datagram = request(&[52, 1, 3, 43, 1, 1, 255]);
    datagram[44..51].copy_from_slice(&[43, 1, 3, 66, 1, b's', 255]);
    datagram[108..115].copy_from_slice(&[43, 1, 2, 67, 1, b'f', 255]);
    assert_eq!(value(&datagram, 43), Some(vec![1, 2, 3]));
    assert_eq!(value(&datagram, 66), Some(b"s".to_vec()));
    assert_eq!(value(&datagram, 67), Some(b"f".to_vec()));
    let message = Message::decode(&datagram).unwrap();
    assert_eq!((message.file, message.sname), (vec![], vec![]));
    assert!(!message.options.contains(code::OVERLOAD));
}

#[test]
fn long_options_are_split_and_what_does_not_fit_goes_to_free_fields() {
    let mut message = message();
    message.file.clear();
    message.sname.clear();
    message.options.set(200, vec![7; 300]);
    let bytes = encoded(&message, 1472);
    assert_eq!(Message::decode(&bytes), Ok(message.clone()));
    message.options.set(200, vec![7; 280]);
    message.options.set(201, vec![8; 100]);
    message.options.set(202, vec![9; 50]);
    message.options.set(code::RELAY_AGENT, vec![1, 2, 3]);
    let bytes = encoded(&message, 548);
    assert!(bytes.len() <= 548);
    let read = Message::decode(&bytes).unwrap();
    for code in [54, 82, 200, 201, 202] {
        assert_eq!(
            read.options.value(code),
            message.options.value(code),
            "{code}"
        );
    }
    assert!(bytes.ends_with(&[82, 3, 1, 2, 3, 255]));
}

#[test]
fn relay_information_is_last_and_unchanged() {
    let mut message = message();
    let information: Vec<u8> = (0..=255).chain(0..44).map(|n: u16| n as u8).collect();
    message.options.set(code::RELAY_AGENT, information.clone());
    message.options.set(code::BOOT_FILE_NAME, *b"x");
    let bytes = encoded(&message, 1472);
    assert_eq!(value(&bytes, 82), Some(information));
    // 300 bytes are 255 and 45; then END.
    let last = bytes.len() - 1 - 45 - 2;
    assert_eq!(bytes[last..last + 2], [82, 45]);
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_the_buffer_alone() {
    let mut message = message();
    message.options.set(200, vec![7; 400]);
    let mut bytes = vec![1, 2, 3];
    assert_eq!(message.encode(548, &mut bytes), Err(TooLong { limit: 548 }));
    assert_eq!(message.encode(10, &mut bytes), Err(TooLong { limit: 10 }));
    assert_eq!(bytes, [1, 2, 3]);
}

#[test]
fn the_clients_limit_is_honoured_within_reason() {
    let limit = |options: &[u8]| Message::decode(&request(options)).unwrap().reply_limit();
    assert_eq!(limit(&[255]), 548);
    assert_eq!(limit(&[57, 2, 0, 0, 255]), 548);
    assert_eq!(limit(&[57, 2, 0x04, 0xec, 255]), 1232);
    assert_eq!(limit(&[57, 2, 0xff, 0xff, 255]), 1472);
    assert_eq!(limit(&[57, 1, 9, 255]), 548);
}

#[test]
fn every_kind_of_damage_has_its_error() {
    let good = request(&[53, 1, 1, 255]);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Message::decode(&bytes).unwrap_err()
    };
    assert_eq!(with(0, 3), DecodeError::Operation(3));
    assert_eq!(with(1, 6), DecodeError::Hardware { htype: 6, hlen: 6 });
    assert_eq!(
        with(2, 255),
        DecodeError::Hardware {
            htype: 1,
            hlen: 255
        }
    );
    assert_eq!(with(28, 0x53), DecodeError::GroupAddress);
    assert_eq!(with(236, 0), DecodeError::Cookie);
    assert_eq!(with(242, 9), DecodeError::MessageType(9));
    assert_eq!(
        with(241, 2),
        DecodeError::Length {
            code: 53,
            length: 2
        }
    );
    assert_eq!(with(241, 200), DecodeError::Truncated { code: 53 });
    let cut = Message::decode(&good[..241]).unwrap_err();
    assert_eq!(cut, DecodeError::Truncated { code: 53 });
    let short = Message::decode(&good[..239]).unwrap_err();
    assert_eq!(short, DecodeError::Short { length: 239 });
    let overload = Message::decode(&request(&[52, 0, 255])).unwrap_err();
    assert_eq!(
        overload,
        DecodeError::Length {
            code: 52,
            length: 0
        }
    );
}

fn arbitrary_options() -> impl Strategy<Value = Options> {
    let option = (1_u8..255, prop::collection::vec(any::<u8>(), 0..300));
    prop::collection::vec(option, 0..5).prop_map(|list| {
        let mut options = Options::default();
        for (code, value) in list {
            if code != code::MESSAGE_TYPE {
                options.set(code, value);
            }
        }
        options
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_what_decodes_encodes_to_the_same(
        mut bytes in prop::collection::vec(any::<u8>(), 0..700),
        framed in any::<bool>(),
    ) {
        if framed && bytes.len() >= HEADER_BYTES {
            bytes[0] = 1 + bytes[0] % 2;
            bytes[1..3].copy_from_slice(&[1, 6]);
            bytes[28] &= 0xfe;
            bytes[236..240].copy_from_slice(&COOKIE);
        }
        if let Ok(mut message) = Message::decode(&bytes) {
            message.file.truncate(FILE_BYTES - 1);
            message.sname.truncate(SNAME_BYTES - 1);
            let mut again = Vec::new();
            message.encode(4096, &mut again).unwrap();
            let mut read = Message::decode(&again).unwrap();
            // Option 82 moves to the end.
            if let Some(value) = message.options.value(82).map(<[u8]>::to_vec) {
                message.options.remove(82);
                message.options.set(82, value);
            }
            prop_assert_eq!(&mut read, &mut message);
        }
    }

    #[test]
    fn whatever_options_fit_into_a_limit_are_read_back(
        options in arbitrary_options(),
        limit in 300_usize..1472,
        named in any::<bool>(),
    ) {
        let mut message = message();
        message.options = options;
        if !named {
            message.file.clear();
            message.sname.clear();
        }
        let mut bytes = Vec::new();
        if message.encode(limit, &mut bytes).is_ok() {
            prop_assert!(bytes.len() <= limit.max(MESSAGE_BYTES_MIN));
            let read = Message::decode(&bytes).unwrap();
            for (code, value) in message.options.iter() {
                prop_assert_eq!(read.options.value(code), Some(value));
            }
            prop_assert_eq!(read.options.iter().count(), message.options.iter().count());
        }
    }
}

/// The crate dhcproto as a second opinion, on what it is known to read right (single-instance
/// options of plain bytes).
#[test]
fn dhcproto_reads_what_we_write_and_we_read_what_it_writes() {
    use dhcproto::v4::{self, Decodable, Decoder, Encodable, OptionCode};
    let mut message = message();
    message.options.set(code::VENDOR_SPECIFIC, [6, 1, 8, 255]);
    message.options.set(code::VENDOR_CLASS, *b"PXEClient");
    message.options.set_u32(code::LEASE_TIME, 3600);
    let mut id = vec![0];
    id.extend(1..=16);
    message.options.set(code::MACHINE_IDENTIFIER, id);
    message.options.set(code::RELAY_AGENT, [1, 2, b'e', b'0']);
    let theirs = v4::Message::decode(&mut Decoder::new(&encoded(&message, 548))).unwrap();
    assert_eq!(theirs.xid(), message.xid);
    assert_eq!(theirs.yiaddr(), message.yiaddr);
    assert!(theirs.fname().unwrap().starts_with(b"undionly.kpxe\0"));
    assert_eq!(theirs.opts().msg_type(), Some(v4::MessageType::Offer));
    let lease = theirs.opts().get(OptionCode::AddressLeaseTime);
    assert_eq!(lease, Some(&v4::DhcpOption::AddressLeaseTime(3600)));
    let ours = Message::decode(&theirs.to_vec().unwrap()).unwrap();
    for (code, value) in message.options.iter() {
        assert_eq!(ours.options.value(code), Some(value), "option {code}");
    }
}
