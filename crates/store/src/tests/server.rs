//! A MariaDB server of the test's own, on a free port of the loopback.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dess_model::Secret;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{DatabaseLocation, ServerList};

pub(super) const USER: &str = "dess";
pub(super) const PASSWORD: &str = "a password of the tests";
/// How long a server may take to come up on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);

/// A running server; killed when dropped.
pub(super) struct Server {
    directory: TempDir,
    process: Child,
    pub(super) port: u16,
}

impl Server {
    /// Starts a server; none, with a loud word, if MariaDB is not installed.
    pub(super) async fn start() -> Option<Self> {
        if !Path::new("/usr/sbin/mariadbd").exists() {
            eprintln!("SKIPPED: MariaDB is not installed (apt-get install mariadb-server)");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        install(directory.path());
        // The port is free now, and another process may take it: then the next one is tried.
        for _ in 0..5 {
            let port = free_port();
            let mut process = launch(directory.path(), port, &[]);
            if is_up(port, &mut process).await {
                return Some(Self {
                    directory,
                    process,
                    port,
                });
            }
        }
        let log = fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        panic!("mariadbd does not come up: {log}");
    }

    /// A database of its own, made empty.
    pub(super) fn database(&self, name: &str) -> DatabaseLocation {
        self.sql(&format!(
            "CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET latin1"
        ));
        DatabaseLocation::Servers(at(&[self.port], name))
    }

    /// Where it keeps its files.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Runs statements as root; answers what they print.
    pub(super) fn sql(&self, statements: &str) -> String {
        let output = Command::new("mariadb")
            .args([
                "--no-defaults",
                "--batch",
                "--skip-column-names",
                "--user=root",
            ])
            .arg(format!(
                "--socket={}",
                self.directory.path().join("s").display()
            ))
            .args(["--execute", statements])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Kills it as a power cut would.
    pub(super) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again on its port.
    pub(super) async fn start_again(&mut self) {
        self.process = launch(self.directory.path(), self.port, &[]);
        assert!(is_up(self.port, &mut self.process).await);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The database `name` on the servers at these ports.
pub(super) fn at(ports: &[u16], name: &str) -> ServerList {
    let urls: Vec<String> = ports
        .iter()
        .map(|port| format!("mariadb://{USER}@127.0.0.1:{port}/{name}"))
        .collect();
    ServerList::parse(&urls, Secret::new(PASSWORD)).unwrap()
}

pub(super) fn install(directory: &Path) {
    let output = Command::new("mariadb-install-db")
        .args(["--no-defaults", "--skip-test-db", "--skip-name-resolve"])
        .arg("--auth-root-authentication-method=normal")
        .arg(format!("--tmpdir={}", directory.display()))
        .arg(format!("--datadir={}", directory.join("data").display()))
        .args(user())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let statements = format!(
        "CREATE USER IF NOT EXISTS {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n\
         GRANT ALL ON *.* TO {USER}@'127.0.0.1';\n"
    );
    fs::write(directory.join("users.sql"), statements).unwrap();
}

/// Starts a server on what `install` made, with further options.
pub(super) fn launch(directory: &Path, port: u16, options: &[String]) -> Child {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(directory.join("log"))
        .unwrap();
    Command::new("/usr/sbin/mariadbd")
        .args([
            "--no-defaults",
            "--skip-name-resolve",
            "--bind-address=127.0.0.1",
        ])
        .args([
            "--innodb-buffer-pool-size=16M",
            "--innodb-log-file-size=16M",
        ])
        // No power is cut here, and what a killed server wrote stays.
        .args([
            "--innodb-flush-log-at-trx-commit=2",
            "--skip-innodb-doublewrite",
        ])
        // As a server may be that nobody configured for us.
        .arg("--character-set-server=latin1")
        .arg(format!("--tmpdir={}", directory.display()))
        .arg(format!("--datadir={}", directory.join("data").display()))
        .arg(format!("--socket={}", directory.join("s").display()))
        .arg(format!("--pid-file={}", directory.join("pid").display()))
        .arg(format!(
            "--init-file={}",
            directory.join("users.sql").display()
        ))
        .arg(format!("--port={port}"))
        // It keeps to the first user that it is told.
        .args(options)
        .args(user())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// MariaDB runs as root only when told so.
fn user() -> Option<&'static str> {
    is_root().then_some("--user=root")
}

pub(super) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Waits until the tests' user can log in; false if the server ended.
async fn is_up(port: u16, process: &mut Child) -> bool {
    let deadline = Instant::now() + START_MAX;
    let options = MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(port)
        .username(USER)
        .password(PASSWORD)
        .disable_statement_logging();
    while process.try_wait().unwrap().is_none() && Instant::now() < deadline {
        if let Ok(connection) = MySqlConnection::connect_with(&options).await {
            connection.close().await.unwrap();
            return true;
        }
        sleep(Duration::from_millis(50)).await;
    }
    false
}
