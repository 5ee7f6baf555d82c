use dess_diagnosis::Stage::{Dhcp, Failed, Ipxe, Loader};

use super::*;
use crate::catalog::Language;
use crate::sample::{FULL_BOOT, boot, wording};

#[test]
fn a_boot_is_a_row_of_bars_that_fill_the_width() {
    let words = wording(Language::English);
    let rows = boot_rows(&words, &[boot(BootOutcome::Up, &FULL_BOOT)]);
    let steps = &rows[0].steps;
    assert_eq!(steps.len(), FULL_BOOT.len());
    assert_eq!(rows[0].total.as_deref(), Some("up in 15.9 s"));
    assert_eq!((steps[1].took.as_str(), steps[1].x), ("420 ms", 0));
    let last = steps.last().unwrap();
    assert!((990..=1010).contains(&(last.x + last.width)), "{last:?}");
    assert!(
        steps
            .iter()
            .all(|step| step.kind == "done" && step.waiting.is_none())
    );
}

#[test]
fn a_boot_under_way_shows_what_it_waits_for() {
    let words = wording(Language::Korean);
    let rows = boot_rows(&words, &[boot(BootOutcome::InProgress, &FULL_BOOT[..2])]);
    let now = rows[0].steps.last().unwrap();
    assert_eq!((now.kind, now.key), ("now", Ipxe.key()));
    assert_eq!(now.word.to_string(), "부팅 프로그램 시작");
    assert!(now.waiting.is_some() && rows[0].total.is_none());
}

#[test]
fn a_failed_boot_says_where_and_what_to_do() {
    let words = wording(Language::English);
    let steps = [(Dhcp, 0), (Loader, 400), (Failed, 9000)];
    let rows = boot_rows(&words, &[boot(BootOutcome::Failed, &steps)]);
    assert_eq!(rows[0].steps.last().unwrap().kind, "failed");
    let fault = rows[0].fault.as_deref().unwrap();
    assert!(
        fault.starts_with("E22 · There is no disk to boot from"),
        "{fault}"
    );
}

#[test]
fn a_boot_without_steps_or_with_steps_in_no_time_is_drawn_all_the_same() {
    let words = wording(Language::English);
    assert!(
        boot_rows(&words, &[boot(BootOutcome::InProgress, &[])])[0]
            .steps
            .is_empty()
    );
    let rows = boot_rows(
        &words,
        &[boot(
            BootOutcome::Abandoned,
            &[(Dhcp, 0), (Loader, u64::MAX)],
        )],
    );
    assert!(
        rows[0]
            .steps
            .iter()
            .all(|step| step.x <= 1000 && step.width <= 1006)
    );
}

#[test]
fn an_offer_and_its_lease_are_one_step_and_the_end_of_the_session_none() {
    let words = wording(Language::English);
    let steps = [
        (Dhcp, 0),
        (Dhcp, 100),
        (Loader, 400),
        (Stage::SessionEnded, 9000),
    ];
    let rows = boot_rows(&words, &[boot(BootOutcome::Abandoned, &steps)]);
    let took: Vec<_> = rows[0]
        .steps
        .iter()
        .map(|step| step.took.as_str())
        .collect();
    assert_eq!(took, ["100 ms", "300 ms"]);
}
