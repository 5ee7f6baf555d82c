//! Mode pages (SPC-4 §7.5, SBC-3 §6.5): error recovery, caching, control, informational exceptions.

use crate::command::{ModeForm, ModeSelect, ModeSense};
use crate::field::u16_at;
use crate::{LOGICAL_BLOCK_BYTES, LogicalUnit, Sense};

/// What MODE SELECT may change. Shared by all initiators of a logical unit, lost with the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ModeState {
    /// D_SENSE: sense data in descriptor format.
    pub descriptor_sense: bool,
    /// SWP: the initiator write-protected the disk by itself.
    pub software_write_protect: bool,
}

const ERROR_RECOVERY: u8 = 0x01;
const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0a;
const EXCEPTIONS: u8 = 0x1c;
const ALL_PAGES: u8 = 0x3f;
/// In the order of their codes.
const PAGES: [u8; 4] = [ERROR_RECOVERY, CACHING, CONTROL, EXCEPTIONS];

/// Bits of the control page that may be changed, by byte of the page.
const D_SENSE: (usize, u8) = (2, 0x04);
const SWP: (usize, u8) = (4, 0x08);

/// The answer to MODE SENSE.
pub(crate) fn sense(
    unit: &LogicalUnit,
    state: &ModeState,
    query: &ModeSense,
) -> Result<Vec<u8>, Sense> {
    if query.control == 3 {
        return Err(Sense::SAVING_NOT_SUPPORTED);
    }
    if query.subpage != 0 && !(query.page == ALL_PAGES && query.subpage == 0xff) {
        return Err(Sense::cdb_field(3, None));
    }
    let mut pages = Vec::new();
    for code in PAGES {
        if query.page == code || query.page == ALL_PAGES {
            pages.extend_from_slice(&selected_page(code, state, query.control));
        }
    }
    if pages.is_empty() {
        return Err(Sense::cdb_field(2, Some(5)));
    }
    let descriptor = match (query.no_block_descriptor, query.long_lba) {
        (true, _) => Vec::new(),
        (false, true) => long_block_descriptor(unit),
        (false, false) => block_descriptor(unit),
    };
    let mut specific = 0x10; // DPOFUA
    if unit.read_only || state.software_write_protect {
        specific |= 0x80; // WP
    }
    // Header, descriptor and pages together stay under 100 bytes.
    let following = (descriptor.len() + pages.len()) as u8;
    let mut data = match query.form {
        ModeForm::Six => vec![following + 3, 0, specific, descriptor.len() as u8],
        ModeForm::Ten => {
            let long = u8::from(query.long_lba && !descriptor.is_empty());
            vec![
                0,
                following + 6,
                0,
                specific,
                long,
                0,
                0,
                descriptor.len() as u8,
            ]
        }
    };
    data.extend_from_slice(&descriptor);
    data.extend_from_slice(&pages);
    Ok(data)
}

/// Carries out MODE SELECT: the state after it.
///
/// # Errors
/// If the list is cut short, or changes something that cannot be changed.
pub(crate) fn select(
    state: &ModeState,
    select: &ModeSelect,
    list: &[u8],
) -> Result<ModeState, Sense> {
    if list.is_empty() {
        return Ok(*state);
    }
    let (header, descriptor_length) = match select.form {
        ModeForm::Six => (4, list.get(3).map(|&length| usize::from(length))),
        ModeForm::Ten => (8, (list.len() >= 8).then(|| usize::from(u16_at(list, 6)))),
    };
    let descriptor_length = descriptor_length.ok_or(Sense::PARAMETER_LENGTH)?;
    let mut rest = list
        .get(header + descriptor_length..)
        .ok_or(Sense::PARAMETER_LENGTH)?;
    let mut after = *state;
    while !rest.is_empty() {
        let at = u16::try_from(list.len() - rest.len()).unwrap_or(u16::MAX);
        let (code, length) = match *rest {
            [code, length, ..] => (code & 0x3f, usize::from(length) + 2),
            _ => return Err(Sense::PARAMETER_LENGTH),
        };
        let current = PAGES
            .contains(&code)
            .then(|| selected_page(code, state, CURRENT))
            .ok_or(Sense::parameter_field(at))?;
        if length != current.len() {
            return Err(Sense::parameter_field(at + 1));
        }
        let page = rest.get(..length).ok_or(Sense::PARAMETER_LENGTH)?;
        let changeable = selected_page(code, state, CHANGEABLE);
        for index in 2..length {
            if (page[index] ^ current[index]) & !changeable[index] != 0 {
                return Err(Sense::parameter_field(at + index as u16));
            }
        }
        if code == CONTROL {
            after.descriptor_sense = page[D_SENSE.0] & D_SENSE.1 != 0;
            after.software_write_protect = page[SWP.0] & SWP.1 != 0;
        }
        rest = &rest[length..];
    }
    Ok(after)
}

const CURRENT: u8 = 0;
const CHANGEABLE: u8 = 1;
const DEFAULT: u8 = 2;

fn selected_page(code: u8, state: &ModeState, control: u8) -> Vec<u8> {
    let state = match control {
        DEFAULT => &ModeState::default(),
        _ => state,
    };
    let mut page = match code {
        ERROR_RECOVERY => vec![ERROR_RECOVERY, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        CACHING => caching_page(),
        CONTROL => control_page(state),
        _ => vec![EXCEPTIONS, 10, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    };
    if control == CHANGEABLE {
        page[2..].fill(0);
        if code == CONTROL {
            page[D_SENSE.0] |= D_SENSE.1;
            page[SWP.0] |= SWP.1;
        }
    }
    page
}

/// The server's page cache is a write-back cache that SYNCHRONIZE CACHE and FUA flush.
fn caching_page() -> Vec<u8> {
    let mut page = vec![0; 20];
    page[0] = CACHING;
    page[1] = 18;
    page[2] = 0x04; // WCE
    page
}

fn control_page(state: &ModeState) -> Vec<u8> {
    let mut page = vec![0; 12];
    page[0] = CONTROL;
    page[1] = 10;
    if state.descriptor_sense {
        page[D_SENSE.0] |= D_SENSE.1;
    }
    page[3] = 0x10; // QUEUE ALGORITHM MODIFIER: reordering allowed
    if state.software_write_protect {
        page[SWP.0] |= SWP.1;
    }
    page[8..10].copy_from_slice(&[0xff, 0xff]); // BUSY TIMEOUT: no limit
    page
}

fn block_descriptor(unit: &LogicalUnit) -> Vec<u8> {
    let blocks = u32::try_from(unit.capacity_blocks).unwrap_or(u32::MAX);
    let mut descriptor = blocks.to_be_bytes().to_vec();
    descriptor.extend_from_slice(&(LOGICAL_BLOCK_BYTES as u32).to_be_bytes());
    descriptor
}

fn long_block_descriptor(unit: &LogicalUnit) -> Vec<u8> {
    let mut descriptor = unit.capacity_blocks.to_be_bytes().to_vec();
    descriptor.extend_from_slice(&[0; 4]);
    descriptor.extend_from_slice(&(LOGICAL_BLOCK_BYTES as u32).to_be_bytes());
    descriptor
}

impl ModeState {
    /// Carries out MODE SELECT with its parameter list.
    ///
    /// # Errors
    /// PARAMETER LIST LENGTH ERROR or INVALID FIELD IN PARAMETER LIST; nothing is changed then.
    pub fn select(&self, command: &ModeSelect, list: &[u8]) -> Result<Self, Sense> {
        select(self, command, list)
    }
}

#[cfg(test)]
mod tests;
