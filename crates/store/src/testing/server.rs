//! A MariaDB server of the test's own, on a free port of the loopback.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dess_model::Secret;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{DatabaseLocation, ServerList};

/// Who may do everything.
pub const USER: &str = "dess";
/// Its password.
pub const PASSWORD: &str = "a password of the tests";
/// How long a server may take to come up on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    directory: PathBuf,
    /// Removes the directory, if it is of this run alone.
    _temporary: Option<TempDir>,
    process: Option<Child>,
    /// On the loopback.
    pub port: u16,
}

impl Server {
    /// Starts a server; none, with a loud word, if MariaDB is not installed.
    pub async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// The same with further options, which count more than those of the tests.
    pub async fn start_with(options: &[String]) -> Option<Self> {
        let temporary = tempfile::tempdir().unwrap();
        let mut server = Self::start_in(temporary.path().to_owned(), options).await?;
        server._temporary = Some(temporary);
        Some(server)
    }

    /// Starts a server whose files are in `directory`, and stay there; made if they are missing.
    pub async fn start_in(directory: PathBuf, options: &[String]) -> Option<Self> {
        if !Path::new("/usr/sbin/mariadbd").exists() {
            eprintln!("SKIPPED: MariaDB is not installed (apt-get install mariadb-server)");
            return None;
        }
        if !directory.join("users.sql").exists() {
            fs::create_dir_all(&directory).unwrap();
            install(&directory);
        }
        // The port is free now, and another process may take it: then the next one is tried.
        for _ in 0..5 {
            let port = free_port();
            let mut process = launch(&directory, port, options);
            if is_up(port, &mut process).await {
                return Some(Self {
                    directory,
                    _temporary: None,
                    process: Some(process),
                    port,
                });
            }
        }
        let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
        panic!("mariadbd does not come up: {log}");
    }

    /// A database of its own, made empty.
    pub fn database(&self, name: &str) -> DatabaseLocation {
        self.sql(&format!(
            "CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET latin1"
        ));
        DatabaseLocation::Servers(at(&[self.port], name))
    }

    /// Where it keeps its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs statements as root; answers what they print.
    pub fn sql(&self, statements: &str) -> String {
        let output = Command::new("mariadb")
            .args([
                "--no-defaults",
                "--batch",
                "--skip-column-names",
                "--user=root",
            ])
            .arg(format!("--socket={}", self.directory.join("s").display()))
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

    /// Stops it in order.
    pub fn stop(&mut self) {
        self.sql("SHUTDOWN");
        if let Some(mut process) = self.process.take() {
            process.wait().unwrap();
        }
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it again on its port.
    pub async fn start_again(&mut self) {
        let mut process = launch(&self.directory, self.port, &[]);
        assert!(is_up(self.port, &mut process).await);
        self.process = Some(process);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may be dead already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The database `name` on the servers at these ports.
pub fn at(ports: &[u16], name: &str) -> ServerList {
    let urls: Vec<String> = ports
        .iter()
        .map(|port| format!("mariadb://{USER}@127.0.0.1:{port}/{name}"))
        .collect();
    ServerList::parse(&urls, Secret::new(PASSWORD)).unwrap()
}

/// Makes the files of a server with the tests' user.
pub(crate) fn install(directory: &Path) {
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
pub(crate) fn launch(directory: &Path, port: u16, options: &[String]) -> Child {
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

/// True if the tests run as root.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// A port that is free now.
pub fn free_port() -> u16 {
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
