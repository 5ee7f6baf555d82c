//! Adding and changing clients: what is accepted, and what is in the way.

use std::net::Ipv4Addr;

use dess_model::{BootPolicy, ClientId, MacAddr, Subnet, Timestamp};
use dess_store::{ClientRecord, Holder, ServerRecord, Tx};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use super::clients::{expect_revision, fetch};
use super::data_disks;
use super::images::{Catalogue, default_group};
use super::maintenance::no_maintenance_policy;
use super::{
    ClientView, DataDiskChange, LimitsChange, OperationError, Operations, Result, Revision,
    differences, is_plain_name, record,
};
use crate::registration;

/// A client to register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
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
/// takes the value away (back to the group's, or none); in JSON it is `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientChange {
    /// Seat number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seat: Option<u32>,
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Network card (after a replacement); identity and disk stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Reserved address.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub address: Option<Option<Ipv4Addr>>,
    /// Image as `name` or `name@version`.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub image: Option<Option<String>>,
    /// What happens to its writes.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub policy: Option<Option<BootPolicy>>,
    /// Boot file instead of the one for its architecture.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub boot_file: Option<Option<String>>,
    /// How much of the storage it may use; felt at once, also by a running client.
    #[serde(
        deserialize_with = "object",
        skip_serializing_if = "LimitsChange::is_empty"
    )]
    pub limits: LimitsChange,
    /// Its data disks, from its next power-on on.
    #[serde(deserialize_with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub data_disks: Vec<DataDiskChange>,
}

/// A field that is there, be it `null`.
pub(super) fn given<'de, T, D>(deserializer: D) -> std::result::Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// A JSON object. Left to itself, serde takes an array too, for the fields in their order.
pub(super) fn object<'de, T, D>(deserializer: D) -> std::result::Result<T, D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    fields(serde_json::Map::deserialize(deserializer)?)
}

/// An array of JSON objects.
pub(super) fn objects<'de, T, D>(deserializer: D) -> std::result::Result<Vec<T>, D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    let items = Vec::<serde_json::Map<_, _>>::deserialize(deserializer)?;
    items.into_iter().map(fields).collect()
}

fn fields<T, E>(map: serde_json::Map<String, serde_json::Value>) -> std::result::Result<T, E>
where
    T: DeserializeOwned,
    E: serde::de::Error,
{
    T::deserialize(serde_json::Value::Object(map)).map_err(E::custom)
}

/// Highest seat number.
const SEAT_MAX: u32 = 99_999;

impl Operations {
    /// Registers an approved client.
    ///
    /// # Errors
    /// If a field is wrong or taken.
    pub async fn client_add(&self, client: ClientAdd) -> Result<ClientView> {
        let (client, actor) = (&client, &*self.actor);
        let id = self
            .store()
            .await?
            .transact(|tx| add(tx, client, actor))
            .await?;
        self.publish().await;
        self.client_get(id).await
    }

    /// Changes a client. A running client keeps what it booted until its next power-on.
    ///
    /// # Errors
    /// If a field is wrong or taken, or there is no such client.
    pub async fn client_set(&self, id: ClientId, change: ClientChange) -> Result<ClientView> {
        self.client_set_if(id, change, None).await
    }

    /// As [`client_set`](Self::client_set), only if its settings are still those of `expected`.
    ///
    /// # Errors
    /// As there, or if it was changed meanwhile.
    pub async fn client_set_if(
        &self,
        id: ClientId,
        change: ClientChange,
        expected: Option<&Revision>,
    ) -> Result<ClientView> {
        let (change, actor) = (&change, &*self.actor);
        self.store()
            .await?
            .transact(|tx| set(tx, id, change, expected, actor))
            .await?;
        self.publish().await;
        self.client_get(id).await
    }
}

async fn add(mut tx: Tx, wanted: &ClientAdd, actor: &str) -> Result<ClientId> {
    let clients = tx.client_list().await?;
    let group = default_group(&mut tx).await?;
    let seat = wanted
        .seat
        .unwrap_or_else(|| registration::next_seat(&clients));
    let mut client = registration::client(wanted.mac, seat, group.id, Timestamp::now());
    if let Some(name) = &wanted.name {
        client.name.clone_from(name);
    }
    client.address = wanted.address;
    client.policy = wanted.policy;
    if let Some(image) = &wanted.image {
        client.version = Some(Catalogue::read(&mut tx).await?.find(image)?);
    }
    check(&mut tx, &client, &clients).await?;
    tx.client_insert(&client).await?;
    let details = json!({"seat": client.seat, "mac": client.mac, "address": client.address});
    record(&mut tx, actor, "client.add", &client.name, details).await?;
    Ok(client.id)
}

async fn set(
    mut tx: Tx,
    id: ClientId,
    change: &ClientChange,
    expected: Option<&Revision>,
    actor: &str,
) -> Result<()> {
    let before = fetch(&mut tx, id).await?;
    expect_revision(&mut tx, &before, expected).await?;
    let mut client = before.clone();
    if let Some(seat) = change.seat {
        client.seat = seat;
    }
    if let Some(name) = &change.name {
        client.name.clone_from(name);
    }
    if let Some(mac) = change.mac {
        client.mac = mac;
    }
    if let Some(address) = change.address {
        client.address = address;
    }
    if let Some(policy) = change.policy {
        client.policy = policy;
    }
    if let Some(boot_file) = &change.boot_file {
        client.boot_file.clone_from(boot_file);
    }
    change.limits.apply(&mut client.limits)?;
    let group = tx.group_list().await?;
    let group = group.iter().find(|group| group.id == client.group);
    let of_group = group.map(|group| group.overlay_limits).unwrap_or_default();
    change
        .limits
        .apply_overlay(&mut client.overlay_limits, of_group)?;
    if let Some(image) = &change.image {
        let catalogue = Catalogue::read(&mut tx).await?;
        client.version = image
            .as_ref()
            .map(|image| catalogue.find(image))
            .transpose()?;
        client.follows_latest = false;
    }
    let clients = tx.client_list().await?;
    check(&mut tx, &client, &clients).await?;
    tx.client_update(&client).await?;
    data_disks::change(&mut tx, Holder::Client(id), &change.data_disks).await?;
    let mut details = differences(&settings(&before), &settings(&client));
    if !change.data_disks.is_empty() {
        details["data_disks"] = json!(change.data_disks);
    }
    record(&mut tx, actor, "client.set", &before.name, details).await?;
    Ok(())
}

/// What may be changed of a client, for the audit log.
fn settings(client: &ClientRecord) -> serde_json::Value {
    json!({
        "seat": client.seat,
        "name": client.name,
        "mac": client.mac,
        "address": client.address,
        "policy": client.policy,
        "boot_file": client.boot_file,
        "version": client.version,
        "limits": client.limits,
        "overlay_limits": client.overlay_limits,
    })
}

/// Refuses values that make no sense, and those that others have.
async fn check(tx: &mut Tx, client: &ClientRecord, clients: &[ClientRecord]) -> Result<()> {
    let (subnets, servers) = (tx.subnet_list().await?, tx.server_list().await?);
    check_alone(client, &subnets, &servers)?;
    clients
        .iter()
        .filter(|other| other.id != client.id)
        .find_map(|other| conflict(client, other))
        .map_or(Ok(()), Err)
}

/// Refuses values that make no sense.
pub(super) fn check_alone(
    client: &ClientRecord,
    subnets: &[Subnet],
    servers: &[ServerRecord],
) -> Result<()> {
    if !(1..=SEAT_MAX).contains(&client.seat) {
        let reason = format!("{} is not in 1 to {SEAT_MAX}", client.seat);
        return Err(OperationError::invalid("seat", reason));
    }
    let only_digits = client.name.chars().all(char::is_numeric);
    if !is_plain_name(&client.name) || only_digits {
        let reason = "1 to 63 letters, digits, \"-\", \"_\" or \".\", not digits alone";
        return Err(OperationError::invalid("name", reason));
    }
    if client.policy == Some(BootPolicy::Maintenance) {
        return Err(no_maintenance_policy());
    }
    if !client.mac.is_unicast() {
        let reason = format!("{} is not the address of one network card", client.mac);
        return Err(OperationError::invalid("MAC", reason));
    }
    if let Some(file) = &client.boot_file
        && (file.is_empty() || file.len() > 127 || file.split('/').any(|part| part == ".."))
    {
        let reason = "a file name or URL of 1 to 127 bytes without \"..\"";
        return Err(OperationError::invalid("boot file", reason));
    }
    match client.address {
        Some(address) => check_address(address, subnets, servers),
        None => Ok(()),
    }
}

/// A value of a client that another one has.
pub(super) fn conflict(client: &ClientRecord, other: &ClientRecord) -> Option<OperationError> {
    let (field, value) = if client.seat == other.seat {
        ("seat", client.seat.to_string())
    } else if client.mac == other.mac {
        ("MAC", client.mac.to_string())
    } else if client.name.to_lowercase() == other.name.to_lowercase() {
        ("name", client.name.clone())
    } else if client.address.is_some() && client.address == other.address {
        let address = client.address.map(|address| address.to_string());
        ("address", address.unwrap_or_default())
    } else {
        return None;
    };
    Some(OperationError::Conflict {
        field,
        value,
        owner: other.name.clone(),
    })
}

fn check_address(address: Ipv4Addr, subnets: &[Subnet], servers: &[ServerRecord]) -> Result<()> {
    let subnet = subnets
        .iter()
        .find(|subnet| subnet.network.contains(&address));
    let reason = match subnet {
        None => "is in no subnet of the site",
        Some(subnet) if address == subnet.network.network() => "is the address of the network",
        Some(subnet) if address == subnet.network.broadcast() => "is the broadcast address",
        Some(subnet) if subnet.router == Some(address) => "is the router's address",
        Some(_) if servers.iter().any(|server| server.entry.address == address) => {
            "is the server's own address"
        }
        Some(_) => return Ok(()),
    };
    Err(OperationError::invalid(
        "address",
        format!("{address} {reason}"),
    ))
}
