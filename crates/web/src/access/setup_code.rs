//! The one-time codes that prove that the person at the page is also at the server: one for the
//! first set-up, one for a forgotten password.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dess_model::host::Paths;
use rand::RngExt;
use subtle::ConstantTimeEq;

/// Letters of a code: no 0/O, 1/I/L.
const LETTERS: &[u8; 31] = b"ABCDEFGHJKMNPQRSTUVWXYZ23456789";
/// Letters in a code (40 bits).
const CODE_LETTERS: usize = 8;

/// How long a password can be reset with a code: 30 minutes.
pub const RESET_CODE_VALID: Duration = Duration::from_secs(30 * 60);

/// What a code is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodeUse {
    /// The owner's account is made with it.
    Setup,
    /// The owner's password is set anew with it.
    Reset,
}

fn path(paths: &Paths, code_use: CodeUse) -> PathBuf {
    paths.runtime.join(match code_use {
        CodeUse::Setup => "setup-code",
        CodeUse::Reset => "reset-code",
    })
}

/// The set-up code that waits to be used; none once the owner's account exists.
///
/// # Errors
/// If the file cannot be read.
pub fn setup_code(paths: &Paths) -> io::Result<Option<String>> {
    waiting_code(paths, CodeUse::Setup)
}

/// Makes a code with which the page lets the owner set a new password, for
/// [`RESET_CODE_VALID`]; an earlier one is void. The running web service knows it at once.
///
/// # Errors
/// If the runtime directory cannot be written.
pub fn reset_code_issue(paths: &Paths) -> io::Result<String> {
    let code = random_code();
    write(&path(paths, CodeUse::Reset), &code)?;
    Ok(code)
}

/// The code of this use that waits to be used and has not run out.
pub(crate) fn waiting_code(paths: &Paths, code_use: CodeUse) -> io::Result<Option<String>> {
    let file = match File::open(path(paths, code_use)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if code_use == CodeUse::Reset {
        // A clock that was set back since makes it older than it is: void is the safe side.
        let age = file.metadata()?.modified()?.elapsed().ok();
        if age.is_none_or(|age| age >= RESET_CODE_VALID) {
            return Ok(None);
        }
    }
    let mut text = String::new();
    file.take(64).read_to_string(&mut text)?;
    Ok(Some(text.trim().to_owned()).filter(|code| !code.is_empty()))
}

/// The waiting set-up code, made now if there is none. True if it is new.
pub(crate) fn setup_code_provide(paths: &Paths) -> io::Result<(String, bool)> {
    if let Some(code) = setup_code(paths)? {
        return Ok((code, false));
    }
    let code = random_code();
    write(&path(paths, CodeUse::Setup), &code)?;
    Ok((code, true))
}

/// Whole and private, or not at all.
fn write(path: &Path, code: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    writeln!(file, "{code}")?;
    fs::rename(&temporary, path)
}

/// True if `entered` is the waiting code; case, spaces and hyphens do not matter.
pub(crate) fn code_matches(paths: &Paths, code_use: CodeUse, entered: &str) -> io::Result<bool> {
    let Some(code) = waiting_code(paths, code_use)? else {
        return Ok(false);
    };
    Ok(normal(&code)
        .as_bytes()
        .ct_eq(normal(entered).as_bytes())
        .into())
}

/// Takes the code out of use.
pub(crate) fn code_discard(paths: &Paths, code_use: CodeUse) {
    let path = path(paths, code_use);
    if let Err(error) = fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "cannot remove {}", path.display());
    }
}

fn random_code() -> String {
    let mut rng = rand::rng();
    let mut code = String::new();
    for index in 0..CODE_LETTERS {
        if index == CODE_LETTERS / 2 {
            code.push('-');
        }
        code.push(char::from(LETTERS[rng.random_range(0..LETTERS.len())]));
    }
    code
}

fn normal(code: &str) -> String {
    code.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_uppercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::SystemTime;

    use super::*;

    fn paths(directory: &tempfile::TempDir) -> Paths {
        Paths {
            state: directory.path().into(),
            runtime: directory.path().into(),
        }
    }

    fn is_private(paths: &Paths, code_use: CodeUse) -> bool {
        let mode = fs::metadata(path(paths, code_use)).unwrap().permissions();
        mode.mode() & 0o777 == 0o600
    }

    #[test]
    fn the_code_is_kept_private_and_works_until_discarded() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(&directory);
        let matches = |entered: &str| code_matches(&paths, CodeUse::Setup, entered).unwrap();
        assert!(!matches(""));
        let (code, new) = setup_code_provide(&paths).unwrap();
        assert!(new);
        assert_eq!(setup_code_provide(&paths).unwrap(), (code.clone(), false));
        assert!(is_private(&paths, CodeUse::Setup));
        assert!(matches(&code.to_lowercase().replace('-', " ")));
        assert!(!matches("AAAA-AAAA-A"));
        assert!(!matches(""));
        code_discard(&paths, CodeUse::Setup);
        assert_eq!(setup_code(&paths).unwrap(), None);
        assert!(!matches(&code));
    }

    #[test]
    fn a_reset_code_replaces_the_one_before_and_runs_out() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(&directory);
        let matches = |entered: &str| code_matches(&paths, CodeUse::Reset, entered).unwrap();
        let first = reset_code_issue(&paths).unwrap();
        let second = reset_code_issue(&paths).unwrap();
        assert!(is_private(&paths, CodeUse::Reset));
        assert!(matches(&second) && !matches(&first));
        assert!(!code_matches(&paths, CodeUse::Setup, &second).unwrap());
        let age = |age: Duration| {
            let file = File::options()
                .write(true)
                .open(path(&paths, CodeUse::Reset));
            let at = SystemTime::now() - age;
            file.unwrap().set_modified(at).unwrap();
        };
        age(RESET_CODE_VALID - Duration::from_secs(60));
        assert!(matches(&second));
        age(RESET_CODE_VALID);
        assert!(!matches(&second));
    }
}
