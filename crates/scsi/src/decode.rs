//! CDB decoding (SPC-4 §6, SBC-3 §5).

use crate::command::{
    BlockRange, Command, Comparison, CopyUse, Medium, ModeForm, ModeSelect, ModeSense, OpcodeQuery,
    Query,
};
use crate::field::{u16_at, u24_at, u32_at, u64_at};
use crate::opcodes::{opcode, service_action};
use crate::persistent::{PersistentIn, PersistentOut, PersistentType};
use crate::{BLOCK_LIMITS, Sense};

/// Decodes a CDB; a shorter one is padded with zeros.
///
/// # Errors
/// INVALID COMMAND OPERATION CODE, or INVALID FIELD IN CDB for what this disk does not do.
pub fn decode(cdb: &[u8; 16]) -> Result<Command, Sense> {
    match cdb[0] {
        opcode::TEST_UNIT_READY => Ok(Command::TestUnitReady),
        opcode::START_STOP_UNIT => Ok(Command::StartStopUnit),
        opcode::PREVENT_ALLOW => Ok(Command::PreventAllow {
            prevent: cdb[4] & 0x03 != 0,
        }),
        opcode::RECEIVE_COPY_RESULTS => copy_results(cdb),
        opcode::PERSISTENT_RESERVE_IN => persistent_in(cdb),
        opcode::PERSISTENT_RESERVE_OUT => persistent_out(cdb),
        opcode::RESERVE_6 => Ok(Command::Reserve),
        opcode::RELEASE_6 => Ok(Command::Release),
        opcode::REPORT_LUNS => Ok(Command::ReportLuns {
            select: cdb[2],
            allocation: u32_at(cdb, 6),
        }),
        opcode::MODE_SELECT_6 => mode_select(cdb, ModeForm::Six, u32::from(cdb[4])),
        opcode::MODE_SELECT_10 => mode_select(cdb, ModeForm::Ten, u32::from(u16_at(cdb, 7))),
        _ => match query(cdb)? {
            Some(query) => Ok(Command::Query(query)),
            None => medium(cdb)?
                .map(Command::Medium)
                .ok_or(Sense::INVALID_OPCODE),
        },
    }
}

fn query(cdb: &[u8; 16]) -> Result<Option<Query>, Sense> {
    let query = match cdb[0] {
        opcode::INQUIRY => inquiry(cdb)?,
        opcode::REQUEST_SENSE => Query::RequestSense {
            descriptor: cdb[1] & 0x01 != 0,
            allocation: u32::from(cdb[4]),
        },
        opcode::MODE_SENSE_6 => mode_sense(cdb, ModeForm::Six, u32::from(cdb[4])),
        opcode::MODE_SENSE_10 => mode_sense(cdb, ModeForm::Ten, u32::from(u16_at(cdb, 7))),
        opcode::READ_CAPACITY_10 => Query::ReadCapacity10,
        opcode::READ_DEFECT_DATA_10 => Query::ReadDefectData {
            twelve: false,
            format: cdb[2],
            allocation: u32::from(u16_at(cdb, 7)),
        },
        opcode::READ_DEFECT_DATA_12 => Query::ReadDefectData {
            twelve: true,
            format: cdb[1],
            allocation: u32_at(cdb, 6),
        },
        opcode::SERVICE_ACTION_IN_16 if cdb[1] & 0x1f == service_action::READ_CAPACITY_16 => {
            Query::ReadCapacity16 {
                allocation: u32_at(cdb, 10),
            }
        }
        opcode::MAINTENANCE_IN => supported_opcodes(cdb)?,
        _ => return Ok(None),
    };
    Ok(Some(query))
}

fn medium(cdb: &[u8; 16]) -> Result<Option<Medium>, Sense> {
    let fua = cdb[1] & 0x08 != 0;
    let medium = match cdb[0] {
        opcode::READ_6 => Medium::Read(range_6(cdb)),
        opcode::WRITE_6 => Medium::Write {
            range: range_6(cdb),
            fua: false,
        },
        opcode::READ_10 | opcode::READ_12 | opcode::READ_16 => Medium::Read(unprotected(cdb)?),
        opcode::WRITE_10 | opcode::WRITE_12 | opcode::WRITE_16 => Medium::Write {
            range: unprotected(cdb)?,
            fua,
        },
        opcode::WRITE_AND_VERIFY_10 | opcode::WRITE_AND_VERIFY_12 | opcode::WRITE_AND_VERIFY_16 => {
            write_and_verify(cdb)?
        }
        opcode::VERIFY_10 | opcode::VERIFY_12 | opcode::VERIFY_16 => verify(cdb)?,
        opcode::OR_WRITE_16 => Medium::OrWrite {
            range: unprotected(cdb)?,
            fua,
        },
        opcode::COMPARE_AND_WRITE => compare_and_write(cdb)?,
        opcode::WRITE_SAME_10 | opcode::WRITE_SAME_16 => write_same(cdb)?,
        opcode::UNMAP => unmap(cdb)?,
        opcode::EXTENDED_COPY => extended_copy(cdb)?,
        opcode::SYNCHRONIZE_CACHE_10 | opcode::SYNCHRONIZE_CACHE_16 => {
            Medium::SynchronizeCache(range(cdb))
        }
        opcode::PREFETCH_10 | opcode::PREFETCH_16 => Medium::Prefetch(range(cdb)),
        opcode::SERVICE_ACTION_IN_16 if cdb[1] & 0x1f == service_action::GET_LBA_STATUS => {
            Medium::LbaStatus {
                lba: u64_at(cdb, 2),
                allocation: u32_at(cdb, 10),
            }
        }
        opcode::SERVICE_ACTION_IN_16 => return Err(Sense::cdb_field(1, Some(4))),
        _ => return Ok(None),
    };
    Ok(Some(medium))
}

fn inquiry(cdb: &[u8; 16]) -> Result<Query, Sense> {
    let page = (cdb[1] & 0x01 != 0).then_some(cdb[2]);
    if page.is_none() && cdb[2] != 0 {
        return Err(Sense::cdb_field(2, None));
    }
    Ok(Query::Inquiry {
        page,
        allocation: u32::from(u16_at(cdb, 3)),
    })
}

fn mode_sense(cdb: &[u8; 16], form: ModeForm, allocation: u32) -> Query {
    Query::ModeSense(ModeSense {
        form,
        no_block_descriptor: cdb[1] & 0x08 != 0,
        long_lba: form == ModeForm::Ten && cdb[1] & 0x10 != 0,
        control: cdb[2] >> 6,
        page: cdb[2] & 0x3f,
        subpage: cdb[3],
        allocation,
    })
}

fn mode_select(cdb: &[u8; 16], form: ModeForm, length: u32) -> Result<Command, Sense> {
    // PF: the page format of SCSI-2 and later is the only one; SP: nothing is saved.
    if cdb[1] & 0x10 == 0 && length != 0 {
        return Err(Sense::cdb_field(1, Some(4)));
    }
    if cdb[1] & 0x01 != 0 {
        return Err(Sense::cdb_field(1, Some(0)));
    }
    Ok(Command::ModeSelect(ModeSelect { form, length }))
}

fn persistent_in(cdb: &[u8; 16]) -> Result<Command, Sense> {
    let action = match cdb[1] & 0x1f {
        0 => PersistentIn::Keys,
        1 => PersistentIn::Reservation,
        2 => PersistentIn::Capabilities,
        3 => PersistentIn::FullStatus,
        _ => return Err(Sense::cdb_field(1, Some(4))),
    };
    Ok(Command::PersistentIn {
        action,
        allocation: u32::from(u16_at(cdb, 7)),
    })
}

fn persistent_out(cdb: &[u8; 16]) -> Result<Command, Sense> {
    let kind = || {
        // The scope in the upper half can only be the logical unit.
        PersistentType::from_code(cdb[2]).ok_or(Sense::cdb_field(2, None))
    };
    let action = match cdb[1] & 0x1f {
        0 => PersistentOut::Register,
        1 => PersistentOut::Reserve(kind()?),
        2 => PersistentOut::Release(kind()?),
        3 => PersistentOut::Clear,
        4 => PersistentOut::Preempt(kind()?),
        5 => PersistentOut::PreemptAndAbort(kind()?),
        6 => PersistentOut::RegisterAnyway,
        _ => return Err(Sense::cdb_field(1, Some(4))),
    };
    Ok(Command::PersistentOut {
        action,
        length: list_length(cdb, 5)?,
    })
}

fn supported_opcodes(cdb: &[u8; 16]) -> Result<Query, Sense> {
    if cdb[1] & 0x1f != service_action::REPORT_SUPPORTED_OPCODES {
        return Err(Sense::cdb_field(1, Some(4)));
    }
    Ok(Query::SupportedOpcodes(OpcodeQuery {
        timeouts: cdb[2] & 0x80 != 0,
        options: cdb[2] & 0x07,
        opcode: cdb[3],
        service_action: u16_at(cdb, 4),
        allocation: u32_at(cdb, 6),
    }))
}

/// READ (6) and WRITE (6): 21 bits of LBA, and a length of 0 means 256.
fn range_6(cdb: &[u8; 16]) -> BlockRange {
    BlockRange {
        lba: u64::from(u24_at(cdb, 1) & 0x1f_ffff),
        blocks: if cdb[4] == 0 { 256 } else { u64::from(cdb[4]) },
    }
}

/// LBA and length of the 10-, 12- and 16-byte forms; the group code in the top 3 bits of the
/// operation code tells which it is (SPC-4 §4.2.5.1).
fn range(cdb: &[u8; 16]) -> BlockRange {
    match cdb[0] >> 5 {
        4 => BlockRange {
            lba: u64_at(cdb, 2),
            blocks: u64::from(u32_at(cdb, 10)),
        },
        5 => BlockRange {
            lba: u64::from(u32_at(cdb, 2)),
            blocks: u64::from(u32_at(cdb, 6)),
        },
        _ => BlockRange {
            lba: u64::from(u32_at(cdb, 2)),
            blocks: u64::from(u16_at(cdb, 7)),
        },
    }
}

/// A range that one command may transfer, of a command that asks for no protection information
/// (RDPROTECT, WRPROTECT, VRPROTECT): this disk has none.
fn unprotected(cdb: &[u8; 16]) -> Result<BlockRange, Sense> {
    if cdb[1] & 0xe0 != 0 {
        return Err(Sense::cdb_field(1, Some(7)));
    }
    let range = range(cdb);
    if range.blocks > u64::from(BLOCK_LIMITS.served_blocks_max) {
        return Err(Sense::cdb_field(length_field(cdb), None));
    }
    Ok(range)
}

/// Offset of the TRANSFER LENGTH field.
fn length_field(cdb: &[u8; 16]) -> u16 {
    match cdb[0] >> 5 {
        4 => 10,
        5 => 6,
        _ => 7,
    }
}

fn comparison(cdb: &[u8; 16]) -> Result<Comparison, Sense> {
    match (cdb[1] >> 1) & 0x03 {
        0 => Ok(Comparison::None),
        1 => Ok(Comparison::Whole),
        3 => Ok(Comparison::OneBlock),
        _ => Err(Sense::cdb_field(1, Some(2))),
    }
}

fn verify(cdb: &[u8; 16]) -> Result<Medium, Sense> {
    let comparison = comparison(cdb)?;
    let range = match comparison {
        // Nothing is transferred, so the limit of a transfer does not hold.
        Comparison::None if cdb[1] & 0xe0 == 0 => range(cdb),
        _ => unprotected(cdb)?,
    };
    Ok(Medium::Verify { range, comparison })
}

fn write_and_verify(cdb: &[u8; 16]) -> Result<Medium, Sense> {
    // BYTCHK: what was written is compared with the Data-Out in any case; one block for all is
    // not defined for this command.
    match comparison(cdb)? {
        Comparison::None | Comparison::Whole => {}
        Comparison::OneBlock => return Err(Sense::cdb_field(1, Some(2))),
    }
    Ok(Medium::WriteAndVerify {
        range: unprotected(cdb)?,
    })
}

fn compare_and_write(cdb: &[u8; 16]) -> Result<Medium, Sense> {
    if cdb[1] & 0xe0 != 0 {
        return Err(Sense::cdb_field(1, Some(7)));
    }
    if cdb[13] > BLOCK_LIMITS.compare_and_write_blocks_max {
        return Err(Sense::cdb_field(13, None));
    }
    Ok(Medium::CompareAndWrite {
        range: BlockRange {
            lba: u64_at(cdb, 2),
            blocks: u64::from(cdb[13]),
        },
        fua: cdb[1] & 0x08 != 0,
    })
}

fn write_same(cdb: &[u8; 16]) -> Result<Medium, Sense> {
    let unmap = cdb[1] & 0x08 != 0;
    let anchor = cdb[1] & 0x10 != 0;
    if cdb[1] & 0xe0 != 0 {
        return Err(Sense::cdb_field(1, Some(7)));
    }
    if anchor {
        return Err(Sense::cdb_field(1, Some(4)));
    }
    let range = range(cdb);
    // WSNZ: "to the end of the disk" is not supported, and neither is more than the limit.
    if range.blocks == 0 || range.blocks > BLOCK_LIMITS.write_same_blocks_max {
        return Err(Sense::cdb_field(length_field(cdb), None));
    }
    Ok(Medium::WriteSame {
        range,
        unmap,
        no_data: cdb[0] == opcode::WRITE_SAME_16 && cdb[1] & 0x01 != 0,
    })
}

fn extended_copy(cdb: &[u8; 16]) -> Result<Medium, Sense> {
    if cdb[1] & 0x1f != service_action::EXTENDED_COPY {
        return Err(Sense::cdb_field(1, Some(4)));
    }
    Ok(Medium::Copy {
        length: list_length(cdb, 10)?,
    })
}

/// PARAMETER LIST LENGTH of 32 bits; no list that is taken is anywhere near 64 KiB.
fn list_length(cdb: &[u8; 16], at: usize) -> Result<u32, Sense> {
    match u32_at(cdb, at) {
        length if length <= u32::from(u16::MAX) => Ok(length),
        _ => Err(Sense::PARAMETER_LENGTH),
    }
}

fn copy_results(cdb: &[u8; 16]) -> Result<Command, Sense> {
    let usage = match cdb[1] & 0x1f {
        service_action::COPY_STATUS => CopyUse::Status { list_id: cdb[2] },
        service_action::OPERATING_PARAMETERS => CopyUse::OperatingParameters,
        _ => return Err(Sense::cdb_field(1, Some(4))),
    };
    Ok(Command::CopyResults {
        usage,
        allocation: u32_at(cdb, 10),
    })
}

fn unmap(cdb: &[u8; 16]) -> Result<Medium, Sense> {
    if cdb[1] & 0x01 != 0 {
        return Err(Sense::cdb_field(1, Some(0)));
    }
    Ok(Medium::Unmap {
        length: u32::from(u16_at(cdb, 7)),
    })
}

#[cfg(test)]
mod tests;
