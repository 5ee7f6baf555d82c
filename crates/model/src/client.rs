//! A client as the data path knows it.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{
    ClientId, DataAccess, DataDiskEntry, DiskId, GroupId, IoLimits, MacAddr, OverlayLimits, Secret,
    VersionRef,
};

/// What happens to a client's writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum BootPolicy {
    /// A fresh overlay at every power-on; the old one is kept for a while.
    #[default]
    Volatile,
    /// Writes stay until the client is reset.
    Persistent,
    /// Writes stay until they are published as the image's next version, or discarded. One client
    /// of an image at a time; no choice of a client or group, but lent by an order.
    Maintenance,
}

/// Names and secret of a client's iSCSI session. Stable for the life of the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IscsiIdentity {
    /// Target that serves this client's disk (RFC 7143 §4.2.7.3).
    pub target_iqn: String,
    /// The only initiator that may log in to it.
    pub initiator_iqn: String,
    /// CHAP user name (`CHAP_N`).
    pub chap_user: String,
    /// CHAP secret, 12 to 16 characters (the Microsoft initiator's limits).
    pub chap_secret: Secret,
}

/// What makes the initiator recognise the disk as the same one. Never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskIdentity {
    /// The disk.
    pub id: DiskId,
    /// Unit serial number (VPD page 0x80), at most 32 ASCII characters.
    pub serial: String,
    /// NAA identifier (VPD page 0x83), locally assigned: the upper 4 bits are 3.
    pub naa: u64,
}

/// One registered client with everything the data path needs to boot it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientEntry {
    /// Identity.
    pub id: ClientId,
    /// Network card that it boots from.
    pub mac: MacAddr,
    /// Seat number, 1 or more.
    pub seat: u32,
    /// Name shown to people and given as DHCP host name.
    pub name: String,
    /// False while the client waits for the operator's approval; it then gets an address and a
    /// waiting screen, but no disk.
    pub approved: bool,
    /// Reserved address; without one it takes any of the pool.
    pub address: Option<Ipv4Addr>,
    /// What it boots; without one the person in front of it is told so.
    pub version: Option<VersionRef>,
    /// What happens to its writes.
    pub policy: BootPolicy,
    /// Raised by one at each reset: a disk of an older epoch is dropped before the next boot.
    pub reset_epoch: u32,
    /// Boot file instead of the one for its architecture.
    pub boot_file: Option<String>,
    /// iSCSI names and secret.
    pub iscsi: IscsiIdentity,
    /// System disk.
    pub disk: DiskIdentity,
    /// Data disks in the order of their numbers; none in snapshots of older releases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_disks: Vec<DataDiskEntry>,
    /// Its group, whose limits it shares; none in snapshots of older releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupId>,
    /// How much of the storage it may use.
    #[serde(default)]
    pub limits: IoLimits,
    /// How large its overlay may get: its own limits and those of its group in one.
    #[serde(default)]
    pub overlay_limits: OverlayLimits,
}

impl ClientEntry {
    /// The disk on which it writes the next version of an image, if it is a maintenance client.
    pub fn maintenance_disk(&self) -> Option<DiskId> {
        if self.policy == BootPolicy::Maintenance {
            return Some(self.disk.id);
        }
        let data = self.data_disks.iter();
        let mut lent = data.filter(|data| data.access == DataAccess::Maintenance);
        lent.next().map(|data| data.disk.id)
    }
}
