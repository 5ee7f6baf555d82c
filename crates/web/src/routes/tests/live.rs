//! Server-sent events.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use tokio_stream::StreamExt;

use super::*;

/// One browser's stream.
pub(super) struct Events {
    body: BodyDataStream,
    text: String,
}

impl Events {
    /// The data of the next event of this name, within 10 s.
    pub(super) async fn next(&mut self, name: &str) -> String {
        let wanted = format!("event: {name}\n");
        let search = async {
            loop {
                if let Some(end) = self.text.find("\n\n") {
                    let event = self.text[..=end].to_owned();
                    self.text.drain(..end + 2);
                    if event.contains(&wanted) {
                        let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                        return data.unwrap_or_default().to_owned();
                    }
                    continue;
                }
                let chunk = self.body.next().await.expect("the stream goes on").unwrap();
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(10), search)
            .await
            .unwrap_or_else(|_| panic!("no event {name}"))
    }

    /// Waits until the server ends the stream.
    pub(super) async fn end(&mut self) {
        let end = async { while self.body.next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(10), end)
            .await
            .expect("the stream ends");
    }

    /// The next change that is this one; others may come before, such as what the page missed
    /// until the state was first looked at.
    pub(super) async fn change(
        &mut self,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        loop {
            let change = serde_json::from_str(&self.next("change").await).unwrap();
            if wanted(&change) {
                return change;
            }
        }
    }
}

pub(super) async fn watch(hall: &Hall, path: &str) -> Events {
    let cookies: Vec<_> = hall
        .cookies
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let request = Request::get(path)
        .header("accept-language", hall.language)
        .header(COOKIE, cookies.join("; "))
        .body(Body::empty())
        .unwrap();
    let response = hall.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    Events {
        body: response.into_body().into_data_stream(),
        text: String::new(),
    }
}

pub(super) fn live_path(page: &str) -> String {
    let at = page.find("data-live=\"").unwrap() + 11;
    page[at..].split('"').next().unwrap().to_owned()
}

pub(super) async fn with_polling() -> Hall {
    let hall = Hall::logged_in().await;
    let app = hall.app.clone();
    tokio::spawn(async move { app.live.keep_watching().await });
    hall
}

async fn rename(hall: &Hall, client: dess_model::ClientId, name: &str) {
    let renamed = dess_node::operations::ClientChange {
        name: Some(name.into()),
        ..Default::default()
    };
    hall.operations.client_set(client, renamed).await.unwrap();
}

/// The change that shows this name at this client's seat.
async fn change_of(
    events: &mut Events,
    client: dess_model::ClientId,
    name: &str,
) -> serde_json::Value {
    let id = format!("seat-{client}");
    let shows = |html: &str| html.contains(name);
    events
        .change(|change| change["set"][&id].as_str().is_some_and(shows))
        .await
}

#[tokio::test]
async fn a_change_reaches_the_browser_and_only_the_change() {
    let mut hall = with_polling().await;
    let client = hall.add(1, "PC-01").await;
    let second = hall.add(2, "PC-02").await;
    let page = hall.get("/").await.text;
    let mut events = watch(&hall, &live_path(&page)).await;
    assert!(events.next("hello").await.parse::<i64>().unwrap() > 0);
    // Whatever the page missed until the first look is sent whole, so a first change shows that the
    // stream is up to date; the second one must come alone.
    rename(&hall, second.id, "Door").await;
    change_of(&mut events, second.id, "Door").await;
    rename(&hall, client.id, "Window").await;
    let change = change_of(&mut events, client.id, "Window").await;
    let others = change["set"]
        .as_object()
        .unwrap()
        .keys()
        .filter(|key| key.starts_with("seat-"));
    assert_eq!(others.count(), 1, "the other seat did not change: {change}");
    hall.add(3, "PC-03").await;
    let seats = |change: &serde_json::Value| change["seats"].as_array().map(Vec::len);
    events.change(|change| seats(change) == Some(3)).await;
}

#[tokio::test]
async fn a_page_that_is_out_of_date_is_brought_up_to_date_on_connecting() {
    let mut hall = with_polling().await;
    hall.add(1, "PC-01").await;
    hall.get("/").await;
    let mut events = watch(&hall, "/live/room?seen=0").await;
    let data = events.next("change").await;
    assert!(
        data.contains("\"verdict\"") && data.contains("PC-01"),
        "{data}"
    );
    assert!(!data.contains("<csrf>"), "{data}");
}

#[tokio::test]
async fn a_stopping_service_ends_its_streams() {
    let hall = with_polling().await;
    let mut events = watch(&hall, "/live/images").await;
    events.next("hello").await;
    hall.app.cancel.cancel();
    events.end().await;
}
