//! What all requests share.

use std::sync::Arc;

use dess_model::Timestamp;
use dess_model::host::Paths;
use dess_node::operations::Operations;
use jiff::tz::TimeZone;
use tokio_util::sync::CancellationToken;

use crate::access::{Passwords, SessionCache, Throttle};
use crate::catalog::Language;
use crate::live::Live;
use crate::site::Feed;
use crate::wording::Wording;

/// Shared state of the service; cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) paths: Paths,
    pub(crate) feed: Feed,
    pub(crate) sessions: SessionCache,
    pub(crate) passwords: Passwords,
    /// Against guessing passwords.
    pub(crate) throttle: Throttle,
    /// Against guessing codes; apart, so that who failed to log in can still use a code.
    pub(crate) codes: Throttle,
    pub(crate) live: Live,
    pub(crate) cancel: CancellationToken,
    zone: TimeZone,
}

impl App {
    pub(crate) fn new(operations: Operations, cancel: CancellationToken) -> Self {
        let paths = operations.paths().clone();
        let feed = Feed::new(operations);
        Self(Arc::new(Shared {
            live: Live::new(feed.clone()),
            feed,
            paths,
            sessions: SessionCache::default(),
            passwords: Passwords::new(),
            throttle: Throttle::default(),
            codes: Throttle::default(),
            cancel,
            zone: TimeZone::system(),
        }))
    }

    /// How to speak to a reader of this language now.
    pub(crate) fn wording(&self, language: Language) -> Wording {
        Wording::new(language, self.zone.clone(), Timestamp::now())
    }
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
