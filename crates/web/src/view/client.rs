//! One client's own page.

use dess_diagnosis::ClientState;
use dess_model::{BootPolicy, DataAccess};
use dess_node::operations::ClientView;

use super::fault_words;
use crate::catalog::{Catalog, Phrase};
use crate::site::Records;
use crate::wording::Wording;

/// A fact about the client.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) word: Phrase,
    pub(crate) value: String,
    /// Shown in a fixed-width font.
    pub(crate) mono: bool,
}

/// What is wrong with the client.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) title: String,
    pub(crate) what: Phrase,
    pub(crate) next: Phrase,
    /// The service's own words, in English.
    pub(crate) detail: Option<String>,
}

impl Trouble {
    pub(crate) fn of(t: &Catalog, client: &ClientView) -> Option<Self> {
        let ClientState::Fault { code, text, .. } = &client.state else {
            return None;
        };
        let (what, next) = fault_words(t, code);
        Some(Self {
            title: format!("{code} · {}", t.fault),
            what,
            next,
            detail: Some(text.clone()).filter(|text| !text.is_empty()),
        })
    }
}

/// What is known of the client.
pub(crate) fn facts(words: &Wording, client: &ClientView) -> Vec<Fact> {
    let t = words.t;
    let fact = |word, value: String| Fact {
        word,
        value,
        mono: false,
    };
    let mono = |word, value: String| Fact {
        word,
        value,
        mono: true,
    };
    vec![
        mono(t.mac, client.mac.to_string()),
        mono(
            t.address,
            client
                .address
                .map_or_else(|| t.address_auto.into(), |address| address.to_string()),
        ),
        fact(
            t.firmware,
            client
                .hardware
                .architecture
                .map_or_else(|| t.unknown.into(), |kind| kind.to_string()),
        ),
        fact(
            t.image,
            client
                .image
                .as_ref()
                .map_or_else(|| t.no_image.into(), |image| image.label.clone()),
        ),
        fact(t.policy, policy_word(t, client.policy).into()),
        fact(t.data_disks, data_disks(t, client)),
        fact(t.group, client.group.clone()),
        fact(t.limits_short, limits_words(words, client)),
        fact(
            t.traffic,
            format!(
                "{} / {}",
                words.bytes(client.traffic.read_bytes),
                words.bytes(client.traffic.written_bytes)
            ),
        ),
        fact(t.registered, words.moment(client.created).text),
    ]
}

/// The limits of reading and writing: `read 20 MB/s · write 10 MB/s`.
fn limits_words(words: &Wording, client: &ClientView) -> String {
    let t = words.t;
    let limits = [
        (t.limit_read_at, client.limits.read.bytes_per_sec),
        (t.limit_write_at, client.limits.write.bytes_per_sec),
    ];
    let set: Vec<String> = limits
        .into_iter()
        .filter_map(|(phrase, rate)| Some(phrase.with("rate", words.bytes(rate?)).into()))
        .collect();
    match set.is_empty() {
        true => t.limit_none.into(),
        false => set.join(" · "),
    }
}

/// A line of the data disks: `1 games@3 · 2 course@1`.
fn data_disks(t: &Catalog, client: &ClientView) -> String {
    let disks = client.data_disks.iter();
    let disks: Vec<_> = disks
        .filter_map(|disk| {
            let label = disk.label.as_ref()?;
            Some(format!(
                "{} {label} ({})",
                disk.lun,
                access_word(t, disk.access)
            ))
        })
        .collect();
    match disks.is_empty() {
        true => t.data_disks_none.into(),
        false => disks.join(" · "),
    }
}

fn access_word(t: &Catalog, access: DataAccess) -> Phrase {
    match access {
        DataAccess::ReadOnly => t.access_read_only,
        DataAccess::Volatile => t.policy_volatile,
        DataAccess::Persistent => t.policy_persistent,
        DataAccess::Maintenance => t.policy_maintenance,
    }
}

fn policy_word(t: &Catalog, policy: BootPolicy) -> Phrase {
    match policy {
        BootPolicy::Volatile => t.policy_volatile,
        BootPolicy::Persistent => t.policy_persistent,
        BootPolicy::Maintenance => t.policy_maintenance,
    }
}

/// One choice of a field.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) value: String,
    pub(crate) word: String,
    pub(crate) chosen: bool,
}

/// The fields of the settings.
#[derive(Clone, Debug)]
pub(crate) struct ClientForm {
    pub(crate) seat: String,
    pub(crate) name: String,
    pub(crate) images: Vec<Choice>,
    pub(crate) policies: Vec<Choice>,
}

impl ClientForm {
    /// As the client is set now. The empty choice is "as its group".
    pub(crate) fn of(t: &Catalog, client: &ClientView, records: &Records) -> Self {
        let group = records
            .groups
            .iter()
            .find(|group| group.name == client.group);
        let own_image = client.image.as_ref().filter(|image| !image.inherited);
        let group_image = group
            .and_then(|group| group.image.as_ref())
            .map_or_else(|| t.no_image.into(), |image| image.label.clone());
        let mut images = vec![Choice {
            value: String::new(),
            word: t.by_group.with("name", group_image).into(),
            chosen: own_image.is_none(),
        }];
        for version in records
            .images
            .iter()
            .flat_map(|image| image.versions.iter().rev())
        {
            images.push(Choice {
                value: version.label.clone(),
                word: version.label.clone(),
                chosen: own_image.is_some_and(|image| image.version == version.version),
            });
        }
        let group_policy = group.map_or(BootPolicy::Volatile, |group| group.policy);
        let policies = vec![
            Choice {
                value: String::new(),
                word: t.by_group.with("name", policy_word(t, group_policy)).into(),
                chosen: client.policy_inherited,
            },
            policy_choice(t, client, BootPolicy::Volatile, "volatile"),
            policy_choice(t, client, BootPolicy::Persistent, "persistent"),
        ];
        Self {
            seat: client.seat.to_string(),
            name: client.name.clone(),
            images,
            policies,
        }
    }
}

fn policy_choice(t: &Catalog, client: &ClientView, policy: BootPolicy, value: &str) -> Choice {
    Choice {
        value: value.to_owned(),
        word: policy_word(t, policy).into(),
        chosen: !client.policy_inherited && client.policy == policy,
    }
}
