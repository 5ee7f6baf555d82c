//! The probe disk: a few blocks that exist for the server's own probe of this service.
//!
//! Only the server itself may log in to it, with a secret that is made anew at each start and lies in the runtime directory;
//! for everybody else, and in SendTargets, it does not exist. Its identity never changes. What is read of it goes the longest
//! way that reads go, through the disk threads.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use dess_disk::{BlockDevice, BlockRead, Note};
use dess_iscsi::{Access, ChapCredentials, ChapSecret, LoginIdentity, LoginStatus};
use dess_model::{PROBE_DISK_MARK, PROBE_INITIATOR, PROBE_TARGET, Secret, is_own_peer};
use dess_scsi::{GRANULARITY_EXPONENT, LOGICAL_BLOCK_BYTES, LogicalUnit};

use crate::engine::{FlowId, Unit, Units};

/// Size of the disk.
const SIZE_BYTES: u64 = 8 * LOGICAL_BLOCK_BYTES;
/// NAA identifier, locally assigned (type 3): "DESSPRB" in the rest.
const NAA: u64 = (3 << 60) | 0x0044_4553_5350_5242;

/// The disk and who may read it.
pub(crate) struct ProbeDisk {
    secret: Secret,
    units: Arc<Units>,
}

impl ProbeDisk {
    /// Makes the disk, and its secret at `secret_path` for the probe to read. May wait for the storage.
    ///
    /// # Errors
    /// If the secret cannot be written.
    pub(crate) fn create(secret_path: &Path) -> io::Result<Self> {
        let random: [u8; 16] = rand::random();
        let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        write_secret(secret_path, &secret)?;
        let description = LogicalUnit {
            serial: "DESS-PROBE".to_owned(),
            naa: NAA,
            target_name: PROBE_TARGET.to_owned(),
            capacity_blocks: SIZE_BYTES / LOGICAL_BLOCK_BYTES,
            physical_block_exponent: GRANULARITY_EXPONENT,
            read_only: true,
            thin: false,
        };
        // Beside the secret: the probe reserves nothing, so that there never is such a file.
        let note = Note::new(secret_path.with_extension("reservations"));
        let unit = Unit::open(description, Arc::new(Marked), note, FlowId::next());
        Ok(Self {
            secret: Secret::new(secret),
            units: Arc::new(Units::new(Arc::new(unit), Vec::new(), Vec::new())),
        })
    }

    pub(crate) fn units(&self) -> Arc<Units> {
        Arc::clone(&self.units)
    }

    /// Whether a login may go on: from this machine, under the probe's name and with its secret.
    pub(crate) fn access(&self, identity: &LoginIdentity) -> Result<Access, LoginStatus> {
        if !is_own_peer(identity.peer, SocketAddr::ip(&identity.portal)) {
            return Err(LoginStatus::NotFound);
        }
        if identity.initiator_name != PROBE_INITIATOR {
            return Err(LoginStatus::AuthorizationFailure);
        }
        Ok(Access {
            chap: Some(ChapCredentials {
                initiator: ChapSecret {
                    user: PROBE_INITIATOR.to_owned(),
                    secret: self.secret.expose().as_bytes().to_vec(),
                },
                target: None,
            }),
            cookie: 0,
        })
    }
}

/// True for the target of the probe disk.
pub(crate) fn is_probe_target(target: &str) -> bool {
    target == PROBE_TARGET
}

fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(secret.as_bytes())
}

/// Zeros behind [`PROBE_DISK_MARK`]; it cannot be written.
struct Marked;

impl BlockRead for Marked {
    fn size_bytes(&self) -> u64 {
        SIZE_BYTES
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        for (place, byte) in (offset..).zip(buffer) {
            let mark = usize::try_from(place).ok();
            *byte = mark
                .and_then(|at| PROBE_DISK_MARK.get(at))
                .copied()
                .unwrap_or(0);
        }
        Ok(())
    }

    /// Never in memory: the probe is to find out whether the disk threads work.
    fn try_read_at(&self, _offset: u64, _buffer: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl BlockDevice for Marked {
    fn write_at(&self, _offset: u64, _data: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn write_zeroes(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn allocation(&self, _offset: u64, limit: u64) -> io::Result<(bool, u64)> {
        Ok((true, limit))
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use dess_iscsi::SessionType;

    use super::*;

    fn identity(peer: &str, initiator: &str) -> LoginIdentity {
        LoginIdentity {
            initiator_name: initiator.to_owned(),
            target_name: Some(PROBE_TARGET.to_owned()),
            session_type: SessionType::Normal,
            peer: peer.parse().unwrap(),
            portal: "10.77.0.1:3260".parse().unwrap(),
        }
    }

    #[test]
    fn the_probe_disk_exists_for_this_server_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("probe-secret");
        let disk = ProbeDisk::create(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for peer in ["10.77.0.1", "127.0.0.1", "::ffff:10.77.0.1"] {
            let access = disk.access(&identity(peer, PROBE_INITIATOR)).unwrap();
            let secret = access.chap.expect("CHAP is wanted").initiator.secret;
            assert_eq!(secret, fs::read(&path).unwrap());
        }
        let foreign = disk.access(&identity("10.77.0.100", PROBE_INITIATOR));
        assert_eq!(foreign, Err(LoginStatus::NotFound));
        let other = disk.access(&identity("10.77.0.1", "iqn.2026-01.test:pc"));
        assert_eq!(other, Err(LoginStatus::AuthorizationFailure));
    }

    #[test]
    fn its_identity_stays_and_its_secret_is_new_at_each_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("probe-secret");
        let first = ProbeDisk::create(&path).unwrap();
        let second = ProbeDisk::create(&path).unwrap();
        assert_ne!(first.secret.expose(), second.secret.expose());
        let [one, other] = [&first, &second].map(|disk| &disk.units.system().description);
        assert_eq!((one.naa, &one.serial), (other.naa, &other.serial));
        let mut block = [1; 32];
        Marked.read_at(0, &mut block).unwrap();
        assert!(block.starts_with(PROBE_DISK_MARK) && block.ends_with(&[0; 16]));
    }
}
