//! Any CDB decodes or is answered by sense data.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|cdb: [u8; 16]| {
    match dess_scsi::decode(&cdb) {
        Ok(command) => drop(format!("{command:?}")),
        Err(sense) => drop(format!("{sense:?}")),
    }
});
