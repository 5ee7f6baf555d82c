//! Where a site's database is.

use std::fmt;
use std::path::PathBuf;

use dess_model::Secret;

/// Where a site's database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseLocation {
    /// A SQLite file.
    File(PathBuf),
    /// A database on one or several MariaDB servers (Galera).
    Servers(ServerList),
}

impl fmt::Display for DatabaseLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Servers(servers) => servers.fmt(f),
        }
    }
}

/// The servers of one MariaDB database, in the order in which they are used: the first one that
/// works takes all transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerList {
    first: ServerAddress,
    others: Vec<ServerAddress>,
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) password: Secret,
}

/// Host and port of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerAddress {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Why a list of URLs names no database. The text never holds the URL: there may be a password in
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// There is none.
    #[error("the list of database servers is empty")]
    Empty,
    /// One is none of a MariaDB database.
    #[error(
        "database server {position}: {reason}; it is written mariadb://USER@HOST[:PORT]/DATABASE"
    )]
    Url {
        /// Which, from 1.
        position: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// They do not belong together.
    #[error("database server {position} has another user or database than the first one")]
    Different {
        /// Which, from 1.
        position: usize,
    },
}

impl ServerList {
    /// The servers at `urls` (`mariadb://USER@HOST[:PORT]/DATABASE`), all with one password.
    ///
    /// # Errors
    /// If a URL cannot be understood or holds a password, or they name different databases.
    pub fn parse<Url: AsRef<str>>(urls: &[Url], password: Secret) -> Result<Self, LocationError> {
        let mut parsed = Vec::new();
        for (index, url) in urls.iter().enumerate() {
            let position = index + 1;
            let url = parse_url(url.as_ref())
                .map_err(|reason| LocationError::Url { position, reason })?;
            parsed.push(url);
        }
        let mut parsed = parsed.into_iter();
        let first = parsed.next().ok_or(LocationError::Empty)?;
        let mut others = Vec::new();
        for (index, other) in parsed.enumerate() {
            if (&other.user, &other.name) != (&first.user, &first.name) {
                let position = index + 2;
                return Err(LocationError::Different { position });
            }
            others.push(other.address);
        }
        Ok(Self {
            first: first.address,
            others,
            name: first.name,
            user: first.user,
            password,
        })
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = &ServerAddress> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl fmt::Display for ServerList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mariadb://{}", self.first)?;
        for other in &self.others {
            write!(f, ",{other}")?;
        }
        write!(f, "/{}", self.name)
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

struct Parsed {
    user: String,
    address: ServerAddress,
    name: String,
}

/// Port of MariaDB.
const PORT: u16 = 3306;

fn parse_url(url: &str) -> Result<Parsed, &'static str> {
    let rest = url
        .strip_prefix("mariadb://")
        .or_else(|| url.strip_prefix("mysql://"))
        .ok_or("it does not begin with mariadb://")?;
    let (user, rest) = rest.rsplit_once('@').ok_or("it names no user")?;
    if user.contains(':') {
        return Err("it holds a password, which belongs into a file of its own");
    }
    let (host, name) = rest.split_once('/').ok_or("it names no database")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if user.is_empty() || !user.chars().all(plain) {
        return Err("the user has other characters than letters, digits, _, - and .");
    }
    if name.is_empty() || name.len() > 64 || !name.chars().all(|c| plain(c) && c != '.') {
        return Err("the database has other characters than letters, digits, _ and -");
    }
    let (host, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or("a bracket is not closed")?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    if host.is_empty() {
        return Err("it names no host");
    }
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().map_err(|_| "the port is not a number")?,
        None if port.is_empty() => PORT,
        None => return Err("something follows the host that is not a port"),
    };
    Ok(Parsed {
        user: user.to_owned(),
        address: ServerAddress {
            host: host.to_owned(),
            port,
        },
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(urls: &[&str]) -> Result<ServerList, LocationError> {
        ServerList::parse(urls, Secret::new("s3cret"))
    }

    #[test]
    fn several_servers_hold_one_database() {
        let list = parse(&[
            "mariadb://dess@10.0.0.1/site_1",
            "mysql://dess@db2.example:3307/site_1",
            "mariadb://dess@[fd00::3]:3308/site_1",
        ])
        .unwrap();
        assert_eq!(
            list.to_string(),
            "mariadb://10.0.0.1:3306,db2.example:3307,[fd00::3]:3308/site_1"
        );
        assert!(!format!("{list:?}").contains("s3cret"));
    }

    #[test]
    fn a_wrong_url_is_named_by_its_place_and_never_repeated() {
        for (urls, words) in [
            (vec![], "empty"),
            (vec!["mariadb://dess:hunter2@h/d"], "password"),
            (vec!["postgres://dess@h/d"], "mariadb://"),
            (vec!["mariadb://h/d"], "user"),
            (vec!["mariadb://dess@h"], "database"),
            (vec!["mariadb://dess@h/"], "database"),
            (vec!["mariadb://dess@/d"], "host"),
            (vec!["mariadb://dess@h:x/d"], "port"),
            (vec!["mariadb://dess@[fd00::3/d"], "bracket"),
            (vec!["mariadb://dess@[fd00::3]3/d"], "follows"),
            (vec!["mariadb://dess@h/d", "mariadb://dess@h/e"], "server 2"),
            (vec!["mariadb://dess@h/d", "mariadb://e@h/d"], "server 2"),
        ] {
            let text = parse(&urls).unwrap_err().to_string();
            assert!(text.contains(words) && !text.contains("hunter2"), "{text}");
        }
    }
}
