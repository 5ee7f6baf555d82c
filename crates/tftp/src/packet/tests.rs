use super::*;
use proptest::prelude::*;

/// EDK2's first request (size probe), as OVMF sends it.
const EDK2_PROBE: &[u8] =
    b"\x00\x01snponly.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0";

#[test]
fn a_firmware_request_is_read() {
    let Packet::ReadRequest(request) = Packet::decode(EDK2_PROBE).unwrap() else {
        panic!("not a read request");
    };
    assert_eq!(request.file, "snponly.efi");
    assert_eq!(request.mode, Mode::Octet);
    let options = [("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")];
    assert_eq!(request.options, options);
}

#[test]
fn mode_names_are_read_in_any_case_and_mail_is_refused() {
    for (mode, expected) in [
        (&b"OCTET"[..], Ok(Mode::Octet)),
        (b"NetASCII", Ok(Mode::Netascii)),
        (b"mail", Err(DecodeError::UnknownMode)),
    ] {
        let datagram = [b"\0\x01f\0", mode, b"\0"].concat();
        let read = Packet::decode(&datagram).map(|packet| match packet {
            Packet::ReadRequest(request) => request.mode,
            other => panic!("{other:?}"),
        });
        assert_eq!(read, expected);
    }
}

#[test]
fn padding_and_a_missing_final_zero_of_odd_firmware_are_tolerated() {
    let padded = [EDK2_PROBE, &[0; 40]].concat();
    assert_eq!(Packet::decode(&padded), Packet::decode(EDK2_PROBE));
    let cut = &EDK2_PROBE[..EDK2_PROBE.len() - 1];
    assert_eq!(Packet::decode(cut), Packet::decode(EDK2_PROBE));
    assert_eq!(
        Packet::decode(b"\0\x04\0\x07\0\0\0\0"),
        Ok(Packet::Ack { block: 7 })
    );
}

#[test]
fn nonsense_is_an_error_with_its_reason() {
    for (datagram, error) in [
        (&b""[..], DecodeError::Truncated(0)),
        (b"\0", DecodeError::Truncated(1)),
        (b"\0\x04\0", DecodeError::Truncated(3)),
        (b"\0\x09\0\0", DecodeError::UnknownOperation(9)),
        (b"\0\x01", DecodeError::Truncated(0)),
        (b"\0\x01name", DecodeError::Truncated(4)),
        (b"\0\x01\0octet\0", DecodeError::NoFileName),
        (b"\0\x01\xff\xfe\0octet\0", DecodeError::NotText),
    ] {
        assert_eq!(Packet::decode(datagram), Err(error), "{datagram:?}");
    }
    let long = [&b"\0\x01"[..], &[b'a'; 600], b"\0octet\0"].concat();
    assert_eq!(Packet::decode(&long), Err(DecodeError::TooLong(long.len())));
}

#[test]
fn an_error_ends_a_transfer_even_without_a_readable_message() {
    for datagram in [
        &b"\0\x05\0\x08"[..],
        b"\0\x05\0\x08\xff\xff\0",
        b"\0\x05\0\x08\0",
    ] {
        assert_eq!(
            Packet::decode(datagram),
            Ok(Packet::Error {
                code: ErrorCode::OptionRefused,
                message: ""
            })
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic_and_read_the_same_again(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        operation in 0u8..8,
    ) {
        let datagram = [&[0, operation][..], &bytes].concat();
        for input in [&bytes, &datagram] {
            if let Ok(packet) = Packet::decode(input) {
                let encoded = packet.to_vec();
                prop_assert_eq!(encoded.len(), packet.encoded_len());
                prop_assert_eq!(Packet::decode(&encoded), Ok(packet));
            }
        }
    }

    #[test]
    fn requests_survive_the_round_trip(
        file in "[a-z/.]{1,40}",
        options in proptest::collection::vec(("[a-zA-Z]{1,10}", "[0-9]{0,6}"), 0..8),
        write in any::<bool>(),
    ) {
        let options = options.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let request = Request { file: &file, mode: Mode::Netascii, options };
        let packet = if write { Packet::WriteRequest(request) } else { Packet::ReadRequest(request) };
        let mut buffer = b"dirty".to_vec();
        packet.encode(&mut buffer);
        prop_assert_eq!(Packet::decode(&buffer[5..]), Ok(packet));
    }
}
