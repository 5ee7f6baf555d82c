use dess_model::ProbeFailure;

use super::*;

fn report(at: i64, works: bool) -> ProbeReport {
    let failure = ProbeFailure::Refused {
        at: "127.0.0.1:8080".into(),
    };
    ProbeReport {
        service: ServiceName::Web,
        failure: (!works).then_some(failure),
        at: Timestamp(at),
        since: Timestamp(0),
        duration_ms: 1,
    }
}

#[test]
fn the_page_is_restarted_after_three_failures_in_a_row_and_then_ever_more_rarely() {
    let start = Instant::now();
    let mut revival = Revival::default();
    // A failure every ten seconds.
    let mut restarts = Vec::new();
    for round in 0..400 {
        let now = start + Duration::from_secs(10 * round);
        if revival.is_due(now, &report(round as i64, false)) {
            restarts.push(10 * round);
        }
    }
    assert_eq!(restarts[..5], [20, 80, 200, 440, 920]);
    assert!(restarts.windows(2).all(|pair| pair[1] - pair[0] <= 1800));
}

#[test]
fn a_success_in_between_starts_the_count_anew_and_a_report_counts_once() {
    let now = Instant::now();
    let mut revival = Revival::default();
    for (at, works) in [(1, false), (2, false), (3, true), (4, false), (5, false)] {
        assert!(!revival.is_due(now, &report(at, works)));
        assert!(!revival.is_due(now, &report(at, works)), "counted already");
    }
    assert!(revival.is_due(now, &report(6, false)));
}
