//! An image with its backing files, read like one disk.

use std::path::Path;

use super::raw::RawImage;
use super::{
    Content, Identity, ImageFile, ImageFormat, Layer, Opened, Run, Unpacker, qcow2, vhd, vhdx, vmdk,
};
use crate::error::ImportError;

/// Most files in one backing chain.
const CHAIN_MAX: usize = 32;
/// Bytes that tell a format at the start of a file.
const START_BYTES: u64 = 64;

/// Formats that are known, so that they are not taken for raw disks.
const FOREIGN: &[(&[u8], &str)] = &[
    (b"COWD", "an ESXi redo log (VMDK)"),
    (b"\xbe\xba\xfe\xca\0\0\0\0", "an ESXi seSparse VMDK"),
    (b"<<< ", "a VirtualBox (VDI) image"),
    (b"\xfd7zXZ\0", "an xz stream"),
    (b"BZh", "a bzip2 stream"),
    (b"PK\x03\x04", "a zip archive"),
];

/// The image and its backing files, top first.
pub(crate) struct Chain {
    layers: Vec<Box<dyn Layer>>,
    format: ImageFormat,
    file_bytes: u64,
}

impl Chain {
    /// Opens an image with all its backing files; `format` is told by its first bytes if not given.
    pub(crate) fn open(path: &Path, format: Option<ImageFormat>) -> Result<Self, ImportError> {
        let top = ImageFile::open(path)?;
        let file_bytes = top.length();
        let format = match format {
            Some(format) => format,
            None => detect(&top)?,
        };
        let mut layers: Vec<Box<dyn Layer>> = Vec::new();
        let mut next = Some((top, format, None));
        while let Some((file, format, expected)) = next.take() {
            let path = file.path().to_owned();
            let opened = open_one(file, format)?;
            let known: Option<Identity> = expected;
            if known.is_some_and(|known| opened.layer.identity().is_some_and(|own| own != known)) {
                return Err(ImportError::refused(
                    &path,
                    0,
                    "it is not the parent that the image on top was made from: it was changed or exchanged since",
                ));
            }
            layers.push(opened.layer);
            let Some(parent) = opened.parent else {
                break;
            };
            if layers.len() == CHAIN_MAX {
                return Err(ImportError::refused(
                    &path,
                    0,
                    "it has too many backing files",
                ));
            }
            let file = ImageFile::open(&parent.path)?;
            let format = match parent.format {
                Some(format) => format,
                None => detect(&file)?,
            };
            next = Some((file, format, parent.identity));
        }
        Ok(Self {
            layers,
            format,
            file_bytes,
        })
    }

    /// Size of the disk in bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.layers.first().map_or(0, |top| top.size_bytes())
    }

    /// Format of the top file.
    pub(crate) fn format(&self) -> ImageFormat {
        self.format
    }

    /// All files that it is read from.
    pub(crate) fn files(&self) -> impl Iterator<Item = &ImageFile> {
        self.layers.iter().flat_map(|layer| layer.files())
    }

    /// Size of the top file in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Refuses an image of which a part is missing, before any of it is copied.
    pub(crate) fn check_whole(&self, cancelled: &dyn Fn() -> bool) -> Result<(), ImportError> {
        let size_bytes = self.size_bytes();
        let mut offset = 0;
        while offset < size_bytes {
            let run = self.run(offset, size_bytes - offset)?;
            match run.content {
                Content::Stored { file, offset } => file.contains(offset, run.length)?,
                Content::Packed(packed) => packed.file.contains(packed.offset, packed.length)?,
                Content::Zero | Content::Below => {}
            }
            if cancelled() {
                return Err(ImportError::Cancelled);
            }
            offset += run.length;
        }
        Ok(())
    }

    /// For how many bytes from `offset` on, at most `limit`, the disk is known to be zero without reading it.
    pub(crate) fn zeros(&self, offset: u64, limit: u64) -> Result<u64, ImportError> {
        let mut zeros = 0;
        while zeros < limit {
            let run = self.run(offset + zeros, limit - zeros)?;
            if !matches!(run.content, Content::Zero) {
                break;
            }
            zeros += run.length;
        }
        Ok(zeros)
    }

    /// Reads a part of the disk.
    pub(crate) fn read(
        &self,
        unpacker: &mut Unpacker,
        mut offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), ImportError> {
        let mut rest = buffer;
        let mut next = None;
        while !rest.is_empty() {
            let mut run = match next.take() {
                Some(run) => run,
                None => self.run(offset, rest.len() as u64)?,
            };
            if let Content::Stored { .. } = run.content {
                next = self.join(&mut run, offset, rest.len() as u64)?;
            }
            let (part, tail) = rest.split_at_mut(run.length as usize);
            match run.content {
                Content::Zero | Content::Below => part.fill(0),
                Content::Stored { file, offset } => file.read(offset, part)?,
                Content::Packed(packed) => unpacker.unpack(&packed, part)?,
            }
            rest = tail;
            offset += run.length;
        }
        Ok(())
    }

    /// Lengthens a stored run by those that follow it in the file too; answers the first one that does not.
    fn join<'a>(
        &'a self,
        run: &mut Run<'a>,
        start: u64,
        limit: u64,
    ) -> Result<Option<Run<'a>>, ImportError> {
        let Content::Stored { file, offset } = run.content else {
            return Ok(None);
        };
        while run.length < limit {
            let next = self.run(start + run.length, limit - run.length)?;
            match next.content {
                Content::Stored {
                    file: same,
                    offset: follows,
                } if std::ptr::eq(file, same) && follows == offset + run.length => {
                    run.length += next.length;
                }
                _ => return Ok(Some(next)),
            }
        }
        Ok(None)
    }

    fn run(&self, offset: u64, mut limit: u64) -> Result<Run<'_>, ImportError> {
        for layer in &self.layers {
            // What lies behind the end of a backing file is zero, whatever is below that.
            let Some(left) = layer
                .size_bytes()
                .checked_sub(offset)
                .filter(|&left| left > 0)
            else {
                break;
            };
            limit = limit.min(left);
            let run = layer.run(offset, limit)?;
            if !matches!(run.content, Content::Below) {
                return Ok(run);
            }
            limit = run.length;
        }
        Ok(Run {
            length: limit,
            content: Content::Zero,
        })
    }
}

fn open_one(file: ImageFile, format: ImageFormat) -> Result<Opened, ImportError> {
    match format {
        ImageFormat::Raw => Ok(Opened {
            layer: Box::new(RawImage::new(file)),
            parent: None,
        }),
        ImageFormat::Qcow2 => qcow2::open(file),
        ImageFormat::Vhd => vhd::open(file),
        ImageFormat::Vhdx => vhdx::open(file),
        ImageFormat::Vmdk => vmdk::open(file),
    }
}

/// Tells the format by the first bytes, and that of a fixed VHD by its footer. What is no known format is a raw disk.
fn detect(file: &ImageFile) -> Result<ImageFormat, ImportError> {
    let start = file.start(START_BYTES)?;
    match detect_start(&start) {
        Ok(ImageFormat::Raw) if vhd::is_fixed(file)? => Ok(ImageFormat::Vhd),
        Ok(format) => Ok(format),
        Err(reason) => Err(file.refused(0, reason)),
    }
}

/// Tells the format by the first bytes (64 are enough).
pub(crate) fn detect_start(start: &[u8]) -> Result<ImageFormat, String> {
    let formats = [
        (&qcow2::MAGIC[..], ImageFormat::Qcow2),
        (vmdk::MAGIC, ImageFormat::Vmdk),
        (vmdk::DESCRIPTOR_MAGIC, ImageFormat::Vmdk),
        (vhdx::MAGIC, ImageFormat::Vhdx),
        (vhd::MAGIC, ImageFormat::Vhd),
    ];
    if let Some((_, format)) = formats.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Ok(*format);
    }
    match FOREIGN.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, what)) => Err(format!("it is {what}; convert it to raw or qcow2 first")),
        None => Ok(ImageFormat::Raw),
    }
}
