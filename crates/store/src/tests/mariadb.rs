//! What holds for MariaDB servers alone: they come and go.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::testing::{At, Cutter, Server, at};

#[tokio::test]
async fn an_empty_database_is_not_filled_in_passing() {
    let Some(server) = Server::start().await else {
        return;
    };
    let location = server.database("empty");
    let error = Database::at(location).store().await.unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error:?}");
    assert_eq!(server.sql("SHOW TABLES FROM empty"), "");
}

#[tokio::test]
async fn a_wrong_password_is_named_and_not_repeated() {
    let Some(server) = Server::start().await else {
        return;
    };
    server.database("locked");
    let urls = [format!("mariadb://dess@127.0.0.1:{}/locked", server.port)];
    let list = ServerList::parse(&urls, Secret::new("not the password")).unwrap();
    let error = Store::open(&DatabaseLocation::Servers(list), true)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
    let text = format!("{error} {error:?}");
    assert!(text.contains("127.0.0.1") && !text.contains("not the password"));
}

#[tokio::test]
async fn when_the_server_in_use_dies_the_next_one_takes_over() {
    let (Some(mut first), Some(second)) = (Server::start().await, Server::start().await) else {
        return;
    };
    for server in [&first, &second] {
        site_at(server.database("moving")).await;
    }
    let list = at(&[first.port, second.port], "moving");
    let database = Database::at(DatabaseLocation::Servers(list));
    let store = database.store().await.unwrap();
    let raise = async || {
        store
            .transact(|mut tx| async move { tx.revision_raise(0).await })
            .await
    };
    let revision = |server: &Server| {
        server
            .sql("SELECT revision FROM moving.site")
            .trim()
            .to_owned()
    };
    raise().await.unwrap();
    assert_eq!(
        (revision(&first), revision(&second)),
        ("1".into(), "0".into())
    );
    let before = database.change_counter().await.unwrap();

    first.kill();
    raise().await.unwrap();
    raise().await.unwrap();
    assert_eq!(revision(&second), "2");
    let mut tx = store.read().await.unwrap();
    assert_eq!(tx.site_fetch().await.unwrap().unwrap().revision, 2);
    assert_ne!(database.change_counter().await.unwrap(), before);
}

#[tokio::test]
async fn without_any_server_it_says_so_and_works_again_when_one_is_back() {
    let Some(mut server) = Server::start().await else {
        return;
    };
    let site = site_at(server.database("away")).await;
    server.kill();
    let error = site.database.change_counter().await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("/away"), "{error}");
    server.start_again().await;
    insert(&site.store, &client(site.group, 1)).await.unwrap();
    let mut tx = site.store.read().await.unwrap();
    assert_eq!(tx.client_list().await.unwrap().len(), 1);
}

/// A site behind a cutter.
async fn site_behind(server: &Server, name: &str, at_packet: At, hand_on: bool) -> (Site, Cutter) {
    server.database(name);
    let cutter = Cutter::start(server.port, at_packet, hand_on).await;
    let site = site_at(DatabaseLocation::Servers(at(&[cutter.port], name))).await;
    (site, cutter)
}

#[tokio::test]
async fn a_commit_that_is_not_answered_takes_effect_once() {
    let Some(server) = Server::start().await else {
        return;
    };
    for (name, handed_on) in [("saved", true), ("not_saved", false)] {
        let (site, cutter) = site_behind(&server, name, At::Commit, handed_on).await;
        let runs = &AtomicU32::new(0);
        cutter.arm(1);
        let answer = site
            .store
            .transact(|mut tx| async move {
                let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
                tx.revision_raise(0).await?;
                Ok::<_, StoreError>(run)
            })
            .await
            .unwrap();
        assert_eq!(cutter.cuts(), 1);
        // A saved one is not run again, and its own answer is given.
        let expected = if handed_on { 1 } else { 2 };
        assert_eq!(
            (answer, runs.load(Ordering::SeqCst)),
            (expected, expected),
            "{name}"
        );
        let mut tx = site.store.read().await.unwrap();
        assert_eq!(
            tx.site_fetch().await.unwrap().unwrap().revision,
            1,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_connection_cut_at_any_packet_of_a_change_loses_and_doubles_nothing() {
    let Some(server) = Server::start().await else {
        return;
    };
    for (name, hand_on) in [("cut_after", true), ("cut_before", false)] {
        let (site, cutter) = site_behind(&server, name, At::Any, hand_on).await;
        let mut changes = 0;
        for packet in 1.. {
            let cuts = cutter.cuts();
            cutter.arm(packet);
            let (store, group) = (&site.store, site.group);
            changes += 1;
            store
                .transact(|mut tx| async move {
                    tx.client_insert(&client(group, changes)).await?;
                    tx.revision_raise(0).await
                })
                .await
                .unwrap();
            if cutter.cuts() == cuts {
                break;
            }
        }
        cutter.arm(i64::MAX);
        assert!(changes > 8, "a change has more packets than {changes}");
        let mut tx = site.store.read().await.unwrap();
        let seats = tx.client_list().await.unwrap().len();
        let revision = tx.site_fetch().await.unwrap().unwrap().revision;
        assert_eq!(
            (seats, revision),
            (changes as usize, u64::from(changes)),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_transaction_that_loses_a_deadlock_is_run_again() {
    let Some(server) = Server::start().await else {
        return;
    };
    let site = site_at(server.database("deadlock")).await;
    insert(&site.store, &client(site.group, 1)).await.unwrap();
    let (runs, port) = (&AtomicU32::new(0), server.port);
    site.store
        .transact(|mut tx| async move {
            let mut found = tx.client_list().await?.remove(0);
            found.seat = 5;
            if runs.fetch_add(1, Ordering::SeqCst) > 0 {
                return tx.client_update(&found).await;
            }
            // Another program has a row that this transaction wants, and wants its turn. This one
            // has changed nothing yet, so it is the one that loses.
            let mut other = other_program(port, "deadlock").await;
            sqlx::raw_sql("START TRANSACTION; UPDATE clients SET name = 'x'")
                .execute(&mut other)
                .await
                .unwrap();
            let waits = tokio::spawn(async move {
                sqlx::raw_sql("UPDATE writer_turn SET changes = changes; ROLLBACK")
                    .execute(&mut other)
                    .await
            });
            let lost = tx.client_update(&found).await;
            waits.await.unwrap().unwrap();
            lost
        })
        .await
        .unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    let mut tx = site.store.read().await.unwrap();
    let clients = tx.client_list().await.unwrap();
    assert_eq!((clients[0].seat, clients[0].name.as_str()), (5, "좌석-1"));
}

async fn other_program(port: u16, database: &str) -> sqlx::mysql::MySqlConnection {
    let options = sqlx::mysql::MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(port)
        .username("dess")
        .password("a password of the tests")
        .database(database);
    sqlx::ConnectOptions::connect(&options).await.unwrap()
}
