//! The answer to "is anything wrong?": what needs a look, in order of weight.

use dess_diagnosis::{ClientState, Code, Severity, Subject};
use dess_model::PoolLevel;
use dess_node::operations::{CaseView, ClientView, NoticeKind, NoticeView};

use super::{ServiceRow, case_line};
use crate::catalog::{Catalog, Phrase};
use crate::site::{Records, Site, Trouble};

/// Faulty seats named one by one; the rest is counted.
const FAULTS_NAMED_MAX: usize = 5;

/// One thing that needs a look.
#[derive(Clone, Debug)]
pub(crate) struct Matter {
    /// Stable key, for tests.
    pub(crate) key: &'static str,
    /// `bad` or `warn`.
    pub(crate) severity: &'static str,
    pub(crate) title: String,
    pub(crate) what: String,
    pub(crate) next: String,
    pub(crate) link: Option<Link>,
}

/// Where the matter is dealt with.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) url: String,
    pub(crate) word: Phrase,
}

/// The first line of the page and what is behind it.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// `good`, `warn` or `bad`.
    pub(crate) health: &'static str,
    pub(crate) line: String,
    pub(crate) items: Vec<Matter>,
}

/// Looks at everything.
pub(crate) fn verdict(t: &'static Catalog, site: &Site, services: &[ServiceRow]) -> Verdict {
    let records = &site.records;
    let mut items = Vec::new();
    items.extend(
        records
            .trouble
            .as_ref()
            .map(|trouble| trouble_matter(t, trouble)),
    );
    if site.services.is_none() {
        items.push(plain(
            ("supervisor", "warn"),
            t.supervisor_lost_title,
            t.supervisor_lost_what,
            t.supervisor_lost_next,
        ));
    }
    items.extend(
        services
            .iter()
            .filter(|row| row.health == "bad")
            .map(|row| service_matter(t, row)),
    );
    items.extend(
        records
            .notices
            .iter()
            .filter_map(|notice| notice_matter(t, notice)),
    );
    items.extend(pool_matter(t, records.pool));
    items.extend(fault_matters(t, records));
    items.extend(case_matters(t, records));
    items.extend(pending_matter(t, records));
    items.extend(no_image_matter(t, records));
    let health = if items.iter().any(|item| item.severity == "bad") {
        "bad"
    } else if items.is_empty() {
        "good"
    } else {
        "warn"
    };
    let line = match items.len() {
        0 if records.clients.is_empty() => t.room_ready.into(),
        0 => t.all_good.into(),
        n => counted(n, t.check_one, t.check_many),
    };
    Verdict {
        health,
        line,
        items,
    }
}

fn plain(
    (key, severity): (&'static str, &'static str),
    title: impl Into<String>,
    what: impl Into<String>,
    next: impl Into<String>,
) -> Matter {
    Matter {
        key,
        severity,
        title: title.into(),
        what: what.into(),
        next: next.into(),
        link: None,
    }
}

fn linked(matter: Matter, url: impl Into<String>, word: Phrase) -> Matter {
    Matter {
        link: Some(Link {
            url: url.into(),
            word,
        }),
        ..matter
    }
}

fn trouble_matter(t: &Catalog, trouble: &Trouble) -> Matter {
    match trouble {
        Trouble::NoSite => plain(
            ("no_site", "warn"),
            t.no_site_title,
            t.no_site_what,
            t.no_site_next,
        ),
        Trouble::Database(_) => plain(
            ("database", "bad"),
            t.database_title,
            t.database_what,
            t.database_next,
        ),
    }
}

fn service_matter(t: &Catalog, row: &ServiceRow) -> Matter {
    let matter = plain(
        ("service", "bad"),
        t.service_bad_title.with("name", row.name),
        row.harm.unwrap_or(row.state),
        row.next.unwrap_or(t.next_stopped),
    );
    linked(matter, format!("/services/{}", row.key), t.open_service)
}

fn notice_matter(t: &Catalog, notice: &NoticeView) -> Option<Matter> {
    let (kind, title, what, next) = match notice.kind {
        NoticeKind::RogueDhcp => (
            ("rogue_dhcp", "bad"),
            t.rogue_title,
            t.rogue_what,
            t.rogue_next,
        ),
        NoticeKind::DiskError => (
            ("disk_error", "bad"),
            t.disk_error_title,
            t.disk_error_what,
            t.disk_error_next,
        ),
        NoticeKind::VersionDamaged => (
            ("version_damaged", "bad"),
            t.version_damaged_title,
            t.version_damaged_what,
            t.version_damaged_next,
        ),
        NoticeKind::LoginRefused => (
            ("login_refused", "warn"),
            t.login_refused_title,
            t.login_refused_what,
            t.login_refused_next,
        ),
        NoticeKind::ServiceRestarted => (
            ("service_restarted", "warn"),
            t.service_restarted_title,
            t.service_restarted_what,
            t.service_restarted_next,
        ),
        // Counted in the log; an operator can do nothing about one odd packet. The PCs that wait
        // for approval are a matter of their own.
        NoticeKind::Malformed | NoticeKind::RegistrationHeld => return None,
    };
    Some(plain(kind, title.with("name", &notice.subject), what, next))
}

fn pool_matter(t: &Catalog, level: PoolLevel) -> Option<Matter> {
    let (severity, what) = match level {
        PoolLevel::Normal => return None,
        PoolLevel::Warn => ("warn", t.space_warn),
        PoolLevel::Throttle => ("warn", t.space_slow),
        PoolLevel::Stop => ("bad", t.space_stop),
    };
    let matter = plain(("space", severity), t.space, what, t.space_next);
    Some(linked(matter, "/images#space", t.open_images))
}

fn fault_matters(t: &Catalog, records: &Records) -> Vec<Matter> {
    let faulty: Vec<_> = records
        .clients
        .iter()
        .filter_map(|client| match &client.state {
            ClientState::Fault { code, .. } => Some((client, code)),
            _ => None,
        })
        .collect();
    let mut matters: Vec<_> = faulty
        .iter()
        .take(FAULTS_NAMED_MAX)
        .map(|(client, code)| fault_matter(t, client, code))
        .collect();
    let more = faulty.len().saturating_sub(FAULTS_NAMED_MAX);
    if more > 0 {
        let matter = plain(
            ("more_faults", "bad"),
            counted(more, t.more_faults_one, t.more_faults_title),
            "",
            t.more_faults_next,
        );
        matters.push(linked(matter, "/?state=fault", t.open_seats));
    }
    matters
}

fn fault_matter(t: &Catalog, client: &ClientView, code: &str) -> Matter {
    let (what, next) = fault_words(t, code);
    let matter = plain(
        ("fault", "bad"),
        t.fault_seat
            .with("seat", format_args!("{:02}", client.seat)),
        format!("{code} · {what}"),
        next,
    );
    linked(matter, format!("/clients/{}", client.id), t.open_seat)
}

/// Cases that nothing else on the page tells of: services, the pool, foreign DHCP servers and
/// seats with a fault are matters of their own.
fn case_matters(t: &'static Catalog, records: &Records) -> Vec<Matter> {
    let told = |case: &CaseView| match &case.subject {
        Subject::Service { .. } | Subject::Site => case.code != Code::E21,
        Subject::Seat { client } => records
            .client(*client)
            .is_some_and(|client| matches!(client.state, ClientState::Fault { .. })),
        _ => case.code == Code::E52,
    };
    let cases = records.cases.iter().filter(|case| !told(case));
    cases
        .take(FAULTS_NAMED_MAX)
        .map(|case| {
            let severity = match case.severity {
                Severity::Bad => "bad",
                Severity::Warn => "warn",
            };
            let (what, next) = case_line(t, case);
            let matter = plain(("case", severity), what, case.code.as_str(), next);
            linked(matter, format!("/cases/{}", case.id), t.cases.show)
        })
        .collect()
}

fn pending_matter(t: &Catalog, records: &Records) -> Option<Matter> {
    let waiting = records
        .clients
        .iter()
        .filter(|client| !client.approved)
        .count();
    let matter = plain(
        ("pending", "warn"),
        counted(waiting, t.pending_one, t.pending_title),
        t.pending_what,
        t.pending_next,
    );
    (waiting > 0).then(|| linked(matter, "/?state=pending", t.open_seats))
}

fn no_image_matter(t: &Catalog, records: &Records) -> Option<Matter> {
    let without = records
        .clients
        .iter()
        .filter(|client| client.approved && client.image.is_none())
        .count();
    let matter = plain(
        ("no_image", "warn"),
        counted(without, t.no_image_one, t.no_image_title),
        t.no_image_what,
        t.no_image_next,
    );
    (without > 0).then(|| linked(matter, "/images", t.open_images))
}

/// The phrase for one, or the phrase for several with their number.
pub(crate) fn counted(count: usize, one: Phrase, many: Phrase) -> String {
    match count {
        1 => one.into(),
        n => many.with("n", n).into(),
    }
}

/// What a fault code means and what to do, in the operator's words.
pub(crate) fn fault_words(t: &Catalog, code: &str) -> (Phrase, Phrase) {
    match code {
        "E11" => (t.fault_e11, t.fault_e11_next),
        "E21" => (t.fault_e21, t.fault_e21_next),
        "E22" => (t.fault_e22, t.fault_e22_next),
        "E23" => (t.fault_e23, t.fault_e23_next),
        "E24" => (t.fault_e24, t.fault_e24_next),
        "E28" => (t.fault_e28, t.cases.login_refused_next),
        "E31" => (t.fault_e31, t.fault_e31_next),
        "E51" => (t.fault_e51, t.fault_e51_next),
        _ => (t.fault_other, t.fault_other_next),
    }
}
