use super::*;
use crate::lease::{BindingState, LeaseTable};
use dess_model::{MacAddr, Timestamp};
use std::net::Ipv4Addr;

fn binding(number: u32) -> Binding {
    let [_, _, c, d] = number.to_be_bytes();
    Binding {
        address: Ipv4Addr::new(10, 0, c, d),
        mac: MacAddr([2, 0, 0, 0, c, d]),
        state: BindingState::Leased,
        expires_at: Timestamp(i64::from(number)),
    }
}

#[test]
fn what_was_appended_is_there_after_reopening_and_more_can_follow() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/leases");
    let (mut journal, records) = Journal::open(&path).unwrap();
    assert_eq!(records, []);
    journal.append(&[binding(1), binding(2)]).unwrap();
    journal.append(&[]).unwrap();
    journal.append(&[binding(3)]).unwrap();
    drop(journal);
    let (mut journal, records) = Journal::open(&path).unwrap();
    assert_eq!(records, [binding(1), binding(2), binding(3)]);
    journal.append(&[binding(4)]).unwrap();
    drop(journal);
    assert_eq!(Journal::open(&path).unwrap().1.len(), 4);
}

#[test]
fn a_second_process_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    let (_held, _) = Journal::open(&path).unwrap();
    let error = Journal::open(&path).unwrap_err();
    assert!(matches!(error, JournalError::Locked { .. }), "{error}");
}

#[test]
fn after_a_cut_at_any_byte_of_the_last_record_the_journal_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    let whole: Vec<u8> = (1..=3)
        .filter_map(|number| record::encode_record(&binding(number)))
        .flatten()
        .collect();
    for cut in 2 * RECORD_BYTES..whole.len() {
        for padded in [false, true] {
            let mut bytes = whole[..cut].to_vec();
            if padded {
                bytes.resize(4096, 0);
            }
            fs::write(&path, &bytes).unwrap();
            let (mut journal, records) = Journal::open(&path).unwrap();
            assert_eq!(records, [binding(1), binding(2)], "cut at {cut}");
            journal.append(&[binding(4)]).unwrap();
            drop(journal);
            let (_, records) = Journal::open(&path).unwrap();
            assert_eq!(
                records,
                [binding(1), binding(2), binding(4)],
                "cut at {cut}"
            );
        }
    }
}

#[test]
fn space_is_reserved_so_that_a_sync_touches_no_file_size() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    let (mut journal, _) = Journal::open(&path).unwrap();
    let size = || fs::metadata(&path).unwrap().len();
    let before = size();
    assert_eq!(before, RESERVE_BYTES);
    let records: Vec<_> = (0..20_000).map(binding).collect();
    journal.append(&records).unwrap();
    assert_eq!(size(), before);
    journal.append(&records).unwrap();
    assert!(size() > before);
    drop(journal);
    assert_eq!(Journal::open(&path).unwrap().1.len(), 40_000);
}

#[test]
fn compaction_keeps_the_live_leases_and_the_lock() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    let (mut journal, _) = Journal::open(&path).unwrap();
    let many: Vec<_> = (0..100).map(binding).cycle().take(140_000).collect();
    journal.append(&many).unwrap();
    assert!(journal.wants_compaction(100));
    assert!(!journal.wants_compaction(100_000));
    let live: Vec<_> = LeaseTable::from_records(many).iter().copied().collect();
    journal.compact(&live).unwrap();
    assert!(!journal.wants_compaction(100));
    assert!(matches!(
        Journal::open(&path),
        Err(JournalError::Locked { .. })
    ));
    journal.append(&[binding(500)]).unwrap();
    drop(journal);
    let (_, records) = Journal::open(&path).unwrap();
    assert_eq!(records.len(), 101);
    assert_eq!(records.last(), Some(&binding(500)));
}

#[test]
fn a_compaction_cut_short_leaves_the_old_journal() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    let (mut journal, _) = Journal::open(&path).unwrap();
    journal.append(&[binding(1)]).unwrap();
    drop(journal);
    fs::write(path.with_extension("new"), [1; 50]).unwrap();
    let (mut journal, records) = Journal::open(&path).unwrap();
    assert_eq!(records, [binding(1)]);
    journal.compact(&[binding(2)]).unwrap();
    drop(journal);
    assert_eq!(Journal::open(&path).unwrap().1, [binding(2)]);
}
