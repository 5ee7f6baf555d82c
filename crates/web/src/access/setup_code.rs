//! The one-time code that proves that the person at the first page is also at the server.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use dess_model::host::Paths;
use rand::RngExt;
use subtle::ConstantTimeEq;

/// Letters of a code: no 0/O, 1/I/L.
const LETTERS: &[u8; 31] = b"ABCDEFGHJKMNPQRSTUVWXYZ23456789";
/// Letters in a code (40 bits).
const CODE_LETTERS: usize = 8;

fn path(paths: &Paths) -> PathBuf {
    paths.runtime.join("setup-code")
}

/// The set-up code that waits to be used; none once the owner's account exists.
///
/// # Errors
/// If the file cannot be read.
pub fn setup_code(paths: &Paths) -> io::Result<Option<String>> {
    match File::open(path(paths)) {
        Ok(file) => {
            let mut text = String::new();
            file.take(64).read_to_string(&mut text)?;
            Ok(Some(text.trim().to_owned()).filter(|code| !code.is_empty()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The waiting code, made now if there is none. True if it is new.
pub(crate) fn setup_code_provide(paths: &Paths) -> io::Result<(String, bool)> {
    if let Some(code) = setup_code(paths)? {
        return Ok((code, false));
    }
    let code = random_code();
    let path = path(paths);
    let temporary = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    writeln!(file, "{code}")?;
    fs::rename(&temporary, &path)?;
    Ok((code, true))
}

/// True if `entered` is the waiting code; case, spaces and hyphens do not matter.
pub(crate) fn setup_code_matches(paths: &Paths, entered: &str) -> io::Result<bool> {
    let Some(code) = setup_code(paths)? else {
        return Ok(false);
    };
    Ok(normal(&code)
        .as_bytes()
        .ct_eq(normal(entered).as_bytes())
        .into())
}

/// Takes the code out of use.
pub(crate) fn setup_code_discard(paths: &Paths) {
    if let Err(error) = fs::remove_file(path(paths))
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "cannot remove {}", path(paths).display());
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

    use super::*;

    #[test]
    fn the_code_is_kept_private_and_works_until_discarded() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths {
            state: directory.path().into(),
            runtime: directory.path().into(),
        };
        assert!(!setup_code_matches(&paths, "").unwrap());
        let (code, new) = setup_code_provide(&paths).unwrap();
        assert!(new);
        assert_eq!(setup_code_provide(&paths).unwrap(), (code.clone(), false));
        let mode = fs::metadata(path(&paths)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(setup_code_matches(&paths, &code.to_lowercase().replace('-', " ")).unwrap());
        assert!(!setup_code_matches(&paths, "AAAA-AAAA-A").unwrap());
        assert!(!setup_code_matches(&paths, "").unwrap());
        setup_code_discard(&paths);
        assert_eq!(setup_code(&paths).unwrap(), None);
        assert!(!setup_code_matches(&paths, &code).unwrap());
    }
}
