//! The REST API of real `dess web` and `dess node` processes: the command from elsewhere, and Schemathesis.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use dess_model::host::Paths;
use dess_model::{Role, Scope};
use dess_node::operations::{Operations, TokenCreate, UserCreate};
use dess_web::ApiToken;

/// How long a service may take to start on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A site with its page and management daemon.
struct Server {
    directory: tempfile::TempDir,
    services: Vec<Child>,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        for service in &mut self.services {
            let _ = service.kill();
            let _ = service.wait();
        }
    }
}

impl Server {
    fn start() -> Self {
        let mut server = Self {
            directory: tempfile::tempdir().unwrap(),
            services: Vec::new(),
            url: String::new(),
        };
        let config = server.directory.path().join("dess.toml");
        std::fs::write(&config, "[web]\nlisten = \"127.0.0.1:0\"\n").unwrap();
        let init = [
            "init",
            "--address",
            "127.0.0.1",
            "--interface",
            "lo",
            "--subnet",
            "127.0.0.0/8",
        ];
        let done = server.here(&[&init[..], &["--mode", "proxy"]].concat());
        assert!(done.status.success(), "{}", text(&done.stderr));
        server.spawn("node");
        let line = server.spawn("web");
        server.url = line
            .split_whitespace()
            .find(|word| word.starts_with("http://"))
            .unwrap()
            .trim_end_matches('/')
            .to_owned();
        server
    }

    /// Starts a service; answers the line in which the page tells its address.
    fn spawn(&mut self, service: &str) -> String {
        let mut command = self.command(&[service]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        self.services.push(child);
        let (told, heard) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if line.contains("admin page on http://") {
                    let _ = told.send(line);
                }
            }
        });
        match service {
            "web" => heard.recv_timeout(START).expect("the page starts"),
            _ => String::new(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let path = |name: &str| self.directory.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_dess"));
        command.env_remove("DESS_SERVER").env_remove("DESS_TOKEN");
        command.arg("--config").arg(path("dess.toml"));
        command
            .arg("--state")
            .arg(path("state"))
            .arg("--runtime")
            .arg(path("run"));
        command.args(arguments);
        command
    }

    /// A command on the server itself.
    fn here(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// A command from elsewhere, which knows nothing but address and token.
    fn elsewhere(&self, token: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dess"));
        command.args(["--server", &self.url]).args(arguments);
        command.env("DESS_TOKEN", token).env_remove("DESS_SERVER");
        command.output().unwrap()
    }

    fn token(&self, user: &str, role: Role, scope: Scope) -> String {
        let paths = Paths {
            state: self.directory.path().join("state"),
            runtime: self.directory.path().join("run"),
        };
        let token = ApiToken::random();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let operations = Operations::new(paths);
            let create = UserCreate {
                name: user.into(),
                role,
                password_hash: String::new(),
            };
            operations.user_create(create).await.unwrap();
            let create = TokenCreate {
                user: user.into(),
                name: "test".into(),
                scope,
                token_hash: token.hash(),
                expires: None,
            };
            operations.token_create(create).await.unwrap();
            operations.close().await;
        });
        token.expose().to_owned()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_command_runs_another_server_with_a_token() {
    let server = Server::start();
    let token = server.token("kim", Role::Operator, Scope::Operate);
    let run = |arguments: &[&str]| server.elsewhere(&token, arguments);
    let done = |arguments: &[&str]| {
        let output = run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    };
    done(&["client", "add", "52:54:00:77:00:01", "--name", "카운터"]);
    done(&[
        "client",
        "set",
        "카운터",
        "--seat",
        "7",
        "--policy",
        "persistent",
        "--yes",
    ]);
    let far = done(&["client", "list", "--json"]);
    let near = text(&server.here(&["client", "list", "--json"]).stdout);
    assert_eq!(far, near, "the same shape from everywhere");
    assert!(done(&["client", "show", "7"]).contains("카운터"));
    assert!(done(&["group", "set", "default", "--limit-read-iops", "500"]).contains("500"));
    assert!(done(&["job", "list"]).contains("KIND"));
    assert!(done(&["image", "list"]).contains("VERSION"));
    let status = run(&["status", "--json"]);
    assert_eq!(
        status.status.code(),
        Some(3),
        "nobody looks after the services"
    );
    let seen: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(seen["clients"]["off"], 1, "{seen}");

    for (arguments, code, words) in [
        (&["client", "show", "99"][..], 4, "99"),
        (&["client", "add", "52:54:00:77:00:01"][..], 5, "카운터"),
        (&["client", "set", "7", "--seat", "0"][..], 6, "seat"),
        (&["image", "publish", "none"][..], 4, "none"),
        (&["client", "show", "7", "--secret"][..], 1, "server itself"),
        (&["db", "check"][..], 1, "server itself"),
    ] {
        let output = run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    done(&["client", "remove", "7", "--yes"]);
    assert_eq!(done(&["client", "list", "--json"]).trim(), "[]");

    let viewer = server.token("lee", Role::Viewer, Scope::Read);
    let refused = server.elsewhere(&viewer, &["client", "add", "52:54:00:77:00:02"]);
    assert_eq!(refused.status.code(), Some(8), "{}", text(&refused.stderr));
    let stranger = server.elsewhere("dess_wrong", &["client", "list"]);
    assert_eq!(
        stranger.status.code(),
        Some(8),
        "{}",
        text(&stranger.stderr)
    );
    let audit = text(&server.here(&["--json", "client", "list"]).stdout);
    assert_eq!(audit.trim(), "[]");
}

#[test]
fn a_server_that_does_not_answer_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dess"));
    command
        .args(["--server", "http://127.0.0.1:9", "status"])
        .env("DESS_TOKEN", "dess_x");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "status says what it found");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dess"));
    command
        .args(["--server", "http://127.0.0.1:9", "job", "list"])
        .env("DESS_TOKEN", "dess_x");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert!(
        text(&output.stderr).contains("127.0.0.1:9"),
        "{}",
        text(&output.stderr)
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_dess"));
    command
        .args(["--server", "http://127.0.0.1:9", "job", "list"])
        .env_remove("DESS_TOKEN");
    let output = command.output().unwrap();
    assert!(
        text(&output.stderr).contains("--token-file"),
        "{}",
        text(&output.stderr)
    );
}

/// Where `cargo xtask test` put Schemathesis.
fn schemathesis() -> Option<PathBuf> {
    let program = PathBuf::from(std::env::var_os("DESS_SCHEMATHESIS")?);
    assert!(program.exists(), "{} is not there", program.display());
    Some(program)
}

/// What the answers are held against. Whether good data is always accepted is not among it: that seats and addresses are free is
/// not for a schema to say.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,unsupported_method";

#[test]
fn schemathesis_finds_no_server_error_and_nothing_that_the_document_does_not_say() {
    let Some(program) = schemathesis() else {
        eprintln!("SKIPPED: no Schemathesis; `cargo xtask test` installs it");
        return;
    };
    let server = Server::start();
    let token = server.token("kim", Role::Owner, Scope::Admin);
    for seat in 1..=3 {
        let added = server.here(&["client", "add", &format!("52:54:00:77:00:0{seat}")]);
        assert!(added.status.success(), "{}", text(&added.stderr));
    }
    let output = run_schemathesis(&program, &server, &token);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("Fuzzing") || said.contains("Coverage"),
        "{said}"
    );
}

fn run_schemathesis(program: &Path, server: &Server, token: &str) -> Output {
    Command::new(program)
        .current_dir(server.directory.path())
        .arg("run")
        .arg(format!("{}/api/v1/openapi.json", server.url))
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--checks", CHECKS])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", "10", "--max-time", "60", "--seed", "1"])
        .args(["--workers", "1", "--request-timeout", "30", "--no-color"])
        // A stream does not end; without a supervisor nothing is restarted, and with one it would be these very services.
        .args(["--exclude-operation-id", "event_stream"])
        .args(["--exclude-operation-id", "service_restart"])
        .output()
        .unwrap()
}
