//! What surrounds every page.

use dess_model::{Role, Timestamp};

use crate::assets::{Assets, assets};
use crate::catalog::Language;
use crate::visitor::{Member, Visitor};
use crate::wording::Wording;

/// What surrounds every page.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) language: Language,
    pub(crate) now: Timestamp,
    pub(crate) site_name: String,
    pub(crate) assets: &'static Assets,
    /// Path and query of this page.
    pub(crate) path: String,
    /// `room`, `cases`, `images`, `users`, `audit`, `account` or nothing.
    pub(crate) section: &'static str,
    pub(crate) csrf: String,
    /// Name of the user who reads it; empty for a stranger.
    pub(crate) user: String,
    /// True for an owner, who is led to the users and the audit log.
    pub(crate) owner: bool,
    /// URL of the live updates of this page.
    pub(crate) live: Option<String>,
    /// What was just done.
    pub(crate) note: Option<String>,
    /// What was just tried and failed.
    pub(crate) warning: Option<String>,
}

impl Frame {
    /// Of a page for anybody.
    pub(crate) fn new(words: &Wording, visitor: &Visitor) -> Self {
        Self {
            language: words.language,
            now: words.now,
            site_name: "DESS".into(),
            assets: assets(),
            path: visitor.path.clone(),
            section: "",
            csrf: String::new(),
            user: String::new(),
            owner: false,
            live: None,
            note: None,
            warning: None,
        }
    }

    /// Of a page for somebody who is logged in.
    pub(crate) fn of(
        words: &Wording,
        member: &Member,
        site_name: Option<&str>,
        section: &'static str,
    ) -> Self {
        Self {
            site_name: site_name.unwrap_or("DESS").to_owned(),
            section,
            csrf: member.form_token().to_owned(),
            user: member.user.clone(),
            owner: member.role == Role::Owner,
            ..Self::new(words, &member.visitor)
        }
    }
}
