//! No secret gets into a log or into an answer that it was not asked for.

use std::io::Write;
use std::sync::{Arc, Mutex};

use dess_node::operations::UserCreate;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::access::{ApiToken, TotpKey, reset_code_issue};

/// Everything that is logged, at the finest level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn known_secrets_are_in_no_log_answer_or_audit_line() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut hall = Hall::logged_in().await;
    let csrf = hall.csrf().await;
    let mut answers = String::new();
    let mut secrets = vec![("password", PASSWORD.to_owned())];
    let session = hall.cookies[0].1.clone();
    secrets.push(("session", session));
    secrets.push((
        "set-up or reset code",
        reset_code_issue(&hall.app.paths).unwrap(),
    ));

    let client = hall.add(1, "PC-01").await;
    secrets.push(("CHAP", chap_of(&hall, client.id).await));
    let token = ApiToken::random();
    let create = dess_node::operations::TokenCreate {
        user: "admin".into(),
        name: "monitor".into(),
        scope: dess_model::Scope::Admin,
        token_hash: token.hash(),
        expires: None,
    };
    hall.operations.token_create(create).await.unwrap();
    secrets.push(("token", token.expose().to_owned()));
    secrets.push(("token's hash", token.hash()));
    let key = TotpKey::random();
    let user = UserCreate {
        name: "kim".into(),
        role: dess_model::Role::Viewer,
        password_hash: "$argon2id$hash-of-kim".into(),
    };
    hall.operations.user_create(user).await.unwrap();
    secrets.push(("password's hash", "hash-of-kim".into()));
    let factor = dess_node::operations::SecondFactor {
        secret: key.base32(),
        step: 1,
        recovery_hashes: vec!["hash-of-a-recovery-code".into()],
    };
    hall.operations
        .second_factor_set("kim", factor)
        .await
        .unwrap();
    secrets.push(("key of the second factor", key.base32()));
    secrets.push(("recovery code's hash", "hash-of-a-recovery-code".into()));

    let id = client.id;
    for path in [
        "/".to_owned(),
        "/images".into(),
        "/account".into(),
        "/users".into(),
        "/users/kim".into(),
        "/users/admin".into(),
        "/audit".into(),
        "/setup".into(),
        "/login".into(),
        "/services/iscsi".into(),
        "/nothing".into(),
        format!("/clients/{id}"),
        format!("/clients/{id}/reset"),
        "/api/v1/clients".into(),
        "/api/v1/session".into(),
        "/api/v1/audit".into(),
    ] {
        answers.push_str(&hall.get(&path).await.text);
    }
    let bearer = format!("Bearer {}", token.expose());
    for path in ["/api/v1/clients", "/api/v1/nothing", "/api/v1/session"] {
        let request = Request::get(path).header("authorization", &bearer);
        let answer = hall.send(request.body(Body::empty()).unwrap()).await;
        answers.push_str(&answer.text);
    }
    for (path, fields) in [
        (
            "/account/password",
            vec![
                ("present", PASSWORD),
                ("password", PASSWORD),
                ("again", "x"),
            ],
        ),
        ("/account/totp/off", vec![("password", PASSWORD)]),
        (
            "/users/kim",
            vec![("role", "operator"), ("disabled", "false")],
        ),
        ("/login", vec![("name", "admin"), ("password", PASSWORD)]),
        ("/login", vec![("name", "nobody"), ("password", PASSWORD)]),
        (
            "/setup",
            vec![("code", "X"), ("password", PASSWORD), ("again", PASSWORD)],
        ),
    ] {
        let mut all = vec![("csrf", csrf.as_str())];
        all.extend(fields);
        answers.push_str(&hall.post(path, &all).await.text);
    }
    let audit = hall.operations.audit_list(1000).await.unwrap();
    let audit = serde_json::to_string(&audit).unwrap();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("login refused"), "the log is looked at: {log}");
    assert!(audit.contains("user.set") && answers.contains("PC-01"));
    for (what, secret) in &secrets {
        assert!(secret.len() >= 8, "{what}: {secret}");
        for (place, text) in [("log", &log), ("answers", &answers), ("audit log", &audit)] {
            assert!(!text.contains(secret.as_str()), "{what} is in the {place}");
        }
    }
}

/// The CHAP secret as the snapshot of the data path holds it.
async fn chap_of(hall: &Hall, id: dess_model::ClientId) -> String {
    let store = hall.operations.database().store().await.unwrap();
    let mut tx = store.read().await.unwrap();
    let clients = tx.client_list().await.unwrap();
    let client = clients.into_iter().find(|client| client.id == id).unwrap();
    client.iscsi.chap_secret.expose().to_owned()
}
