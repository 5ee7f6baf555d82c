//! The moment at which a login becomes a session.

use std::sync::Arc;
use std::time::Instant;

use dess_iscsi::LoggedIn as Login;
use dess_model::{EventKind, LoginKind, SessionEnd, Timestamp};

use super::{ConnectionTask, DISCOVERY_MAX, LoggedIn};
use crate::engine::Unit;
use crate::sessions::{InitiatorPort, Opening};
use crate::site::{UnitError, chain};

impl ConnectionTask {
    /// Opens the session: an older one of the same initiator port ends first, with all of its
    /// commands (RFC 7143 §6.3.5), so that no write of it lands after one of the new session.
    pub(super) async fn log_in(&mut self, login: Login) {
        let Some(target) = login.identity.target_name.clone() else {
            // A discovery session needs no disk.
            self.expires = Some(Instant::now() + DISCOVERY_MAX);
            return;
        };
        self.place.logged_in();
        let opening = Opening {
            tsih: self.tsih,
            client: self.service.site.client_of(&target),
            port: InitiatorPort {
                name: login.identity.initiator_name.clone(),
                isid: login.isid,
            },
            target,
            kind: match login.family.is_firmware() {
                true => LoginKind::Firmware,
                false => LoginKind::Os,
            },
            peer: self.peer,
        };
        let gate = self.service.gate(&opening.target);
        let _entered = gate.lock().await;
        let unit = match self.take_over(&opening).await {
            Ok(unit) => unit,
            Err(error) => {
                self.report_unusable(&opening, &error);
                self.end = Some(SessionEnd::Closed);
                return;
            }
        };
        let now = Timestamp::now();
        let orders = self.orders_sender.clone();
        let session = self.service.sessions.open(opening, now, orders);
        tracing::info!(
            session.id,
            session.initiator = session.port.name,
            session.target,
            session.kind = ?session.kind,
            login.family = ?login.family,
            "session of {} opened",
            self.peer
        );
        if let Some(client) = session.client {
            self.service.report(EventKind::Login {
                client,
                kind: session.kind,
                peer: self.peer.ip().to_canonical(),
                session: session.id,
            });
        }
        self.logged_in = Some(LoggedIn { session, unit });
    }

    /// Ends the older session of the same initiator port, then opens the disk.
    async fn take_over(&self, opening: &Opening) -> Result<Arc<Unit>, UnitError> {
        self.service
            .sessions
            .end(SessionEnd::Reinstated, |old| {
                old.target == opening.target && old.port == opening.port
            })
            .await?;
        self.service.unit(&opening.target).await
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
