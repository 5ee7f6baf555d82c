//! `[database]`: where the site's database is, and its backups.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use dess_model::Secret;
use dess_model::host::Paths;
use dess_store::{Database, DatabaseLocation, ServerList};
use serde::Deserialize;

/// Longest password in bytes.
const PASSWORD_MAX: u64 = 1024;

/// `[database]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DatabaseSection {
    /// SQLite file. Default `dess.db` in the state directory.
    file: Option<PathBuf>,
    /// MariaDB servers instead of a file, each `mariadb://USER@HOST[:PORT]/DATABASE`, in the order
    /// in which they are used: the first one that works. Give all nodes of a Galera cluster, in the
    /// same order on every server of the site.
    servers: Vec<String>,
    /// File with the password of the database user. Nobody but its owner may read it.
    password_file: Option<PathBuf>,
    /// Backups of a SQLite file that are kept, one a day; 0 for none. Default 14.
    pub(crate) backups_kept: u32,
}

impl Default for DatabaseSection {
    fn default() -> Self {
        Self {
            file: None,
            servers: Vec::new(),
            password_file: None,
            backups_kept: 14,
        }
    }
}

impl DatabaseSection {
    /// The database that the section names.
    pub(crate) fn database(&self, paths: &Paths) -> Result<Database> {
        Ok(Database::at(self.location(paths)?))
    }

    fn location(&self, paths: &Paths) -> Result<DatabaseLocation> {
        if self.servers.is_empty() {
            ensure!(
                self.password_file.is_none(),
                "password_file in the section [database] is of use only with servers"
            );
            let file = self.file.clone().unwrap_or_else(|| paths.database());
            return Ok(DatabaseLocation::File(file));
        }
        ensure!(
            self.file.is_none(),
            "file and servers in the section [database] exclude each other"
        );
        let password = match &self.password_file {
            Some(file) => read_password(file)
                .with_context(|| format!("the database password in {}", file.display()))?,
            None => Secret::new(""),
        };
        let servers = ServerList::parse(&self.servers, password)
            .context("servers in the section [database]")?;
        Ok(DatabaseLocation::Servers(servers))
    }
}

fn read_password(path: &Path) -> Result<Secret> {
    let file = File::open(path).context("cannot read it")?;
    let meta = file.metadata().context("cannot read it")?;
    ensure!(meta.is_file(), "it is not a plain file");
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!(
            "others than its owner may read it (mode {mode:o}); run: chmod 600 {}",
            path.display()
        );
    }
    let mut text = String::new();
    file.take(PASSWORD_MAX + 1)
        .read_to_string(&mut text)
        .context("cannot read it")?;
    ensure!(text.len() as u64 <= PASSWORD_MAX, "it is too long");
    let password = text.trim_end_matches(['\r', '\n']);
    ensure!(!password.is_empty(), "it is empty");
    ensure!(!password.contains('\n'), "it has more than one line");
    Ok(Secret::new(password))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn section(text: &str) -> DatabaseSection {
        toml::from_str(text).unwrap()
    }

    fn paths() -> Paths {
        Paths {
            state: "/s".into(),
            runtime: "/r".into(),
        }
    }

    #[test]
    fn without_a_word_it_is_the_file_in_the_state_directory() {
        let found = section("").location(&paths()).unwrap();
        assert_eq!(found, DatabaseLocation::File("/s/dess.db".into()));
        let found = section("file = '/d/x.db'").location(&paths()).unwrap();
        assert_eq!(found, DatabaseLocation::File("/d/x.db".into()));
    }

    #[test]
    fn a_password_that_others_may_read_is_refused_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        fs::write(&file, "hunter2\n").unwrap();
        let text = format!(
            "servers = ['mariadb://dess@10.0.0.1/dess']\npassword_file = '{}'",
            file.display()
        );
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let error = format!("{:#}", section(&text).location(&paths()).unwrap_err());
        assert!(
            error.contains("chmod 600") && !error.contains("hunter2"),
            "{error}"
        );

        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let found = section(&text).location(&paths()).unwrap();
        assert_eq!(found.to_string(), "mariadb://10.0.0.1:3306/dess");
        assert!(!format!("{found:?}").contains("hunter2"));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (text, words) in [
            ("file = 'x'\nservers = ['mariadb://d@h/d']", "exclude"),
            ("password_file = 'x'", "only with servers"),
            ("servers = ['mariadb://d:secret@h/d']", "password"),
        ] {
            let error = format!("{:#}", section(text).location(&paths()).unwrap_err());
            assert!(
                error.contains(words) && !error.contains(":secret"),
                "{error}"
            );
        }
    }
}
