//! INQUIRY: standard data (SPC-4 §6.6.2) and VPD pages (SPC-4 §7.8, SBC-3 §6.6).

use crate::copy;
use crate::{BLOCK_LIMITS, LogicalUnit, Sense};

/// T10 VENDOR IDENTIFICATION.
const VENDOR: &[u8; 8] = b"DESS    ";
/// PRODUCT IDENTIFICATION.
const PRODUCT: &[u8; 16] = b"DISK            ";
/// PRODUCT REVISION LEVEL. Part of the Windows hardware id: never follows the release.
const REVISION: &[u8; 4] = b"1   ";

/// SAM-5, SPC-4, SBC-3 and iSCSI (SPC-4 table 144).
const VERSION_DESCRIPTORS: [u16; 4] = [0x00a0, 0x0460, 0x04c0, 0x0960];

mod page {
    pub(super) const SUPPORTED: u8 = 0x00;
    pub(super) const SERIAL: u8 = 0x80;
    pub(super) const IDENTIFICATION: u8 = 0x83;
    pub(super) const THIRD_PARTY_COPY: u8 = 0x8f;
    pub(super) const BLOCK_LIMITS: u8 = 0xb0;
    pub(super) const CHARACTERISTICS: u8 = 0xb1;
    pub(super) const PROVISIONING: u8 = 0xb2;
    pub(super) const ALL: [u8; 7] = [
        SUPPORTED,
        SERIAL,
        IDENTIFICATION,
        THIRD_PARTY_COPY,
        BLOCK_LIMITS,
        CHARACTERISTICS,
        PROVISIONING,
    ];
}

/// Standard INQUIRY data of the disk.
pub(crate) fn standard() -> Vec<u8> {
    let mut data = vec![0; 74];
    data[2] = 0x06; // SPC-4
    data[3] = 0x12; // HISUP, response data format 2
    data[4] = 69; // bytes that follow
    data[5] = 0x08; // 3PC
    data[7] = 0x02; // CMDQUE
    data[8..16].copy_from_slice(VENDOR);
    data[16..32].copy_from_slice(PRODUCT);
    data[32..36].copy_from_slice(REVISION);
    for (slot, descriptor) in data[58..66].chunks_exact_mut(2).zip(VERSION_DESCRIPTORS) {
        slot.copy_from_slice(&descriptor.to_be_bytes());
    }
    data
}

/// Standard INQUIRY data of a logical unit that does not exist: qualifier 3, type unknown.
pub(crate) fn absent() -> Vec<u8> {
    let mut data = standard();
    data[0] = 0x7f;
    data
}

/// One VPD page.
pub(crate) fn vital_product_data(unit: &LogicalUnit, code: u8) -> Result<Vec<u8>, Sense> {
    let body = match code {
        page::SUPPORTED => page::ALL.to_vec(),
        page::SERIAL => unit.serial.as_bytes().to_vec(),
        page::IDENTIFICATION => identification(unit),
        page::THIRD_PARTY_COPY => copy::vital_product_data(),
        page::BLOCK_LIMITS => block_limits(unit),
        page::CHARACTERISTICS => characteristics(),
        page::PROVISIONING => provisioning(unit),
        _ => return Err(Sense::cdb_field(2, None)),
    };
    // The longest is page 0x83: under 400 bytes, as names are (RFC 7143 §4.2.7.1: 223).
    let length = body.len() as u16;
    let mut data = vec![0, code];
    data.extend_from_slice(&length.to_be_bytes());
    data.extend_from_slice(&body);
    Ok(data)
}

fn identification(unit: &LogicalUnit) -> Vec<u8> {
    let mut body = Vec::new();
    // Of the logical unit: NAA first, as initiators take the first good one.
    push_designator(&mut body, 0x01, 0x03, &unit.naa.to_be_bytes());
    let mut vendor_id = VENDOR.to_vec();
    vendor_id.extend_from_slice(unit.serial.as_bytes());
    push_designator(&mut body, 0x02, 0x01, &vendor_id);
    // Of the target port: relative port 1, portal group 1, SCSI name string.
    push_designator(&mut body, 0x51, 0x94, &[0, 0, 0, 1]);
    push_designator(&mut body, 0x51, 0x95, &[0, 0, 0, 1]);
    let mut name = format!("{},t,0x0001", unit.target_name).into_bytes();
    name.truncate(251);
    name.resize((name.len() + 1).next_multiple_of(4), 0);
    push_designator(&mut body, 0x53, 0x98, &name);
    body
}

/// One designation descriptor: `protocol_and_codes` and `kind` are its first two bytes
/// (SPC-4 §7.8.6.1).
fn push_designator(body: &mut Vec<u8>, protocol_and_codes: u8, kind: u8, value: &[u8]) {
    // Values are cut to 256 bytes by the caller.
    body.extend_from_slice(&[protocol_and_codes, kind, 0, value.len() as u8]);
    body.extend_from_slice(value);
}

fn block_limits(unit: &LogicalUnit) -> Vec<u8> {
    let limits = BLOCK_LIMITS;
    let mut body = vec![0; 60];
    body[0] = 0x01; // WSNZ
    body[1] = limits.compare_and_write_blocks_max;
    body[2..4].copy_from_slice(&(1_u16 << crate::GRANULARITY_EXPONENT).to_be_bytes());
    body[4..8].copy_from_slice(&limits.transfer_blocks_max.to_be_bytes());
    body[8..12].copy_from_slice(&limits.transfer_blocks_optimal.to_be_bytes());
    if unit.thin {
        body[16..20].copy_from_slice(&limits.unmap_blocks_max.to_be_bytes());
        body[20..24].copy_from_slice(&limits.unmap_descriptors_max.to_be_bytes());
        body[24..28].copy_from_slice(&(1_u32 << crate::GRANULARITY_EXPONENT).to_be_bytes());
        body[28] = 0x80; // UGAVALID, alignment 0
    }
    body[32..40].copy_from_slice(&limits.write_same_blocks_max.to_be_bytes());
    body
}

fn characteristics() -> Vec<u8> {
    let mut body = vec![0; 60];
    body[1] = 0x01; // medium does not rotate
    body
}

fn provisioning(unit: &LogicalUnit) -> Vec<u8> {
    if unit.thin {
        // LBPU, LBPWS, LBPWS10, LBPRZ; thin
        vec![0, 0xe4, 0x02, 0]
    } else {
        vec![0; 4]
    }
}
