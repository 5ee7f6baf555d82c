use proptest::prelude::*;

use super::*;

/// Decoding what was encoded from a decoded header gives the same value.
macro_rules! round_trip {
    ($header:expr, $type:ty, $($length:expr)?) => {
        if let Ok(first) = <$type>::decode(&$header) {
            let again = first.encode($($length)?);
            prop_assert_eq!(<$type>::decode(&again), Ok(first));
        }
    };
}

fn any_header() -> impl Strategy<Value = Header> {
    (
        proptest::array::uniform32(any::<u8>()),
        proptest::array::uniform16(any::<u8>()),
    )
        .prop_map(|(first, second)| {
            let mut header = [0; HEADER_BYTES];
            header[..32].copy_from_slice(&first);
            header[32..].copy_from_slice(&second);
            header
        })
}

proptest! {
    #[test]
    fn every_decodable_header_survives_a_round_trip(mut header in any_header(), opcode in 0u8..0x40) {
        header[0] = header[0] & 0xc0 | opcode;
        round_trip!(header, NopOut, 0);
        round_trip!(header, NopIn, 0);
        round_trip!(header, ScsiRequest, 0);
        round_trip!(header, ScsiResponsePdu, 0);
        round_trip!(header, DataOut, 0);
        round_trip!(header, DataIn, 0);
        round_trip!(header, ReadyToTransfer,);
        round_trip!(header, TaskRequest,);
        round_trip!(header, TaskResponse,);
        round_trip!(header, LoginRequest, 0);
        round_trip!(header, LoginResponse, 0);
        round_trip!(header, TextRequest, 0);
        round_trip!(header, TextResponse, 0);
        round_trip!(header, LogoutRequest,);
        round_trip!(header, LogoutResponse,);
        round_trip!(header, SnackRequest,);
        round_trip!(header, Reject, 0);
        round_trip!(header, AsyncMessage, 0);
    }

    #[test]
    fn short_input_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..HEADER_BYTES)) {
        prop_assert_eq!(Request::decode(&bytes), Err(DecodeError::Short { length: bytes.len() }));
    }
}

#[test]
fn lengths_are_read_from_their_fields() {
    let mut header = [0; HEADER_BYTES];
    header[4..8].copy_from_slice(&[255, 0x01, 0x02, 0x03]);
    let segments = Segments::of(&header);
    assert_eq!(
        segments,
        Segments {
            ahs_bytes: 1020,
            data_bytes: 0x010203
        }
    );
    assert_eq!([0, 1, 2, 3, 4].map(padding), [0, 3, 2, 1, 0]);
}

#[test]
fn residuals_follow_the_table_of_the_rfc() {
    assert_eq!(Residual::between(512, 512), Residual::None);
    assert_eq!(Residual::between(512, 1024), Residual::Overflow(512));
    assert_eq!(Residual::between(1024, 512), Residual::Underflow(512));
    assert_eq!(Residual::between(0, 512), Residual::Overflow(512));
    assert_eq!(Residual::between(0, 1 << 40), Residual::Overflow(u32::MAX));
    assert_eq!(
        Residual::between(u32::MAX, 0),
        Residual::Underflow(u32::MAX)
    );
}

#[test]
fn data_in_with_status_sits_at_the_offsets_of_the_rfc() {
    let header = DataIn {
        last: true,
        status: Some(DataInStatus {
            status: 0,
            residual: Residual::Underflow(0x0a0b),
        }),
        itt: 0x01020304,
        sequence: Sequence {
            stat_sn: 5,
            exp_cmd_sn: 6,
            max_cmd_sn: 7,
        },
        data_sn: 8,
        buffer_offset: 9,
    }
    .encode(0x000203);
    assert_eq!(header[..8], [0x25, 0x83, 0, 0, 0, 0, 2, 3]);
    assert_eq!(header[16..24], [1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(header[24..36], [0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 7]);
    assert_eq!(header[36..48], [0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0x0a, 0x0b]);
}
