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

fn open(path: &Path) -> (Journal, Vec<Binding>) {
    let (journal, content) = Journal::open(path).unwrap();
    (journal, content.records)
}

const SESSION: Session = Session {
    boot_id: [7; 16],
    doubt_until: Timestamp(9),
    stopped: false,
};

/// The last start or stop that the journal tells.
fn session(path: &Path) -> Option<Session> {
    record::read_journal(&fs::read(path).unwrap()).session
}

#[test]
fn what_was_appended_is_there_after_reopening_and_more_can_follow() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/leases");
    let (mut journal, records) = open(&path);
    assert_eq!(records, []);
    journal.append(&[binding(1), binding(2)]).unwrap();
    journal.append(&[]).unwrap();
    journal.append(&[binding(3)]).unwrap();
    drop(journal);
    let (mut journal, records) = open(&path);
    assert_eq!(records, [binding(1), binding(2), binding(3)]);
    journal.append(&[binding(4)]).unwrap();
    drop(journal);
    assert_eq!(open(&path).1.len(), 4);
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
            let (mut journal, records) = open(&path);
            assert_eq!(records, [binding(1), binding(2)], "cut at {cut}");
            journal.append(&[binding(4)]).unwrap();
            drop(journal);
            let (_, records) = open(&path);
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
    journal.reserve();
    assert_eq!(size(), 2 * RESERVE_BYTES);
    // Records that outrun the reserved space are not overwritten with zeros.
    for _ in 0..3 {
        journal.append(&records).unwrap();
    }
    assert!(size() > 2 * RESERVE_BYTES);
    journal.reserve();
    drop(journal);
    assert_eq!(open(&path).1.len(), 80_000);
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
    let compaction = journal.compaction();
    // Appended while the new file is written.
    journal.append(&[binding(400), binding(401)]).unwrap();
    let compacted = compaction.write(&live).unwrap();
    journal.append(&[binding(402)]).unwrap();
    journal.finish(compacted).unwrap();
    assert!(!journal.wants_compaction(100));
    assert!(matches!(
        Journal::open(&path),
        Err(JournalError::Locked { .. })
    ));
    journal.append(&[binding(500)]).unwrap();
    drop(journal);
    let (_, records) = open(&path);
    let [.., a, b, c, d] = records[..] else {
        panic!("four were appended")
    };
    assert_eq!([a, b, c, d], [400, 401, 402, 500].map(binding));
    assert_eq!(records.len(), 104);
}

#[test]
fn a_compaction_cut_short_leaves_the_old_journal() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    let (mut journal, _) = Journal::open(&path).unwrap();
    journal.append(&[binding(1)]).unwrap();
    drop(journal);
    fs::write(path.with_extension("new"), [1; 50]).unwrap();
    let (mut journal, records) = open(&path);
    assert_eq!(records, [binding(1)]);
    let compacted = journal.compaction().write(&[binding(2)]).unwrap();
    journal.finish(compacted).unwrap();
    drop(journal);
    assert_eq!(open(&path).1, [binding(2)]);
}

#[test]
fn start_and_clean_stop_are_told_through_appends_and_compaction() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    let (mut journal, _) = open(&path);
    journal.start(SESSION).unwrap();
    journal.append(&[binding(1)]).unwrap();
    assert_eq!(session(&path), Some(SESSION));
    let compacted = journal.compaction().write(&[binding(1)]).unwrap();
    journal.finish(compacted).unwrap();
    assert_eq!(session(&path), Some(SESSION), "after compaction");
    journal.stop().unwrap();
    drop(journal);
    let stopped = Session {
        stopped: true,
        ..SESSION
    };
    assert_eq!(session(&path), Some(stopped));
    let (mut journal, records) = open(&path);
    assert_eq!(records, [binding(1)]);
    journal.start(SESSION).unwrap();
    assert_eq!(session(&path), Some(SESSION));
}
