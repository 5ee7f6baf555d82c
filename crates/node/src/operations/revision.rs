//! Revisions of settings, so that nobody overwrites a change that they have not seen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{ClientView, GroupView, OperationError, Result};

/// A fingerprint of the settings of a client or group: differs whenever one of them does, and does not change with what the
/// client does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Revision(pub String);

/// Bytes of the digest that are kept: enough against chance, which is all that it is for.
const REVISION_BYTES: usize = 12;

impl Revision {
    pub(super) fn of(settings: &serde_json::Value) -> Self {
        let digest = Sha256::digest(settings.to_string());
        let digits = digest[..REVISION_BYTES]
            .iter()
            .map(|byte| format!("{byte:02x}"));
        Self(digits.collect())
    }

    /// Refuses a change that was made up from other settings than the present ones.
    pub(super) fn expect(
        &self,
        expected: Option<&Self>,
        what: &'static str,
        name: &str,
    ) -> Result<()> {
        match expected {
            Some(expected) if expected != self => Err(OperationError::Stale {
                what,
                name: name.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

impl ClientView {
    /// The same, with the revision of its settings.
    pub(super) fn revised(mut self) -> Self {
        self.revision = Revision::of(&json!([
            self.seat,
            self.name,
            self.mac,
            self.address,
            self.approved,
            self.group,
            self.image,
            self.policy,
            self.policy_inherited,
            self.boot_file,
            self.data_disks,
            self.limits,
            self.overlay_limits,
        ]));
        self
    }
}

impl GroupView {
    /// The same, with the revision of its settings.
    pub(super) fn revised(mut self) -> Self {
        self.revision = Revision::of(&json!([
            self.name,
            self.default,
            self.image,
            self.policy,
            self.data_disks,
            self.limits,
            self.overlay_limits,
        ]));
        self
    }
}
