//! New clients: identities that never change, the next free seat.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use dess_model::{
    Architecture, ClientId, DhcpMode, DiskId, DiskIdentity, GroupId, IoLimits, IscsiIdentity,
    MacAddr, OverlayLimits, Registration, Secret, Subnet, Timestamp,
};
use dess_store::{ClientRecord, StoreError, Tx};
use rand::distr::{Alphanumeric, SampleString};
use uuid::Uuid;

/// Characters of a CHAP secret; the most that the Microsoft initiator takes.
const CHAP_SECRET_CHARS: usize = 16;
/// Hexadecimal digits of a disk's serial number.
const SERIAL_DIGITS: usize = 20;
/// NAA format 3, "locally assigned" (SPC-4 §7.8.6.6), in the upper 4 bits.
const NAA_LOCAL: u64 = 3 << 60;
/// The other 60 bits. They are the random ones of a UUID of version 7 (RFC 9562 §5.7).
const NAA_VALUE: u64 = (1 << 60) - 1;

/// Most clients of a site, and most that wait for approval: whoever can send on the network can
/// invent network cards.
const CLIENTS_MAX: usize = 20_000;
const PENDING_MAX: usize = 1_000;
/// Most clients that are registered by themselves in one burst, and then per minute; the rest
/// waits for approval. A large room is approved with one click, an invented one is not.
const AUTOMATIC_MAX: u32 = 60;
/// How often one more may be, once the burst is used up, in milliseconds.
const AUTOMATIC_EVERY_MS: i64 = 1_000;
/// Of so many addresses of a pool one is never reserved by registration: guests, and PCs that
/// are to be approved, need some too.
const UNRESERVED_ONE_IN: u32 = 10;

/// How many clients may still be registered by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    left: u32,
    /// When `left` was brought up to date.
    at: Timestamp,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            left: AUTOMATIC_MAX,
            at: Timestamp(0),
        }
    }
}

impl Allowance {
    /// How many there may be now.
    pub(crate) fn refill(&mut self, now: Timestamp) -> u32 {
        let earned = now.0.saturating_sub(self.at.0).max(0) / AUTOMATIC_EVERY_MS;
        let full = i64::from(AUTOMATIC_MAX - self.left);
        if earned >= full {
            self.left = AUTOMATIC_MAX;
            self.at = now;
        } else {
            self.left += u32::try_from(earned).unwrap_or(0);
            self.at.0 += earned * AUTOMATIC_EVERY_MS;
        }
        self.left
    }

    /// Takes off what was used.
    pub(crate) fn spend(&mut self, count: u32) {
        self.left = self.left.saturating_sub(count);
    }
}

/// A client that powered on for the first time, as DHCP saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Newcomer {
    pub(crate) mac: MacAddr,
    pub(crate) architecture: Option<Architecture>,
    pub(crate) uuid: Option<String>,
    pub(crate) address: Option<Ipv4Addr>,
}

/// A new client with a fresh identity, at a seat, named after it.
pub(crate) fn client(mac: MacAddr, seat: u32, group: GroupId, now: Timestamp) -> ClientRecord {
    let id = ClientId(Uuid::now_v7());
    ClientRecord {
        id,
        mac,
        seat,
        name: default_name(seat),
        group,
        approved: true,
        address: None,
        version: None,
        follows_latest: false,
        policy: None,
        boot_file: None,
        limits: IoLimits::default(),
        overlay_limits: OverlayLimits::default(),
        iscsi: iscsi_identity(id),
        disk: disk_identity(DiskId(Uuid::now_v7())),
        reset_epoch: 0,
        architecture: None,
        uuid: None,
        last_attempt: None,
        created: now,
    }
}

/// `PC-07` for seat 7.
pub(crate) fn default_name(seat: u32) -> String {
    format!("PC-{seat:02}")
}

/// The lowest seat number that nobody has, whose default name is free too.
pub(crate) fn next_seat(clients: &[ClientRecord]) -> u32 {
    let seats: BTreeSet<u32> = clients.iter().map(|client| client.seat).collect();
    let names: BTreeSet<&str> = clients.iter().map(|client| client.name.as_str()).collect();
    (1..u32::MAX)
        .find(|seat| !seats.contains(seat) && !names.contains(default_name(*seat).as_str()))
        .unwrap_or(u32::MAX)
}

/// Registers a newcomer by the site's policy, but waiting for approval if it may not be
/// registered by itself now; none if it is known already, or the site is not set up.
pub(crate) async fn register(
    tx: &mut Tx,
    newcomer: &Newcomer,
    may_approve: bool,
    now: Timestamp,
) -> Result<Option<ClientRecord>, StoreError> {
    let Some(site) = tx.site_fetch().await? else {
        return Ok(None);
    };
    let clients = tx.client_list().await?;
    let known = clients.iter().any(|client| client.mac == newcomer.mac);
    let groups = tx.group_list().await?;
    let Some(group) = groups.iter().find(|group| group.default) else {
        return Ok(None);
    };
    if known {
        return Ok(None);
    }
    let waiting = clients.iter().filter(|client| !client.approved).count();
    if clients.len() >= CLIENTS_MAX || waiting >= PENDING_MAX {
        tracing::warn!(
            client.mac = %newcomer.mac, clients.waiting = waiting,
            "{} is not registered: too many clients; approve or remove those that wait",
            newcomer.mac
        );
        return Ok(None);
    }
    let mut record = client(newcomer.mac, next_seat(&clients), group.id, now);
    record.approved = may_approve && site.registration == Registration::Auto;
    record.architecture = newcomer.architecture;
    record.uuid = newcomer.uuid.clone();
    if record.approved {
        let subnets = tx.subnet_list().await?;
        record.address = newcomer
            .address
            .filter(|address| reservable(*address, &subnets, &clients));
    }
    tx.client_insert(&record).await?;
    Ok(Some(record))
}

/// True if an offered address may become the client's own: out of a pool of ours, and free.
fn reservable(address: Ipv4Addr, subnets: &[Subnet], clients: &[ClientRecord]) -> bool {
    let pool = subnets
        .iter()
        .filter(|subnet| subnet.mode == DhcpMode::Server)
        .filter_map(|subnet| subnet.pool)
        .find(|pool| pool.contains(address));
    let Some(pool) = pool else {
        return false;
    };
    let size = u32::from(pool.last) - u32::from(pool.first) + 1;
    let reserved = clients.iter().filter_map(|client| client.address);
    let in_pool = reserved.filter(|address| pool.contains(*address)).count();
    let left = size.saturating_sub(u32::try_from(in_pool).unwrap_or(u32::MAX));
    left > size.div_ceil(UNRESERVED_ONE_IN)
        && !clients.iter().any(|client| client.address == Some(address))
}

fn iscsi_identity(id: ClientId) -> IscsiIdentity {
    let simple = id.simple();
    // The tail of the id is its random part.
    let short = &simple[simple.len() - 12..];
    IscsiIdentity {
        target_iqn: format!("iqn.2026-11.io.dess:target.{simple}"),
        initiator_iqn: format!("iqn.2026-11.io.dess:initiator.{simple}"),
        chap_user: format!("dess-{short}"),
        chap_secret: Secret::new(Alphanumeric.sample_string(&mut rand::rng(), CHAP_SECRET_CHARS)),
    }
}

fn disk_identity(id: DiskId) -> DiskIdentity {
    let simple = id.simple();
    let (_, low) = id.0.as_u64_pair();
    DiskIdentity {
        id,
        serial: simple[simple.len() - SERIAL_DIGITS..].to_owned(),
        naa: NAA_LOCAL | (low & NAA_VALUE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dess_model::AddressRange;

    fn at(seat: u32) -> ClientRecord {
        client(
            MacAddr([2, 0, 0, 0, 0, u8::try_from(seat).unwrap()]),
            seat,
            GroupId(Uuid::nil()),
            Timestamp(1),
        )
    }

    #[test]
    fn the_next_seat_fills_the_first_gap_and_avoids_taken_names() {
        assert_eq!(next_seat(&[]), 1);
        assert_eq!(next_seat(&[at(1), at(2), at(4)]), 3);
        let mut renamed = at(9);
        renamed.name = "PC-01".into();
        assert_eq!(next_seat(&[renamed]), 2);
    }

    #[test]
    fn so_many_are_registered_by_themselves_at_once_and_then_one_a_second() {
        let mut allowance = Allowance::default();
        let start = Timestamp(1_800_000_000_000);
        assert_eq!(allowance.refill(start), AUTOMATIC_MAX);
        allowance.spend(AUTOMATIC_MAX);
        assert_eq!(allowance.refill(Timestamp(start.0 + 999)), 0);
        assert_eq!(allowance.refill(Timestamp(start.0 + 1_500)), 1);
        assert_eq!(allowance.refill(Timestamp(start.0 + 2_000)), 2);
        assert_eq!(allowance.refill(Timestamp(start.0 - 5_000)), 2);
        assert_eq!(allowance.refill(Timestamp(start.0 + 60_000)), AUTOMATIC_MAX);
    }

    #[test]
    fn a_tenth_of_the_pool_is_never_reserved_by_registration() {
        let pool = AddressRange {
            first: [10, 0, 0, 1].into(),
            last: [10, 0, 0, 20].into(),
        };
        let subnets = [Subnet {
            network: "10.0.0.0/24".parse().unwrap(),
            mode: DhcpMode::Server,
            pool: Some(pool),
            router: None,
            dns: vec![],
            lease_secs: 600,
        }];
        let mut clients = Vec::new();
        for last in 1..=20 {
            let address = Ipv4Addr::new(10, 0, 0, last);
            assert_eq!(
                reservable(address, &subnets, &clients),
                last <= 18,
                "{address}"
            );
            let mut next = at(last.into());
            next.address = Some(address);
            clients.push(next);
        }
        assert!(!reservable([10, 0, 0, 21].into(), &subnets, &[]));
    }

    #[test]
    fn identities_keep_the_limits_of_their_protocols_and_differ() {
        let (one, other) = (at(1), at(2));
        assert_eq!(one.iscsi.chap_secret.expose().len(), 16);
        assert_eq!(one.disk.serial.len(), 20);
        assert_eq!(one.disk.naa >> 60, 3);
        assert!(one.iscsi.target_iqn.len() <= 223, "RFC 7143 §4.2.7.1");
        assert_ne!(one.disk.naa, other.disk.naa);
        assert_ne!(one.disk.serial, other.disk.serial);
        assert_ne!(one.iscsi, other.iscsi);
    }
}
