//! The plan of the room, and actions on several seats.

use dess_model::{BootPolicy, ImageId, Timestamp, VersionRef};
use dess_store::{ImageRecord, StoreError, VersionRecord};

use super::*;

#[tokio::test]
async fn seats_are_arranged_and_shown_as_they_stand() {
    let mut hall = Hall::logged_in().await;
    let first = hall.add(1, "PC-01").await.id;
    let second = hall.add(2, "PC-02").await.id;
    let page = hall.get("/").await.text;
    assert!(page.contains("data-view=\"map\""), "the plan comes first");
    assert!(!page.contains("data-x="), "nobody arranged them yet");
    let seats = format!("{first} 4 2\r\n{second} 1 7");
    let fields = [("seats", &*seats), ("zones", "3 1 4 2 창가 <b>\r\n")];
    let answer = hall.post_signed("/room/plan", &fields).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    let page = hall.get("/").await.text;
    assert!(
        page.contains(&format!(
            "id=\"seat-{first}\" data-seat=\"1\" data-state=\"off\" data-x=\"4\" data-y=\"2\""
        )),
        "{page}"
    );
    assert!(page.contains("data-x=\"3\" data-y=\"1\" data-w=\"4\" data-h=\"2\""));
    assert!(page.contains("창가 &#60;b&#62;") && !page.contains("창가 <b>"));
    let shared = format!("{first} 1 1\n{second} 1 1");
    let fields = [("seats", &*shared), ("zones", "")];
    let answer = hall.post_signed("/room/plan", &fields).await;
    assert_eq!(
        answer.status,
        StatusCode::CONFLICT,
        "two seats at one place"
    );
    let plan = hall.operations.floor_plan().await.unwrap();
    assert_eq!(
        (plan.seats.len(), plan.zones.len()),
        (2, 1),
        "it stays as it was"
    );
}

#[tokio::test]
async fn several_seats_are_changed_after_a_question_that_names_them() {
    let mut hall = Hall::logged_in().await;
    let mut ids = Vec::new();
    for seat in 1..=3 {
        ids.push(hall.add(seat, &format!("PC-0{seat}")).await.id);
    }
    let page = hall
        .get("/clients/batch?s=1&s=3&s=99&s=x&do=policy")
        .await
        .text;
    assert!(page.contains("2 seats: Change the disk policy"), "{page}");
    assert!(page.contains("<li>01 PC-01</li><li>03 PC-03</li>") && !page.contains("PC-02"));
    assert!(page.contains("name=\"seats\" value=\"1,3\""));
    let none = hall.get("/clients/batch?s=99&do=policy").await;
    assert_eq!(none.location(), "/");
    let wrong = hall.get("/clients/batch?s=1&do=explode").await;
    assert_eq!(wrong.status, StatusCode::NOT_FOUND);

    let fields = [
        ("action", "policy"),
        ("seats", "1,3"),
        ("policy", "persistent"),
    ];
    let answer = hall.post_signed("/clients/batch", &fields).await;
    assert_eq!(answer.location(), "/?done=batch", "{}", answer.text);
    let policies: Vec<_> = hall
        .operations
        .client_list()
        .await
        .unwrap()
        .iter()
        .map(|client| client.policy)
        .collect();
    assert_eq!(
        policies,
        [
            BootPolicy::Persistent,
            BootPolicy::Volatile,
            BootPolicy::Persistent
        ]
    );

    let fields = [
        ("action", "limits"),
        ("seats", "2"),
        ("read", "20"),
        ("write", ""),
    ];
    hall.post_signed("/clients/batch", &fields).await;
    let limits = hall.operations.client_get(ids[1]).await.unwrap().limits;
    assert_eq!(limits.read.bytes_per_sec, Some(20 << 20));
    assert_eq!(limits.write.bytes_per_sec, None);
}

#[tokio::test]
async fn seats_for_which_an_action_failed_are_named_with_the_reason() {
    let mut hall = Hall::logged_in().await;
    hall.add(1, "PC-01").await;
    let fields = [("action", "image"), ("seats", "1"), ("image", "nowhere@1")];
    let page = hall.post_signed("/clients/batch", &fields).await.text;
    assert!(page.contains("It could not be done for 1"), "{page}");
    assert!(page.contains("<dt>01 PC-01</dt>"));
    let forged = hall.post("/clients/batch", &fields).await;
    assert!(
        forged.status.is_client_error(),
        "without the token of the page"
    );
    let unclear = [("action", "limits"), ("seats", "1"), ("read", "much")];
    let answer = hall.post_signed("/clients/batch", &unclear).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

impl Hall {
    /// An image with one version.
    async fn image(&self, name: &str) -> VersionRef {
        let version = VersionRef {
            image: ImageId("0195f000-0000-7000-8000-000000000900".parse().unwrap()),
            number: 1,
        };
        let store = self.operations.database().store().await.unwrap();
        let made: Result<(), StoreError> = store
            .transact(|mut tx| async move {
                tx.image_insert(&ImageRecord {
                    id: version.image,
                    name: name.to_owned(),
                    last_version: 0,
                    created: Timestamp(1),
                })
                .await?;
                tx.version_insert(&VersionRecord {
                    version,
                    directory: String::new(),
                    size_bytes: 1 << 30,
                    created: Timestamp(1),
                    parent: None,
                    comment: "첫 버전".into(),
                    author: "web:owner@192.0.2.7".into(),
                    layer_bytes: None,
                })
                .await
            })
            .await;
        made.unwrap();
        version
    }
}

#[tokio::test]
async fn what_is_done_to_an_image_is_asked_first() {
    let mut hall = Hall::logged_in().await;
    let wrong = hall.get("/images/action?act=rollback&image=nothing").await;
    assert_eq!(wrong.status, StatusCode::NOT_FOUND);
    let wrong = hall.get("/images/action?act=explode&image=nothing").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    let version = hall.image("windows11").await;
    let page = hall.get("/images").await.text;
    for (act, name) in [("rollback", "windows11"), ("maintain", "windows11")] {
        let link = format!("/images/action?act={act}&amp;image={name}");
        assert_eq!(
            page.contains(&link),
            act == "maintain",
            "{act}: one version alone"
        );
    }
    let ask = hall
        .get("/images/action?act=rollout&image=windows11@1")
        .await
        .text;
    assert!(ask.contains("Roll out windows11@1") && ask.contains("name=\"seats\""));
    let client = hall.add(5, "PC-05").await.id.to_string();
    let ask = hall
        .get("/images/action?act=maintain&image=windows11")
        .await
        .text;
    assert!(
        ask.contains(&format!("<option value=\"{client}\">01 PC-05")),
        "{ask}"
    );
    let fields = [
        ("act", "maintain"),
        ("image", "windows11"),
        ("client", &*client),
    ];
    let answer = hall.post_signed("/images/action", &fields).await;
    assert_eq!(
        answer.location(),
        "/images?done=image_maintain&on=windows11",
        "{}",
        answer.text
    );
    let page = hall.get("/images").await.text;
    assert!(
        page.contains("Maintenance client: seat 01 PC-05, writing on version 1"),
        "{page}"
    );
    assert!(
        hall.get("/").await.text.contains("data-maintenance"),
        "the seat shows it"
    );
    let images = hall.operations.image_list().await.unwrap();
    assert_eq!(images[0].versions[0].version, version);
}
