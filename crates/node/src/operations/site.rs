//! The site: set-up and what it is made of.

use std::net::{Ipv4Addr, SocketAddrV4};

use dess_model::{
    AddressRange, BootPolicy, DhcpMode, GroupId, IoLimits, OverlayLimits, PoolSettings,
    Registration, ServerEntry, SiteSnapshot, Subnet, Timestamp,
};
use dess_store::{GroupRecord, ServerRecord, SiteRecord, StoreError, Tx};
use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{OperationError, Operations, Result, record};
use crate::snapshot;

/// Everything that a new site needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteSetup {
    /// Name of the site.
    pub name: String,
    /// The server's address as its clients reach it; inside `subnet`.
    pub server_address: Ipv4Addr,
    /// Network interfaces that DHCP answers on, one or more.
    pub interfaces: Vec<String>,
    /// The clients' network.
    pub subnet: Ipv4Net,
    /// Whether addresses are given, or another server gives them.
    pub mode: DhcpMode,
    /// Addresses for clients without a reservation; required in server mode.
    pub pool: Option<AddressRange>,
    /// Default gateway of the operating systems.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Lease time in seconds, 60 or more.
    pub lease_secs: u32,
    /// Port of the HTTP boot service.
    pub http_port: u16,
    /// iSCSI portals; if empty, port 3260 of the server's address.
    pub portals: Vec<SocketAddrV4>,
    /// What to do with unknown clients.
    pub registration: Registration,
}

/// The site as set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SiteView {
    /// Name of the site.
    pub name: String,
    /// What to do with unknown clients.
    pub registration: Registration,
    /// Marks of the pool of the overlays.
    #[serde(default)]
    pub pool: PoolSettings,
    /// Grows with every change of the site.
    pub revision: u64,
    /// The server.
    pub server: ServerEntry,
    /// Networks served.
    pub subnets: Vec<Subnet>,
}

/// Port of iSCSI (RFC 7143 §15).
const ISCSI_PORT: u16 = 3260;
/// Shortest lease in seconds.
const LEASE_SECS_MIN: u32 = 60;

impl Operations {
    /// The site snapshot as the database has it now, whatever is published; none if the site is
    /// not set up. It holds the clients' secrets.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn site_snapshot(&self) -> Result<Option<SiteSnapshot>> {
        Ok(snapshot::compile(&mut self.read().await?).await?)
    }

    /// Sets the site up: creates the database (if missing), the server, the subnet and the
    /// default group.
    ///
    /// # Errors
    /// If a field is wrong, or the site is set up already.
    pub async fn site_init(&self, setup: SiteSetup) -> Result<SiteView> {
        check(&setup)?;
        let snapshot = self.paths.snapshot();
        if snapshot.exists()
            && let Err(StoreError::Missing { database }) = self.database.store().await
        {
            return Err(OperationError::Refused(format!(
                "there is a site snapshot ({}) but no database; restore a backup to {database}, or \
                 move the snapshot away to start anew",
                snapshot.display()
            )));
        }
        let store = self.database.store_or_create().await?;
        let (setup, actor) = (&setup, &*self.actor);
        store.transact(|tx| insert(tx, setup, actor)).await?;
        self.publish().await;
        self.site().await?.ok_or(OperationError::NoSite)
    }

    /// The site; none before it was set up.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn site(&self) -> Result<Option<SiteView>> {
        let mut tx = match self.read().await {
            Err(OperationError::Store(StoreError::Missing { .. })) => return Ok(None),
            tx => tx?,
        };
        let Some(site) = tx.site_fetch().await? else {
            return Ok(None);
        };
        let servers = tx.server_list().await?;
        let server = servers.into_iter().next().ok_or(OperationError::NoSite)?;
        Ok(Some(SiteView {
            name: site.name,
            registration: site.registration,
            pool: site.pool,
            revision: site.revision,
            server: server.entry,
            subnets: tx.subnet_list().await?,
        }))
    }

    /// Changes what happens to unknown clients from now on.
    ///
    /// # Errors
    /// If the site is not set up.
    pub async fn registration_set(&self, registration: Registration) -> Result<()> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let site = tx.site_fetch().await?.ok_or(OperationError::NoSite)?;
                tx.registration_update(registration).await?;
                let details = json!({"before": site.registration, "after": registration});
                record(&mut tx, actor, "site.registration", &site.name, details).await?;
                Result::Ok(())
            })
            .await?;
        self.publish().await;
        Ok(())
    }
}

async fn insert(mut tx: Tx, setup: &SiteSetup, actor: &str) -> Result<()> {
    if let Some(site) = tx.site_fetch().await? {
        return Err(OperationError::SiteExists { name: site.name });
    }
    let now = Timestamp::now();
    tx.site_insert(&SiteRecord {
        name: setup.name.clone(),
        registration: setup.registration,
        pool: PoolSettings::default(),
        revision: 0,
        created: now,
    })
    .await?;
    let portals = match setup.portals.as_slice() {
        [] => vec![SocketAddrV4::new(setup.server_address, ISCSI_PORT)],
        portals => portals.to_vec(),
    };
    tx.server_insert(&ServerRecord {
        name: "main".to_owned(),
        entry: ServerEntry {
            address: setup.server_address,
            interfaces: setup.interfaces.clone(),
            http_port: setup.http_port,
            portals,
        },
    })
    .await?;
    tx.subnet_insert(&Subnet {
        network: setup.subnet.trunc(),
        mode: setup.mode,
        pool: setup.pool,
        router: setup.router,
        dns: setup.dns.clone(),
        lease_secs: setup.lease_secs,
    })
    .await?;
    tx.group_insert(&GroupRecord {
        id: GroupId(Uuid::now_v7()),
        name: "default".to_owned(),
        default: true,
        version: None,
        follows_latest: false,
        policy: BootPolicy::default(),
        limits: IoLimits::default(),
        overlay_limits: OverlayLimits::default(),
        created: now,
    })
    .await?;
    let details = json!({"server": setup.server_address, "subnet": setup.subnet});
    record(&mut tx, actor, "site.init", &setup.name, details).await?;
    Ok(())
}

fn check(setup: &SiteSetup) -> Result<()> {
    let invalid = |field, reason: String| Err(OperationError::Invalid { field, reason });
    let subnet = setup.subnet;
    if setup.name.trim().is_empty() || setup.name.chars().count() > 64 {
        return invalid("name", "give the site a name of 1 to 64 characters".into());
    }
    if setup.interfaces.is_empty() {
        return invalid("interfaces", "name at least one network interface".into());
    }
    if !subnet.contains(&setup.server_address) {
        let reason = format!("{} is not in the subnet {subnet}", setup.server_address);
        return invalid("server address", reason);
    }
    if setup.lease_secs < LEASE_SECS_MIN {
        return invalid(
            "lease time",
            format!("{LEASE_SECS_MIN} seconds is the least"),
        );
    }
    if setup.http_port == 0 {
        return invalid("HTTP port", "0 is not a port".into());
    }
    if let Some(router) = setup.router
        && !subnet.contains(&router)
    {
        return invalid("router", format!("{router} is not in the subnet {subnet}"));
    }
    match (setup.mode, setup.pool) {
        (DhcpMode::Server, None) => invalid(
            "pool",
            "give the first and the last address for clients, or use the proxy mode".into(),
        ),
        (DhcpMode::Proxy, Some(_)) => invalid(
            "pool",
            "in proxy mode another server gives the addresses".into(),
        ),
        (DhcpMode::Server, Some(pool)) => check_pool(setup, pool),
        (DhcpMode::Proxy, None) => Ok(()),
    }
}

fn check_pool(setup: &SiteSetup, pool: AddressRange) -> Result<()> {
    let AddressRange { first, last } = pool;
    let subnet = setup.subnet;
    let reason = if first > last {
        format!("{first} is above {last}")
    } else if !subnet.contains(&first) || !subnet.contains(&last) {
        format!("{first} to {last} is not inside the subnet {subnet}")
    } else if pool.contains(subnet.network()) || pool.contains(subnet.broadcast()) {
        format!("{first} to {last} holds the network or the broadcast address of {subnet}")
    } else if pool.contains(setup.server_address) {
        format!(
            "{first} to {last} holds the server's own address {}",
            setup.server_address
        )
    } else {
        return Ok(());
    };
    Err(OperationError::Invalid {
        field: "pool",
        reason,
    })
}
