//! The names with which a login starts (RFC 7143 §13.4, §13.5, §13.21).

use std::net::{IpAddr, SocketAddr};

use super::LoginStatus;
use crate::directory::{LoginIdentity, SessionType};

/// Longest iSCSI name in bytes (RFC 7143 §4.2.7.2).
const NAME_BYTES_MAX: usize = 223;

/// What the initiator declared so far.
#[derive(Debug, Default)]
pub(super) struct Declared {
    initiator_name: Option<String>,
    target_name: Option<String>,
    session_type: Option<SessionType>,
}

impl Declared {
    pub(super) fn is_known(key: &str) -> bool {
        matches!(key, "InitiatorName" | "TargetName" | "SessionType")
    }

    /// Keeps a declaration; other keys are left alone.
    ///
    /// # Errors
    /// If it contradicts an earlier one, or is impossible.
    // Seen: libiscsi declares its names again in the operational stage.
    pub(super) fn take(&mut self, key: &str, value: &str) -> Result<(), LoginStatus> {
        match key {
            "InitiatorName" => keep(&mut self.initiator_name, name(value)?),
            "TargetName" => keep(&mut self.target_name, name(value)?),
            "SessionType" => match value {
                "Normal" => keep(&mut self.session_type, SessionType::Normal),
                "Discovery" => keep(&mut self.session_type, SessionType::Discovery),
                _ => Err(LoginStatus::SessionTypeNotSupported),
            },
            _ => Ok(()),
        }
    }

    /// Who logs in to what.
    ///
    /// # Errors
    /// If a name that is needed is missing.
    pub(super) fn identity(
        &self,
        peer: IpAddr,
        portal: SocketAddr,
    ) -> Result<LoginIdentity, LoginStatus> {
        let session_type = self.session_type.unwrap_or(SessionType::Normal);
        let initiator_name = self.initiator_name.clone();
        let target_name = match session_type {
            SessionType::Normal => Some(
                self.target_name
                    .clone()
                    .ok_or(LoginStatus::MissingParameter)?,
            ),
            SessionType::Discovery => None,
        };
        Ok(LoginIdentity {
            initiator_name: initiator_name.ok_or(LoginStatus::MissingParameter)?,
            target_name,
            session_type,
            peer,
            portal,
        })
    }
}

fn name(value: &str) -> Result<String, LoginStatus> {
    if value.is_empty() || value.len() > NAME_BYTES_MAX {
        return Err(LoginStatus::InitiatorError);
    }
    Ok(value.to_owned())
}

fn keep<T: PartialEq>(slot: &mut Option<T>, value: T) -> Result<(), LoginStatus> {
    match slot {
        Some(kept) if *kept != value => Err(LoginStatus::InitiatorError),
        Some(_) => Ok(()),
        None => {
            *slot = Some(value);
            Ok(())
        }
    }
}
