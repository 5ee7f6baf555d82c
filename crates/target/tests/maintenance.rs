//! A maintenance client's overlay is sealed, given back, published and released, and a persistent disk's snapshots are made and brought
//! back, all by orders over the control socket.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of a test's set-up is a failure of the test"
)]

mod support;

use std::time::{Duration, Instant};

use dess_disk::{BlockRead, LayerError};
use dess_disk::{PublishRequest, Version, publish, sealed_directory, version_directory};
use dess_model::{
    BootPolicy, ControlError, DiskState, SealedStatus, SnapshotOrder, SnapshotStatus, TargetReply,
    TargetRequest, Timestamp,
};
use support::initiator::Initiator;
use support::room::{IMAGE_BYTES, Running, Site, client_id};

const PATIENCE: Duration = Duration::from_secs(20);
const MAINTAINER: u32 = 1;
const PERSISTENT: u32 = 2;

fn maintained() -> Site {
    let mut site = Site::new();
    site.publish(|snapshot| snapshot.clients[0].policy = BootPolicy::Maintenance);
    site
}

/// Logs out, and waits until the service knows.
fn log_out(running: &Running, site: &Site, session: Initiator) {
    session.log_out().unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match running.ask(site, &TargetRequest::Status) {
            TargetReply::Status { sessions, .. } if sessions.is_empty() => return,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        std::thread::yield_now();
    }
}

/// Boots, writes a sector full of `fill` and shuts down.
fn write(running: &Running, site: &Site, seat: u32, fill: u8) {
    let on = running.power_on(site, seat);
    assert!(matches!(on, TargetReply::Disk(_)), "{on:?}");
    let mut session = Initiator::login(&site.login(seat)).unwrap();
    session.become_ready().unwrap();
    assert_eq!(session.write(8, &[fill; 512]).unwrap().status, 0);
    log_out(running, site, session);
}

/// Boots, and reads that sector.
fn read(running: &Running, site: &Site, seat: u32) -> Vec<u8> {
    running.power_on(site, seat);
    let mut session = Initiator::login(&site.login(seat)).unwrap();
    session.become_ready().unwrap();
    let read = session.read(8, 1).unwrap();
    log_out(running, site, session);
    read.data
}

/// Nobody is let in, or at least not to the disk.
fn cannot_write(site: &Site, seat: u32) {
    if let Ok(mut session) = Initiator::login(&site.login(seat)) {
        let written = session.write(8, &[0xee; 512]);
        assert!(!written.is_ok_and(|ended| ended.status == 0));
    }
}

fn golden(site: &Site) -> Vec<u8> {
    site.image[8 * 512..9 * 512].to_vec()
}

fn seal(running: &Running, site: &Site) -> SealedStatus {
    let client = client_id(MAINTAINER);
    match running.ask(site, &TargetRequest::Seal { client }) {
        TargetReply::Sealed(sealed) => sealed,
        other => panic!("{other:?}"),
    }
}

fn disk_states(running: &Running, site: &Site) -> Vec<DiskState> {
    match running.ask(site, &TargetRequest::Status) {
        TargetReply::Status { disks, .. } => disks.iter().map(|disk| disk.state).collect(),
        other => panic!("{other:?}"),
    }
}

fn publish_as(site: &Site, sealed: &SealedStatus, number: u32) -> Result<(), LayerError> {
    let overlays = site.paths.overlays();
    let request = PublishRequest {
        images: site.paths.images(),
        sealed: sealed_directory(&overlays, sealed.disk, sealed.generation),
        number,
        comment: String::new(),
        author: "test".to_owned(),
        created: Timestamp(1),
    };
    publish(&request, &mut |_| {}, &|| false).map(drop)
}

#[test]
fn a_client_that_runs_is_not_sealed_and_goes_on() {
    let site = maintained();
    let running = site.start();
    write(&running, &site, MAINTAINER, 1);
    running.power_on(&site, MAINTAINER);
    let mut session = Initiator::login(&site.login(MAINTAINER)).unwrap();
    session.become_ready().unwrap();
    let client = client_id(MAINTAINER);
    let refused = running.ask(&site, &TargetRequest::Seal { client });
    let expected = ControlError::Running {
        client,
        sessions: 1,
    };
    assert_eq!(refused, TargetReply::Error(expected));
    assert_eq!(session.write(8, &[2; 512]).unwrap().status, 0);
    log_out(&running, &site, session);
    running.stop();
}

#[test]
fn a_sealed_disk_refuses_its_client_also_after_a_restart_until_it_is_unsealed() {
    let site = maintained();
    let mut running = site.start();
    write(&running, &site, MAINTAINER, 7);
    let sealed = seal(&running, &site);
    assert_eq!(sealed.changed_bytes, 4096);
    assert_eq!(
        seal(&running, &site),
        sealed,
        "sealing again changes nothing"
    );
    for restart in [false, true] {
        if restart {
            running.stop();
            running = site.start();
        }
        assert_eq!(disk_states(&running, &site), [DiskState::Sealed]);
        let on = running.power_on(&site, MAINTAINER);
        assert!(
            matches!(on, TargetReply::Error(ControlError::Disk { .. })),
            "{on:?}"
        );
        cannot_write(&site, MAINTAINER);
    }
    let client = client_id(MAINTAINER);
    for _ in 0..2 {
        let unsealed = running.ask(&site, &TargetRequest::Unseal { client });
        assert_eq!(unsealed, TargetReply::Done);
    }
    assert_eq!(read(&running, &site, MAINTAINER), [7; 512]);
    // Nothing was published, so nothing is released.
    assert_eq!(
        running.ask(&site, &TargetRequest::Release { client }),
        TargetReply::Done
    );
    assert_eq!(read(&running, &site, MAINTAINER), [7; 512]);
    running.stop();
}

#[test]
fn a_published_overlay_is_released_and_cannot_be_unsealed() {
    let site = maintained();
    let running = site.start();
    write(&running, &site, MAINTAINER, 7);
    let sealed = seal(&running, &site);
    let client = client_id(MAINTAINER);
    // Not published yet: it stays.
    assert_eq!(
        running.ask(&site, &TargetRequest::Release { client }),
        TargetReply::Done
    );
    assert_eq!(disk_states(&running, &site), [DiskState::Sealed]);
    publish_as(&site, &sealed, 2).unwrap();
    let unsealed = running.ask(&site, &TargetRequest::Unseal { client });
    assert!(
        matches!(unsealed, TargetReply::Error(ControlError::Disk { .. })),
        "{unsealed:?}"
    );
    for _ in 0..2 {
        let released = running.ask(&site, &TargetRequest::Release { client });
        assert_eq!(released, TargetReply::Done);
    }
    assert_eq!(disk_states(&running, &site), []);
    let made = dess_model::VersionRef {
        number: 2,
        ..sealed.base
    };
    let version = Version::open(&version_directory(&site.paths.images(), made)).unwrap();
    let mut found = vec![0; IMAGE_BYTES];
    version.read_at(0, &mut found).unwrap();
    let mut expected = site.image.clone();
    expected[8 * 512..9 * 512].fill(7);
    assert!(found == expected);
    // The next maintenance begins on the version that the snapshot names.
    assert_eq!(read(&running, &site, MAINTAINER), golden(&site));
    running.stop();
}

#[test]
fn nothing_is_sealed_for_a_client_that_maintains_nothing() {
    let site = maintained();
    let running = site.start();
    write(&running, &site, PERSISTENT, 1);
    let client = client_id(PERSISTENT);
    let refused = running.ask(&site, &TargetRequest::Seal { client });
    assert!(
        matches!(refused, TargetReply::Error(ControlError::Disk { .. })),
        "{refused:?}"
    );
    let client = client_id(77);
    for question in [
        TargetRequest::Seal { client },
        TargetRequest::Unseal { client },
        TargetRequest::Release { client },
    ] {
        let unknown = TargetReply::Error(ControlError::UnknownClient { client });
        assert_eq!(running.ask(&site, &question), unknown);
    }
    assert_eq!(read(&running, &site, PERSISTENT), [1; 512]);
    running.stop();
}

fn snapshot(
    running: &Running,
    site: &Site,
    order: SnapshotOrder,
) -> Result<Vec<SnapshotStatus>, ControlError> {
    let client = client_id(PERSISTENT);
    match running.ask(site, &TargetRequest::Snapshot { client, order }) {
        TargetReply::Snapshots { snapshots } => Ok(snapshots),
        TargetReply::Error(error) => Err(error),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_persistent_disk_is_brought_back_to_its_snapshot_while_its_client_is_off() {
    let site = Site::new();
    let running = site.start();
    write(&running, &site, PERSISTENT, 1);
    let name = || "exam".to_owned();
    let create = || SnapshotOrder::Create { name: name() };
    let made = snapshot(&running, &site, create()).unwrap();
    assert_eq!(made.len(), 1);
    assert_eq!((&*made[0].name, made[0].version.number), ("exam", 1));
    let taken = snapshot(&running, &site, create());
    assert!(matches!(taken, Err(ControlError::Disk { .. })));
    write(&running, &site, PERSISTENT, 2);

    let mut session = Initiator::login(&site.login(PERSISTENT)).unwrap();
    session.become_ready().unwrap();
    for order in [
        SnapshotOrder::Create {
            name: "other".to_owned(),
        },
        SnapshotOrder::Restore { name: name() },
        SnapshotOrder::Remove { name: name() },
    ] {
        let refused = snapshot(&running, &site, order);
        assert!(matches!(
            refused,
            Err(ControlError::Running { sessions: 1, .. })
        ));
    }
    assert_eq!(
        snapshot(&running, &site, SnapshotOrder::List).unwrap(),
        made
    );
    assert_eq!(session.read(8, 1).unwrap().data, [2; 512], "it goes on");
    log_out(&running, &site, session);

    snapshot(&running, &site, SnapshotOrder::Restore { name: name() }).unwrap();
    // A system that ran on what was there before must boot first.
    assert!(Initiator::login(&site.login(PERSISTENT)).is_err());
    assert_eq!(read(&running, &site, PERSISTENT), [1; 512]);
    let left = snapshot(&running, &site, SnapshotOrder::Remove { name: name() }).unwrap();
    assert_eq!(left, []);
    assert_eq!(read(&running, &site, PERSISTENT), [1; 512]);
    running.stop();
}
