//! The logical units of one target.

use std::sync::Arc;

use dess_iscsi::Lun;
use dess_model::VersionRef;

use super::Unit;

/// What one client sees: its system disk as LUN 0, and its data disks. Stays the same from one power-on to the next.
pub(crate) struct Units {
    system: Arc<Unit>,
    /// By number.
    data: Vec<(u8, Arc<Unit>)>,
    luns: Vec<u8>,
    /// Versions that are served without an overlay.
    shared: Vec<(u8, VersionRef)>,
}

impl Units {
    /// A system disk and data disks with their numbers, which are not 0; `shared` names the versions of those without an
    /// overlay.
    pub(crate) fn new(
        system: Arc<Unit>,
        mut data: Vec<(u8, Arc<Unit>)>,
        shared: Vec<(u8, VersionRef)>,
    ) -> Self {
        data.sort_by_key(|(lun, _)| *lun);
        let luns = std::iter::once(0).chain(data.iter().map(|(lun, _)| *lun));
        Self {
            luns: luns.collect(),
            system,
            data,
            shared,
        }
    }

    /// LUN 0.
    pub(crate) fn system(&self) -> &Arc<Unit> {
        &self.system
    }

    /// The logical unit with this number, with the number.
    pub(crate) fn find(&self, lun: Lun) -> Option<(u8, &Arc<Unit>)> {
        match u8::try_from(lun.number()?).ok()? {
            0 => Some((0, &self.system)),
            number => {
                let (lun, unit) = self.data.iter().find(|(known, _)| *known == number)?;
                Some((*lun, unit))
            }
        }
    }

    /// The numbers, lowest first.
    pub(crate) fn luns(&self) -> &[u8] {
        &self.luns
    }

    /// The versions that are served without an overlay: number, version, size in bytes.
    pub(crate) fn shared(&self) -> impl Iterator<Item = (u8, VersionRef, u64)> {
        self.shared.iter().filter_map(|&(lun, version)| {
            let (_, unit) = self.data.iter().find(|(known, _)| *known == lun)?;
            Some((lun, version, unit.description.capacity_bytes()))
        })
    }

    /// All of them with their numbers, the system disk first.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u8, &Arc<Unit>)> {
        let data = self.data.iter().map(|(lun, unit)| (*lun, unit));
        std::iter::once((0, &self.system)).chain(data)
    }
}
