//! What qemu-img makes is read back as it was; what it cannot make (differencing VHD and VHDX) is made here.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::testing::image_bytes;

const SIZE: usize = 9 << 20;

/// Runs a program of package qemu-utils, without which these tests prove nothing.
pub(crate) fn qemu(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program} (package qemu-utils) is needed: {error}"));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A raw image and its content, which is sparse and has all lengths of runs.
fn raw(directory: &Path) -> (PathBuf, Vec<u8>) {
    let mut bytes = image_bytes(SIZE, 4711);
    bytes[3 << 20..5 << 20].fill(0);
    let path = directory.join("disk.raw");
    fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

fn convert(directory: &Path, name: &str, args: &[&str]) -> (PathBuf, Vec<u8>) {
    let (source, bytes) = raw(directory);
    let path = directory.join(name);
    let args = [
        &["convert", "-f", "raw"],
        args,
        &[text(&source), text(&path)],
    ]
    .concat();
    qemu("qemu-img", &args);
    fs::remove_file(source).unwrap();
    (path, bytes)
}

fn read_all(path: &Path) -> Result<Vec<u8>, ImportError> {
    let chain = Chain::open(path, None)?;
    chain.check_whole(&|| false)?;
    let mut bytes = vec![0xee; chain.size_bytes() as usize];
    let mut unpacker = Unpacker::default();
    // Pieces that are aligned to nothing.
    for (index, piece) in bytes.chunks_mut(777_777).enumerate() {
        chain.read(&mut unpacker, index as u64 * 777_777, piece)?;
    }
    let mut offset = 0;
    while offset < chain.size_bytes() {
        let zeros = chain.zeros(offset, chain.size_bytes() - offset)?;
        let range = offset as usize..(offset + zeros) as usize;
        assert!(bytes[range].iter().all(|&byte| byte == 0));
        offset += zeros.max(65_536);
    }
    Ok(bytes)
}

#[test]
fn every_subformat_that_qemu_img_makes_is_read() {
    let data_file = "qcow2,data_file,data_file=%/d.data";
    let kinds = [
        "qcow2,compat=0.10",
        "qcow2,cluster_size=512",
        "qcow2,cluster_size=2M",
        "qcow2,lazy_refcounts=on,refcount_bits=1",
        "qcow2,preallocation=metadata",
        "qcow2,preallocation=full",
        "qcow2,extended_l2=on,cluster_size=128k",
        "qcow2,extended_l2=on,cluster_size=16k",
        "qcow2 -c,compat=0.10,cluster_size=4k",
        "qcow2 -c,cluster_size=2M",
        "qcow2 -c,compression_type=zstd",
        "qcow2 -c,compression_type=zstd,cluster_size=512",
        "qcow2 -c,extended_l2=on,compression_type=zstd",
        &data_file.replace("data_file,data_file=", "data_file="),
        &data_file.replace("data_file,", "data_file_raw=on,"),
        "vpc,subformat=dynamic,force_size=on",
        "vpc,subformat=dynamic",
        "vpc,subformat=fixed,force_size=on",
        "vhdx,subformat=dynamic",
        "vhdx,subformat=fixed",
        "vhdx,block_size=1M,log_size=1M",
        "vhdx,block_size=256M,block_state_zero=off",
        "vmdk,subformat=monolithicSparse",
        "vmdk,subformat=monolithicSparse,zeroed_grain=on,compat6=on",
        "vmdk,subformat=monolithicFlat",
        "vmdk,subformat=twoGbMaxExtentSparse",
        "vmdk,subformat=twoGbMaxExtentFlat",
        "vmdk,subformat=streamOptimized",
    ];
    for kind in kinds {
        let directory = tempfile::tempdir().unwrap();
        let kind = kind.replace('%', text(directory.path()));
        let (format, options) = kind.split_once(',').unwrap();
        let (format, compressed) = match format.strip_suffix(" -c") {
            Some(format) => (format, &["-c"][..]),
            None => (format, &[][..]),
        };
        let args = [compressed, &["-O", format, "-o", options]].concat();
        let (path, bytes) = convert(directory.path(), "disk", &args);
        let read = read_all(&path).unwrap_or_else(|error| panic!("{kind}: {error}"));
        // Without force_size, qemu-img rounds a VHD up to whole cylinders.
        assert!(read[..SIZE] == bytes, "{kind}");
        assert!(read[SIZE..].iter().all(|&byte| byte == 0), "{kind}");
        assert!(
            read.len() == SIZE || kind == "vpc,subformat=dynamic",
            "{kind}"
        );
    }
}

#[test]
fn snapshots_in_a_qcow2_are_not_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (path, mut bytes) = convert(directory.path(), "disk", &["-O", "qcow2"]);
    qemu("qemu-img", &["snapshot", "-c", "before", text(&path)]);
    qemu("qemu-io", &["-c", "write -P 0x55 1M 100k", text(&path)]);
    qemu("qemu-img", &["snapshot", "-c", "after", text(&path)]);
    qemu("qemu-io", &["-c", "write -P 0x66 1050k 4k", text(&path)]);
    bytes[1 << 20..][..100 << 10].fill(0x55);
    bytes[1050 << 10..][..4 << 10].fill(0x66);
    assert!(read_all(&path).unwrap() == bytes);
}

#[test]
fn subclusters_written_one_by_one_lie_over_the_backing_file() {
    let directory = tempfile::tempdir().unwrap();
    let (base, mut bytes) = raw(directory.path());
    let path = directory.path().join("top.qcow2");
    let options = "extended_l2=on,backing_file=disk.raw,backing_fmt=raw";
    qemu(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", options, text(&path)],
    );
    let writes = [
        "write -P 0x55 1M 6k",
        "write -z 2M 2k",
        "write -P 0x77 2050k 512",
    ];
    for write in writes {
        qemu("qemu-io", &["-c", write, text(&path)]);
    }
    bytes[1 << 20..][..6 << 10].fill(0x55);
    bytes[2 << 20..][..2 << 10].fill(0);
    bytes[2050 << 10..][..512].fill(0x77);
    assert!(read_all(&path).unwrap() == bytes);
    assert!(base.exists());
}

#[test]
fn a_vmdk_lies_over_its_parent_unless_that_was_changed() {
    let directory = tempfile::tempdir().unwrap();
    let (base, mut bytes) = convert(directory.path(), "base.vmdk", &["-O", "vmdk"]);
    let top = directory.path().join("top.vmdk");
    let options = "backing_file=base.vmdk,backing_fmt=vmdk";
    qemu(
        "qemu-img",
        &["create", "-q", "-f", "vmdk", "-o", options, text(&top)],
    );
    qemu("qemu-io", &["-c", "write -P 0x55 1M 100k", text(&top)]);
    bytes[1 << 20..][..100 << 10].fill(0x55);
    assert!(read_all(&top).unwrap() == bytes);
    // QEMU gives an image another content id when it is written.
    qemu("qemu-io", &["-c", "write -P 0x66 5M 4k", text(&base)]);
    let error = read_all(&top).unwrap_err().to_string();
    assert!(error.contains("changed or exchanged"), "{error}");
}

/// A differencing VHD as Windows makes it: parent locator in UTF-16, one block with a bitmap.
fn differencing_vhd(directory: &Path, parent: &Path) -> PathBuf {
    let mut footer = fs::read(parent).unwrap()[..512].to_vec();
    let parent_id: [u8; 16] = footer[68..84].try_into().unwrap();
    footer[60..64].copy_from_slice(&4u32.to_be_bytes());
    footer[68..84].fill(7);
    let sum = vhd::checksum(&footer, vhd::FOOTER_CHECKSUM);
    footer[64..68].copy_from_slice(&sum.to_be_bytes());
    let mut header = vec![0; 1024];
    header[..8].copy_from_slice(vhd::DYNAMIC_MAGIC);
    header[8..16].fill(0xff);
    header[16..24].copy_from_slice(&2048u64.to_be_bytes());
    header[28..32].copy_from_slice(&5u32.to_be_bytes());
    header[32..36].copy_from_slice(&(2u32 << 20).to_be_bytes());
    header[40..56].copy_from_slice(&parent_id);
    let name: Vec<u8> = ".\\parent.vhd"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    header[576..580].copy_from_slice(b"W2ru");
    header[584..588].copy_from_slice(&(name.len() as u32).to_be_bytes());
    header[592..600].copy_from_slice(&1536u64.to_be_bytes());
    let sum = vhd::checksum(&header, vhd::DYNAMIC_CHECKSUM);
    header[36..40].copy_from_slice(&sum.to_be_bytes());
    let path = directory.join("child.vhd");
    let file = File::create(&path).unwrap();
    file.write_all_at(&footer, 0).unwrap();
    file.write_all_at(&header, 512).unwrap();
    file.write_all_at(&name, 1536).unwrap();
    let mut table = [0xff; 20];
    table[4..8].copy_from_slice(&8u32.to_be_bytes());
    file.write_all_at(&table, 2048).unwrap();
    // Of the second block, sectors 3 and 8 to 15 are the child's.
    file.write_all_at(&[0b0001_0000, 0xff], 4096).unwrap();
    file.write_all_at(&vec![0x99; 2 << 20], 4096 + 512).unwrap();
    file.write_all_at(&footer, 4096 + 512 + (2 << 20)).unwrap();
    path
}

#[test]
fn a_differencing_vhd_lies_over_its_parent_by_sectors() {
    let directory = tempfile::tempdir().unwrap();
    let args = ["-O", "vpc", "-o", "force_size=on"];
    let (parent, mut bytes) = convert(directory.path(), "parent.vhd", &args);
    let child = differencing_vhd(directory.path(), &parent);
    let block = 2 << 20;
    bytes[block + 3 * 512..][..512].fill(0x99);
    bytes[block + 8 * 512..][..8 * 512].fill(0x99);
    assert!(read_all(&child).unwrap() == bytes);
    let file = File::options().write(true).open(&child).unwrap();
    let mut header = fs::read(&child).unwrap()[512..1536].to_vec();
    header[40] ^= 1;
    let sum = vhd::checksum(&header, vhd::DYNAMIC_CHECKSUM);
    header[36..40].copy_from_slice(&sum.to_be_bytes());
    file.write_all_at(&header, 512).unwrap();
    let error = read_all(&child).unwrap_err().to_string();
    assert!(error.contains("changed or exchanged"), "{error}");
}

/// Makes a copy of a VHDX a differencing one of it, with one block of which some sectors are its own.
fn differencing_vhdx(directory: &Path, parent: &Path) -> PathBuf {
    let mut bytes = fs::read(parent).unwrap();
    let newest = [0x1_0000usize, 0x2_0000]
        .into_iter()
        .max_by_key(|&at| le64(&bytes, at + 8).unwrap())
        .unwrap();
    let linkage: [u8; 16] = bytes[newest + 32..newest + 48].try_into().unwrap();
    let regions = vhdx::VhdxRegions::decode(&bytes[0x3_0000..]).unwrap();
    let metadata = regions.metadata.0 as usize;
    let items = vhdx::VhdxItems::decode(&bytes[metadata..]).unwrap();
    bytes[metadata + items.parameters as usize + 4] |= 2;
    let hex = |range: std::ops::Range<usize>| -> String {
        linkage[range]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    let swapped = |at: usize, n: usize| -> String {
        linkage[at..at + n]
            .iter()
            .rev()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    let guid = format!(
        "{{{}-{}-{}-{}-{}}}",
        swapped(0, 4),
        swapped(4, 2),
        swapped(6, 2),
        hex(8..10),
        hex(10..16)
    );
    let mut locator = vec![0; 20];
    let pairs = [
        ("parent_linkage", guid.as_str()),
        ("relative_path", ".\\parent.vhdx"),
    ];
    locator[18..20].copy_from_slice(&2u16.to_le_bytes());
    let mut strings: Vec<u8> = Vec::new();
    for (key, value) in pairs {
        let mut entry = [0; 12];
        for (index, text) in [key, value].into_iter().enumerate() {
            let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let at = (44 + strings.len()) as u32;
            entry[index * 4..][..4].copy_from_slice(&at.to_le_bytes());
            entry[8 + index * 2..][..2].copy_from_slice(&(units.len() as u16).to_le_bytes());
            strings.extend(units);
        }
        locator.extend(entry);
    }
    locator.extend(strings);
    let count = le16(&bytes, metadata + 10).unwrap();
    bytes[metadata + 10..][..2].copy_from_slice(&(count + 1).to_le_bytes());
    let entry = metadata + 32 + usize::from(count) * 32;
    bytes[entry..entry + 16].copy_from_slice(&vhdx::PARENT_LOCATOR);
    let place = 0x1_8000u32;
    bytes[entry + 16..][..4].copy_from_slice(&place.to_le_bytes());
    bytes[entry + 20..][..4].copy_from_slice(&(locator.len() as u32).to_le_bytes());
    bytes[entry + 24..][..4].copy_from_slice(&4u32.to_le_bytes());
    bytes[metadata + place as usize..][..locator.len()].copy_from_slice(&locator);
    // Blocks of 1 MiB: all from the parent but the second, partly; bitmap and data at the end of the file.
    let bat = regions.bat.0 as usize;
    bytes[bat..bat + 9 * 8].fill(0);
    let end = bytes.len().next_multiple_of(1 << 20);
    bytes.resize(end + (2 << 20), 0x99);
    bytes[end..end + (1 << 20)].fill(0);
    bytes[end + 256..][..2].copy_from_slice(&[0b0000_1000, 0xff]);
    bytes[bat + 8..][..8].copy_from_slice(&((end as u64 + (1 << 20)) | 7).to_le_bytes());
    bytes[bat + 4096 * 8..][..8].copy_from_slice(&(end as u64 | 6).to_le_bytes());
    let path = directory.join("child.vhdx");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_differencing_vhdx_lies_over_its_parent_by_sectors() {
    let directory = tempfile::tempdir().unwrap();
    let args = ["-O", "vhdx", "-o", "block_size=1M"];
    let (parent, mut bytes) = convert(directory.path(), "parent.vhdx", &args);
    let child = differencing_vhdx(directory.path(), &parent);
    bytes[(1 << 20) + 3 * 512..][..512].fill(0x99);
    bytes[(1 << 20) + 8 * 512..][..8 * 512].fill(0x99);
    assert!(read_all(&child).unwrap() == bytes);
    qemu("qemu-io", &["-c", "write -P 0x66 5M 4k", text(&parent)]);
    let error = read_all(&child).unwrap_err().to_string();
    assert!(error.contains("changed or exchanged"), "{error}");
}

#[test]
fn an_image_cut_off_is_refused_before_anything_is_copied_unless_nothing_is_lost() {
    let kinds: [&[&str]; 6] = [
        &["-O", "vpc", "-o", "force_size=on"],
        &["-O", "vpc", "-o", "subformat=fixed,force_size=on"],
        &["-O", "vhdx"],
        &["-O", "vmdk"],
        &["-O", "vmdk", "-o", "subformat=streamOptimized"],
        &["-O", "qcow2", "-c", "-o", "compression_type=zstd"],
    ];
    for kind in kinds {
        let directory = tempfile::tempdir().unwrap();
        let (path, bytes) = convert(directory.path(), "disk", kind);
        let whole = fs::read(&path).unwrap();
        let format = Chain::open(&path, None).unwrap().format();
        let length = whole.len();
        for cut in [
            0,
            3,
            71,
            513,
            4096,
            70_000,
            400_000,
            length / 2,
            length - 70_000,
            length - 513,
        ] {
            fs::write(&path, &whole[..cut.min(length)]).unwrap();
            let opened = Chain::open(&path, Some(format));
            let result = opened.and_then(|chain| chain.check_whole(&|| false));
            match result {
                Err(ImportError::Refused { .. }) => {}
                // The last block of a VHDX is longer than the disk.
                Ok(()) => assert!(read_all(&path).unwrap() == bytes, "{kind:?} cut at {cut}"),
                Err(other) => panic!("{kind:?} cut at {cut} of {length}: {other}"),
            }
        }
    }
}

#[test]
fn a_damaged_image_never_panics_nor_reads_without_end() {
    let kinds: [&[&str]; 7] = [
        &["-O", "vpc"],
        &["-O", "vhdx"],
        &["-O", "vmdk"],
        &["-O", "vmdk", "-o", "subformat=streamOptimized"],
        &["-O", "qcow2", "-o", "extended_l2=on"],
        &["-O", "qcow2", "-c", "-o", "compression_type=zstd"],
        &["-O", "qcow2", "-c"],
    ];
    let mut state = 7u64;
    let mut random = move |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % bound
    };
    for kind in kinds {
        let directory = tempfile::tempdir().unwrap();
        let (path, _) = convert(directory.path(), "disk", kind);
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        let format = Chain::open(&path, None).unwrap().format();
        // Places that hold tables are hit more often than by chance: bytes that are not zero at the start of sectors.
        for _ in 0..100 {
            let mut hit = Vec::new();
            for _ in 0..1 + random(3) {
                let near = random(whole.len() / 512) * 512;
                let at = (near + random(64)).min(whole.len() - 1);
                let at = if random(2) == 0 {
                    random(512.min(whole.len()))
                } else {
                    at
                };
                file.write_all_at(&[random(256) as u8], at as u64).unwrap();
                hit.push(at);
            }
            if let Ok(chain) = Chain::open(&path, Some(format))
                && chain.size_bytes() < 1 << 30
                && chain.check_whole(&|| false).is_ok()
            {
                let mut unpacker = Unpacker::default();
                let mut buffer = vec![0; 1 << 20];
                let most = chain.size_bytes().min(16 << 20);
                for offset in (0..most).step_by(1 << 20) {
                    let length = (most - offset).min(1 << 20) as usize;
                    let _ = chain.read(&mut unpacker, offset, &mut buffer[..length]);
                }
            }
            for at in hit {
                file.write_all_at(&whole[at..=at], at as u64).unwrap();
            }
        }
    }
}
