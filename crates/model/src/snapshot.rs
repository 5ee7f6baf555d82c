//! The site snapshot: everything the data path needs, in one versioned value.
//!
//! `node` compiles it from the database; `dhcp`, `boot` and `iscsi` read nothing else
//! (`docs/architecture.md`, invariant 1).

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

use crate::{
    ClientEntry, ClientId, DhcpMode, DiskId, GroupId, ImageId, IoLimits, MacAddr, PoolSettings,
    Subnet, Timestamp, VersionRef,
};

/// Layout of the snapshot file that this build writes and reads.
pub const SNAPSHOT_FORMAT: u32 = 1;

/// What to do with a MAC address that nobody registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Register at once with the next seat number and boot.
    #[default]
    Auto,
    /// Register as pending; the operator approves it.
    Hold,
}

/// The server as its clients reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServerEntry {
    /// Address that clients are given as next-server, in URLs and as portal.
    pub address: Ipv4Addr,
    /// Network interfaces that DHCP answers on; it is silent on all others.
    pub interfaces: Vec<String>,
    /// Port of the HTTP boot service.
    pub http_port: u16,
    /// iSCSI portals in the order in which clients try them.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub portals: Vec<SocketAddrV4>,
}

/// One image version that some client may boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionEntry {
    /// Which version.
    pub version: VersionRef,
    /// Image name for people.
    pub image_name: String,
    /// Directory of the version below the image directory of the state directory.
    pub directory: String,
    /// Size of the disk in bytes; a multiple of 512.
    pub size_bytes: u64,
}

/// A group of clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEntry {
    /// Identity.
    pub id: GroupId,
    /// Name for people.
    pub name: String,
    /// How much of the storage its clients may use together.
    #[serde(default)]
    pub limits: IoLimits,
}

/// Everything that the data path needs to boot and serve the room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteSnapshot {
    /// [`SNAPSHOT_FORMAT`] of the writer.
    pub format: u32,
    /// Grows with every change; never reused.
    pub revision: u64,
    /// When `node` compiled it.
    pub compiled_at: Timestamp,
    /// Name of the site.
    pub site_name: String,
    /// Policy for unknown MAC addresses.
    pub registration: Registration,
    /// This server.
    pub server: ServerEntry,
    /// Networks served.
    pub subnets: Vec<Subnet>,
    /// Registered clients.
    pub clients: Vec<ClientEntry>,
    /// Versions in use.
    pub versions: Vec<VersionEntry>,
    /// Groups of clients; none in snapshots of older releases.
    #[serde(default)]
    pub groups: Vec<GroupEntry>,
    /// Marks of the pool of the overlays.
    #[serde(default)]
    pub pool: PoolSettings,
}

/// A snapshot that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Not the JSON of a snapshot.
    #[error("the site snapshot is damaged")]
    Malformed(#[from] serde_json::Error),
    /// Written by another release.
    #[error("the site snapshot has format {found}; this release reads format {SNAPSHOT_FORMAT}")]
    Format {
        /// Format of the file.
        found: u32,
    },
}

impl SiteSnapshot {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// If the text is not a snapshot or has another format.
    pub fn from_json(text: &[u8]) -> Result<Self, SnapshotError> {
        #[derive(Deserialize)]
        struct Header {
            format: u32,
        }
        let header: Header = serde_json::from_slice(text)?;
        if header.format != SNAPSHOT_FORMAT {
            return Err(SnapshotError::Format {
                found: header.format,
            });
        }
        Ok(serde_json::from_slice(text)?)
    }

    /// The JSON form.
    ///
    /// # Errors
    /// Never for values built by this program; kept as an error for `serde`.
    pub fn to_json(&self) -> Result<Vec<u8>, SnapshotError> {
        Ok(serde_json::to_vec_pretty(self)?)
    }

    /// The client with this network card.
    pub fn client_by_mac(&self, mac: MacAddr) -> Option<&ClientEntry> {
        self.clients.iter().find(|client| client.mac == mac)
    }

    /// The client with this id.
    pub fn client_by_id(&self, id: ClientId) -> Option<&ClientEntry> {
        self.clients.iter().find(|client| client.id == id)
    }

    /// The client whose disk this iSCSI target serves.
    pub fn client_by_target(&self, target_iqn: &str) -> Option<&ClientEntry> {
        self.clients
            .iter()
            .find(|client| client.iscsi.target_iqn == target_iqn)
    }

    /// The address from which the client must come, if that can be asked of it: one is reserved,
    /// and our DHCP is the one that gives it. Beside another DHCP server (proxyDHCP) an address
    /// proves nothing.
    pub fn required_address(&self, client: &ClientEntry) -> Option<Ipv4Addr> {
        let address = client.address?;
        let mode = self.subnet_of(address)?.mode;
        (mode == DhcpMode::Server).then_some(address)
    }

    /// All disks that a client may have content on, also data disks that it is not given any more.
    pub fn disks_of<'a>(&'a self, client: &'a ClientEntry) -> impl Iterator<Item = DiskId> + 'a {
        let images: BTreeSet<ImageId> = self.versions.iter().map(|one| one.version.image).collect();
        let data = images.into_iter();
        let data = data.map(|image| client.disk.data_disk(image).id);
        std::iter::once(client.disk.id).chain(data)
    }

    /// The client for which an address is reserved.
    pub fn client_by_address(&self, address: Ipv4Addr) -> Option<&ClientEntry> {
        self.clients
            .iter()
            .find(|client| client.address == Some(address))
    }

    /// The version, if it is part of the snapshot.
    pub fn version(&self, version: VersionRef) -> Option<&VersionEntry> {
        self.versions.iter().find(|entry| entry.version == version)
    }

    /// The subnet that holds an address.
    pub fn subnet_of(&self, address: Ipv4Addr) -> Option<&Subnet> {
        self.subnets
            .iter()
            .find(|subnet| subnet.network.contains(&address))
    }
}
