//! What the repositories promise on every database.

use super::*;

pub(super) async fn records_come_back_as_they_went_in(site: Site) {
    let record = client(site.group, 3);
    insert(&site.store, &record).await.unwrap();
    let mut tx = site.store.read().await.unwrap();
    assert_eq!(
        tx.client_list().await.unwrap(),
        std::slice::from_ref(&record)
    );
    assert_eq!(
        tx.client_fetch_by_mac(record.mac).await.unwrap(),
        Some(record)
    );
    assert_eq!(tx.site_fetch().await.unwrap().unwrap().name, "매장 1");
}

pub(super) async fn unique_values_are_kept_unique(site: Site) {
    insert(&site.store, &client(site.group, 3)).await.unwrap();
    let mut other = client(site.group, 4);
    other.seat = 3;
    let error = insert(&site.store, &other).await.unwrap_err();
    assert!(matches!(error, StoreError::Taken { .. }), "{error:?}");
}

pub(super) async fn failed_work_leaves_nothing(site: Site) {
    let group = site.group;
    let failed: Result<(), StoreError> = site
        .store
        .transact(|mut tx| async move {
            tx.client_insert(&client(group, 1)).await?;
            Err(StoreError::Busy)
        })
        .await;
    assert!(failed.is_err());
    let mut tx = site.store.read().await.unwrap();
    assert!(tx.client_list().await.unwrap().is_empty());
}

pub(super) async fn attempts_of_before_the_registration_become_the_clients(site: Site) {
    let record = client(site.group, 1);
    let (mac, id) = (record.mac, record.id);
    let (old, new) = (&attempt(mac, 10), &attempt(mac, 20));
    let record = &record;
    site.store
        .transact(|mut tx| async move {
            tx.attempt_put(old).await?;
            tx.attempt_put(new).await?;
            tx.client_insert(record).await?;
            // A late write of the older one does not make it the last.
            tx.attempt_put(&AttemptRecord {
                client: Some(id),
                ..old.clone()
            })
            .await
        })
        .await
        .unwrap();
    let mut tx = site.store.read().await.unwrap();
    let listed: Vec<AttemptId> = tx
        .attempt_list(id, 10)
        .await
        .unwrap()
        .iter()
        .map(|attempt| attempt.id)
        .collect();
    assert_eq!(listed, [new.id, old.id]);
    let last = tx.attempt_list_last().await.unwrap();
    assert_eq!(last.len(), 1);
    assert_eq!(last[0].id, new.id);
}

pub(super) async fn writing_an_attempt_twice_is_writing_it_once(site: Site) {
    let mut record = attempt(MacAddr([2, 0, 0, 0, 0, 9]), 10);
    let step = &StepRecord {
        position: 0,
        at: Timestamp(10),
        stage: "dhcp".into(),
        detail: "offered".into(),
    };
    for outcome in ["in_progress", "up"] {
        record.outcome = outcome.into();
        let record = &record;
        site.store
            .transact(|mut tx| async move {
                tx.attempt_put(record).await?;
                tx.step_put(record.id, step).await
            })
            .await
            .unwrap();
    }
    let mut tx = site.store.read().await.unwrap();
    assert_eq!(
        tx.attempt_list_open().await.unwrap(),
        std::slice::from_ref(&record)
    );
    assert_eq!(
        tx.step_list(record.id).await.unwrap(),
        std::slice::from_ref(step)
    );
}

pub(super) async fn old_attempts_go_but_a_clients_last_one_stays(site: Site) {
    let record = &client(site.group, 1);
    let (first, last) = (&attempt(record.mac, 10), &attempt(record.mac, 20));
    let stranger = &attempt(MacAddr([2, 0, 0, 0, 0, 99]), 500);
    let removed = site
        .store
        .transact(|mut tx| async move {
            for attempt in [first, last, stranger] {
                tx.attempt_put(attempt).await?;
            }
            tx.client_insert(record).await?;
            let old = tx.attempt_delete_old(Timestamp(100), 10).await?;
            Ok::<_, StoreError>((old, tx.attempt_delete_strangers(Timestamp(501), 10).await?))
        })
        .await
        .unwrap();
    assert_eq!(removed, (1, 1));
    let mut tx = site.store.read().await.unwrap();
    let left = tx.attempt_list_open().await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].id, last.id);
}

pub(super) async fn removing_a_client_removes_its_history(site: Site) {
    let record = &client(site.group, 1);
    let boot = &AttemptRecord {
        client: Some(record.id),
        ..attempt(record.mac, 10)
    };
    site.store
        .transact(|mut tx| async move {
            tx.client_insert(record).await?;
            tx.attempt_put(boot).await?;
            tx.client_delete(record.id).await
        })
        .await
        .unwrap();
    let mut tx = site.store.read().await.unwrap();
    assert!(tx.client_list().await.unwrap().is_empty());
    assert!(tx.attempt_list_open().await.unwrap().is_empty());
}

pub(super) async fn writers_of_two_processes_wait_for_each_other(site: Site) {
    let location = site.database.location().clone();
    let mut writers = Vec::new();
    for _ in 0..4 {
        // A store of its own has connections of its own, as another process has.
        let store = Store::open(&location, false).await.unwrap();
        writers.push(tokio::spawn(async move {
            for _ in 0..25 {
                store
                    .transact(|mut tx| async move { tx.revision_raise(0).await })
                    .await
                    .unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let mut tx = site.store.read().await.unwrap();
    assert_eq!(tx.site_fetch().await.unwrap().unwrap().revision, 100);
}

pub(super) async fn a_revision_never_goes_back(site: Site) {
    for (floor, expected) in [(0, 1), (40, 40), (3, 41)] {
        site.store
            .transact(|mut tx| async move { tx.revision_raise(floor).await })
            .await
            .unwrap();
        let mut tx = site.store.read().await.unwrap();
        assert_eq!(tx.site_fetch().await.unwrap().unwrap().revision, expected);
    }
}

pub(super) async fn the_change_counter_shows_the_changes_of_others_and_of_oneself(site: Site) {
    let other = Database::at(site.database.location().clone());
    let before = (
        site.database.change_counter().await.unwrap(),
        other.change_counter().await.unwrap(),
    );
    assert_eq!(site.database.change_counter().await.unwrap(), before.0);
    insert(&site.store, &client(site.group, 1)).await.unwrap();
    assert_ne!(site.database.change_counter().await.unwrap(), before.0);
    assert_ne!(other.change_counter().await.unwrap(), before.1);
}

pub(super) async fn a_notice_that_repeats_is_counted(site: Site) {
    for at in [10, 20, 30] {
        site.store
            .transact(|mut tx| async move {
                tx.notice_count(NoticeKind::RogueDhcp, "10.0.0.9", "seen", 1, Timestamp(at))
                    .await
            })
            .await
            .unwrap();
    }
    let mut tx = site.store.read().await.unwrap();
    let notices = tx.notice_list(Timestamp(0)).await.unwrap();
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].count, 3);
    assert_eq!(notices[0].first_seen, Timestamp(10));
    assert_eq!(notices[0].last_seen, Timestamp(30));
    assert!(tx.notice_list(Timestamp(31)).await.unwrap().is_empty());
}

pub(super) async fn old_notices_go_and_so_do_those_beyond_the_newest_that_are_kept(site: Site) {
    let removed = site
        .store
        .transact(|mut tx| async move {
            for at in 0..20 {
                let subject = at.to_string();
                tx.notice_count(NoticeKind::LoginRefused, &subject, "x", 1, Timestamp(at))
                    .await?;
            }
            Ok::<_, StoreError>((
                tx.notice_delete_old(Timestamp(5), 100).await?,
                tx.notice_delete_old(Timestamp(5), 10).await?,
                tx.notice_delete_old(Timestamp(5), 10).await?,
            ))
        })
        .await
        .unwrap();
    assert_eq!(removed, (5, 5, 0));
    let mut tx = site.store.read().await.unwrap();
    let kept = tx.notice_list(Timestamp(0)).await.unwrap();
    assert_eq!(kept.len(), 10);
    assert_eq!(kept[9].subject, "10");
}

pub(super) async fn old_lines_of_the_audit_log_go(site: Site) {
    let removed = site
        .store
        .transact(|mut tx| async move {
            for at in 0..4 {
                tx.audit_insert(&AuditRecord {
                    id: Uuid::from_u128(at),
                    at: Timestamp(i64::try_from(at).unwrap()),
                    actor: "a".into(),
                    origin: String::new(),
                    action: "b".into(),
                    subject: "c".into(),
                    details: "{}".into(),
                })
                .await?;
            }
            tx.audit_delete_old(Timestamp(3), 10).await
        })
        .await
        .unwrap();
    assert_eq!(removed, 3);
    let mut tx = site.store.read().await.unwrap();
    let kept = tx.audit_list(&AuditFilter::default(), 10).await.unwrap();
    assert_eq!((kept.len(), kept[0].at), (1, Timestamp(3)));
}

pub(super) async fn text_is_compared_byte_by_byte(site: Site) {
    // The last one is the one before it, written with single letters.
    let expected = [
        "pc",
        "PC",
        "pc ",
        "좌석",
        "\u{110c}\u{116a}\u{1109}\u{1165}\u{11a8}",
    ];
    for (seat, name) in (1..).zip(expected) {
        let record = ClientRecord {
            name: name.into(),
            ..client(site.group, seat)
        };
        insert(&site.store, &record).await.unwrap();
    }
    let mut tx = site.store.read().await.unwrap();
    let names: Vec<String> = tx
        .client_list()
        .await
        .unwrap()
        .into_iter()
        .map(|client| client.name)
        .collect();
    assert_eq!(names, expected);
}

pub(super) async fn a_reader_sees_one_state_while_others_write(site: Site) {
    let mut reader = site.store.read().await.unwrap();
    assert!(reader.client_list().await.unwrap().is_empty());
    insert(&site.store, &client(site.group, 1)).await.unwrap();
    assert!(reader.client_list().await.unwrap().is_empty());
    drop(reader);
    let mut later = site.store.read().await.unwrap();
    assert_eq!(later.client_list().await.unwrap().len(), 1);
}

pub(super) async fn a_writer_sees_what_the_writer_before_it_did(site: Site) {
    // Each looks for the highest seat and takes the next: any two that overlapped would clash.
    let group = site.group;
    let mut writers = Vec::new();
    for _ in 0..4 {
        let store = site.store.clone();
        writers.push(tokio::spawn(async move {
            for _ in 0..5 {
                store
                    .transact(|mut tx| async move {
                        let seats = tx.client_list().await?.len();
                        let seat = u32::try_from(seats).unwrap() + 1;
                        tx.client_insert(&client(group, seat)).await
                    })
                    .await
                    .unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let mut tx = site.store.read().await.unwrap();
    assert_eq!(tx.client_list().await.unwrap().len(), 20);
}

pub(super) async fn rows_that_others_need_are_not_removed(site: Site) {
    insert(&site.store, &client(GroupId(Uuid::now_v7()), 1))
        .await
        .unwrap_err();
    let mut tx = site.store.read().await.unwrap();
    assert!(tx.client_list().await.unwrap().is_empty());
}

pub(super) async fn a_plan_of_the_room_takes_the_place_of_the_one_before(site: Site) {
    let (first, second) = (client(site.group, 1), client(site.group, 2));
    insert(&site.store, &first).await.unwrap();
    insert(&site.store, &second).await.unwrap();
    let place = |client: &ClientRecord, column, row| SeatPlaceRecord {
        client: client.id,
        column,
        row,
    };
    let zone = |name: &str, column| ZoneRecord {
        name: name.into(),
        column,
        row: 1,
        width: 4,
        height: 2,
    };
    let put = async |seats: &[SeatPlaceRecord], zones: &[ZoneRecord]| {
        site.store
            .transact(|mut tx| async move { tx.floor_plan_put(seats, zones).await })
            .await
            .unwrap();
    };
    put(&[place(&first, 9, 9)], &[zone("옛날", 1)]).await;
    let seats = [place(&second, 3, 1), place(&first, 1, 2)];
    let zones = [zone("창가", 6), zone("A", 1)];
    put(&seats, &zones).await;
    let mut tx = site.store.read().await.unwrap();
    assert_eq!(tx.seat_place_list().await.unwrap(), seats);
    assert_eq!(tx.zone_list().await.unwrap(), zones);
    drop(tx);
    let gone = second.id;
    site.store
        .transact(|mut tx| async move { tx.client_delete(gone).await })
        .await
        .unwrap();
    let mut tx = site.store.read().await.unwrap();
    assert_eq!(tx.seat_place_list().await.unwrap(), [place(&first, 1, 2)]);
}

pub(super) async fn a_case_changes_and_ends_and_who_took_note_stays(site: Site) {
    let mut case = CaseRecord {
        id: CaseId(Uuid::now_v7()),
        code: "E22".into(),
        subject: format!("seat:{}", Uuid::from_u128(7)),
        severity: "bad".into(),
        cause: "{\"cause\":\"disk_empty\"}".into(),
        evidence: "[]".into(),
        remedy: None,
        confidence: 80,
        opened: Timestamp(10),
        last_seen: Timestamp(11),
        resolved: None,
        acknowledged: None,
    };
    let (id, first) = (case.id, &case);
    let known = site
        .store
        .transact(|mut tx| async move {
            tx.case_put(first).await?;
            tx.case_acknowledge(id, "web:owner", Timestamp(12)).await?;
            tx.case_acknowledge(id, "web:other", Timestamp(13)).await?;
            tx.case_acknowledge(CaseId(Uuid::nil()), "web:owner", Timestamp(12))
                .await
        })
        .await
        .unwrap();
    assert!(!known, "there is no such case");
    case.confidence = 90;
    let again = &case;
    site.store
        .transact(|mut tx| async move { tx.case_put(again).await })
        .await
        .unwrap();
    case.acknowledged = Some((Timestamp(12), "web:owner".into()));
    let mut tx = site.store.read().await.unwrap();
    assert_eq!(tx.case_list_open().await.unwrap(), [case.clone()]);
    drop(tx);

    case.resolved = Some(Timestamp(20));
    let over = &case;
    let removed = site
        .store
        .transact(|mut tx| async move {
            tx.case_put(over).await?;
            tx.case_delete_old(Timestamp(20)).await
        })
        .await
        .unwrap();
    assert_eq!(removed, 0);
    let mut tx = site.store.read().await.unwrap();
    assert_eq!(tx.case_list_open().await.unwrap(), []);
    assert_eq!(tx.case_list(5).await.unwrap(), [case]);
}
