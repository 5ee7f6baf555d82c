//! One client as a card of the room.

use dess_diagnosis::{ClientState, Stage};
use dess_model::BootPolicy;
use dess_node::operations::ClientView;

use super::{Floor, Place, fault_words};
use crate::catalog::{Catalog, Phrase};
use crate::site::{Records, state_since};
use crate::wording::{Moment, Wording};

/// The stages of a boot that people see as progress, in order.
pub(super) const PROGRESS: [Stage; 8] = [
    Stage::Dhcp,
    Stage::Loader,
    Stage::Ipxe,
    Stage::Disk,
    Stage::Script,
    Stage::FirmwareLogin,
    Stage::OsLogin,
    Stage::OsDhcp,
];

/// A client as a card of the room and as the head of its own page.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) id: String,
    pub(crate) number: u32,
    /// The number with at least two digits.
    pub(crate) label: String,
    pub(crate) name: String,
    /// `running`, `booting`, `fault`, `pending` or `off`.
    pub(crate) state: &'static str,
    pub(crate) word: Phrase,
    pub(crate) since: Option<Moment>,
    pub(crate) stage_key: Option<&'static str>,
    pub(crate) stage: Option<String>,
    /// One class per step: `done`, `now` or nothing.
    pub(crate) steps: Vec<&'static str>,
    pub(crate) progress_word: String,
    pub(crate) note: Option<String>,
    /// Name and number of the version that it boots: `windows11` and `@3`.
    pub(crate) image: (String, String),
    /// Its writes become the next version of an image.
    pub(crate) maintenance: bool,
    /// Where it stands on the plan.
    pub(crate) place: Option<Place>,
    pub(crate) address: Option<String>,
    /// What the search looks through, in lower case.
    pub(crate) find: String,
}

impl Seat {
    pub(crate) fn new(words: &Wording, client: &ClientView) -> Self {
        let t = words.t;
        let stage = match client.state {
            ClientState::Booting { stage, .. } => Some(stage),
            _ => None,
        };
        let reached = stage.map_or(0, |stage| {
            PROGRESS.iter().filter(|step| **step <= stage).count()
        });
        let label = format!("{:02}", client.seat);
        let address = client.address.map(|address| address.to_string());
        Self {
            id: client.id.to_string(),
            number: client.seat,
            state: client.state.key(),
            word: state_word(t, client.state.key()),
            since: state_since(client).map(|since| words.moment(since)),
            stage_key: stage.map(Stage::key),
            stage: stage.map(|stage| stage_word(t, stage).to_string()),
            steps: (0..PROGRESS.len())
                .map(|at| step_class(at, reached))
                .collect(),
            progress_word: t
                .progress
                .with("n", reached)
                .with("m", PROGRESS.len())
                .into(),
            note: note(t, client),
            image: image_of(t, client),
            maintenance: client.policy == BootPolicy::Maintenance,
            place: None,
            find: format!(
                "{label} {} {} {}",
                client.name,
                client.mac,
                address.as_deref().unwrap_or_default(),
            )
            .to_lowercase(),
            label,
            name: client.name.clone(),
            address,
        }
    }

    /// The same at its place.
    pub(crate) fn on(self, floor: &Floor, client: &ClientView) -> Self {
        Self {
            place: floor.place(client.id),
            ..self
        }
    }
}

impl Seat {
    /// True if a search for `text`, in lower case, finds it. A network card may be written with `-`.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.find.contains(text) || self.find.contains(&text.replace('-', ":"))
    }
}

fn image_of(t: &Catalog, client: &ClientView) -> (String, String) {
    let Some(image) = &client.image else {
        return (t.no_image.into(), String::new());
    };
    match image.label.rsplit_once('@') {
        Some((name, number)) => (name.to_owned(), format!("@{number}")),
        None => (image.label.clone(), String::new()),
    }
}

fn step_class(at: usize, reached: usize) -> &'static str {
    match at.cmp(&reached) {
        std::cmp::Ordering::Less => "done",
        std::cmp::Ordering::Equal => "now",
        std::cmp::Ordering::Greater => "",
    }
}

fn note(t: &Catalog, client: &ClientView) -> Option<String> {
    match &client.state {
        ClientState::Fault { code, .. } => {
            let (what, _) = fault_words(t, code);
            Some(format!("{code} · {what}"))
        }
        _ => None,
    }
}

pub(crate) fn state_word(t: &Catalog, key: &str) -> Phrase {
    match key {
        "running" => t.running,
        "booting" => t.booting,
        "fault" => t.fault,
        "pending" => t.pending,
        _ => t.off,
    }
}

pub(crate) fn stage_word(t: &Catalog, stage: Stage) -> Phrase {
    match stage {
        Stage::Dhcp => t.stage_dhcp,
        Stage::Loader => t.stage_loader,
        Stage::Ipxe => t.stage_ipxe,
        Stage::Disk => t.stage_disk,
        Stage::Script => t.stage_script,
        Stage::FirmwareLogin => t.stage_firmware_login,
        Stage::OsLogin => t.stage_os_login,
        Stage::OsDhcp => t.stage_os_dhcp,
        Stage::Up => t.stage_up,
        Stage::Failed => t.stage_failed,
        Stage::SessionEnded => t.stage_session_ended,
    }
}

/// Key of the filter for maintenance clients.
pub(crate) const MAINTENANCE: &str = "maintenance";

/// A filter with its number of seats.
#[derive(Clone, Debug)]
pub(crate) struct Chip {
    pub(crate) key: &'static str,
    pub(crate) word: Phrase,
    pub(crate) count: usize,
    pub(crate) current: bool,
}

impl Chip {
    /// Its shape.
    pub(crate) fn icon(&self) -> &'static str {
        match self.key {
            MAINTENANCE => "tool",
            key => key,
        }
    }
}

/// All filters; `current` is the chosen one.
pub(crate) fn chips(t: &Catalog, records: &Records, current: &str) -> Vec<Chip> {
    let maintained = |client: &&ClientView| client.policy == BootPolicy::Maintenance;
    let maintenance = records.clients.iter().filter(maintained).count();
    let states = ["all", "running", "booting", "fault", "pending", "off"];
    let mut chips: Vec<_> = states
        .into_iter()
        .map(|key| Chip {
            key,
            word: if key == "all" {
                t.all
            } else {
                state_word(t, key)
            },
            count: records
                .clients
                .iter()
                .filter(|client| key == "all" || client.state.key() == key)
                .count(),
            current: key == current,
        })
        .collect();
    if maintenance > 0 {
        chips.push(Chip {
            key: MAINTENANCE,
            word: t.maintenance_short,
            count: maintenance,
            current: current == MAINTENANCE,
        });
    }
    chips
}
