//! The commands of this disk: codes, and what REPORT SUPPORTED OPERATION CODES tells of them.

use crate::Sense;
use crate::command::OpcodeQuery;

/// Operation codes (SPC-4 table E.2).
pub(crate) mod opcode {
    pub(crate) const TEST_UNIT_READY: u8 = 0x00;
    pub(crate) const REQUEST_SENSE: u8 = 0x03;
    pub(crate) const READ_6: u8 = 0x08;
    pub(crate) const WRITE_6: u8 = 0x0a;
    pub(crate) const INQUIRY: u8 = 0x12;
    pub(crate) const MODE_SELECT_6: u8 = 0x15;
    pub(crate) const RESERVE_6: u8 = 0x16;
    pub(crate) const RELEASE_6: u8 = 0x17;
    pub(crate) const MODE_SENSE_6: u8 = 0x1a;
    pub(crate) const START_STOP_UNIT: u8 = 0x1b;
    pub(crate) const PREVENT_ALLOW: u8 = 0x1e;
    pub(crate) const READ_CAPACITY_10: u8 = 0x25;
    pub(crate) const READ_10: u8 = 0x28;
    pub(crate) const WRITE_10: u8 = 0x2a;
    pub(crate) const WRITE_AND_VERIFY_10: u8 = 0x2e;
    pub(crate) const VERIFY_10: u8 = 0x2f;
    pub(crate) const PREFETCH_10: u8 = 0x34;
    pub(crate) const SYNCHRONIZE_CACHE_10: u8 = 0x35;
    pub(crate) const READ_DEFECT_DATA_10: u8 = 0x37;
    pub(crate) const WRITE_SAME_10: u8 = 0x41;
    pub(crate) const UNMAP: u8 = 0x42;
    pub(crate) const MODE_SELECT_10: u8 = 0x55;
    pub(crate) const MODE_SENSE_10: u8 = 0x5a;
    pub(crate) const PERSISTENT_RESERVE_IN: u8 = 0x5e;
    pub(crate) const PERSISTENT_RESERVE_OUT: u8 = 0x5f;
    pub(crate) const EXTENDED_COPY: u8 = 0x83;
    pub(crate) const RECEIVE_COPY_RESULTS: u8 = 0x84;
    pub(crate) const READ_16: u8 = 0x88;
    pub(crate) const COMPARE_AND_WRITE: u8 = 0x89;
    pub(crate) const WRITE_16: u8 = 0x8a;
    pub(crate) const OR_WRITE_16: u8 = 0x8b;
    pub(crate) const WRITE_AND_VERIFY_16: u8 = 0x8e;
    pub(crate) const VERIFY_16: u8 = 0x8f;
    pub(crate) const PREFETCH_16: u8 = 0x90;
    pub(crate) const SYNCHRONIZE_CACHE_16: u8 = 0x91;
    pub(crate) const WRITE_SAME_16: u8 = 0x93;
    pub(crate) const SERVICE_ACTION_IN_16: u8 = 0x9e;
    pub(crate) const REPORT_LUNS: u8 = 0xa0;
    pub(crate) const MAINTENANCE_IN: u8 = 0xa3;
    pub(crate) const READ_12: u8 = 0xa8;
    pub(crate) const WRITE_12: u8 = 0xaa;
    pub(crate) const WRITE_AND_VERIFY_12: u8 = 0xae;
    pub(crate) const VERIFY_12: u8 = 0xaf;
    pub(crate) const READ_DEFECT_DATA_12: u8 = 0xb7;
}

/// Service actions of the operation codes that have them.
pub(crate) mod service_action {
    pub(crate) const READ_CAPACITY_16: u8 = 0x10;
    pub(crate) const GET_LBA_STATUS: u8 = 0x12;
    pub(crate) const REPORT_SUPPORTED_OPCODES: u8 = 0x0c;
    pub(crate) const EXTENDED_COPY: u8 = 0x00;
    pub(crate) const COPY_STATUS: u8 = 0x00;
    pub(crate) const OPERATING_PARAMETERS: u8 = 0x03;
}

/// One supported command.
struct Supported {
    opcode: u8,
    service_action: Option<u8>,
    /// CDB USAGE DATA: a bit is set where the disk looks at it; byte 0 is the operation code.
    usage: &'static [u8],
}

const fn plain(usage: &'static [u8]) -> Supported {
    Supported {
        opcode: usage[0],
        service_action: None,
        usage,
    }
}

const fn action(service_action: u8, usage: &'static [u8]) -> Supported {
    Supported {
        opcode: usage[0],
        service_action: Some(service_action),
        usage,
    }
}

/// All commands of this disk in the order of their codes.
#[rustfmt::skip]
static SUPPORTED: &[Supported] = &[
    plain(&[0x00, 0, 0, 0, 0, 0]),
    plain(&[0x03, 0x01, 0, 0, 0xff, 0]),
    plain(&[0x08, 0x1f, 0xff, 0xff, 0xff, 0]),
    plain(&[0x0a, 0x1f, 0xff, 0xff, 0xff, 0]),
    plain(&[0x12, 0x01, 0xff, 0xff, 0xff, 0]),
    plain(&[0x15, 0x11, 0, 0, 0xff, 0]),
    plain(&[0x16, 0, 0, 0, 0, 0]),
    plain(&[0x17, 0, 0, 0, 0, 0]),
    plain(&[0x1a, 0x08, 0xff, 0xff, 0xff, 0]),
    plain(&[0x1b, 0x01, 0, 0x0f, 0xf7, 0]),
    plain(&[0x1e, 0, 0, 0, 0x03, 0]),
    plain(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    plain(&[0x28, 0xf8, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0]),
    plain(&[0x2a, 0xf8, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0]),
    plain(&[0x2e, 0xf6, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0]),
    plain(&[0x2f, 0xf6, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0]),
    plain(&[0x34, 0x02, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0]),
    plain(&[0x35, 0x02, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0]),
    plain(&[0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0]),
    plain(&[0x41, 0xf8, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0]),
    plain(&[0x42, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    plain(&[0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    plain(&[0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0]),
    action(0x00, &[0x5e, 0x00, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    action(0x01, &[0x5e, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    action(0x02, &[0x5e, 0x02, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    action(0x03, &[0x5e, 0x03, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    action(0x00, &[0x5f, 0x00, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    action(0x01, &[0x5f, 0x01, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    action(0x02, &[0x5f, 0x02, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    action(0x03, &[0x5f, 0x03, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    action(0x04, &[0x5f, 0x04, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    action(0x05, &[0x5f, 0x05, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    action(0x06, &[0x5f, 0x06, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    action(0x00, &[0x83, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    action(0x00, &[0x84, 0x00, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    action(0x03, &[0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    plain(&[0x88, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    plain(&[0x89, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0, 0]),
    plain(&[0x8a, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    plain(&[0x8b, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    plain(&[0x8e, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    plain(&[0x8f, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    plain(&[0x90, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    plain(&[0x91, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    plain(&[0x93, 0xf9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    action(0x10, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    action(0x12, &[0x9e, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    plain(&[0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    action(0x0c, &[0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    plain(&[0xa8, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    plain(&[0xaa, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    plain(&[0xae, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    plain(&[0xaf, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    plain(&[0xb7, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
];

/// The parameter data of REPORT SUPPORTED OPERATION CODES; UNMAP is there on a thin disk only.
pub(crate) fn report(query: &OpcodeQuery, thin: bool) -> Result<Vec<u8>, Sense> {
    match query.options {
        0 => Ok(report_all(query.timeouts, thin)),
        1..=3 => report_one(query, thin),
        _ => Err(Sense::cdb_field(2, Some(2))),
    }
}

fn supported(thin: bool) -> impl Iterator<Item = &'static Supported> {
    SUPPORTED
        .iter()
        .filter(move |one| thin || one.opcode != opcode::UNMAP)
}

fn report_all(timeouts: bool, thin: bool) -> Vec<u8> {
    let mut data = vec![0; 4];
    for command in supported(thin) {
        let mut flags = u8::from(command.service_action.is_some());
        if timeouts {
            flags |= 0x02;
        }
        let action = command.service_action.unwrap_or(0);
        // CDBs have at most 16 bytes.
        let length = command.usage.len() as u8;
        data.extend_from_slice(&[command.opcode, 0, 0, action, 0, flags, 0, length]);
        if timeouts {
            data.extend_from_slice(&TIMEOUTS);
        }
    }
    let length = u32::try_from(data.len() - 4).unwrap_or(u32::MAX);
    data[..4].copy_from_slice(&length.to_be_bytes());
    data
}

fn report_one(query: &OpcodeQuery, thin: bool) -> Result<Vec<u8>, Sense> {
    let mut same_opcode = supported(thin)
        .filter(|one| one.opcode == query.opcode)
        .peekable();
    let has_actions = same_opcode
        .peek()
        .is_some_and(|one| one.service_action.is_some());
    let known = same_opcode.peek().is_some();
    // Option 1 must name a command without service actions, option 2 one with them.
    if known && ((query.options == 1 && has_actions) || (query.options == 2 && !has_actions)) {
        return Err(Sense::cdb_field(2, Some(2)));
    }
    let found = same_opcode.find(|one| match one.service_action {
        Some(action) => u16::from(action) == query.service_action,
        None => query.options == 1 || query.service_action == 0,
    });
    let Some(found) = found else {
        return Ok(vec![0, 0x01, 0, 0]);
    };
    let mut data = vec![0, 0x03, 0, found.usage.len() as u8];
    if query.timeouts {
        data[1] |= 0x80;
    }
    data.extend_from_slice(found.usage);
    if query.timeouts {
        data.extend_from_slice(&TIMEOUTS);
    }
    Ok(data)
}

/// Command timeouts descriptor: no timeouts are stated (SPC-4 §6.35.4).
const TIMEOUTS: [u8; 12] = [0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
