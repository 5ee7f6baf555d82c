//! What the suite is expected to say, and why.

use dess_target::Geometry;

use crate::suite::Outcome;

/// Tests of libiscsi 1.19.0.
pub(crate) const SUITE_TESTS: usize = 230;
/// What at least one of tgt and LIO passes.
pub(crate) const PASSED_AT_LEAST: usize = 190;

/// One way to serve the disk.
pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) overlay: bool,
    pub(crate) read_only: bool,
    pub(crate) geometry: Geometry,
}

pub(crate) const RUNS: [Run; 4] = [
    Run {
        name: "thin",
        what: "a thin-provisioned disk: a raw file (`--thin`)",
        overlay: false,
        read_only: false,
        geometry: Geometry::Native,
    },
    Run {
        name: "overlay",
        what: "an overlay on an image (`--thin --overlay`)",
        overlay: true,
        read_only: false,
        geometry: Geometry::Native,
    },
    Run {
        name: "512e",
        what: "as the disks of a site: overlay, physical blocks of 4096 bytes (`--thin --overlay --physical-block 4096`)",
        overlay: true,
        read_only: false,
        geometry: Geometry::Emulated,
    },
    Run {
        name: "read-only",
        what: "a write-protected disk (`--thin --read-only`), with the suites that do not want to write",
        overlay: false,
        read_only: true,
        geometry: Geometry::Emulated,
    },
];

/// Suites that make sense on a disk that cannot be written.
const READING_SUITES: [&str; 24] = [
    "Inquiry",
    "Mandatory",
    "ModeSense6",
    "NoMedia",
    "Prefetch10",
    "Prefetch16",
    "PrinReadKeys",
    "PrinReportCapabilities",
    "PrinServiceactionRange",
    "Read10",
    "Read12",
    "Read16",
    "Read6",
    "ReadCapacity10",
    "ReadCapacity16",
    "ReadDefectData10",
    "ReadDefectData12",
    "ReadOnly",
    "ReportSupportedOpcodes",
    "StartStopUnit",
    "TestUnitReady",
    "Verify10",
    "Verify12",
    "Verify16",
];

/// Tests that are expected not to pass, with the reason.
pub(crate) struct Exception {
    /// A test, or a suite with all its tests.
    pub(crate) name: &'static str,
    /// Runs in which it is so.
    pub(crate) runs: &'static [&'static str],
    pub(crate) reason: &'static str,
}

const WRITABLE: &[&str] = &["thin", "overlay", "512e"];
const NATIVE: &[&str] = &["thin", "overlay"];
const ALL: &[&str] = &["thin", "overlay", "512e", "read-only"];

pub(crate) const SKIPS: &[Exception] = &[
    Exception {
        name: "ALL.PreventAllow",
        runs: WRITABLE,
        reason: "The medium cannot be removed (RMB is 0), so there is nothing to lock in.",
    },
    Exception {
        name: "ALL.StartStopUnit.Simple",
        runs: ALL,
        reason: "It ejects the medium, which cannot be removed.",
    },
    Exception {
        name: "ALL.ReadOnly.ReadOnlySBC",
        runs: WRITABLE,
        reason: "It wants a write-protected disk; the run \"read-only\" has one.",
    },
    Exception {
        name: "ALL.Sanitize",
        runs: WRITABLE,
        reason: "The suite asks for SANITIZE only with `--allow-sanitize`. The command is not there: it promises that no copy of the \
                 data is left, and the golden image below an overlay is such a copy.",
    },
    Exception {
        name: "ALL.WriteAtomic16",
        runs: WRITABLE,
        reason: "WRITE ATOMIC (16) is optional, and not there: it promises that a power cut leaves all or nothing, which the file \
                 below does not.",
    },
    Exception {
        name: "ALL.WriteSame10.ZeroBlocks",
        runs: WRITABLE,
        reason: "No number of blocks would mean all to the end of the disk by one command: not offered (WSNZ is 1), as one command must not \
                 keep a disk thread busy for so long.",
    },
    Exception {
        name: "ALL.WriteSame16.ZeroBlocks",
        runs: WRITABLE,
        reason: "As WriteSame10.ZeroBlocks.",
    },
    Exception {
        name: "ALL.CompareAndWrite.InvalidDataOutSize",
        runs: NATIVE,
        reason: "It wants more than one logical block in a physical one; it passes in the run \"512e\".",
    },
    Exception {
        name: "ALL.WriteSame10.InvalidDataOutSize",
        runs: NATIVE,
        reason: "As CompareAndWrite.InvalidDataOutSize.",
    },
    Exception {
        name: "ALL.WriteSame10.UnmapUnaligned",
        runs: NATIVE,
        reason: "As CompareAndWrite.InvalidDataOutSize.",
    },
    Exception {
        name: "ALL.WriteSame16.InvalidDataOutSize",
        runs: NATIVE,
        reason: "As CompareAndWrite.InvalidDataOutSize.",
    },
    Exception {
        name: "ALL.WriteSame16.UnmapUnaligned",
        runs: NATIVE,
        reason: "As CompareAndWrite.InvalidDataOutSize.",
    },
];

/// Tests that no target can pass.
pub(crate) const DEFECTS: &[Exception] = &[
    Exception {
        name: "ALL.iSCSITMF.LUNResetSimpleAsync",
        runs: WRITABLE,
        reason: "libiscsi 1.19.0 asserts that the answer to the reset has come before it has sent the reset \
                 (<https://github.com/sahlberg/libiscsi/pull/341> moves the line; tgt and LIO fail alike), and then frees what is still in use. What the test means to check is \
                 checked by `a_lun_reset_behind_a_write_is_answered_and_the_write_at_most_once` in `crates/target/tests/resets.rs`.",
    },
    Exception {
        name: "ALL.GetLBAStatus.UnmapSingle",
        runs: &["512e"],
        reason: "With several logical blocks in a physical one it asks for the status from LBA i + 1 on and wants an answer that begins at \
                 i + 8. The first descriptor begins with the LBA asked for (SBC: LBA status descriptor relationships), and QEMU's driver takes anything else for an \
                 error. With physical blocks of 512 bytes the test asks the right question, and passes.",
    },
];

impl Run {
    /// Whether the test is part of the run.
    pub(crate) fn covers(&self, test: &str) -> bool {
        let suite = test.split('.').nth(1).unwrap_or_default();
        !self.read_only || READING_SUITES.contains(&suite)
    }

    pub(crate) fn expected(&self, test: &str) -> Outcome {
        if DEFECTS.iter().any(|one| one.covers(self, test)) {
            Outcome::Fail
        } else if SKIPS.iter().any(|one| one.covers(self, test)) {
            Outcome::Skip
        } else {
            Outcome::Pass
        }
    }
}

impl Exception {
    pub(crate) fn covers(&self, run: &Run, test: &str) -> bool {
        let rest = test.strip_prefix(self.name);
        let named = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        named && self.runs.contains(&run.name)
    }
}
