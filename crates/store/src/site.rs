//! The site, its server, its subnets and its groups.

use dess_model::{
    AddressRange, BootPolicy, GroupId, IoLimits, OverlayLimits, PoolSettings, Registration,
    ServerEntry, Subnet, Timestamp, VersionRef,
};

use crate::row::{Columns, json_of, name_of, text_of};
use crate::statement::query;
use crate::{StoreError, Tx};

/// The site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRecord {
    /// Name.
    pub name: String,
    /// What to do with unknown clients.
    pub registration: Registration,
    /// Marks of the pool of the overlays.
    pub pool: PoolSettings,
    /// Grows with every change.
    pub revision: u64,
    /// When it was set up.
    pub created: Timestamp,
}

/// A server of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRecord {
    /// Name, unique.
    pub name: String,
    /// As its clients reach it.
    pub entry: ServerEntry,
}

/// A group of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// Identity.
    pub id: GroupId,
    /// Name, unique.
    pub name: String,
    /// True for the group of clients that nobody put in another.
    pub default: bool,
    /// What its clients boot.
    pub version: Option<VersionRef>,
    /// True if that changes to each newer version of the image as soon as it is published.
    pub follows_latest: bool,
    /// What happens to their writes.
    pub policy: BootPolicy,
    /// How much of the storage they may use together.
    pub limits: IoLimits,
    /// How large the overlay of each of them may get, unless it has limits of its own.
    pub overlay_limits: OverlayLimits,
    /// When it was made.
    pub created: Timestamp,
}

/// Key of the one site of a database.
const SITE: &str = "site";

impl Tx {
    /// The site; none before it was set up.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn site_fetch(&mut self) -> Result<Option<SiteRecord>, StoreError> {
        let statement =
            query("SELECT name, registration, pool, revision, created_at FROM site WHERE id = ?")
                .bind(SITE);
        let row = self.fetch_optional("read the site", statement).await?;
        row.map(|row| {
            let row = Columns(&row);
            Ok(SiteRecord {
                name: row.text("name")?,
                registration: row.named("registration")?,
                pool: row.json("pool")?,
                revision: row.number("revision")?,
                created: row.time("created_at")?,
            })
        })
        .transpose()
    }

    /// Makes the site.
    ///
    /// # Errors
    /// If there is one, or the database cannot be written.
    pub async fn site_insert(&mut self, site: &SiteRecord) -> Result<(), StoreError> {
        let statement = query(
            "INSERT INTO site (id, name, registration, pool, revision, created_at) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(SITE)
        .bind(site.name.clone())
        .bind(name_of(site.registration))
        .bind(json_of(&site.pool))
        .bind(crate::row::count_of(site.revision))
        .bind(site.created.0);
        self.execute("set up the site", statement).await.map(drop)
    }

    /// Sets the policy for unknown clients.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn registration_update(&mut self, policy: Registration) -> Result<(), StoreError> {
        let statement = query("UPDATE site SET registration = ? WHERE id = ?")
            .bind(name_of(policy))
            .bind(SITE);
        self.execute("set the registration policy", statement)
            .await
            .map(drop)
    }

    /// Sets the marks of the pool.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn pool_update(&mut self, pool: &PoolSettings) -> Result<(), StoreError> {
        let statement = query("UPDATE site SET pool = ? WHERE id = ?")
            .bind(json_of(pool))
            .bind(SITE);
        self.execute("set the marks of the pool", statement)
            .await
            .map(drop)
    }

    /// Raises the site's revision to at least `floor`, and in any case by one.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn revision_raise(&mut self, floor: u64) -> Result<(), StoreError> {
        let statement = query(
            "UPDATE site SET revision = CASE WHEN revision + 1 > ? THEN revision + 1 ELSE ? END \
             WHERE id = ?",
        )
        .bind(crate::row::count_of(floor))
        .bind(crate::row::count_of(floor))
        .bind(SITE);
        self.execute("raise the revision", statement)
            .await
            .map(drop)
    }

    /// All servers by name.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn server_list(&mut self) -> Result<Vec<ServerRecord>, StoreError> {
        let statement = query(
            "SELECT name, address, interfaces, http_port, portals FROM servers ORDER BY name",
        );
        let rows = self.fetch_all("list servers", statement).await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(ServerRecord {
                    name: row.text("name")?,
                    entry: ServerEntry {
                        address: row.parsed("address")?,
                        interfaces: row.json("interfaces")?,
                        http_port: row.number("http_port")?,
                        portals: row.json("portals")?,
                    },
                })
            })
            .collect()
    }

    /// Adds a server.
    ///
    /// # Errors
    /// If the name is taken, or the database cannot be written.
    pub async fn server_insert(&mut self, server: &ServerRecord) -> Result<(), StoreError> {
        let statement = query(
            "INSERT INTO servers (id, name, address, interfaces, http_port, portals) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(server.name.clone())
        .bind(server.name.clone())
        .bind(server.entry.address.to_string())
        .bind(json_of(&server.entry.interfaces))
        .bind(i64::from(server.entry.http_port))
        .bind(json_of(&server.entry.portals));
        self.execute("add a server", statement).await.map(drop)
    }

    /// All subnets by network.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn subnet_list(&mut self) -> Result<Vec<Subnet>, StoreError> {
        let statement = query(
            "SELECT network, mode, pool_first, pool_last, router, dns, lease_secs \
             FROM subnets ORDER BY network",
        );
        let rows = self.fetch_all("list subnets", statement).await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                let first = row.parsed_opt("pool_first")?;
                let last = row.parsed_opt("pool_last")?;
                Ok(Subnet {
                    network: row.parsed("network")?,
                    mode: row.named("mode")?,
                    pool: first
                        .zip(last)
                        .map(|(first, last)| AddressRange { first, last }),
                    router: row.parsed_opt("router")?,
                    dns: row.json("dns")?,
                    lease_secs: row.number("lease_secs")?,
                })
            })
            .collect()
    }

    /// Adds a subnet.
    ///
    /// # Errors
    /// If it exists, or the database cannot be written.
    pub async fn subnet_insert(&mut self, subnet: &Subnet) -> Result<(), StoreError> {
        let statement = query(
            "INSERT INTO subnets (id, network, mode, pool_first, pool_last, router, dns, lease_secs) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(subnet.network.to_string())
        .bind(subnet.network.to_string())
        .bind(name_of(subnet.mode))
        .bind(text_of(subnet.pool.map(|pool| pool.first)))
        .bind(text_of(subnet.pool.map(|pool| pool.last)))
        .bind(text_of(subnet.router))
        .bind(json_of(&subnet.dns))
        .bind(i64::from(subnet.lease_secs));
        self.execute("add a subnet", statement).await.map(drop)
    }

    /// All groups, the default one first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn group_list(&mut self) -> Result<Vec<GroupRecord>, StoreError> {
        let statement = query(
            "SELECT id, name, is_default, image_id, version_number, policy, limits, created_at, \
             follows_latest, overlay_limits FROM client_groups ORDER BY is_default DESC, name",
        );
        let rows = self.fetch_all("list groups", statement).await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(GroupRecord {
                    id: row.parsed("id")?,
                    name: row.text("name")?,
                    default: row.flag("is_default")?,
                    version: row.version_opt()?,
                    follows_latest: row.flag("follows_latest")?,
                    policy: row.named("policy")?,
                    limits: row.json("limits")?,
                    overlay_limits: row.json("overlay_limits")?,
                    created: row.time("created_at")?,
                })
            })
            .collect()
    }

    /// Adds a group.
    ///
    /// # Errors
    /// If the name is taken, or the database cannot be written.
    pub async fn group_insert(&mut self, group: &GroupRecord) -> Result<(), StoreError> {
        let statement = query(
            "INSERT INTO client_groups \
             (id, name, is_default, image_id, version_number, policy, limits, created_at, \
             follows_latest, overlay_limits) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(group.id.to_string())
        .bind(group.name.clone())
        .bind(i64::from(group.default))
        .bind(text_of(group.version.map(|version| version.image)))
        .bind(group.version.map(|version| i64::from(version.number)))
        .bind(name_of(group.policy))
        .bind(json_of(&group.limits))
        .bind(group.created.0)
        .bind(i64::from(group.follows_latest))
        .bind(json_of(&group.overlay_limits));
        self.execute("add a group", statement).await.map(drop)
    }

    /// Sets what a group's clients boot, and what happens to their writes.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn group_update(&mut self, group: &GroupRecord) -> Result<(), StoreError> {
        let statement = query(
            "UPDATE client_groups SET name = ?, image_id = ?, version_number = ?, policy = ?, \
             limits = ?, follows_latest = ?, overlay_limits = ? WHERE id = ?",
        )
        .bind(group.name.clone())
        .bind(text_of(group.version.map(|version| version.image)))
        .bind(group.version.map(|version| i64::from(version.number)))
        .bind(name_of(group.policy))
        .bind(json_of(&group.limits))
        .bind(i64::from(group.follows_latest))
        .bind(json_of(&group.overlay_limits))
        .bind(group.id.to_string());
        self.execute("change a group", statement).await.map(drop)
    }
}
