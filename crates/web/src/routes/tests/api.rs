//! The REST API over a real database.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, ETAG};
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::{Answer, Hall};

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn etag(&self) -> &str {
        self.headers[ETAG].to_str().unwrap()
    }

    /// Status and code of problem details, whose parts agree.
    fn problem(&self) -> (u16, String) {
        assert_eq!(self.headers[CONTENT_TYPE], "application/problem+json");
        let json = self.json();
        let code = json["code"].as_str().unwrap().to_owned();
        assert_eq!(json["status"], self.status.as_u16());
        assert!(json["type"].as_str().unwrap().ends_with(&code), "{json}");
        (self.status.as_u16(), code)
    }
}

impl Hall {
    async fn call(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let csrf = match method {
            Method::GET => String::new(),
            _ => self.csrf().await,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("x-csrf-token", csrf);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    async fn api(&mut self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], None).await
    }
}

#[tokio::test]
async fn without_a_login_there_is_a_problem_for_programs() {
    let mut hall = Hall::new().await;
    for path in ["/clients", "/openapi.json", "/events", "/jobs"] {
        let answer = hall.api(path).await;
        assert_eq!(answer.problem(), (401, "login_needed".into()), "{path}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn a_client_is_made_seen_changed_and_removed() {
    let mut hall = Hall::logged_in().await;
    let new = json!({"mac": "52:54:00:77:00:01", "name": "카운터"});
    let made = hall.call(Method::POST, "/clients", &[], Some(new)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let address = made.location().strip_prefix("/api/v1").unwrap().to_owned();
    let seen = hall.api(&address).await;
    assert_eq!(seen.json()["name"], "카운터");
    assert_eq!(seen.etag(), made.etag());
    // By seat, as people say it.
    assert_eq!(hall.api("/clients/1").await.text, seen.text);

    let change = json!({"seat": 7, "policy": "persistent"});
    let if_match = [("if-match", seen.etag())];
    let changed = hall
        .call(Method::PATCH, &address, &if_match, Some(change.clone()))
        .await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
    assert_eq!(changed.json()["seat"], 7);
    assert_ne!(changed.etag(), seen.etag());

    let late = hall
        .call(Method::PATCH, &address, &if_match, Some(change.clone()))
        .await;
    assert_eq!(late.problem(), (412, "stale".into()));
    let blind = hall.call(Method::PATCH, &address, &[], Some(change)).await;
    assert_eq!(blind.problem(), (428, "precondition_required".into()));
    let late = hall.call(Method::DELETE, &address, &if_match, None).await;
    assert_eq!(late.problem(), (412, "stale".into()));
    let any = [("if-match", "*")];
    let removed = hall.call(Method::DELETE, &address, &any, None).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT, "{}", removed.text);
    assert_eq!(
        hall.api(&address).await.problem(),
        (404, "not_found".into())
    );
}

#[tokio::test]
async fn what_a_client_does_is_no_change_of_its_settings() {
    let mut hall = Hall::logged_in().await;
    let client = hall.add(1, "PC-01").await;
    let before = hall.api("/clients/1").await.etag().to_owned();
    hall.operations.client_reset(client.id, true).await.unwrap();
    assert_eq!(hall.api("/clients/1").await.etag(), before);
}

#[tokio::test]
async fn wrong_fields_are_pointed_at() {
    let mut hall = Hall::logged_in().await;
    hall.add(1, "PC-01").await;
    for (body, status, pointer) in [
        (json!({"mac": "52:54:00:77:00:01"}), 409, "/mac"),
        (json!({"mac": "52:54:00:77:00:09", "seat": 0}), 422, "/seat"),
        (
            json!({"mac": "52:54:00:77:00:09", "seat": "a"}),
            422,
            "/seat",
        ),
        (
            json!({"mac": "52:54:00:77:00:09", "address": "10.0.0.1"}),
            422,
            "/address",
        ),
        (json!({"mac": "53:54:00:77:00:09"}), 422, "/mac"),
    ] {
        let answer = hall
            .call(Method::POST, "/clients", &[], Some(body.clone()))
            .await;
        assert_eq!(answer.problem().0, status, "{body}: {}", answer.text);
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{body}");
    }
    let unknown = json!({"mac": "52:54:00:77:00:09", "colour": 1});
    let answer = hall
        .call(Method::POST, "/clients", &[], Some(unknown))
        .await;
    assert!(answer.text.contains("colour"), "{}", answer.text);
    assert_eq!(answer.problem().0, 422);
    assert_eq!(hall.operations.client_list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn clients_are_listed_page_by_page_and_filtered() {
    let mut hall = Hall::logged_in().await;
    for number in 1..=5 {
        hall.add(number, &format!("PC-{number}")).await;
    }
    let mut seats = Vec::new();
    let mut path = "/clients?limit=2".to_owned();
    for _ in 0..3 {
        let page = hall.api(&path).await.json();
        let items = page["items"].as_array().unwrap();
        seats.extend(items.iter().map(|client| client["seat"].as_u64().unwrap()));
        match page["next"].as_str() {
            Some(next) => path = format!("/clients?limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seats, [1, 2, 3, 4, 5]);
    let found = hall.api("/clients?q=pc-4&state=off").await.json();
    assert_eq!(found["items"][0]["name"], "PC-4");
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    for wrong in ["limit=0", "limit=x", "state=asleep", "colour=1"] {
        let answer = hall.api(&format!("/clients?{wrong}")).await;
        assert_eq!(answer.problem(), (400, "invalid_query".into()), "{wrong}");
    }
}

#[tokio::test]
async fn an_order_with_a_key_is_carried_out_once() {
    let mut hall = Hall::logged_in().await;
    let key = [("idempotency-key", "a-1")];
    let new = || Some(json!({"mac": "52:54:00:77:00:01"}));
    let first = hall.call(Method::POST, "/clients", &key, new()).await;
    let again = hall.call(Method::POST, "/clients", &key, new()).await;
    assert_eq!(
        (first.status, again.status),
        (StatusCode::CREATED, StatusCode::CREATED)
    );
    assert_eq!(first.text, again.text);
    let other = Some(json!({"mac": "52:54:00:77:00:02"}));
    let answer = hall.call(Method::POST, "/clients", &key, other).await;
    assert_eq!(
        answer.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        answer.text
    );
    assert_eq!(hall.operations.client_list().await.unwrap().len(), 1);
    // What was refused may be ordered again under its key.
    let key = [("idempotency-key", "a-2")];
    let taken = hall.call(Method::POST, "/clients", &key, new()).await;
    assert_eq!(taken.status, StatusCode::CONFLICT);
    let free = Some(json!({"mac": "52:54:00:77:00:02"}));
    let answer = hall.call(Method::POST, "/clients", &key, free).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
}

#[tokio::test]
async fn a_group_is_changed_as_a_whole_or_not_at_all() {
    let mut hall = Hall::logged_in().await;
    let groups = hall.api("/groups").await.json();
    let address = format!("/groups/{}", groups[0]["id"].as_str().unwrap());
    let etag = hall.api(&address).await.etag().to_owned();
    let if_match = [("if-match", etag.as_str())];
    let wrong = json!({"policy": "persistent", "limits": {"read_iops": 1}});
    let answer = hall
        .call(Method::PATCH, &address, &if_match, Some(wrong))
        .await;
    assert_eq!(answer.problem(), (422, "invalid".into()));
    assert_eq!(answer.json()["errors"][0]["pointer"], "/limits/read_iops");
    assert_eq!(hall.api(&address).await.etag(), etag);
    let right = json!({"policy": "persistent", "limits": {"read_iops": 500}});
    let answer = hall
        .call(Method::PATCH, &address, &if_match, Some(right))
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.json()["limits"]["read"]["iops"], 500);
}

#[tokio::test]
async fn long_work_is_a_job_that_can_be_listed_and_cancelled() {
    let mut hall = Hall::logged_in().await;
    let source = hall.directory.path().join("disk.raw");
    std::fs::write(&source, [0_u8; 4096]).unwrap();
    for name in ["one", "two"] {
        let order = json!({"source": source, "name": name});
        let ordered = hall.call(Method::POST, "/images", &[], Some(order)).await;
        assert_eq!(ordered.status, StatusCode::ACCEPTED, "{}", ordered.text);
        let address = ordered
            .location()
            .strip_prefix("/api/v1")
            .unwrap()
            .to_owned();
        assert_eq!(hall.api(&address).await.json()["state"], "queued");
    }
    let page = hall.api("/jobs?limit=1").await.json();
    assert_eq!(page["items"][0]["subject"], "two");
    let next = page["next"].as_str().unwrap();
    let last = hall
        .api(&format!("/jobs?limit=1&cursor={next}"))
        .await
        .json();
    assert_eq!(
        (&last["items"][0]["subject"], &last["next"]),
        (&json!("one"), &Value::Null)
    );
    let cancel = format!("/jobs/{}/cancel", last["items"][0]["id"].as_str().unwrap());
    let answer = hall.call(Method::POST, &cancel, &[], None).await;
    assert_eq!(answer.json()["state"], "cancelled", "{}", answer.text);
    let again = hall.call(Method::POST, &cancel, &[], None).await;
    assert_eq!(again.problem(), (409, "refused".into()));
}

#[tokio::test]
async fn what_cannot_be_asked_so_is_told_in_the_same_words() {
    let mut hall = Hall::logged_in().await;
    let wrong = hall.call(Method::PUT, "/clients", &[], None).await;
    assert_eq!(wrong.problem(), (405, "method_not_allowed".into()));
    let allow = wrong.headers[ALLOW].to_str().unwrap();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    assert_eq!(
        hall.api("/nothing").await.problem(),
        (404, "not_found".into())
    );
    assert_eq!(
        hall.api("/jobs/7").await.problem(),
        (404, "not_found".into())
    );
    let csrf = hall.csrf().await;
    let plain = Request::post("/api/v1/clients")
        .header("x-csrf-token", csrf)
        .header("content-type", "text/plain");
    let answer = hall.send(plain.body(Body::from("x")).unwrap()).await;
    assert_eq!(answer.problem(), (415, "media_type".into()));
    let forged = [
        ("origin", "http://evil.test"),
        ("host", "dess.test"),
        ("sec-fetch-site", "cross-site"),
    ];
    let body = Some(json!({"mac": "52:54:00:77:00:01"}));
    let answer = hall.call(Method::POST, "/clients", &forged, body).await;
    assert_eq!(answer.problem(), (403, "forged".into()));
}

#[tokio::test]
async fn without_a_site_the_api_says_so_and_when_to_try_again() {
    let mut hall = Hall::logged_in().await;
    std::fs::remove_dir_all(hall.directory.path().join("state")).unwrap();
    hall.operations.close().await;
    hall.app.feed.operations().close().await;
    let answer = hall.api("/clients").await;
    assert_eq!(
        answer.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        answer.text
    );
    assert_eq!(answer.headers["retry-after"], "2");
    answer.problem();
}

#[tokio::test]
async fn the_live_state_is_told_at_once_and_then_its_changes() {
    use tokio_stream::StreamExt;

    let hall = Hall::logged_in().await;
    let client = hall.add(1, "PC-01").await;
    let app = hall.app.clone();
    tokio::spawn(async move { app.live.keep_watching().await });
    let cookies: Vec<_> = hall
        .cookies
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let request = Request::get("/api/v1/events").header("cookie", cookies.join("; "));
    let request = request.body(Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(hall.router.clone(), request)
        .await
        .unwrap();
    assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let mut text = String::new();
    let patience = std::time::Duration::from_secs(20);
    let mut read_until = async |wanted: &str, text: &mut String| {
        while !text.contains(wanted) {
            let more = tokio::time::timeout(patience, stream.next())
                .await
                .expect("it comes");
            text.push_str(&String::from_utf8_lossy(&more.unwrap().unwrap()));
        }
    };
    read_until("PC-01", &mut text).await;
    assert!(
        text.contains("event: services") && text.contains("event: client"),
        "{text}"
    );
    hall.operations
        .client_remove(client.id, true)
        .await
        .unwrap();
    read_until("event: client_removed", &mut text).await;
}

#[tokio::test]
async fn the_document_names_every_operation_once_and_refers_to_nothing_missing() {
    let document: Value = serde_json::from_str(crate::api::openapi_json()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = std::collections::HashSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str();
            let id = id.unwrap_or_else(|| panic!("{method} {path} has no name"));
            assert!(ids.insert(id), "{id} twice");
            assert!(operation["summary"].is_string(), "{id} says nothing");
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|status| status.starts_with('2')), "{id}");
            assert!(answers.contains_key("401"), "{id}");
        }
    }
    assert!(ids.len() > 30, "{ids:?}");
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}

#[test]
fn the_document_in_the_repository_is_current() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        kept == crate::api::openapi_json(),
        "docs/openapi.json is out of date; run `cargo run -p dess -- openapi > docs/openapi.json`"
    );
}
