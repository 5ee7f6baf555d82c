//! Images and the jobs that make them.

use dess_node::operations::{JobState, JobView, MaintenanceView};

use super::counted;
use crate::catalog::Catalog;
use crate::site::Records;
use crate::wording::Wording;

/// Ended jobs are shown this many milliseconds.
const ENDED_SHOWN_MS: u64 = 10 * 60 * 1000;

/// One image.
#[derive(Clone, Debug)]
pub(crate) struct ImageRow {
    pub(crate) name: String,
    /// Newest first.
    pub(crate) versions: Vec<VersionRow>,
    pub(crate) maintenance: Option<MaintenanceRow>,
}

/// The maintenance client of an image.
#[derive(Clone, Debug)]
pub(crate) struct MaintenanceRow {
    pub(crate) id: String,
    pub(crate) seat: u32,
    pub(crate) line: String,
    pub(crate) since: String,
}

/// One version.
#[derive(Clone, Debug)]
pub(crate) struct VersionRow {
    pub(crate) label: String,
    pub(crate) size: String,
    pub(crate) made: String,
    pub(crate) used: String,
    pub(crate) default: bool,
    pub(crate) comment: String,
    pub(crate) author: String,
    /// How much it holds beyond the version that it was made on.
    pub(crate) layer: Option<String>,
    /// It needs the version that it was made on.
    pub(crate) layered: bool,
    /// Somebody boots it.
    pub(crate) in_use: bool,
}

pub(crate) fn image_rows(words: &Wording, records: &Records) -> Vec<ImageRow> {
    let default = records
        .default_group()
        .and_then(|group| group.image.as_ref())
        .map(|image| image.version);
    let row = |version: &dess_node::operations::VersionView| VersionRow {
        label: version.label.clone(),
        size: words.bytes(version.size_bytes),
        made: words.moment(version.created).text,
        used: seats_word(words.t, version.clients as usize),
        default: default == Some(version.version),
        comment: version.comment.clone(),
        author: person(&version.author).to_owned(),
        layer: version.parent.and(version.layer_bytes).map(|bytes| {
            words
                .t
                .version_layer
                .with("size", words.bytes(bytes))
                .into()
        }),
        layered: version.parent.is_some(),
        in_use: version.clients > 0 || !version.groups.is_empty(),
    };
    records
        .images
        .iter()
        .map(|image| ImageRow {
            name: image.name.clone(),
            versions: image.versions.iter().rev().map(row).collect(),
            maintenance: image
                .maintenance
                .as_ref()
                .map(|writer| maintenance_row(words, writer)),
        })
        .collect()
}

fn maintenance_row(words: &Wording, writer: &MaintenanceView) -> MaintenanceRow {
    let number = writer.version.number;
    let seat = format!("{:02}", writer.seat);
    let line = words
        .t
        .maintenance_line
        .with("version", number)
        .with("seat", seat);
    MaintenanceRow {
        id: writer.client.to_string(),
        seat: writer.seat,
        line: line.with("name", &writer.name).into(),
        since: words.moment(writer.since).text,
    }
}

/// The person in an actor of the audit log: `owner` of `web:owner@192.168.0.7`.
fn person(actor: &str) -> &str {
    let after = actor.split_once(':').map_or(actor, |(_, person)| person);
    after.rsplit_once('@').map_or(after, |(person, _)| person)
}

/// The labels of all versions, of each image the newest first.
pub(crate) fn image_labels(records: &Records) -> Vec<String> {
    let versions = records
        .images
        .iter()
        .flat_map(|image| image.versions.iter().rev());
    versions.map(|version| version.label.clone()).collect()
}

fn seats_word(t: &Catalog, count: usize) -> String {
    match count {
        0 => t.nobody.into(),
        n => counted(n, t.seats_one, t.seats_count),
    }
}

/// One job.
#[derive(Clone, Debug)]
pub(crate) struct JobRow {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) state_key: &'static str,
    pub(crate) state: String,
    pub(crate) health: &'static str,
    pub(crate) open: bool,
    pub(crate) permille: u64,
    pub(crate) amount: String,
    pub(crate) error: Option<String>,
}

/// Open jobs and those that ended a short while ago.
pub(crate) fn job_rows(words: &Wording, records: &Records) -> Vec<JobRow> {
    let recent = |job: &&JobView| match job.ended {
        Some(ended) => words.now.millis_since(ended) < ENDED_SHOWN_MS,
        None => true,
    };
    records
        .jobs
        .iter()
        .filter(recent)
        .map(|job| job_row(words, job))
        .collect()
}

fn job_row(words: &Wording, job: &JobView) -> JobRow {
    let t = words.t;
    let (state_key, state, health) = match job.state {
        JobState::Queued => ("queued", t.job_queued, "off"),
        JobState::Running => ("running", t.job_running, "booting"),
        JobState::Done => ("done", t.job_done, "good"),
        JobState::Failed => ("failed", t.job_failed, "bad"),
        JobState::Cancelled => ("cancelled", t.job_cancelled, "off"),
    };
    let kind = match job.kind.as_str() {
        "image_import" => t.job_import,
        "image_publish" => t.job_publish,
        "version_flatten" => t.job_flatten,
        "version_remove" => t.job_remove,
        _ => t.job_other,
    };
    let permille = job
        .progress
        .saturating_mul(1000)
        .checked_div(job.total)
        .unwrap_or(0)
        .min(1000);
    JobRow {
        id: job.id.to_string(),
        title: kind.with("name", &job.subject).into(),
        state_key,
        state: state.into(),
        health,
        open: !job.state.is_final(),
        permille,
        amount: if job.total == 0 {
            String::new()
        } else {
            format!(
                "{} / {} · {}%",
                words.bytes(job.progress),
                words.bytes(job.total),
                permille / 10
            )
        },
        error: job.error.clone(),
    }
}
