//! What a browser watches.

use dess_model::ClientId;
use dess_node::supervisor::protocol::ServiceName;

use super::{client, image, room_parts, service};
use crate::parts::Parts;
use crate::site::{Feed, Site};
use crate::wording::Wording;

/// A page with live parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    Room,
    Images,
    Client(ClientId),
    Service(ServiceName),
}

impl Watched {
    /// As it is named in the address: `room`, `client-<id>`, ...
    pub(crate) fn from_path(text: &str) -> Option<Self> {
        match text.split_once('-') {
            None if text == "room" => Some(Self::Room),
            None if text == "images" => Some(Self::Images),
            Some(("client", id)) => id.parse().ok().map(Self::Client),
            Some(("service", name)) => name.parse().ok().map(Self::Service),
            _ => None,
        }
    }

    /// The live parts of the page now; `may_operate` for readers who may press its buttons.
    pub(crate) async fn parts(
        self,
        words: &Wording,
        site: &Site,
        may_operate: bool,
        feed: &Feed,
    ) -> Parts {
        match self {
            Self::Room => room_parts(words, site, may_operate),
            Self::Images => image::parts(words, &site.records, may_operate),
            Self::Client(id) => {
                let boots = feed.boots(id).await.unwrap_or_default();
                client::parts(words, &site.records, (id, &boots), may_operate)
            }
            Self::Service(name) => service::parts(words, site, name, may_operate),
        }
    }
}
