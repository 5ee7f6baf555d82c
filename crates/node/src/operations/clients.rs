//! Clients.

use std::net::Ipv4Addr;

use dess_diagnosis::ClientState;
use dess_model::{Architecture, BootPolicy, ClientId, DiskStatus, MacAddr, Timestamp, VersionRef};
use serde::{Deserialize, Serialize};

use super::{BootSummary, OperationError, Operations, Result};

/// One client, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// The image version that a client boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageAssignment {
    /// Which version.
    pub version: VersionRef,
    /// For people: `debian@1`.
    pub label: String,
    /// True if it is the group's assignment.
    pub inherited: bool,
}

/// What was seen of a client's hardware at boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// Firmware kind (DHCP option 93).
    pub architecture: Option<Architecture>,
    /// SMBIOS UUID (DHCP option 97), as hexadecimal digits.
    pub uuid: Option<String>,
}

/// Bytes that a client moved since its last power-on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

/// A client to register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientAdd {
    /// Network card that it boots from.
    pub mac: MacAddr,
    /// Seat number; without one the next free.
    pub seat: Option<u32>,
    /// Name; without one `PC-<seat>`.
    pub name: Option<String>,
    /// Reserved address.
    pub address: Option<Ipv4Addr>,
    /// What happens to its writes; without one as its group.
    pub policy: Option<BootPolicy>,
    /// Image as `name` or `name@version`; without one as its group.
    pub image: Option<String>,
}

/// Changes of a client. `None` leaves a field as it is; the inner `None` of a double option
/// takes the value away (back to the group's, or none).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientChange {
    /// Seat number.
    pub seat: Option<u32>,
    /// Name.
    pub name: Option<String>,
    /// Network card (after a replacement); identity and disk stay.
    pub mac: Option<MacAddr>,
    /// Reserved address.
    pub address: Option<Option<Ipv4Addr>>,
    /// Image as `name` or `name@version`.
    pub image: Option<Option<String>>,
    /// What happens to its writes.
    pub policy: Option<Option<BootPolicy>>,
    /// Boot file instead of the one for its architecture.
    pub boot_file: Option<Option<String>>,
}

impl Operations {
    /// All clients in seat order.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn client_list(&self) -> Result<Vec<ClientView>> {
        Ok(Vec::new())
    }

    /// The client that `text` names: a seat number, name, MAC address or id.
    ///
    /// # Errors
    /// If there is none, or the database cannot be read.
    pub async fn client_find(&self, text: &str) -> Result<ClientView> {
        Err(no_client(text))
    }

    /// Registers an approved client.
    ///
    /// # Errors
    /// If a field is wrong or taken.
    pub async fn client_add(&self, client: ClientAdd) -> Result<ClientView> {
        Err(no_client(client.mac))
    }

    /// Changes a client. A running client keeps what it booted until its next power-on.
    ///
    /// # Errors
    /// If a field is wrong or taken, or there is no such client.
    pub async fn client_set(&self, id: ClientId, change: ClientChange) -> Result<ClientView> {
        let _ = change;
        Err(no_client(id))
    }

    /// Lets a pending client boot.
    ///
    /// # Errors
    /// If there is no such client.
    pub async fn client_approve(&self, id: ClientId) -> Result<ClientView> {
        Err(no_client(id))
    }

    /// Removes a client with its boot history. Refused while it runs, unless `force`.
    ///
    /// # Errors
    /// If there is no such client, or it runs.
    pub async fn client_remove(&self, id: ClientId, force: bool) -> Result<()> {
        let _ = force;
        Err(no_client(id))
    }

    /// Drops a client's writes. Refused while it runs, unless `force` (its sessions then end).
    /// Answers the disk's state, or none if the iSCSI service is down: the disk is then fresh at
    /// the next power-on all the same.
    ///
    /// # Errors
    /// If there is no such client, or it runs.
    pub async fn client_reset(&self, id: ClientId, force: bool) -> Result<Option<DiskStatus>> {
        let _ = force;
        Err(no_client(id))
    }
}

fn no_client(name: impl ToString) -> OperationError {
    OperationError::NotFound {
        what: "client",
        name: name.to_string(),
    }
}
