//! What a probe found, in words.

use dess_model::{ProbeFailure, ProbeStep};

use crate::catalog::{Catalog, Language, Phrase};

/// Why a service does not work, in a language; for programs that print it.
pub fn probe_failure_in_words(language: Language, failure: &ProbeFailure) -> String {
    failure_words(language.catalog(), failure)
}

/// Why a service does not work.
pub(crate) fn failure_words(t: &Catalog, failure: &ProbeFailure) -> String {
    match failure {
        ProbeFailure::NoSite => t.probe_no_site.into(),
        ProbeFailure::NoAddress { interface } => {
            t.probe_no_address.with("interface", interface).into()
        }
        ProbeFailure::Refused { at } => t.probe_refused.with("at", at).into(),
        ProbeFailure::Silent { at, limit_ms, step } => {
            let silent = t.probe_silent.with("step", step_words(t, *step));
            let limit = format!("{} s", limit_ms / 1000);
            silent.with("at", at).with("limit", limit).into()
        }
        ProbeFailure::Broken { at, detail } => {
            t.probe_broken.with("at", at).with("detail", detail).into()
        }
        ProbeFailure::Unusable { at, step, detail } => {
            let unusable = t.probe_unusable.with("step", step_words(t, *step));
            unusable.with("at", at).with("detail", detail).into()
        }
        ProbeFailure::BootFile { file, detail } => {
            let cause = t.probe_boot_file.with("file", file);
            cause.with("detail", detail).into()
        }
        ProbeFailure::LoginRefused { status } => {
            let status = format!("{status:#06x}");
            t.probe_login_refused.with("status", status).into()
        }
        ProbeFailure::NoSecret { path } => t.probe_no_secret.with("path", path.display()).into(),
        ProbeFailure::NotPermitted => t.probe_not_permitted.into(),
    }
}

fn step_words(t: &Catalog, step: ProbeStep) -> Phrase {
    match step {
        ProbeStep::Dhcp => t.probe_step_dhcp,
        ProbeStep::Tftp => t.probe_step_tftp,
        ProbeStep::Script => t.probe_step_script,
        ProbeStep::HttpFile => t.probe_step_http_file,
        ProbeStep::Login => t.probe_step_login,
        ProbeStep::Read => t.probe_step_read,
        ProbeStep::Control => t.probe_step_control,
        ProbeStep::Page => t.probe_step_page,
    }
}
