//! The whole stack against arrays of bytes: a base, three layers, overlays of clients that write and discard, and a flattening with
//! the removal of the layers below while they read.

use std::sync::atomic::{AtomicBool, Ordering};

use dess_model::BootPolicy;
use proptest::prelude::*;

use super::*;
use crate::testing::{Room, image_bytes, power_on, read_all, version_ref};
use crate::{BlockDevice, BlockRead, Disk, DiskSpec, Version};

/// Not a whole number of blocks, more than the chunks of a checksum.
const SECTORS: u64 = 3 * 2048 + 5;
const LAYERS: u32 = 3;

#[derive(Clone, Copy, Debug)]
enum Change {
    Write { sector: u64, count: u64, fill: u8 },
    Unmap { sector: u64, count: u64 },
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Change(Change),
    Read {
        sector: u64,
        count: u64,
    },
    Flush,
    /// Another client powers on.
    Newcomer,
}

fn range() -> impl Strategy<Value = (u64, u64)> {
    let count = prop_oneof![1..20u64, 1..700u64];
    (0..SECTORS, count).prop_map(|(sector, count)| (sector, count.min(SECTORS - sector)))
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (range(), 1..=255u8).prop_map(|((sector, count), fill)| Change::Write { sector, count, fill }),
        2 => range().prop_map(|(sector, count)| Change::Unmap { sector, count }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => change().prop_map(Op::Change),
        5 => range().prop_map(|(sector, count)| Op::Read { sector, count }),
        1 => Just(Op::Flush),
        1 => Just(Op::Newcomer),
    ]
}

fn apply(disk: &Disk, oracle: &mut [u8], change: Change) {
    match change {
        Change::Write {
            sector,
            count,
            fill,
        } => {
            let bytes: Vec<u8> = (0..count * 512).map(|at| fill ^ (at / 512) as u8).collect();
            disk.write_at(sector * 512, &bytes).unwrap();
            oracle[sector as usize * 512..][..bytes.len()].copy_from_slice(&bytes);
        }
        Change::Unmap { sector, count } => {
            disk.write_zeroes(sector * 512, count * 512).unwrap();
            oracle[sector as usize * 512..][..count as usize * 512].fill(0);
        }
    }
}

/// Carries out `ops` on a client's disk; everything that is read is what was written.
fn use_disk(disk: &Disk, oracle: &mut [u8], ops: &[Op], newcomer: &dyn Fn()) {
    for &op in ops {
        match op {
            Op::Change(change) => apply(disk, oracle, change),
            Op::Read { sector, count } => {
                let mut found = vec![0xee; count as usize * 512];
                disk.read_at(sector * 512, &mut found).unwrap();
                assert!(found == oracle[sector as usize * 512..][..found.len()]);
            }
            Op::Flush => disk.flush().unwrap(),
            Op::Newcomer => newcomer(),
        }
    }
}

fn run(layers: &[Vec<Change>], persistent: &[Op], volatile: &[Op]) {
    let room = Room::in_memory();
    let mut golden = image_bytes(SECTORS as usize * 512, 7);
    room.import(1, &golden);
    let store = room.store();
    for (number, changes) in (1..).zip(layers) {
        room.make_version(&store, number, number + 1, |disk| {
            changes
                .iter()
                .for_each(|&change| apply(disk, &mut golden, change));
        });
    }
    let newest = LAYERS + 1;
    let spec = |disk, policy| DiskSpec {
        version: version_ref(newest),
        version_dir: room.version_dir(newest),
        ..room.spec(disk, policy)
    };
    let layered = Version::open(&room.version_dir(newest)).unwrap();
    assert_eq!(layered.layers(), newest as usize);
    drop(layered);
    let specs = [
        spec(1, BootPolicy::Persistent),
        spec(2, BootPolicy::Volatile),
    ];
    let disks = [0, 1].map(|at: usize| power_on(&store, &specs[at]));
    let mut oracles = [golden.clone(), golden.clone()];
    let flattened = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let images = room.path("images");
            flatten(&images, version_ref(newest), &mut |_| {}, &|| false).unwrap();
            for number in 1..newest {
                remove_version(&images, version_ref(number)).unwrap();
            }
            flattened.store(true, Ordering::Release);
        });
        let newcomer = || {
            let disk = power_on(&store, &spec(3, BootPolicy::Volatile));
            assert!(read_all(&*disk) == golden);
        };
        let [first, second] = &mut oracles;
        // At least once all the time, and once when it is done.
        loop {
            let last = flattened.load(Ordering::Acquire);
            use_disk(&disks[0], first, persistent, &newcomer);
            use_disk(&disks[1], second, volatile, &newcomer);
            if last {
                break;
            }
        }
    });
    drop((disks, store));
    let store = room.store();
    for (spec, oracle) in specs.iter().zip(&oracles) {
        let disk = store.attach(spec.disk).unwrap().disk;
        assert!(read_all(&*disk) == *oracle, "after a restart");
    }
    let whole = Version::open(&room.version_dir(newest)).unwrap();
    assert!(whole.layers() == 1 && read_all(&whole) == golden);
    whole.verify(&mut |_| {}, &|| false).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn clients_on_three_layers_read_what_they_wrote_while_the_layers_are_flattened_and_removed(
        layers in prop::collection::vec(prop::collection::vec(change(), 1..12), LAYERS as usize),
        persistent in prop::collection::vec(op(), 1..40),
        volatile in prop::collection::vec(op(), 1..40),
    ) {
        run(&layers, &persistent, &volatile);
    }
}
