use super::*;
use crate::BlockRange;

type Reservations = PersistentReservations<u8>;

fn list(key: u64, new_key: u64) -> Vec<u8> {
    let mut list = key.to_be_bytes().to_vec();
    list.extend_from_slice(&new_key.to_be_bytes());
    list.resize(24, 0);
    list
}

fn register(state: &mut Reservations, nexus: u8) {
    let key = u64::from(nexus) * 100;
    state
        .change(&nexus, PersistentOut::Register, &list(0, key))
        .unwrap();
}

fn read() -> Command {
    Command::Medium(Medium::Read(BlockRange { lba: 0, blocks: 1 }))
}

fn write() -> Command {
    Command::Medium(Medium::Write {
        range: BlockRange { lba: 0, blocks: 1 },
        fua: false,
    })
}

/// Who may read and write under each type: the holder, another registrant, a stranger.
#[test]
fn each_type_admits_whom_the_standard_says() {
    use PersistentType::{
        ExclusiveAccess, ExclusiveAccessAll, ExclusiveAccessRegistrants, WriteExclusive,
        WriteExclusiveAll, WriteExclusiveRegistrants,
    };
    let table = [
        (WriteExclusive, (true, false), (true, false)),
        (ExclusiveAccess, (false, false), (false, false)),
        (WriteExclusiveRegistrants, (true, true), (true, false)),
        (ExclusiveAccessRegistrants, (true, true), (false, false)),
        (WriteExclusiveAll, (true, true), (true, false)),
        (ExclusiveAccessAll, (true, true), (false, false)),
    ];
    for (kind, registrant, stranger) in table {
        let mut state = Reservations::default();
        register(&mut state, 1);
        register(&mut state, 2);
        let reserve = PersistentOut::Reserve(kind);
        state.change(&1, reserve, &list(100, 0)).unwrap();
        for (nexus, expected) in [(1, (true, true)), (2, registrant), (3, stranger)] {
            let found = (
                state.allows(&nexus, &read()),
                state.allows(&nexus, &write()),
            );
            assert_eq!(found, expected, "{kind:?} for {nexus}");
            assert!(state.allows(&nexus, &Command::TestUnitReady));
            // CRH: whom the reservation lets in is told that all is well.
            let exempt = nexus == 1 || (nexus == 2 && kind.admits_registrants());
            assert_eq!(state.allows(&nexus, &Command::Reserve), exempt);
            assert_eq!(state.allows(&nexus, &Command::Release), exempt);
        }
    }
}

#[test]
fn a_wrong_key_is_a_conflict_and_changes_nothing() {
    let mut state = Reservations::default();
    register(&mut state, 1);
    let before = state.clone();
    let kind = PersistentType::WriteExclusive;
    for action in [
        PersistentOut::Register,
        PersistentOut::Reserve(kind),
        PersistentOut::Clear,
    ] {
        assert_eq!(
            state.change(&1, action, &list(7, 8)),
            Err(PersistentError::Conflict)
        );
    }
    assert_eq!(state, before);
}

#[test]
fn preempting_the_holder_takes_its_reservation_and_tells_it() {
    let mut state = Reservations::default();
    register(&mut state, 1);
    register(&mut state, 2);
    let kind = PersistentType::ExclusiveAccess;
    state
        .change(&1, PersistentOut::Reserve(kind), &list(100, 0))
        .unwrap();
    let attentions = state
        .change(&2, PersistentOut::Preempt(kind), &list(200, 100))
        .unwrap();
    let preempted = vec![(1, Sense::REGISTRATIONS_PREEMPTED)];
    assert_eq!(attentions, preempted.into());
    assert!(state.allows(&2, &write()));
    assert!(!state.allows(&1, &read()));
    let keys = state.report(PersistentIn::Keys, |_| Vec::new());
    assert_eq!(keys, [0, 0, 0, 3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 200]);
}

#[test]
fn the_reservation_goes_with_its_holders_registration() {
    let mut state = Reservations::default();
    register(&mut state, 1);
    register(&mut state, 2);
    let kind = PersistentType::ExclusiveAccessRegistrants;
    state
        .change(&1, PersistentOut::Reserve(kind), &list(100, 0))
        .unwrap();
    let attentions = state
        .change(&1, PersistentOut::Register, &list(100, 0))
        .unwrap();
    assert_eq!(attentions, vec![(2, Sense::RESERVATIONS_RELEASED)].into());
    assert!(state.allows(&3, &write()));
    let none = state.report(PersistentIn::Reservation, |_| Vec::new());
    assert_eq!(none[4..], [0; 4]);
}

#[test]
fn preempt_and_abort_names_whose_commands_end_and_who_hears_of_another_type() {
    let mut state = Reservations::default();
    for nexus in 1..=3 {
        register(&mut state, nexus);
    }
    let reserve = PersistentOut::Reserve(PersistentType::WriteExclusiveRegistrants);
    state.change(&1, reserve, &list(100, 0)).unwrap();
    let action = PersistentOut::PreemptAndAbort(PersistentType::ExclusiveAccess);
    let consequences = state.change(&2, action, &list(200, 100)).unwrap();
    let expected = Consequences {
        attentions: vec![
            (3, Sense::RESERVATIONS_RELEASED),
            (1, Sense::REGISTRATIONS_PREEMPTED),
        ],
        aborted: vec![1],
    };
    assert_eq!(consequences, expected);
}

fn aptpl(key: u64, new_key: u64) -> Vec<u8> {
    let mut list = list(key, new_key);
    list[20] = APTPL;
    list
}

#[test]
fn what_shall_survive_a_power_loss_is_restored_and_the_last_registration_decides() {
    let mut state = Reservations::default();
    register(&mut state, 1);
    assert_eq!(state.saved(), None);
    let register_2 = PersistentOut::Register;
    state.change(&2, register_2, &aptpl(0, 200)).unwrap();
    let reserve = PersistentOut::Reserve(PersistentType::WriteExclusive);
    state.change(&2, reserve, &list(200, 0)).unwrap();
    let capabilities = |state: &Reservations| state.report(PersistentIn::Capabilities, |_| vec![]);
    assert_eq!(capabilities(&state), [0, 8, 0x11, 0x81, 0xea, 0x01, 0, 0]);

    let restored = Reservations::restored(state.saved().unwrap());
    for (nexus, may_write) in [(1, false), (2, true), (3, false)] {
        assert_eq!(restored.allows(&nexus, &write()), may_write);
    }
    assert_eq!(restored.saved(), state.saved());
    assert_eq!(capabilities(&restored), capabilities(&state));

    register(&mut state, 3);
    assert_eq!(state.saved(), None);
    assert_eq!(capabilities(&state)[3], 0x80);
}

#[test]
fn a_bad_parameter_list_changes_nothing() {
    let mut state = Reservations::default();
    let mut several_ports = list(0, 5);
    several_ports[20] = SPEC_I_PT;
    assert_eq!(
        state.change(&1, PersistentOut::Register, &several_ports),
        Err(PersistentError::Sense(Sense::parameter_field(20)))
    );
    assert_eq!(
        state.change(&1, PersistentOut::Register, &list(0, 5)[..20]),
        Err(PersistentError::Sense(Sense::PARAMETER_LENGTH))
    );
    assert_eq!(state, Reservations::default());
}
