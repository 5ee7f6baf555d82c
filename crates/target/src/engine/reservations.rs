//! Persistent reservations on the storage: what outlives a loss of power if an initiator asks for it (APTPL).

use std::io;

use dess_disk::Note;
use dess_scsi::{Holder, PersistentReservations, PersistentType, Registration, SavedReservations};
use serde::{Deserialize, Serialize};

use crate::sessions::InitiatorPort;

/// The note beside a disk, and what was read of it or written to it last.
pub(crate) struct Keeper {
    note: Note,
    kept: Option<SavedReservations<InitiatorPort>>,
}

/// Content of the note, as JSON.
#[derive(Serialize, Deserialize)]
struct Kept {
    format: u32,
    registrations: Vec<KeptRegistration>,
    holder: Option<KeptHolder>,
}

#[derive(Serialize, Deserialize)]
struct KeptRegistration {
    initiator: String,
    isid: [u8; 6],
    key: u64,
}

#[derive(Serialize, Deserialize)]
struct KeptHolder {
    initiator: String,
    isid: [u8; 6],
    /// TYPE field (SPC-4 table 199).
    kind: u8,
}

const FORMAT: u32 = 1;

impl Keeper {
    /// Reads what is kept. A note that cannot be understood is left alone and told of: the disk serves without it, as a PC that
    /// does not boot helps nobody.
    pub(crate) fn open(note: Note) -> (Self, PersistentReservations<InitiatorPort>) {
        let kept = match note
            .read()
            .and_then(|content| content.map(decode).transpose())
        {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(
                    %error, path = %note.path().display(),
                    "the reservations of a disk cannot be read; it starts without"
                );
                None
            }
        };
        let state = kept.clone().map_or_else(
            PersistentReservations::default,
            PersistentReservations::restored,
        );
        (Self { note, kept }, state)
    }

    /// Makes the storage agree with `wanted`. May wait for the storage; does nothing if it agrees.
    pub(crate) fn keep(
        &mut self,
        wanted: Option<SavedReservations<InitiatorPort>>,
    ) -> io::Result<()> {
        if self.kept == wanted {
            return Ok(());
        }
        match &wanted {
            Some(wanted) => self.note.replace(&encode(wanted)?)?,
            None => self.note.remove()?,
        }
        self.kept = wanted;
        Ok(())
    }
}

fn encode(saved: &SavedReservations<InitiatorPort>) -> io::Result<Vec<u8>> {
    let registrations = saved.registrations.iter().map(|one| KeptRegistration {
        initiator: one.nexus.name.clone(),
        isid: one.nexus.isid,
        key: one.key,
    });
    let holder = saved.holder.as_ref().map(|holder| KeptHolder {
        initiator: holder.nexus.name.clone(),
        isid: holder.nexus.isid,
        kind: holder.kind as u8,
    });
    let kept = Kept {
        format: FORMAT,
        registrations: registrations.collect(),
        holder,
    };
    Ok(serde_json::to_vec(&kept)?)
}

fn decode(content: Vec<u8>) -> io::Result<SavedReservations<InitiatorPort>> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let kept: Kept = serde_json::from_slice(&content)?;
    if kept.format != FORMAT {
        return Err(invalid("it is of another release"));
    }
    let holder = kept.holder.map(|holder| {
        let kind = PersistentType::from_code(holder.kind);
        Ok::<_, io::Error>(Holder {
            nexus: InitiatorPort {
                name: holder.initiator,
                isid: holder.isid,
            },
            kind: kind.ok_or_else(|| invalid("it names an unknown type of reservation"))?,
        })
    });
    let registrations = kept.registrations.into_iter().map(|one| Registration {
        nexus: InitiatorPort {
            name: one.initiator,
            isid: one.isid,
        },
        key: one.key,
    });
    Ok(SavedReservations {
        registrations: registrations.collect(),
        holder: holder.transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use dess_scsi::PersistentOut;

    use super::*;

    fn port(number: u8) -> InitiatorPort {
        InitiatorPort {
            name: format!("iqn.2026-01.test:{number}"),
            isid: [0x80, 0, 0, 0, 0, number],
        }
    }

    fn list(key: u64, new_key: u64) -> Vec<u8> {
        let mut list = key.to_be_bytes().to_vec();
        list.extend_from_slice(&new_key.to_be_bytes());
        list.resize(24, 0);
        list[20] = 1;
        list
    }

    #[test]
    fn what_is_kept_is_found_again_and_damage_is_not_taken_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let note = Note::new(directory.path().join("reservations"));
        let (mut keeper, mut state) = Keeper::open(note.clone());
        let register = PersistentOut::Register;
        state.change(&port(1), register, &list(0, 7)).unwrap();
        let reserve = PersistentOut::Reserve(PersistentType::ExclusiveAccess);
        state.change(&port(1), reserve, &list(7, 0)).unwrap();
        keeper.keep(state.saved()).unwrap();
        let (mut keeper, found) = Keeper::open(note.clone());
        assert_eq!(found.saved(), state.saved());
        assert!(found.saved().is_some());

        let content = note.read().unwrap().unwrap();
        note.replace(&content[..content.len() - 1]).unwrap();
        assert_eq!(Keeper::open(note.clone()).1.saved(), None);
        keeper.keep(None).unwrap();
        assert_eq!(note.read().unwrap(), None);
    }
}
