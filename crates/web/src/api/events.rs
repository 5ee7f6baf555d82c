//! `/api/v1/events`: the live state as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use aide::openapi::{MediaType, Response as Documented};
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use dess_node::operations::{ClientView, JobView, NoticeView};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;

use super::details::ProblemDetails;
use super::document::described;
use super::endpoints::Api;
use super::services::ServicesView;
use crate::app::App;
use crate::gate::Needs::Viewer;
use crate::live::{STREAM_MAX, Version};
use crate::site::{Records, Site};
use crate::visitor::Member;

/// Events waiting for a slow reader.
const QUEUE_MAX: usize = 16;

pub(super) fn routes(api: Api) -> Api {
    api.get("/api/v1/events", Viewer, events, |operation| {
        let what = "The live state: everything at first, then each change. Events: `client`, `client_removed`, `job`, `notice`, \
            `services`, `database`. A stream ends after 5 minutes; connect again then.";
        described("event_stream", what)(operation).response_with::<200, (), _>(|mut answer| {
            let response: &mut Documented = answer.inner();
            response.description = "Server-sent events; the data of each is JSON.".to_owned();
            let media = ("text/event-stream".to_owned(), MediaType::default());
            response.content = [media].into_iter().collect();
            answer
        })
    })
}

async fn events(State(app): State<App>, _: Member) -> Result<Response, ProblemDetails> {
    let place = app.live.place().ok_or_else(|| {
        let detail = "too many programs and browsers watch already; try again later";
        ProblemDetails::unavailable("watchers", "Nobody more can watch", detail.to_owned())
    })?;
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    tokio::spawn(
        Stream {
            app,
            sender,
            _place: place,
        }
        .run(),
    );
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(10));
    let stream = Sse::new(ReceiverStream::new(receiver)).keep_alive(keep_alive);
    Ok(stream.into_response())
}

/// One program that watches.
struct Stream {
    app: App,
    sender: mpsc::Sender<Result<Event, Infallible>>,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    async fn run(self) {
        let mut state = self.app.live.watch();
        let mut logins = self.app.live.logins();
        let end = Instant::now() + STREAM_MAX;
        let mut told: Option<Arc<Version>> = None;
        loop {
            let newest = state.borrow_and_update().clone();
            if let Some(newest) = newest {
                for event in changes(told.as_ref().map(|told| &told.site), &newest.site) {
                    let sent = tokio::select! {
                        sent = self.sender.send(Ok(event)) => sent.is_ok(),
                        () = self.app.cancel.cancelled() => false,
                    };
                    if !sent {
                        return;
                    }
                }
                told = Some(newest);
            }
            tokio::select! {
                changed = timeout_at(end, state.changed()) => if !matches!(changed, Ok(Ok(()))) { return },
                _ = logins.changed() => return,
                () = self.sender.closed() => return,
                () = self.app.cancel.cancelled() => return,
            }
        }
    }
}

/// The database, as far as it can be asked.
#[derive(Serialize)]
struct Reached {
    reached: bool,
}

/// What `now` tells beyond `before`.
fn changes(before: Option<&Site>, now: &Site) -> Vec<Event> {
    let mut events = Vec::new();
    if before.is_none_or(|before| before.services != now.services) {
        let services = ServicesView {
            supervised: now.services.is_some(),
            services: now.services.clone().unwrap_or_default(),
        };
        events.extend(event("services", &services));
    }
    let reached = now.records.trouble.is_none();
    if before.is_none_or(|before| before.records.trouble.is_none() != reached) {
        events.extend(event("database", &Reached { reached }));
    }
    if !reached {
        // Nothing is known: not that everything is gone.
        return events;
    }
    let empty = Records::default();
    let before = before.map_or(&empty, |before| &before.records);
    let clients = &now.records.clients;
    let known = |client: &&ClientView| !before.clients.contains(client);
    events.extend(
        clients
            .iter()
            .filter(known)
            .filter_map(|client| event("client", client)),
    );
    let gone = |old: &&ClientView| !clients.iter().any(|client| client.id == old.id);
    events.extend(
        before
            .clients
            .iter()
            .filter(gone)
            .filter_map(|old| event("client_removed", &old.id)),
    );
    let new_job = |job: &&JobView| !before.jobs.contains(job);
    events.extend(
        now.records
            .jobs
            .iter()
            .filter(new_job)
            .filter_map(|job| event("job", job)),
    );
    let new_notice = |notice: &&NoticeView| !before.notices.contains(notice);
    let notices = now.records.notices.iter().filter(new_notice);
    events.extend(notices.filter_map(|notice| event("notice", notice)));
    events
}

fn event(name: &str, data: &impl Serialize) -> Option<Event> {
    let event = Event::default().event(name).json_data(data);
    event
        .inspect_err(|error| tracing::error!(%error, "cannot write the event {name}"))
        .ok()
}
