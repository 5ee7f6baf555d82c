//! Clients.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use dess_diagnosis::{Attempt, ClientState};
use dess_model::host::{RequestError, request};
use dess_model::{
    Architecture, AttemptId, BootPolicy, ClientId, DiskStatus, IoLimits, MacAddr, OverlayLimits,
    Timestamp, VersionRef,
};
use dess_model::{
    BootProfileStatus, ClientCounters, ControlError, IscsiIdentity, SessionStatus, TargetReply,
    TargetRequest,
};
use dess_store::{AttemptRecord, ClientRecord, GroupRecord, MaintenanceRecord, Tx};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::images::Catalogue;
use super::{BootSummary, DataDiskView, OperationError, Operations, Result, Revision, record};
use crate::data_disks::{DataDisks, maintenance_of};
use crate::timeline::attempt_of;

/// One client, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClientView {
    /// Identity.
    pub id: ClientId,
    /// Seat number.
    pub seat: u32,
    /// Name.
    pub name: String,
    /// Network card.
    pub mac: MacAddr,
    /// Reserved address.
    pub address: Option<Ipv4Addr>,
    /// False while it waits for approval.
    pub approved: bool,
    /// Name of its group.
    pub group: String,
    /// What it boots at the next power-on.
    pub image: Option<ImageAssignment>,
    /// What happens to its writes.
    pub policy: BootPolicy,
    /// True if the policy is its group's.
    pub policy_inherited: bool,
    /// Boot file instead of the one for its architecture.
    pub boot_file: Option<String>,
    /// Its data disks from the next power-on on, by number.
    #[serde(default)]
    pub data_disks: Vec<DataDiskView>,
    /// How much of the storage it may use.
    pub limits: IoLimits,
    /// How large its overlay may get: its own limits, and its group's where it has none.
    #[serde(default)]
    pub overlay_limits: OverlayLimits,
    /// What was seen of its hardware.
    pub hardware: Hardware,
    /// What it does now.
    pub state: ClientState,
    /// Its last boot attempt.
    pub last_boot: Option<BootSummary>,
    /// Bytes moved since its last power-on.
    pub traffic: Traffic,
    /// When it was registered.
    pub created: Timestamp,
    /// Fingerprint of its settings, to change them only as they were seen.
    #[serde(default)]
    pub revision: Revision,
}

/// The image version that a client boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageAssignment {
    /// Which version.
    pub version: VersionRef,
    /// For people: `debian@1`.
    pub label: String,
    /// True if it is the group's assignment.
    pub inherited: bool,
}

/// What was seen of a client's hardware at boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hardware {
    /// Firmware kind (DHCP option 93).
    #[schemars(with = "Option<u16>")]
    pub architecture: Option<Architecture>,
    /// SMBIOS UUID (DHCP option 97), as hexadecimal digits.
    pub uuid: Option<String>,
}

/// Bytes that a client moved since its last power-on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

/// What the iSCSI service tells: open sessions, and counters of the clients since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataPathView {
    /// Open sessions.
    pub sessions: Vec<SessionStatus>,
    /// Counters of the clients that had a session.
    pub clients: Vec<ClientCounters>,
}

/// What the boots of a version read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BootProfileView {
    /// The version, for people: `debian@1`.
    pub label: String,
    /// The figures.
    #[serde(flatten)]
    pub profile: BootProfileStatus,
}

/// How long the iSCSI service may take to answer; it gives sessions 10 s to end.
const TARGET_TIMEOUT: Duration = Duration::from_secs(15);

impl Operations {
    /// All clients in seat order.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn client_list(&self) -> Result<Vec<ClientView>> {
        let mut tx = self.read().await?;
        let clients = tx.client_list().await?;
        let attempts = tx.attempt_list_last().await?;
        let room = Room::read(&mut tx, &attempts).await?;
        Ok(clients
            .into_iter()
            .map(|client| room.view(client))
            .collect())
    }

    /// The client that `text` names: a seat number, name, MAC address or id.
    ///
    /// # Errors
    /// If there is none, or the database cannot be read.
    pub async fn client_find(&self, text: &str) -> Result<ClientView> {
        let text = text.trim();
        let mut tx = self.read().await?;
        let client = find(&mut tx, text).await?;
        let client = client.ok_or_else(|| OperationError::not_found("client", text))?;
        view(&mut tx, client).await
    }

    /// One client.
    ///
    /// # Errors
    /// If there is none, or the database cannot be read.
    pub async fn client_get(&self, id: ClientId) -> Result<ClientView> {
        let mut tx = self.read().await?;
        let client = fetch(&mut tx, id).await?;
        view(&mut tx, client).await
    }

    /// The client's iSCSI names and secret, for a person who types them into firmware. Audited.
    ///
    /// # Errors
    /// If there is none, or the database cannot be read or the audit row not be written.
    pub async fn client_iscsi(&self, id: ClientId) -> Result<IscsiIdentity> {
        let client = fetch(&mut self.read().await?, id).await?;
        self.audit_append("client.secret_shown", &client.name, json!({}))
            .await?;
        Ok(client.iscsi)
    }

    /// Lets a pending client boot.
    ///
    /// # Errors
    /// If there is no such client.
    pub async fn client_approve(&self, id: ClientId) -> Result<ClientView> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let mut client = fetch(&mut tx, id).await?;
                client.approved = true;
                tx.client_update(&client).await?;
                let details = json!({"seat": client.seat, "mac": client.mac});
                record(&mut tx, actor, "client.approve", &client.name, details).await?;
                Result::Ok(())
            })
            .await?;
        self.publish().await;
        self.client_get(id).await
    }

    /// Removes a client with its disk and its boot history. Refused while it runs, unless `force`
    /// (its sessions then end). If the iSCSI service is down, what is on its disk stays in the
    /// store; the log says so.
    ///
    /// # Errors
    /// If there is no such client, it runs, or its disk cannot be removed.
    pub async fn client_remove(&self, id: ClientId, force: bool) -> Result<()> {
        self.client_remove_if(id, force, None).await
    }

    /// As [`client_remove`](Self::client_remove), only if its settings are still those of `expected`.
    ///
    /// # Errors
    /// As there, or if it was changed meanwhile.
    pub async fn client_remove_if(
        &self,
        id: ClientId,
        force: bool,
        expected: Option<&Revision>,
    ) -> Result<()> {
        let present = self.client_get(id).await?;
        present.revision.expect(expected, "client", &present.name)?;
        self.refuse_if_maintaining(id).await?;
        self.refuse_if_running(id, force).await?;
        let remove = TargetRequest::Remove { client: id, force };
        match self.ask_target(&remove).await {
            // Or it was registered so lately that there is no disk.
            Ok(Some(_)) | Err(OperationError::Target(ControlError::UnknownClient { .. })) => {}
            Ok(None) => tracing::warn!(
                client.id = %id,
                "a client is removed while the iSCSI service is down: its disk stays in the store"
            ),
            Err(error) => return Err(error),
        }
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let client = fetch(&mut tx, id).await?;
                tx.client_delete(id).await?;
                let details = json!({"seat": client.seat, "mac": client.mac, "id": id});
                record(&mut tx, actor, "client.remove", &client.name, details).await?;
                Result::Ok(())
            })
            .await?;
        self.publish().await;
        Ok(())
    }

    /// Drops a client's writes. Refused while it runs, unless `force` (its sessions then end).
    /// Answers the disk's state, or none if there is no disk or the iSCSI service cannot be
    /// reached: the disk is then fresh at the next power-on all the same.
    ///
    /// # Errors
    /// If there is no such client, it runs, or its disk cannot be reset. Nothing is changed then.
    pub async fn client_reset(&self, id: ClientId, force: bool) -> Result<Option<DiskStatus>> {
        self.refuse_if_maintaining(id).await?;
        self.refuse_if_running(id, force).await?;
        let client = fetch(&mut self.read().await?, id).await?;
        let epoch = client.reset_epoch.saturating_add(1);
        let reset = TargetRequest::Reset {
            client: id,
            force,
            epoch,
        };
        // The iSCSI service first: it knows the epoch then, so a power-on that comes before the
        // epoch is published loses nothing.
        let disk = match self.ask_target(&reset).await {
            Ok(Some(TargetReply::Disk(disk))) => Some(disk),
            // Down, or the client was registered so lately that there is nothing to drop.
            Ok(_) | Err(OperationError::Target(ControlError::UnknownClient { .. })) => None,
            // It may have been done: the epoch makes sure of it.
            Err(OperationError::Service(error)) => {
                tracing::warn!(%error, client.id = %id, "the iSCSI service gave no answer");
                None
            }
            Err(error) => return Err(error),
        };
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let mut client = fetch(&mut tx, id).await?;
                client.reset_epoch = client.reset_epoch.max(epoch);
                tx.client_update(&client).await?;
                let details = json!({"epoch": client.reset_epoch, "force": force});
                record(&mut tx, actor, "client.reset", &client.name, details).await?;
                Result::Ok(())
            })
            .await?;
        self.publish().await;
        Ok(disk)
    }

    /// What the iSCSI service tells of sessions and clients; none if it is down.
    ///
    /// # Errors
    /// If it gives no usable answer.
    pub async fn data_path(&self) -> Result<Option<DataPathView>> {
        Ok(match self.ask_target(&TargetRequest::Status).await? {
            Some(TargetReply::Status {
                sessions, clients, ..
            }) => Some(DataPathView { sessions, clients }),
            _ => None,
        })
    }

    /// What the boots of each version read since the iSCSI service started; none if it is down.
    ///
    /// # Errors
    /// If it gives no usable answer, or the database cannot be read.
    pub async fn boot_profiles(&self) -> Result<Option<Vec<BootProfileView>>> {
        let reply = self.ask_target(&TargetRequest::Status).await?;
        let Some(TargetReply::Status { boot_profiles, .. }) = reply else {
            return Ok(None);
        };
        let catalogue = Catalogue::read(&mut self.read().await?).await?;
        let view = |profile: BootProfileStatus| BootProfileView {
            label: catalogue.label(profile.version),
            profile,
        };
        Ok(Some(boot_profiles.into_iter().map(view).collect()))
    }

    /// Refuses what must not happen to a client that runs.
    pub(super) async fn refuse_if_running(&self, id: ClientId, force: bool) -> Result<()> {
        let client = self.client_get(id).await?;
        let sessions = match self.ask_target(&TargetRequest::Status).await {
            Ok(Some(TargetReply::Status { sessions, .. })) => sessions
                .iter()
                .filter(|session| session.client == id)
                .count(),
            // The service cannot say; go by what was seen last.
            Ok(_) | Err(_) => usize::from(matches!(client.state, ClientState::Running { .. })),
        };
        if sessions > 0 && !force {
            let sessions = u32::try_from(sessions).unwrap_or(u32::MAX);
            return Err(ControlError::Running {
                client: id,
                sessions,
            }
            .into());
        }
        Ok(())
    }

    /// Asks the iSCSI service; none if it is down.
    pub(super) async fn ask_target(&self, question: &TargetRequest) -> Result<Option<TargetReply>> {
        let socket = self.paths.target_control();
        match request(&socket, question, TARGET_TIMEOUT).await {
            Ok(TargetReply::Error(error)) => Err(error.into()),
            Ok(reply) => Ok(Some(reply)),
            Err(RequestError::Connect { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

pub(super) async fn fetch(tx: &mut Tx, id: ClientId) -> Result<ClientRecord> {
    let client = tx.client_fetch(id).await?;
    client.ok_or_else(|| OperationError::not_found("client", id))
}

/// The client that `text` names, by what finds it fastest.
async fn find(tx: &mut Tx, text: &str) -> Result<Option<ClientRecord>> {
    if let Ok(id) = text.parse()
        && let Some(client) = tx.client_fetch(id).await?
    {
        return Ok(Some(client));
    }
    if let Ok(mac) = text.parse::<MacAddr>()
        && let Some(client) = tx.client_fetch_by_mac(mac).await?
    {
        return Ok(Some(client));
    }
    if let Ok(seat) = text.parse()
        && let Some(client) = tx.client_fetch_by_seat(seat).await?
    {
        return Ok(Some(client));
    }
    // Letter case counts for neither database's index in every script.
    let name = text.to_lowercase();
    let mut clients = tx.client_list().await?.into_iter();
    Ok(clients.find(|client| client.name.to_lowercase() == name))
}

/// One client, for people.
async fn view(tx: &mut Tx, client: ClientRecord) -> Result<ClientView> {
    let last = match client.last_attempt {
        Some(id) => tx.attempt_fetch(id).await?,
        None => None,
    };
    let room = Room::read(tx, last.as_slice()).await?;
    Ok(room.view(client))
}

/// Refuses a change of a client whose settings are not those of `expected` any more.
pub(super) async fn expect_revision(
    tx: &mut Tx,
    client: &ClientRecord,
    expected: Option<&Revision>,
) -> Result<()> {
    if expected.is_none() {
        return Ok(());
    }
    let present = view(tx, client.clone()).await?.revision;
    present.expect(expected, "client", &client.name)
}

/// What is needed to show clients.
struct Room {
    groups: Vec<GroupRecord>,
    maintenances: Vec<MaintenanceRecord>,
    data_disks: DataDisks,
    catalogue: Catalogue,
    attempts: HashMap<AttemptId, Attempt>,
}

impl Room {
    /// `attempts` are the last ones of the clients that are to be shown.
    async fn read(tx: &mut Tx, attempts: &[AttemptRecord]) -> Result<Self> {
        Ok(Self {
            groups: tx.group_list().await?,
            maintenances: tx.maintenance_list().await?,
            data_disks: DataDisks::read(tx).await?,
            catalogue: Catalogue::read(tx).await?,
            attempts: attempts
                .iter()
                .map(|record| (record.id, attempt_of(record)))
                .collect(),
        })
    }

    fn view(&self, client: ClientRecord) -> ClientView {
        let group = self.groups.iter().find(|group| group.id == client.group);
        let last = client.last_attempt.and_then(|id| self.attempts.get(&id));
        let maintenance = maintenance_of(&self.maintenances, client.id);
        let data_disks = self.data_disks.of_client(&client, maintenance);
        let data_disks = data_disks.into_iter();
        let maintenance = maintenance.filter(|record| record.data_lun.is_none());
        let inherited = client.version.is_none() && maintenance.is_none();
        let version = maintenance
            .map(|record| record.version)
            .or(client.version)
            .or(group.and_then(|group| group.version));
        ClientView {
            id: client.id,
            seat: client.seat,
            mac: client.mac,
            address: client.address,
            approved: client.approved,
            group: group.map_or_else(String::new, |group| group.name.clone()),
            image: version.map(|version| self.catalogue.assignment(version, inherited)),
            policy: maintenance
                .map(|_| BootPolicy::Maintenance)
                .or(client.policy)
                .or(group.map(|group| group.policy))
                .unwrap_or_default(),
            policy_inherited: client.policy.is_none() && maintenance.is_none(),
            boot_file: client.boot_file,
            data_disks: data_disks
                .map(|disk| DataDiskView::of(disk, &self.catalogue))
                .collect(),
            limits: client.limits,
            overlay_limits: client
                .overlay_limits
                .or(group.map(|group| group.overlay_limits).unwrap_or_default()),
            hardware: Hardware {
                architecture: client.architecture,
                uuid: client.uuid,
            },
            state: ClientState::of(client.approved, last),
            last_boot: last.map(BootSummary::of),
            traffic: last.map_or_else(Traffic::default, |attempt| Traffic {
                read_bytes: attempt.read_bytes,
                written_bytes: attempt.written_bytes,
            }),
            created: client.created,
            name: client.name,
            revision: Revision::default(),
        }
        .revised()
    }
}
