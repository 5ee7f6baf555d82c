//! Cases: open faults with their cause, what was seen, and what to do.

mod action;
mod cause;
mod code;
pub(crate) mod limits;

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use dess_model::{CaseId, ClientId, Timestamp, VersionRef};
use serde::{Deserialize, Serialize};

pub use action::Action;
pub use cause::{Cause, Fact};
pub(crate) use code::Closing;
pub use code::{Code, UnknownCode};

/// How bad a case is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a look; everybody works.
    Warn,
    /// Somebody cannot work.
    Bad,
}

/// What a case is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Subject {
    /// One PC.
    Seat {
        /// Which.
        client: ClientId,
    },
    /// One service of the server.
    Service {
        /// Its name, e.g. `dhcp`.
        service: String,
    },
    /// One version of an image.
    Version {
        /// Which.
        version: VersionRef,
    },
    /// An address in the room's network: a foreign server, or one that two machines use.
    Address {
        /// Which.
        address: Ipv4Addr,
    },
    /// The server: one of its networks or network cards.
    Server {
        /// E.g. `eth0` or `10.0.0.0/24`.
        part: String,
    },
    /// The whole site.
    Site,
}

/// The text names no subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not the subject of a case")]
pub struct UnknownSubject(String);

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seat { client } => write!(f, "seat:{client}"),
            Self::Service { service } => write!(f, "service:{service}"),
            Self::Version { version } => write!(f, "version:{version}"),
            Self::Address { address } => write!(f, "address:{address}"),
            Self::Server { part } => write!(f, "server:{part}"),
            Self::Site => f.write_str("site:"),
        }
    }
}

impl FromStr for Subject {
    type Err = UnknownSubject;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownSubject(text.to_owned());
        let (kind, name) = text.split_once(':').ok_or_else(unknown)?;
        match kind {
            "seat" => name.parse().ok().map(|client| Self::Seat { client }),
            "service" => Some(Self::Service {
                service: name.to_owned(),
            }),
            "version" => name.split_once('@').and_then(|(image, number)| {
                let version = VersionRef {
                    image: image.parse().ok()?,
                    number: number.parse().ok()?,
                };
                Some(Self::Version { version })
            }),
            "address" => name.parse().ok().map(|address| Self::Address { address }),
            "server" => Some(Self::Server {
                part: name.to_owned(),
            }),
            "site" => Some(Self::Site),
            _ => None,
        }
        .ok_or_else(unknown)
    }
}

/// Something that was seen, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub fact: Fact,
}

/// An open or resolved fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Identity; sorts by age.
    pub id: CaseId,
    /// Which fault.
    pub code: Code,
    /// What it is about.
    pub subject: Subject,
    /// How bad.
    pub severity: Severity,
    /// Why.
    pub cause: Cause,
    /// What was seen, oldest first.
    pub evidence: Vec<Evidence>,
    /// How sure it is, in percent.
    pub confidence: u8,
    /// What would mend it, if DESS can do that.
    pub action: Option<Action>,
    /// Since when.
    pub opened: Timestamp,
    /// When its signature was seen last.
    pub last_seen: Timestamp,
    /// When it was over.
    pub resolved: Option<Timestamp>,
}

impl Case {
    /// True until it is resolved.
    pub fn is_open(&self) -> bool {
        self.resolved.is_none()
    }
}

/// A fault whose signature is there now; without memory of what was found before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) code: Code,
    pub(crate) subject: Subject,
    pub(crate) severity: Severity,
    pub(crate) cause: Cause,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) confidence: u8,
    pub(crate) action: Option<Action>,
    /// When the signature was complete first, and seen last.
    pub(crate) since: Timestamp,
    pub(crate) seen: Timestamp,
}

impl Finding {
    /// A certain one, seen once.
    pub(crate) fn new(code: Code, subject: Subject, cause: Cause, at: Timestamp) -> Self {
        Self {
            code,
            subject,
            severity: code.severity(),
            cause,
            evidence: Vec::new(),
            confidence: 100,
            action: None,
            since: at,
            seen: at,
        }
    }

    pub(crate) fn seat(code: Code, client: ClientId, cause: Cause, at: Timestamp) -> Self {
        Self::new(code, Subject::Seat { client }, cause, at)
    }

    pub(crate) fn sure(self, confidence: u8) -> Self {
        Self { confidence, ..self }
    }

    pub(crate) fn seen(self, seen: Timestamp) -> Self {
        Self { seen, ..self }
    }

    pub(crate) fn proposing(self, action: Action) -> Self {
        Self {
            action: Some(action),
            ..self
        }
    }

    pub(crate) fn with(mut self, at: Timestamp, fact: Fact) -> Self {
        self.evidence.push(Evidence { at, fact });
        self
    }
}
