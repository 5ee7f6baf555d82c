//! What is known of each disk's present boot: whose address it has, when its power-on was, and
//! whether it must power on before a system may use it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dess_model::DiskId;

/// How long the firmware may take from the power-on to the operating system's login. A login of
/// firmware after it is another boot.
const FIRMWARE_PHASE: Duration = Duration::from_secs(5 * 60);

/// The boots of all disks that were used. In memory only: what must survive is in the store.
#[derive(Debug, Default)]
pub(crate) struct Boots {
    disks: Mutex<HashMap<DiskId, Boot>>,
}

#[derive(Debug)]
enum Boot {
    /// The disk was in use before the service started; nobody has logged in since.
    BeforeStart,
    /// It powered on at a time, and its firmware is at work; the peer of its last login.
    Firmware(Instant, Option<IpAddr>),
    /// An operating system has logged in, last from here.
    Os(IpAddr),
    /// What it ran on was dropped: it must power on.
    Void,
}

impl Boots {
    /// At the start of the service: these disks hold something.
    pub(crate) fn found(disks: impl IntoIterator<Item = DiskId>) -> Self {
        let boots = disks.into_iter().map(|disk| (disk, Boot::BeforeStart));
        Self {
            disks: Mutex::new(boots.collect()),
        }
    }

    /// Its disk was made ready for a new boot.
    pub(crate) fn powered_on(&self, disk: DiskId, now: Instant) {
        self.lock().insert(disk, Boot::Firmware(now, None));
    }

    /// What it ran on is gone.
    pub(crate) fn dropped(&self, disk: DiskId) {
        self.lock().insert(disk, Boot::Void);
    }

    /// The disk was removed.
    pub(crate) fn removed(&self, disk: DiskId) {
        self.lock().remove(&disk);
    }

    /// Somebody was let in.
    pub(crate) fn logged_in(&self, disk: DiskId, firmware: bool, peer: IpAddr) {
        let mut disks = self.lock();
        let powered_on = match disks.get(&disk) {
            Some(Boot::Firmware(at, _)) => *at,
            _ => Instant::now(),
        };
        let boot = match firmware {
            true => Boot::Firmware(powered_on, Some(peer)),
            false => Boot::Os(peer),
        };
        disks.insert(disk, boot);
    }

    /// True if a login of firmware is the first sign of a new boot: it fetched no script.
    pub(crate) fn begins_with_login(&self, disk: DiskId, now: Instant) -> bool {
        match self.lock().get(&disk) {
            Some(Boot::Firmware(at, _)) => now.saturating_duration_since(*at) > FIRMWARE_PHASE,
            _ => true,
        }
    }

    /// True if a system that comes back was let in from this address in its present boot: its
    /// reservation may have been changed since. After a restart of the service the address is not
    /// known; the disk's CHAP secret, which a client only gets when it boots, must do then.
    pub(crate) fn may_come_back(&self, disk: DiskId, peer: IpAddr) -> bool {
        match self.lock().get(&disk) {
            Some(Boot::BeforeStart) => true,
            Some(Boot::Os(known) | Boot::Firmware(_, Some(known))) => *known == peer,
            Some(Boot::Firmware(_, None) | Boot::Void) | None => false,
        }
    }

    /// True if the disk has content of a boot, whatever is assigned by now.
    pub(crate) fn has_content(&self, disk: DiskId) -> bool {
        !matches!(self.lock().get(&disk), None | Some(Boot::Void))
    }

    /// True if no operating system may use the disk before it has powered on.
    pub(crate) fn is_void(&self, disk: DiskId) -> bool {
        matches!(self.lock().get(&disk), Some(Boot::Void))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DiskId, Boot>> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_that_comes_after_an_operating_system_begins_a_boot() {
        let disk: DiskId = "00000000000070008000000000000001".parse().unwrap();
        let peer = IpAddr::from([10, 0, 0, 1]);
        let now = Instant::now();
        let boots = Boots::default();
        assert!(boots.begins_with_login(disk, now));
        boots.powered_on(disk, now);
        // iPXE logs in twice.
        for _ in 0..2 {
            assert!(!boots.begins_with_login(disk, now + Duration::from_secs(60)));
            boots.logged_in(disk, true, peer);
        }
        assert!(boots.begins_with_login(disk, now + Duration::from_secs(301)));
        boots.logged_in(disk, false, peer);
        assert!(boots.begins_with_login(disk, now + Duration::from_secs(60)));
        // The same system from elsewhere is a stranger.
        assert!(boots.may_come_back(disk, peer));
        assert!(!boots.may_come_back(disk, [10, 0, 0, 2].into()));
    }
}
