//! Typed identifiers. All are UUIDs made by the application (version 7, so they sort by age).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// The 32 hexadecimal digits without hyphens: safe in IQNs and file names.
            pub fn simple(self) -> String {
                self.0.simple().to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id! {
    /// One PC of the room; survives a change of its network card.
    ClientId
}
id! {
    /// One golden image, through all its versions.
    ImageId
}
id! {
    /// One client's disk; its SCSI identifiers derive from this and never change.
    DiskId
}
id! {
    /// What one maintenance client writes: names its overlay, and then the version made of it.
    LayerId
}
id! {
    /// A group of clients that share policy.
    GroupId
}
id! {
    /// One job of the management daemon.
    JobId
}
id! {
    /// One boot attempt of one client.
    AttemptId
}
id! {
    /// One case: a fault from when it was found until it is over.
    CaseId
}

/// One published, immutable state of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VersionRef {
    /// The image.
    pub image: ImageId,
    /// 1 for the first import, then counting up.
    pub number: u32,
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.image, self.number)
    }
}
