//! The moment at which a login becomes a session.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use dess_iscsi::{Charge, InitiatorFamily, LoggedIn as Login};
use dess_model::{DiskId, EventKind, LoginKind, SessionEnd, Timestamp};

use super::{ConnectionTask, DISCOVERY_MAX, LoggedIn};
use crate::boot_profiles::Recording;
use crate::control::client_of;
use crate::engine::Units;
use crate::power;
use crate::probe::is_probe_target;
use crate::sessions::{InitiatorPort, Opening};
use crate::site::{Site, UnitError, chain};

impl ConnectionTask {
    /// Opens the session: an older one of the same initiator port ends first, with all of its
    /// commands (RFC 7143 §6.3.5), so that no write of it lands after one of the new session.
    pub(super) async fn log_in(&mut self, login: Login) {
        let Some(target) = login.identity.target_name.clone() else {
            // A discovery session needs no disk.
            self.expires = Some(Instant::now() + DISCOVERY_MAX);
            return;
        };
        let client = self.service.site.client_of(&target);
        let opening = Opening {
            tsih: self.tsih,
            client,
            account: self.service.accounts.open(client),
            port: InitiatorPort {
                name: login.identity.initiator_name.clone(),
                isid: login.isid,
            },
            kind: match login.family.is_firmware() {
                true => LoginKind::Firmware,
                false => LoginKind::Os,
            },
            peer: self.peer,
            logged: self.may_log(&target),
            target,
        };
        let begins = self.begins_boot(&opening).await;
        let gate = self.service.gate(&opening.target);
        // Those who wait here are half open still, so that no client holds all places by them.
        let _entered = tokio::select! {
            entered = gate.lock() => entered,
            () = self.place.gives_way() => {
                self.end = Some(SessionEnd::Closed);
                return;
            }
        };
        self.place.logged_in();
        let units = match self.take_over(&opening, begins).await {
            Ok(units) => units,
            Err(error) => {
                self.report_unusable(&opening, &error);
                self.end = Some(SessionEnd::Closed);
                return;
            }
        };
        self.begin_session(opening, units, login.family);
    }

    /// The session is open from here on.
    fn begin_session(&mut self, opening: Opening, units: Arc<Units>, family: InitiatorFamily) {
        let now = Timestamp::now();
        let disk = self.disk_of(&opening);
        let orders = self.orders_sender.clone();
        let session = self
            .service
            .sessions
            .open(opening, units.luns(), now, orders);
        if let Some(others) = session.logged {
            tracing::info!(
                session.id,
                session.initiator = session.port.name,
                session.target,
                session.kind = ?session.kind,
                login.family = ?family,
                session.others_not_logged = others,
                "session of {} opened",
                self.peer
            );
        }
        let memory = &session.account.memory;
        self.connection.set_memory(Arc::clone(memory));
        self.memory = Charge::new(Arc::clone(memory));
        if let Some(client) = session.client {
            self.service.report(EventKind::Login {
                client,
                kind: session.kind,
                peer: self.peer.ip().to_canonical(),
                session: session.id,
            });
        }
        let recording = disk.and_then(|disk| self.recording_of(disk, session.kind));
        self.logged_in = Some(LoggedIn {
            session,
            units,
            recording,
        });
    }

    /// Whether the session that begins is logged, as [`SessionLog::record`](crate::session_log::SessionLog::record) says.
    fn may_log(&self, target: &str) -> Option<u64> {
        if is_probe_target(target) {
            return None;
        }
        let log = &self.service.session_log;
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.record(Instant::now(), self.peer.ip().to_canonical())
    }

    /// True if firmware that fetches no script (UEFI's own initiator) logs in for a new boot.
    async fn begins_boot(&self, opening: &Opening) -> bool {
        let (Some(client), Some(disk)) = (opening.client, self.disk_of(opening)) else {
            return false;
        };
        let Site::Room(room) = self.service.site.as_ref() else {
            return false;
        };
        opening.kind == LoginKind::Firmware
            && room.boots.begins_with_login(disk, Instant::now())
            && power::running(&self.service, client, disk, opening.peer.ip()).await == 0
    }

    fn recording_of(&self, disk: DiskId, kind: LoginKind) -> Option<Arc<Recording>> {
        let recording = self.service.profiles()?.recording(disk)?;
        if kind == LoginKind::Os {
            recording.system_logged_in();
        }
        Some(recording)
    }

    fn disk_of(&self, opening: &Opening) -> Option<DiskId> {
        match self.service.site.as_ref() {
            Site::Room(room) => {
                let snapshot = room.snapshots.current()?;
                let client = snapshot.client_by_target(&opening.target)?;
                Some(client.disk.id)
            }
            Site::Single(_) => None,
        }
    }

    /// Makes the disk ready, unless another session of the same boot has done it meanwhile.
    async fn power_on(&self, opening: &Opening) -> Result<(), UnitError> {
        let (Site::Room(room), Some(client)) = (self.service.site.as_ref(), opening.client) else {
            return Ok(());
        };
        let (snapshot, entry) = client_of(room, client)?;
        if room.boots.begins_with_login(entry.disk.id, Instant::now()) {
            power::make_ready(&self.service, &snapshot, &entry)
                .await
                .map_err(UnitError::PowerOn)?;
        }
        Ok(())
    }

    /// Ends the older session of the same initiator port, then opens the disk. The caller holds
    /// the target's gate.
    async fn take_over(&self, opening: &Opening, begins: bool) -> Result<Arc<Units>, UnitError> {
        if begins {
            self.power_on(opening).await?;
        }
        self.service
            .sessions
            .end(SessionEnd::Reinstated, |old| {
                old.target == opening.target && old.port == opening.port
            })
            .await?;
        let units = self.service.units(&opening.target, opening.kind).await?;
        if let (Site::Room(room), Some(disk)) = (self.service.site.as_ref(), self.disk_of(opening))
        {
            let firmware = opening.kind == LoginKind::Firmware;
            let peer = opening.peer.ip().to_canonical();
            room.boots.logged_in(disk, firmware, peer);
            if !firmware {
                room.returning.arrived(disk);
            }
        }
        Ok(units)
    }

    fn report_unusable(&self, opening: &Opening, error: &UnitError) {
        tracing::error!(
            error = error as &dyn std::error::Error,
            session.target = opening.target,
            "cannot open the disk for {}; the connection is closed",
            self.peer
        );
        if let Some(client) = opening.client {
            let message = chain(error);
            self.service
                .report(EventKind::DiskError { client, message });
        }
    }
}
