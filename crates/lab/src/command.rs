//! Short-lived tools (`ip`, `mke2fs`, ...): run to the end, error text in the error.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// Runs `program` with `args` to its end and gives its standard output.
pub(crate) fn run<A: AsRef<OsStr>>(
    program: &str,
    args: impl IntoIterator<Item = A>,
) -> anyhow::Result<String> {
    output(Command::new(program).args(args))
}

/// Runs `command` to its end and gives its standard output; a failure carries its error text.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = shown(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {shown}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{shown}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout).trim_end(),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
