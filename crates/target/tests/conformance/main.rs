//! libiscsi's conformance suite against the standalone disk: every test in a process of its own, with a time limit. The outcome of
//! each is compared with what is expected here, and `docs/conformance.md` with what this run would write.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of a test's set-up is a failure of the test"
)]

mod expected;
mod report;
mod suite;

use std::path::Path;

use expected::{RUNS, SUITE_TESTS};
use suite::Outcome;

/// Set to write `docs/conformance.md` instead of comparing it.
const BLESS: &str = "DESS_BLESS";

#[test]
fn the_suite_passes_but_for_what_is_listed_with_its_reason() {
    let tests = suite::tests();
    assert_eq!(
        tests.len(),
        SUITE_TESTS,
        "another version of libiscsi: the lists in tests/conformance/expected.rs are for 1.19.0"
    );
    let results: Vec<_> = RUNS.iter().map(|run| suite::run(run, &tests)).collect();

    let mut wrong = String::new();
    for (run, results) in RUNS.iter().zip(&results) {
        for result in results {
            let expected = run.expected(&result.test);
            if result.outcome != expected {
                wrong.push_str(&format!(
                    "\n{} on {}: {:?} instead of {expected:?}; the suite says:\n{}\n",
                    result.test, run.name, result.outcome, result.output
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.md");
    let rendered = report::render(&results);
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(&path, rendered).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == rendered,
        "docs/conformance.md is not what this run yields; run the test with {BLESS}=1 and commit it"
    );
    let passed = |index: usize| {
        let all = &results[index];
        all.iter()
            .filter(|one| one.outcome == Outcome::Pass)
            .count()
    };
    assert!(passed(0) >= expected::PASSED_AT_LEAST);
}
