//! Roll-outs: which clients boot a version, some seats first, then the rest; and back with one order.

use dess_model::{ClientId, ImageId, Timestamp, VersionRef};
use dess_store::{Assigned, ClientRecord, GroupRecord, Holder, RolloutRecord, Tx};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::clients::fetch;
use super::images::Catalogue;
use super::{OperationError, Operations, Result, record};

/// Who gets a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutTo {
    /// These clients only.
    Clients(Vec<ClientId>),
    /// All that boot the image, by their group or by an assignment of their own.
    All,
}

/// What a roll-out, or taking one back, did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutView {
    /// The version that was rolled out or taken back, for people: `debian@2`.
    pub label: String,
    /// Clients that boot something else now than before, from their next power-on on.
    pub clients: u32,
    /// The same by seat and name.
    pub names: Vec<String>,
}

impl Operations {
    /// Gives clients a version (`name`, the newest, or `name@version`) from their next power-on on. Orders for the same
    /// version one after the other are one roll-out.
    ///
    /// # Errors
    /// If there is no such version or client, or nobody boots the image.
    pub async fn image_rollout(&self, image: &str, to: RolloutTo) -> Result<RolloutView> {
        let (actor, to) = (&*self.actor, &to);
        let view = self
            .store()
            .await?
            .transact(|tx| rollout(tx, image, to, actor))
            .await?;
        self.publish().await;
        Ok(view)
    }

    /// Takes the last roll-out of an image back: everybody boots what they did before it, but for those who were assigned something
    /// else since.
    ///
    /// # Errors
    /// If there is no such image, or nothing to take back.
    pub async fn image_rollback(&self, image: &str) -> Result<RolloutView> {
        let actor = &*self.actor;
        let view = self
            .store()
            .await?
            .transact(|tx| rollback(tx, image, actor))
            .await?;
        self.publish().await;
        Ok(view)
    }
}

/// Clients and groups as they are assigned.
struct Room {
    clients: Vec<ClientRecord>,
    groups: Vec<GroupRecord>,
}

impl Room {
    async fn read(tx: &mut Tx) -> Result<Self> {
        Ok(Self {
            clients: tx.client_list().await?,
            groups: tx.group_list().await?,
        })
    }

    fn group_version(&self, client: &ClientRecord) -> Option<VersionRef> {
        let group = self.groups.iter().find(|group| group.id == client.group);
        group.and_then(|group| group.version)
    }

    /// What a client boots, but for maintenance.
    fn booted(&self, client: &ClientRecord) -> Option<VersionRef> {
        client.version.or(self.group_version(client))
    }

    /// The clients that boot something else here than in `before`.
    fn changed_since(&self, before: &Self) -> Vec<String> {
        let changed = self.clients.iter().filter(|client| {
            let earlier = before
                .clients
                .iter()
                .find(|earlier| earlier.id == client.id);
            earlier.and_then(|earlier| before.booted(earlier)) != self.booted(client)
        });
        changed
            .map(|client| format!("{} ({})", client.seat, client.name))
            .collect()
    }
}

async fn rollout(mut tx: Tx, image: &str, to: &RolloutTo, actor: &str) -> Result<RolloutView> {
    let catalogue = Catalogue::read(&mut tx).await?;
    let version = catalogue.find(image)?;
    let before = Room::read(&mut tx).await?;
    let changes = match to {
        RolloutTo::Clients(ids) => {
            let mut changes = Vec::new();
            for &id in ids {
                let client = fetch(&mut tx, id).await?;
                changes.push((Holder::Client(id), own(&client), pinned(Some(version))));
            }
            changes
        }
        RolloutTo::All => changes_for_all(&before, version),
    };
    if changes.is_empty() {
        let reason = format!(
            "nobody boots {image}; give it to clients with --clients, or with `dess image assign`"
        );
        return Err(OperationError::Refused(reason));
    }
    let campaign = campaign(&mut tx, version, actor).await?;
    let noted = tx.rollout_holder_list(&campaign).await?;
    for (holder, former, wanted) in changes {
        if !noted.iter().any(|(known, _)| *known == holder) {
            tx.rollout_holder_insert(&campaign, holder, former).await?;
        }
        give(&mut tx, holder, wanted).await?;
    }
    let view = RolloutView::of(&mut tx, catalogue.label(version), &before).await?;
    let details = json!({"to": to, "clients": view.names});
    record(&mut tx, actor, "image.rollout", &view.label, details).await?;
    Ok(view)
}

/// Groups that boot the image get the version, and clients with an assignment of their own of it: those boot what their
/// group does from now on, if that is the same.
fn changes_for_all(room: &Room, version: VersionRef) -> Vec<(Holder, Assigned, Assigned)> {
    let boots_image =
        |assigned: Option<VersionRef>| assigned.is_some_and(|found| found.image == version.image);
    let groups = room
        .groups
        .iter()
        .filter(|group| boots_image(group.version));
    let clients = room
        .clients
        .iter()
        .filter(|client| boots_image(client.version));
    let of_groups = groups.map(|group| {
        let former = Assigned {
            version: group.version,
            follows_latest: group.follows_latest,
        };
        (Holder::Group(group.id), former, pinned(Some(version)))
    });
    let of_clients = clients.map(|client| {
        let wanted = match boots_image(room.group_version(client)) {
            true => pinned(None),
            false => pinned(Some(version)),
        };
        (Holder::Client(client.id), own(client), wanted)
    });
    of_groups.chain(of_clients).collect()
}

/// The roll-out of this version that goes on, or a new one.
async fn campaign(tx: &mut Tx, version: VersionRef, actor: &str) -> Result<RolloutRecord> {
    let last = tx.rollout_list(version.image).await?.into_iter().next();
    let number = last.as_ref().map_or(0, |last| last.number) + 1;
    if let Some(last) = last.filter(|last| last.version == version) {
        return Ok(last);
    }
    let campaign = RolloutRecord {
        number,
        version,
        actor: actor.to_owned(),
        created: Timestamp::now(),
    };
    tx.rollout_insert(&campaign).await?;
    Ok(campaign)
}

async fn rollback(mut tx: Tx, image: &str, actor: &str) -> Result<RolloutView> {
    let catalogue = Catalogue::read(&mut tx).await?;
    let id: ImageId = catalogue.image(image)?.id;
    let before = Room::read(&mut tx).await?;
    let Some(last) = tx.rollout_list(id).await?.into_iter().next() else {
        let reason = format!("no roll-out of {image} can be taken back");
        return Err(OperationError::Refused(reason));
    };
    for (holder, former) in tx.rollout_holder_list(&last).await? {
        if before.still_has(holder, last.version) {
            give(&mut tx, holder, former).await?;
        }
    }
    tx.rollout_delete(id, last.number).await?;
    let view = RolloutView::of(&mut tx, catalogue.label(last.version), &before).await?;
    let details = json!({"clients": view.names});
    record(&mut tx, actor, "image.rollback", &view.label, details).await?;
    Ok(view)
}

impl Room {
    /// True if nobody has assigned something else since the roll-out of this version.
    fn still_has(&self, holder: Holder, version: VersionRef) -> bool {
        match holder {
            Holder::Client(id) => self
                .clients
                .iter()
                .any(|client| client.id == id && self.booted(client) == Some(version)),
            Holder::Group(id) => self
                .groups
                .iter()
                .any(|group| group.id == id && group.version == Some(version)),
        }
    }
}

impl RolloutView {
    async fn of(tx: &mut Tx, label: String, before: &Room) -> Result<Self> {
        let names = Room::read(tx).await?.changed_since(before);
        Ok(Self {
            label,
            clients: u32::try_from(names.len()).unwrap_or(u32::MAX),
            names,
        })
    }
}

async fn give(tx: &mut Tx, holder: Holder, wanted: Assigned) -> Result<()> {
    match holder {
        Holder::Client(id) => {
            // It may have been removed since.
            if let Some(mut client) = tx.client_fetch(id).await? {
                client.version = wanted.version;
                client.follows_latest = wanted.follows_latest;
                tx.client_update(&client).await?;
            }
        }
        Holder::Group(id) => {
            let groups = tx.group_list().await?;
            if let Some(mut group) = groups.into_iter().find(|group| group.id == id) {
                group.version = wanted.version;
                group.follows_latest = wanted.follows_latest;
                tx.group_update(&group).await?;
            }
        }
    }
    Ok(())
}

fn own(client: &ClientRecord) -> Assigned {
    Assigned {
        version: client.version,
        follows_latest: client.follows_latest,
    }
}

fn pinned(version: Option<VersionRef>) -> Assigned {
    Assigned {
        version,
        follows_latest: false,
    }
}
