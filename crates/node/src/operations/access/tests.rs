//! Users, their sessions and tokens over a real database.

use dess_model::host::Paths;
use dess_model::{Role, Scope, Timestamp};

use super::*;
use crate::operations::{AuditQuery, OperationError, Operations};

struct Place {
    _directory: tempfile::TempDir,
    operations: Operations,
}

/// A database with the owner `boss`.
async fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths {
        state: directory.path().join("state"),
        runtime: directory.path().join("run"),
    };
    std::fs::create_dir(&paths.state).unwrap();
    let operations = Operations::new(paths);
    dess_store::Store::open(operations.database().location(), true)
        .await
        .unwrap();
    operations.user_create_first("boss", "$boss").await.unwrap();
    Place {
        _directory: directory,
        operations: operations.acting_as("web:boss@192.0.2.7"),
    }
}

fn user(name: &str, role: Role) -> UserCreate {
    UserCreate {
        name: name.into(),
        role,
        password_hash: "$hash".into(),
    }
}

fn in_a_minute() -> Timestamp {
    Timestamp(Timestamp::now().0 + 60_000)
}

async fn log_in(operations: &Operations, user: &str, token: &str) {
    let session = SessionCreate {
        token_hash: token.into(),
        user: user.into(),
        csrf: "c".into(),
        peer: "192.0.2.9".into(),
        network: "192.0.2.9".into(),
        agent: "browser".into(),
        expires: in_a_minute(),
    };
    operations.session_create(session).await.unwrap();
}

#[tokio::test]
async fn the_last_owner_who_may_log_in_stays() {
    let place = place().await;
    let operations = &place.operations;
    let lower = UserChange {
        role: Some(Role::Viewer),
        disabled: None,
    };
    let out = UserChange {
        role: None,
        disabled: Some(true),
    };
    let refused = |done: Result<(), OperationError>| {
        assert!(matches!(done, Err(OperationError::Refused(_))), "{done:?}");
    };
    operations
        .user_create(user("deputy", Role::Owner))
        .await
        .unwrap();
    operations.user_set("deputy", out).await.unwrap();
    refused(operations.user_set("boss", lower).await.map(drop));
    refused(operations.user_set("boss", out).await.map(drop));
    refused(operations.user_remove("boss").await);
    assert_eq!(operations.user_get("boss").await.unwrap().role, Role::Owner);
    let back = UserChange {
        role: None,
        disabled: Some(false),
    };
    operations.user_set("deputy", back).await.unwrap();
    operations.user_remove("boss").await.unwrap();
    refused(operations.user_remove("deputy").await);
    assert_eq!(
        operations.owner_name().await.unwrap().as_deref(),
        Some("deputy")
    );
}

#[tokio::test]
async fn who_is_disabled_or_removed_is_out_and_a_role_counts_at_once() {
    let place = place().await;
    let operations = &place.operations;
    operations
        .user_create(user("kim", Role::Operator))
        .await
        .unwrap();
    let taken = operations.user_create(user("kim", Role::Viewer)).await;
    assert!(matches!(taken, Err(OperationError::Conflict { .. })));
    log_in(operations, "kim", "one").await;
    let role = async || {
        let session = operations.session_fetch("one").await.unwrap();
        session.map(|session| session.role)
    };
    assert_eq!(role().await, Some(Role::Operator));
    let viewer = UserChange {
        role: Some(Role::Viewer),
        disabled: None,
    };
    operations.user_set("kim", viewer).await.unwrap();
    assert_eq!(role().await, Some(Role::Viewer));
    let token = TokenCreate {
        user: "kim".into(),
        name: "monitor".into(),
        scope: Scope::Read,
        token_hash: "hash".into(),
        expires: None,
    };
    operations.token_create(token).await.unwrap();
    assert!(operations.token_use("hash").await.unwrap().is_some());
    let out = UserChange {
        role: None,
        disabled: Some(true),
    };
    operations.user_set("kim", out).await.unwrap();
    assert_eq!(role().await, None);
    assert!(operations.token_use("hash").await.unwrap().is_none());
    operations.user_remove("kim").await.unwrap();
    assert!(operations.token_list(None).await.unwrap().is_empty());
    assert!(operations.user_remove("kim").await.is_err());
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions_and_a_user_ends_own_ones_alone() {
    let place = place().await;
    let operations = &place.operations;
    operations
        .user_create(user("kim", Role::Viewer))
        .await
        .unwrap();
    for token in ["aaaaaaaaaaaaaaaa1", "bbbbbbbbbbbbbbbb2"] {
        log_in(operations, "boss", token).await;
    }
    log_in(operations, "kim", "cccccccccccccccc3").await;
    let set = operations.user_password_set("boss", "$new", Some("aaaaaaaaaaaaaaaa1"));
    set.await.unwrap();
    let open = operations.session_list("boss").await.unwrap();
    assert_eq!((open.len(), open[0].id.as_str()), (1, "aaaaaaaaaaaaaaaa"));
    let foreign = operations.session_end_of("boss", "cccccccccccccccc").await;
    assert!(matches!(foreign, Err(OperationError::NotFound { .. })));
    assert_eq!(operations.session_list("kim").await.unwrap().len(), 1);
    operations
        .session_end_of("kim", "cccccccccccccccc")
        .await
        .unwrap();
    assert!(operations.session_list("kim").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_token_never_may_more_than_its_user() {
    let place = place().await;
    let operations = &place.operations;
    operations
        .user_create(user("kim", Role::Operator))
        .await
        .unwrap();
    let token = |scope, hash: &str, expires| TokenCreate {
        user: "kim".into(),
        name: hash.into(),
        scope,
        token_hash: hash.into(),
        expires,
    };
    let above = operations
        .token_create(token(Scope::Admin, "admin", None))
        .await;
    assert!(matches!(
        above,
        Err(OperationError::Invalid { field: "scope", .. })
    ));
    let past = operations
        .token_create(token(Scope::Read, "past", Some(Timestamp(1))))
        .await;
    assert!(past.is_err());
    let made = operations
        .token_create(token(Scope::Operate, "op", Some(in_a_minute())))
        .await
        .unwrap();
    let login = operations.token_use("op").await.unwrap().unwrap();
    assert_eq!(login.role, Role::Operator);
    let again = operations
        .token_create(token(Scope::Read, "op", None))
        .await;
    assert!(matches!(again, Err(OperationError::Conflict { .. })));
    let viewer = UserChange {
        role: Some(Role::Viewer),
        disabled: None,
    };
    operations.user_set("kim", viewer).await.unwrap();
    let login = operations.token_use("op").await.unwrap().unwrap();
    assert_eq!(login.role, Role::Viewer, "lowered with its user");
    assert!(login.token.last_used.is_some());
    assert!(
        operations
            .token_revoke(&made.id, Some("boss"))
            .await
            .is_err()
    );
    operations
        .token_revoke(&made.id, Some("kim"))
        .await
        .unwrap();
    assert!(operations.token_use("op").await.unwrap().is_none());
    assert!(operations.token_use("unknown").await.unwrap().is_none());
}

#[tokio::test]
async fn a_code_and_a_recovery_code_work_once() {
    let place = place().await;
    let operations = &place.operations;
    assert!(operations.second_factor_remove("boss").await.is_err());
    let factor = SecondFactor {
        secret: "KEY".into(),
        step: 100,
        recovery_hashes: vec!["r1".into(), "r2".into()],
    };
    operations.second_factor_set("boss", factor).await.unwrap();
    assert!(!operations.totp_step_use("boss", 100).await.unwrap());
    assert!(operations.totp_step_use("boss", 101).await.unwrap());
    assert!(!operations.totp_step_use("boss", 101).await.unwrap());
    assert!(!operations.totp_step_use("boss", 100).await.unwrap());
    assert!(operations.recovery_code_use("boss", "r1").await.unwrap());
    assert!(!operations.recovery_code_use("boss", "r1").await.unwrap());
    assert_eq!(operations.recovery_codes_left("boss").await.unwrap(), 1);
    operations.second_factor_remove("boss").await.unwrap();
    assert!(!operations.recovery_code_use("boss", "r2").await.unwrap());
    assert!(!operations.user_get("boss").await.unwrap().second_factor);
}

#[tokio::test]
async fn the_audit_log_says_who_from_where_and_what_changed() {
    let place = place().await;
    let operations = &place.operations;
    operations
        .user_create(user("kim", Role::Viewer))
        .await
        .unwrap();
    let change = UserChange {
        role: Some(Role::Operator),
        disabled: None,
    };
    let console = operations.acting_as("cli:root");
    console.user_set("kim", change).await.unwrap();
    let query = AuditQuery {
        action: Some("user".into()),
        subject: Some("kim".into()),
        ..AuditQuery::default()
    };
    let lines = operations.audit_find(&query, 10).await.unwrap();
    let found: Vec<_> = lines
        .iter()
        .map(|line| {
            let who = (line.actor.as_str(), line.origin.as_str());
            (who, line.action.as_str())
        })
        .collect();
    assert_eq!(
        found,
        [
            (("cli:root", "console"), "user.set"),
            (("web:boss", "192.0.2.7"), "user.create"),
        ]
    );
    let expected =
        serde_json::json!({ "before": {"role": "viewer"}, "after": {"role": "operator"} });
    assert_eq!(lines[0].details, expected);
    let next = AuditQuery {
        before: Some(lines[0].cursor()),
        ..query
    };
    let lines = operations.audit_find(&next, 10).await.unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].action, "user.create");
}
