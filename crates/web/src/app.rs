//! What all requests share.

use std::net::IpAddr;
use std::sync::Arc;

use dess_model::Timestamp;
use dess_model::host::Paths;
use dess_node::operations::Operations;
use jiff::tz::TimeZone;
use tokio_util::sync::CancellationToken;

use crate::access::{Passwords, SessionCache, Throttle, Tickets, TotpKey};
use crate::catalog::Language;
use crate::live::Live;
use crate::page::HalfLogin;
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
    /// Against guessing passwords from one network.
    pub(crate) throttle: Throttle<IpAddr>,
    /// Against guessing one user's password from many networks.
    pub(crate) guessed: Throttle<String>,
    /// Against guessing codes; apart, so that who failed to log in can still use a code.
    pub(crate) codes: Throttle<IpAddr>,
    /// Who gave the right password and owes the code of the authenticator.
    pub(crate) half_logins: Tickets<HalfLogin>,
    /// Keys of authenticators that are being set up, with their users.
    pub(crate) enrolments: Tickets<(String, TotpKey)>,
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
            guessed: Throttle::default(),
            codes: Throttle::default(),
            half_logins: Tickets::default(),
            enrolments: Tickets::default(),
            cancel,
            zone: TimeZone::system(),
        }))
    }

    /// The name of the site, for the frame of a page that needs nothing else of it.
    pub(crate) async fn site_name(&self) -> Option<String> {
        let site = self.feed.operations().site().await.ok().flatten();
        site.map(|site| site.name)
    }

    /// After a change of what somebody may do: nobody goes on by what was remembered.
    pub(crate) fn ask_who_everybody_is(&self) {
        self.sessions.forget_all();
        self.live.end_streams();
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
