//! `docs/conformance.md`, from the outcomes.

use std::fmt::Write;

use crate::expected::{DEFECTS, Exception, RUNS, SKIPS, SUITE_TESTS};
use crate::suite::{Outcome, TestResult};

pub(crate) fn render(results: &[Vec<TestResult>]) -> String {
    let mut text = format!(
        "# Conformance\n\n\
         libiscsi's `iscsi-test-cu` 1.19.0 (Debian's libiscsi-bin), {SUITE_TESTS} tests, each in a process of its own, with data loss \
         allowed and a second path to the disk. `cargo nextest run -p dess-target --test conformance` runs it, compares the outcome \
         of every test with the lists in `crates/target/tests/conformance/expected.rs`, and this page with what it would write: it is \
         not edited by hand (`DESS_BLESS=1` writes it). The same in CI.\n\n\
         Every run serves the disk by `dess iscsi serve`'s own code, with the options in the table.\n\n\
         | run | what is served | tests | pass | skip | fail | hang |\n|---|---|--:|--:|--:|--:|--:|\n"
    );
    for (run, results) in RUNS.iter().zip(results) {
        let count = |outcome| results.iter().filter(|one| one.outcome == outcome).count();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            run.name,
            run.what,
            results.len(),
            count(Outcome::Pass),
            count(Outcome::Skip),
            count(Outcome::Fail),
            count(Outcome::Hang),
        );
    }
    text.push_str(
        "\nFor comparison, measured with the same suite and a second path: tgt 1.0.85 thin-provisioned 172 pass, 12 fail; LIO (Linux 6.1) \
         140 pass, 16 fail; at least one of the two passes 190.\n\n\
         ## Tests that no target can pass\n\n",
    );
    text.push_str("| test | runs | why |\n|---|---|---|\n");
    rows(&mut text, results, DEFECTS, Outcome::Fail);
    text.push_str("\n## Skipped tests\n\n| test | runs | why |\n|---|---|---|\n");
    rows(&mut text, results, SKIPS, Outcome::Skip);
    text
}

/// One row for each exception that came true; a suite is listed with its tests.
fn rows(
    text: &mut String,
    results: &[Vec<TestResult>],
    exceptions: &[Exception],
    outcome: Outcome,
) {
    for exception in exceptions {
        let mut tests: Vec<&str> = Vec::new();
        let mut runs: Vec<&str> = Vec::new();
        for (run, results) in RUNS.iter().zip(results) {
            let covered = results
                .iter()
                .filter(|one| one.outcome == outcome && exception.covers(run, &one.test));
            for result in covered {
                let name = result.test.trim_start_matches("ALL.");
                if !tests.contains(&name) {
                    tests.push(name);
                }
                if !runs.contains(&run.name) {
                    runs.push(run.name);
                }
            }
        }
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            tests.join(", "),
            runs.join(", "),
            exception.reason
        );
    }
}
