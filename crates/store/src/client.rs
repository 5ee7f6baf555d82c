//! Clients.

use std::net::Ipv4Addr;

use dess_model::{
    Architecture, AttemptId, BootPolicy, ClientId, DiskIdentity, GroupId, IoLimits, IscsiIdentity,
    MacAddr, OverlayLimits, Secret, Timestamp, VersionRef,
};

use crate::row::{Columns, Row, json_of, name_of, text_of};
use crate::statement::query;
use crate::{StoreError, Tx};

/// One client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRecord {
    /// Identity.
    pub id: ClientId,
    /// Network card, unique.
    pub mac: MacAddr,
    /// Seat number, unique, 1 or more.
    pub seat: u32,
    /// Name, unique.
    pub name: String,
    /// Its group.
    pub group: GroupId,
    /// False while it waits for approval.
    pub approved: bool,
    /// Reserved address, unique.
    pub address: Option<Ipv4Addr>,
    /// Version of its own instead of the group's.
    pub version: Option<VersionRef>,
    /// True if that changes to each newer version of the image as soon as it is published.
    pub follows_latest: bool,
    /// Policy of its own instead of the group's.
    pub policy: Option<BootPolicy>,
    /// Boot file instead of the one for its architecture.
    pub boot_file: Option<String>,
    /// How much of the storage it may use.
    pub limits: IoLimits,
    /// How large its overlay may get; what is not set is its group's.
    pub overlay_limits: OverlayLimits,
    /// iSCSI names and secret; never change.
    pub iscsi: IscsiIdentity,
    /// System disk; never changes.
    pub disk: DiskIdentity,
    /// Raised by one at each reset.
    pub reset_epoch: u32,
    /// Firmware kind as seen at boot.
    pub architecture: Option<Architecture>,
    /// SMBIOS UUID as seen at boot.
    pub uuid: Option<String>,
    /// Its newest boot attempt.
    pub last_attempt: Option<AttemptId>,
    /// When it was registered.
    pub created: Timestamp,
}

impl Tx {
    /// All clients in seat order.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn client_list(&mut self) -> Result<Vec<ClientRecord>, StoreError> {
        let statement = query("SELECT * FROM clients ORDER BY seat");
        let rows = self.fetch_all("list clients", statement).await?;
        rows.iter().map(client_of).collect()
    }

    /// One client.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn client_fetch(&mut self, id: ClientId) -> Result<Option<ClientRecord>, StoreError> {
        let statement = query("SELECT * FROM clients WHERE id = ?").bind(id.to_string());
        let row = self.fetch_optional("read a client", statement).await?;
        row.as_ref().map(client_of).transpose()
    }

    /// The client with this network card.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn client_fetch_by_mac(
        &mut self,
        mac: MacAddr,
    ) -> Result<Option<ClientRecord>, StoreError> {
        let statement = query("SELECT * FROM clients WHERE mac = ?").bind(mac.to_string());
        let row = self.fetch_optional("read a client", statement).await?;
        row.as_ref().map(client_of).transpose()
    }

    /// The client at this seat.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn client_fetch_by_seat(
        &mut self,
        seat: u32,
    ) -> Result<Option<ClientRecord>, StoreError> {
        let statement = query("SELECT * FROM clients WHERE seat = ?").bind(i64::from(seat));
        let row = self.fetch_optional("read a client", statement).await?;
        row.as_ref().map(client_of).transpose()
    }

    /// Adds a client. Boot attempts that its network card made before become its own.
    ///
    /// # Errors
    /// If a unique value is taken, or the database cannot be written.
    pub async fn client_insert(&mut self, client: &ClientRecord) -> Result<(), StoreError> {
        let statement = query(
            "INSERT INTO clients (id, mac, seat, name, group_id, approved, address, image_id, \
             version_number, policy, boot_file, target_iqn, initiator_iqn, chap_user, chap_secret, \
             disk_id, disk_serial, disk_naa, reset_epoch, architecture, hardware_uuid, \
             last_attempt, created_at, limits, follows_latest, overlay_limits) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(client.id.to_string())
        .bind(client.mac.to_string())
        .bind(i64::from(client.seat))
        .bind(client.name.clone())
        .bind(client.group.to_string())
        .bind(i64::from(client.approved))
        .bind(text_of(client.address))
        .bind(text_of(client.version.map(|version| version.image)))
        .bind(client.version.map(|version| i64::from(version.number)))
        .bind(client.policy.map(name_of))
        .bind(client.boot_file.clone())
        .bind(client.iscsi.target_iqn.clone())
        .bind(client.iscsi.initiator_iqn.clone())
        .bind(client.iscsi.chap_user.clone())
        .bind(client.iscsi.chap_secret.expose().to_owned())
        .bind(client.disk.id.to_string())
        .bind(client.disk.serial.clone())
        .bind(client.disk.naa.cast_signed())
        .bind(i64::from(client.reset_epoch))
        .bind(client.architecture.map(|code| i64::from(u16::from(code))))
        .bind(client.uuid.clone())
        .bind(text_of(client.last_attempt))
        .bind(client.created.0)
        .bind(json_of(&client.limits))
        .bind(i64::from(client.follows_latest))
        .bind(json_of(&client.overlay_limits));
        self.execute("register a client", statement).await?;
        self.attempts_adopt(client.id, client.mac).await
    }

    /// Changes a client: all but its identity, its disk's and its iSCSI names.
    ///
    /// # Errors
    /// If a unique value is taken, or the database cannot be written.
    pub async fn client_update(&mut self, client: &ClientRecord) -> Result<(), StoreError> {
        let statement = query(
            "UPDATE clients SET mac = ?, seat = ?, name = ?, group_id = ?, approved = ?, \
             address = ?, image_id = ?, version_number = ?, policy = ?, boot_file = ?, \
             reset_epoch = ?, architecture = ?, hardware_uuid = ?, limits = ?, follows_latest = ?, \
             overlay_limits = ? WHERE id = ?",
        )
        .bind(client.mac.to_string())
        .bind(i64::from(client.seat))
        .bind(client.name.clone())
        .bind(client.group.to_string())
        .bind(i64::from(client.approved))
        .bind(text_of(client.address))
        .bind(text_of(client.version.map(|version| version.image)))
        .bind(client.version.map(|version| i64::from(version.number)))
        .bind(client.policy.map(name_of))
        .bind(client.boot_file.clone())
        .bind(i64::from(client.reset_epoch))
        .bind(client.architecture.map(|code| i64::from(u16::from(code))))
        .bind(client.uuid.clone())
        .bind(json_of(&client.limits))
        .bind(i64::from(client.follows_latest))
        .bind(json_of(&client.overlay_limits))
        .bind(client.id.to_string());
        self.execute("change a client", statement).await.map(drop)
    }

    /// Removes a client with its boot attempts, its choice of data disks and its place in the room.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn client_delete(&mut self, id: ClientId) -> Result<(), StoreError> {
        let text = id.to_string();
        let steps = query(
            "DELETE FROM boot_steps WHERE attempt_id IN \
             (SELECT id FROM boot_attempts WHERE client_id = ?)",
        )
        .bind(text.clone());
        self.execute("remove boot steps", steps).await?;
        let attempts = query("DELETE FROM boot_attempts WHERE client_id = ?").bind(text.clone());
        self.execute("remove boot attempts", attempts).await?;
        self.data_disks_delete_of(id).await?;
        self.seat_place_delete(id).await?;
        let client = query("DELETE FROM clients WHERE id = ?").bind(text);
        self.execute("remove a client", client).await.map(drop)
    }
}

fn client_of(row: &Row) -> Result<ClientRecord, StoreError> {
    let row = Columns(row);
    Ok(ClientRecord {
        id: row.parsed("id")?,
        mac: row.parsed("mac")?,
        seat: row.number("seat")?,
        name: row.text("name")?,
        group: row.parsed("group_id")?,
        approved: row.flag("approved")?,
        address: row.parsed_opt("address")?,
        version: row.version_opt()?,
        follows_latest: row.flag("follows_latest")?,
        policy: row.named_opt("policy")?,
        boot_file: row.text_opt("boot_file")?,
        limits: row.json("limits")?,
        overlay_limits: row.json("overlay_limits")?,
        iscsi: IscsiIdentity {
            target_iqn: row.text("target_iqn")?,
            initiator_iqn: row.text("initiator_iqn")?,
            chap_user: row.text("chap_user")?,
            chap_secret: Secret::new(row.text("chap_secret")?),
        },
        disk: DiskIdentity {
            id: row.parsed("disk_id")?,
            serial: row.text("disk_serial")?,
            naa: row.number::<i64>("disk_naa")?.cast_unsigned(),
        },
        reset_epoch: row.number("reset_epoch")?,
        architecture: row
            .number_opt::<u16>("architecture")?
            .map(Architecture::from),
        uuid: row.text_opt("hardware_uuid")?,
        last_attempt: row.parsed_opt("last_attempt")?,
        created: row.time("created_at")?,
    })
}
