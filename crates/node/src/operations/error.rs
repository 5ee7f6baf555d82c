//! Why an operation was not carried out.

use dess_model::ControlError;
use dess_model::host::RequestError;
use dess_store::StoreError;

/// Why an operation was not carried out. The text is for people, in English; `key` is stable.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The site was never set up.
    #[error("the site is not set up yet; run `dess init`")]
    NoSite,
    /// The site is set up already.
    #[error("the site \"{name}\" is set up already")]
    SiteExists {
        /// Its name.
        name: String,
    },
    /// A field has a value that cannot be accepted.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field, e.g. `seat`.
        field: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A value is taken.
    #[error("{field} {value} is already used by {owner}")]
    Conflict {
        /// The field, e.g. `seat`.
        field: &'static str,
        /// The value.
        value: String,
        /// Who has it.
        owner: String,
    },
    /// There is no such thing.
    #[error("there is no {what} \"{name}\"")]
    NotFound {
        /// What was looked for, e.g. `client`.
        what: &'static str,
        /// As asked.
        name: String,
    },
    /// It was changed since whoever asks looked at it.
    #[error("the {what} \"{name}\" was changed meanwhile; look at it again")]
    Stale {
        /// What it is, e.g. `client`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The thing is in a state that does not allow it.
    #[error("{0}")]
    Refused(String),
    /// The iSCSI service refused.
    #[error(transparent)]
    Target(#[from] ControlError),
    /// Another service did not answer as it should.
    #[error(transparent)]
    Service(#[from] RequestError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OperationError {
    /// Stable key of the kind of error, e.g. `conflict`: the key of translations.
    pub fn key(&self) -> &'static str {
        match self {
            Self::NoSite => "no_site",
            Self::SiteExists { .. } => "site_exists",
            Self::Invalid { .. } => "invalid",
            Self::Conflict { .. } => "conflict",
            Self::NotFound { .. } => "not_found",
            Self::Stale { .. } => "stale",
            Self::Refused(_) => "refused",
            Self::Target(_) => "target",
            Self::Service(_) => "service",
            Self::Store(_) => "database",
        }
    }

    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            reason: reason.into(),
        }
    }

    pub(crate) fn not_found(what: &'static str, name: impl ToString) -> Self {
        Self::NotFound {
            what,
            name: name.to_string(),
        }
    }
}
