//! What the pages say.

use super::*;
use crate::sample::HOSTILE;

#[tokio::test]
async fn an_empty_room_says_what_to_do_first_in_both_languages() {
    let mut hall = Hall::logged_in().await;
    let english = hall.get("/").await.text;
    assert!(english.contains("<html lang=\"en\""));
    assert!(english.contains("Import an image") && english.contains("Power on a PC"));
    hall.language = "ko-KR,ko;q=0.9,en;q=0.8";
    let korean = hall.get("/").await.text;
    assert!(korean.contains("<html lang=\"ko\""));
    assert!(korean.contains("이미지를 가져오십시오") && korean.contains("PC를 켜십시오"));
    assert_eq!(
        hall.get("/language/en?back=/images").await.location(),
        "/images"
    );
    assert!(
        hall.get("/").await.text.contains("<html lang=\"en\""),
        "the choice beats the browser"
    );
    assert_eq!(
        hall.get("/language/ko?back=//evil.test").await.location(),
        "/"
    );
}

#[tokio::test]
async fn the_room_shows_seats_and_filters_them_without_script() {
    let mut hall = Hall::logged_in().await;
    let first = hall.add(1, "PC-01").await;
    hall.add(2, "카운터").await;
    let page = hall.get("/").await.text;
    assert_eq!(page.matches("class=\"seat\"").count(), 2);
    assert!(
        page.contains("data-seat=\"1\" data-state=\"off\""),
        "{page}"
    );
    assert!(page.contains("2 seats have no image"));
    assert!(page.contains("data-service=\"iscsi\" data-health=\"unknown\""));
    let found = hall.get("/?q=%EC%B9%B4%EC%9A%B4%ED%84%B0").await.text;
    let id = format!("id=\"seat-{}\"", first.id);
    let card = found.split(&id).nth(1).unwrap().split('>').next().unwrap();
    assert!(card.ends_with(" hidden"), "{card}");
    let none = hall.get("/?state=fault").await.text;
    assert!(none.contains("id=\"none\">No seat matches."), "{none}");
    assert!(
        hall.get("/?view=list")
            .await
            .text
            .contains("id=\"seats\" data-view=\"list\"")
    );
}

#[tokio::test]
async fn the_page_of_images_says_how_full_the_storage_is_in_both_languages() {
    let mut hall = Hall::logged_in().await;
    let english = hall.get("/images").await.text;
    let panel = |page: &str| {
        let panel = page.split("id=\"space\"").nth(1).unwrap();
        panel.split("</section>").next().unwrap().to_owned()
    };
    let shown = panel(&english);
    assert!(shown.contains("% in use"), "{shown}");
    // No iSCSI service runs here.
    assert!(shown.contains("forecast not known yet"), "{shown}");
    assert!(shown.contains("<progress max=\"1000\""), "{shown}");
    hall.language = "ko-KR,ko;q=0.9,en;q=0.8";
    let korean = panel(&hall.get("/images").await.text);
    assert!(
        korean.contains("% 사용 중") && korean.contains("예측할 수 없습니다"),
        "{korean}"
    );
}

#[tokio::test]
async fn hostile_text_stays_text() {
    let mut hall = Hall::logged_in().await;
    let client = hall.add(1, "PC-01").await;
    let csrf = hall.csrf().await;
    let path = format!("/clients/{}/settings", client.id);
    let fields = [
        ("csrf", csrf.as_str()),
        ("seat", "1"),
        ("name", HOSTILE),
        ("image", ""),
        ("policy", ""),
    ];
    let answer = hall.post(&path, &fields).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!answer.text.contains("<script>alert"), "{}", answer.text);
    let query = crate::problem::encode(HOSTILE);
    let search = hall
        .get(&format!("/?q={query}&state=%3Cscript%3Ealert"))
        .await;
    assert_eq!(search.status, StatusCode::OK);
    assert!(!search.text.contains("<script>alert"));
    hall.cookies.clear();
    let login = hall.get(&format!("/login?back={query}")).await;
    assert!(!login.text.contains("<script>alert"));
}

#[tokio::test]
async fn a_clients_settings_are_changed_and_wrong_ones_named() {
    let mut hall = Hall::logged_in().await;
    let first = hall.add(1, "PC-01").await;
    hall.add(2, "PC-02").await;
    let csrf = hall.csrf().await;
    let path = format!("/clients/{}", first.id);
    let page = hall.get(&path).await.text;
    assert!(
        page.contains("52:54:00:77:00:01") && page.contains("It has not booted yet."),
        "{page}"
    );
    let fields = |seat| {
        [
            ("csrf", csrf.as_str()),
            ("seat", seat),
            ("name", "창가"),
            ("image", ""),
            ("policy", "persistent"),
        ]
    };
    let answer = hall.post(&format!("{path}/settings"), &fields("2")).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        answer.text.contains("Seat 2 is already used by"),
        "{}",
        answer.text
    );
    let answer = hall.post(&format!("{path}/settings"), &fields("7")).await;
    assert_eq!(answer.location(), format!("{path}?done=saved"));
    let changed = hall.operations.client_find("창가").await.unwrap();
    assert_eq!((changed.seat, changed.policy_inherited), (7, false));
    let reset = hall.get(&format!("{path}/reset")).await.text;
    assert!(
        reset.contains("data-confirm=\"reset\"") && reset.contains("is lost for good"),
        "{reset}"
    );
    let answer = hall
        .post(
            &format!("{path}/reset"),
            &[("csrf", &csrf), ("force", "false")],
        )
        .await;
    assert_eq!(
        answer.location(),
        format!("{path}?done=reset_later"),
        "no iSCSI service runs here"
    );
}

#[tokio::test]
async fn an_import_is_queued_and_shown_and_a_wrong_path_is_named() {
    let mut hall = Hall::logged_in().await;
    let csrf = hall.csrf().await;
    let source = hall.directory.path().join("disk.raw");
    let missing = [
        ("csrf", csrf.as_str()),
        ("source", "/nowhere.raw"),
        ("name", "debian"),
    ];
    let answer = hall.post("/images/import", &missing).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        answer.text.contains("value=\"/nowhere.raw\""),
        "what was typed is kept"
    );
    std::fs::write(&source, vec![1; 1 << 20]).unwrap();
    let fields = [
        ("csrf", csrf.as_str()),
        ("source", source.to_str().unwrap()),
        ("name", "debian"),
    ];
    let answer = hall.post("/images/import", &fields).await;
    assert_eq!(answer.location(), "/images?done=import", "{}", answer.text);
    let page = hall.get("/images?done=import").await.text;
    assert!(page.contains("data-job-state=\"queued\""), "{page}");
    assert!(page.contains("The import has started."));
}

#[tokio::test]
async fn without_a_database_the_page_says_so_and_shows_the_services() {
    let mut hall = Hall::logged_in().await;
    hall.language = "ko";
    assert_eq!(hall.get("/").await.status, StatusCode::OK);
    let database = hall.app.paths.database();
    for suffix in ["db", "db-wal", "db-shm"] {
        let file = database.with_extension(suffix);
        if file.exists() {
            std::fs::remove_file(&file).unwrap();
            std::fs::create_dir(&file).unwrap();
        }
    }
    let room = hall.get("/").await;
    assert!(
        room.text.contains("data-matter=\"database\""),
        "{}",
        room.text
    );
    assert!(room.text.contains("데이터베이스를 읽을 수 없음"));
    assert!(room.text.contains("data-service=\"iscsi\""));
    assert_eq!(
        hall.get("/services/iscsi/restart").await.status,
        StatusCode::OK
    );
    hall.cookies.clear();
    let login = hall.get("/login").await;
    assert_eq!(login.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        login.text.contains("data-problem=\"database\""),
        "{}",
        login.text
    );
    assert!(login.text.contains("data-service=\"dhcp\""));
    assert!(
        !login.text.contains("dess.db"),
        "a stranger is told no file names"
    );
}

#[tokio::test]
async fn before_the_site_is_set_up_the_page_names_the_command() {
    let mut hall = Hall::bare();
    let page = hall.get("/login").await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        page.text.contains("data-problem=\"no_site\""),
        "{}",
        page.text
    );
    assert!(page.text.contains("Run dess init"));
}

#[tokio::test]
async fn nobody_loses_kept_writes_by_a_setting_without_being_asked() {
    let mut hall = Hall::logged_in().await;
    let client = hall.add(1, "PC-01").await;
    let path = format!("/clients/{}/settings", client.id);
    let csrf = hall.csrf().await;
    let fields = |policy, agreed| {
        [
            ("csrf", csrf.as_str()),
            ("seat", "1"),
            ("name", "PC-01"),
            ("image", ""),
            ("policy", policy),
            ("agreed", agreed),
        ]
    };
    let saved = format!("/clients/{}?done=saved", client.id);
    let volatile = hall.get(&format!("/clients/{}", client.id)).await.text;
    assert!(!volatile.contains("takes effect only after a reset"));
    let kept = hall.post(&path, &fields("persistent", "")).await;
    assert_eq!(kept.location(), saved, "keeping more needs no question");
    let persistent = hall.get(&format!("/clients/{}", client.id)).await.text;
    assert!(persistent.contains("takes effect only after a reset"));
    // Of its own, or its group's, which is volatile.
    for policy in ["volatile", ""] {
        let asked = hall.post(&path, &fields(policy, "")).await;
        assert_eq!(asked.status, StatusCode::OK, "{}", asked.text);
        assert!(asked.text.contains("data-confirm=\"volatile\""));
        assert!(
            asked
                .text
                .contains("Everything written on this PC so far is lost")
        );
    }
    let before = hall.operations.client_get(client.id).await.unwrap();
    assert_eq!(before.policy, dess_model::BootPolicy::Persistent);
    let agreed = hall.post(&path, &fields("volatile", "true")).await;
    assert_eq!(agreed.location(), saved);
    let after = hall.operations.client_get(client.id).await.unwrap();
    assert_eq!(after.policy, dess_model::BootPolicy::Volatile);
}

#[tokio::test]
async fn what_cannot_be_accepted_is_told_in_korean_alone() {
    let mut hall = Hall::logged_in().await;
    hall.language = "ko";
    let client = hall.add(1, "PC-01").await;
    let csrf = hall.csrf().await;
    let refused = async |hall: &mut Hall, path: &str, fields: &[(&str, &str)]| {
        let mut all = vec![("csrf", csrf.as_str())];
        all.extend(fields);
        let answer = hall.post(path, &all).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        let alert = answer.text.split("role=\"alert\">").nth(1).unwrap();
        alert.split('<').next().unwrap().to_owned()
    };
    let path = format!("/clients/{}/settings", client.id);
    let settings = |seat, name| {
        [
            ("seat", seat),
            ("name", name),
            ("image", ""),
            ("policy", ""),
        ]
    };
    let seat = refused(&mut hall, &path, &settings("0", "PC-01")).await;
    assert!(seat.contains("99999"), "{seat}");
    let name = refused(&mut hall, &path, &settings("1", "12")).await;
    assert!(name.contains("숫자로만"), "{name}");
    let import = [("source", "/no/such/file"), ("name", "windows11")];
    let source = refused(&mut hall, "/images/import", &import).await;
    assert!(source.contains("전체 경로"), "{source}");
    for text in [seat, name, source] {
        let english = text.bytes().any(|byte| byte.is_ascii_lowercase());
        assert!(!english, "{text}");
    }
}

fn stored_case(code: &str, subject: &str, cause: &str) -> dess_store::CaseRecord {
    dess_store::CaseRecord {
        id: "0195f000-0000-7000-8000-000000000052".parse().unwrap(),
        code: code.into(),
        subject: subject.into(),
        severity: "bad".into(),
        cause: cause.into(),
        evidence: r#"[{"at":5,"fact":"silence","secs":15}]"#.into(),
        remedy: None,
        confidence: 100,
        opened: dess_model::Timestamp(5),
        last_seen: dess_model::Timestamp(5),
        resolved: None,
        acknowledged: None,
    }
}

#[tokio::test]
async fn a_case_is_told_in_both_languages_with_what_was_seen_and_can_be_noted() {
    let mut hall = Hall::logged_in().await;
    let store = hall.operations.database().store().await.unwrap();
    let cause = r#"{"cause":"carrier_lost","interface":"eth0"}"#;
    let case = &stored_case("E23", "server:eth0", cause);
    let id = case.id;
    store
        .transact(|mut tx| async move { tx.case_put(case).await })
        .await
        .unwrap();
    let english = "network card eth0 has no link";
    assert!(hall.get("/").await.text.contains(english), "in the room");
    assert!(hall.get("/cases").await.text.contains(english));
    let path = format!("/cases/{id}");
    let page = hall.get(&path).await.text;
    assert!(page.contains(english) && page.contains("nothing was heard for 15 s"));
    hall.language = "ko";
    let page = hall.get(&path).await.text;
    assert!(
        page.contains("서버 랜카드 eth0 의 연결이 끊겼습니다"),
        "{page}"
    );
    assert!(page.contains("15초 동안 아무 소식이 없습니다"));
    let csrf = hall.csrf().await;
    let fields = [("csrf", csrf.as_str())];
    let noted = hall.post(&format!("{path}/acknowledge"), &fields).await;
    assert_eq!(noted.location(), path);
    assert!(hall.get(&path).await.text.contains("확인함"));
    assert_eq!(
        hall.get("/cases/nothing").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn the_page_of_a_seat_names_its_open_cases_and_no_others() {
    let mut hall = Hall::logged_in().await;
    let (one, other) = (hall.add(1, "one").await.id, hall.add(2, "other").await.id);
    let store = hall.operations.database().store().await.unwrap();
    let mut case = stored_case("E22", &format!("seat:{one}"), r#"{"cause":"disk_empty"}"#);
    let id = case.id;
    let put = async |case: &dess_store::CaseRecord| {
        store
            .transact(|mut tx| async move { tx.case_put(case).await })
            .await
            .unwrap();
    };
    put(&case).await;
    let link = format!("href=\"/cases/{id}\"");
    let page = format!("/clients/{one}");
    assert!(hall.get(&page).await.text.contains(&link));
    assert!(
        !hall
            .get(&format!("/clients/{other}"))
            .await
            .text
            .contains(&link)
    );
    case.resolved = Some(dess_model::Timestamp(6));
    put(&case).await;
    assert!(!hall.get(&page).await.text.contains(&link), "it is over");
}
