//! Live updates: while somebody watches, the state is polled, and each browser is sent the parts
//! of its page that changed (server-sent events).

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use dess_model::Timestamp;
use serde::Deserialize;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::wrappers::ReceiverStream;

use crate::app::App;
use crate::catalog::Language;
use crate::page::{Watched, room_parts};
use crate::parts::{Parts, Shown};
use crate::problem::Problem;
use crate::site::{Feed, Site};
use crate::visitor::Member;

/// How often the state is looked at while somebody watches.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// The database is read this often even if nothing seems to have changed: some states depend
/// on time alone.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Browsers that can watch at once.
const WATCHERS_MAX: usize = 256;
/// A stream ends after this long; the browser connects again, and its login is checked again.
pub(crate) const STREAM_MAX: Duration = Duration::from_secs(5 * 60);
/// Changes waiting for a slow browser.
const QUEUE_MAX: usize = 4;

/// The state with a number that grows with each change.
#[derive(Debug)]
pub(crate) struct Version {
    number: u64,
    pub(crate) site: Site,
}

/// Readers who are shown the same: their language, and whether they may press the buttons.
type Reader = (Language, bool);

/// The newest state, kept up to date while somebody watches.
pub(crate) struct Live {
    feed: Feed,
    newest: watch::Sender<Option<Arc<Version>>>,
    wake: Notify,
    watchers: Arc<Semaphore>,
    rooms: Mutex<HashMap<Reader, (u64, Arc<Parts>)>>,
    /// Told when all logins are ended.
    logins: watch::Sender<()>,
}

impl Live {
    pub(crate) fn new(feed: Feed) -> Self {
        Self {
            feed,
            newest: watch::Sender::new(None),
            wake: Notify::new(),
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
            rooms: Mutex::default(),
            logins: watch::Sender::new(()),
        }
    }

    /// Polls while somebody watches; runs until dropped.
    pub(crate) async fn keep_watching(&self) {
        let mut number = 0;
        loop {
            self.wake.notified().await;
            let mut poll = Poll::default();
            while self.newest.receiver_count() > 0 {
                if poll.look(&self.feed).await {
                    number += 1;
                    let site = poll.site.clone();
                    self.newest
                        .send_replace(Some(Arc::new(Version { number, site })));
                }
                sleep(POLL_EVERY).await;
            }
            self.newest.send_replace(None);
        }
    }

    /// Ends all streams: their browsers connect again, and their logins are checked.
    pub(crate) fn end_streams(&self) {
        self.logins.send_replace(());
    }

    /// A place among those that watch; none if there are too many.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.watchers).try_acquire_owned().ok()
    }

    /// Changes when all logins are ended.
    pub(crate) fn logins(&self) -> watch::Receiver<()> {
        self.logins.subscribe()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<Arc<Version>>> {
        let receiver = self.newest.subscribe();
        self.wake.notify_one();
        receiver
    }

    /// The room's parts, rendered once per kind of reader and change.
    fn room(&self, app: &App, member: &Member, version: &Version) -> Arc<Parts> {
        let reader = (member.visitor.language, member.may_operate());
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((number, parts)) = rooms.get(&reader)
            && *number == version.number
        {
            return Arc::clone(parts);
        }
        let words = app.wording(reader.0);
        let parts = Arc::new(room_parts(&words, &version.site, reader.1));
        rooms.insert(reader, (version.number, Arc::clone(&parts)));
        parts
    }
}

/// What was seen last.
#[derive(Default)]
struct Poll {
    site: Site,
    counter: Option<u64>,
    read_at: Option<Instant>,
}

impl Poll {
    /// Looks once; true if something changed.
    async fn look(&mut self, feed: &Feed) -> bool {
        let services = feed.services().await;
        let counter = feed.operations().change_counter().await.ok();
        let due = self
            .read_at
            .is_none_or(|at| at.elapsed() >= READ_AGAIN_AFTER);
        let mut changed = services != self.site.services || self.read_at.is_none();
        if due || counter != self.counter || counter.is_none() {
            let records = feed.records().await;
            changed |= records != self.site.records;
            self.site.records = records;
            self.counter = counter;
            self.read_at = Some(Instant::now());
        }
        self.site.services = services;
        changed
    }
}

#[derive(Deserialize)]
pub(crate) struct Seen {
    /// Fingerprint of the parts that the page was rendered with.
    #[serde(default)]
    seen: u64,
}

/// `GET /live/{page}`: the changes of a page.
pub(crate) async fn live(
    State(app): State<App>,
    member: Member,
    Path(page): Path<String>,
    Query(Seen { seen }): Query<Seen>,
) -> Result<Sse<impl tokio_stream::Stream<Item = Result<Event, Infallible>>>, Problem> {
    let watched = Watched::from_path(&page).ok_or(Problem::NotFound)?;
    let place = app.live.place().ok_or(Problem::Slow)?;
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    let stream = Stream {
        app,
        member,
        watched,
        sender,
        _place: place,
    };
    tokio::spawn(stream.run(seen));
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(10));
    Ok(Sse::new(ReceiverStream::new(receiver)).keep_alive(keep_alive))
}

/// One browser that watches one page.
struct Stream {
    app: App,
    member: Member,
    watched: Watched,
    sender: mpsc::Sender<Result<Event, Infallible>>,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    async fn run(self, seen: u64) {
        let mut state = self.app.live.watch();
        let mut logins = self.app.live.logins();
        let mut shown = Shown::default();
        let mut first = true;
        let end = Instant::now() + STREAM_MAX;
        let hello = Event::default()
            .event("hello")
            .data(Timestamp::now().0.to_string());
        if self.sender.send(Ok(hello)).await.is_err() {
            return;
        }
        loop {
            let version = state.borrow_and_update().clone();
            if let Some(version) = version {
                let parts = self.parts(&version).await;
                if std::mem::take(&mut first) && parts.fingerprint() == seen {
                    shown.assume(&parts);
                }
                let now = Timestamp::now().0;
                let change = shown.change_to(&parts, now, self.member.form_token());
                if let Some(change) = change
                    && !self.send(&change).await
                {
                    return;
                }
            }
            tokio::select! {
                changed = timeout_at(end, state.changed()) => if !matches!(changed, Ok(Ok(()))) { return },
                _ = logins.changed() => return,
                () = self.sender.closed() => return,
                () = self.app.cancel.cancelled() => return,
            }
        }
    }

    async fn parts(&self, version: &Version) -> Arc<Parts> {
        let member = &self.member;
        match self.watched {
            Watched::Room => self.app.live.room(&self.app, member, version),
            _ => {
                let words = self.app.wording(member.visitor.language);
                let (may, feed) = (member.may_operate(), &self.app.feed);
                Arc::new(self.watched.parts(&words, &version.site, may, feed).await)
            }
        }
    }

    async fn send(&self, change: &crate::parts::Change) -> bool {
        match Event::default().event("change").json_data(change) {
            Ok(event) => tokio::select! {
                sent = self.sender.send(Ok(event)) => sent.is_ok(),
                () = self.app.cancel.cancelled() => false,
            },
            Err(error) => {
                tracing::error!(%error, "cannot write a change of the page");
                false
            }
        }
    }
}
