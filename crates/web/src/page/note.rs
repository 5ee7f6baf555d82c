//! "Done" in words after a redirect. The address names a known key, never a text.

use serde::Deserialize;

use crate::catalog::{Catalog, Phrase};

/// Query of a page that may show a note.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct NoteQuery {
    /// Key of what was done.
    pub(crate) done: Option<String>,
    /// Id of what it was done to; looked up before it is shown.
    pub(crate) on: Option<String>,
}

impl NoteQuery {
    /// The note; `name` is the name of what it was done to, if that exists.
    pub(crate) fn note(&self, t: &Catalog, name: Option<String>) -> Option<String> {
        let phrase: Phrase = match self.done.as_deref()? {
            "saved" => t.saved,
            "approved" => t.approved,
            "batch" => t.batch_done,
            "image_maintain" => t.maintain_done,
            "image_publish" => t.publish_done,
            "image_discard" => t.discard_done,
            "image_rollout" => t.rollout_done,
            "image_rollback" => t.rollback_done,
            "image_flatten" => t.flatten_done,
            "image_remove" => t.version_remove_done,
            "arranged" => t.arranged,
            "reset" => t.reset_done,
            "reset_later" => t.reset_done_later,
            "removed" => t.removed,
            "restarted" => t.restarted,
            "probed" => t.probe_done,
            "import" => t.import_started,
            "cancel" => t.job_cancel_asked,
            "default" => t.default_done,
            "setup" => t.setup_done,
            "password" => t.password_reset_done,
            "logout" => t.logged_out,
            "own_password" => t.accounts.own_password_done,
            "totp" => t.accounts.totp_done,
            "totp_off" => t.accounts.totp_off_done,
            "session" => t.accounts.session_ended,
            "sessions" => t.accounts.sessions_ended,
            "token" => t.accounts.token_revoked,
            "user" => t.accounts.user_saved,
            "user_removed" => t.accounts.user_removed,
            _ => return None,
        };
        fill(phrase, name)
    }

    /// What went wrong, likewise.
    pub(crate) fn warning(&self, t: &Catalog, name: Option<String>) -> Option<String> {
        match self.done.as_deref()? {
            "restart_failed" => {
                let what = fill(t.restart_failed, name)?;
                Some(format!("{what} {}", t.restart_failed_next))
            }
            "code_late" => Some(t.accounts.login_code_late.into()),
            "probe_failed" => fill(t.probe_failed, name),
            _ => None,
        }
    }
}

fn fill(phrase: Phrase, name: Option<String>) -> Option<String> {
    let text = phrase.to_string();
    if text.contains("{name}") {
        return Some(phrase.with("name", name?).into());
    }
    Some(text)
}
