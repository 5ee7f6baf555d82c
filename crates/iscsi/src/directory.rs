//! What a login asks the engine: who may reach which target, and with which secrets.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::event::InitiatorFamily;
use crate::login::LoginStatus;

/// Kind of session that a login asks for (RFC 7143 §13.21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionType {
    /// Full SCSI access to one target.
    Normal,
    /// Only asks for target names.
    Discovery,
}

/// Who logs in, by its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginIdentity {
    /// InitiatorName.
    pub initiator_name: String,
    /// TargetName; none in a discovery session.
    pub target_name: Option<String>,
    /// SessionType.
    pub session_type: SessionType,
    /// The initiator's address.
    pub peer: IpAddr,
    /// Our address and port that it reached.
    pub portal: SocketAddr,
}

/// One name and secret for CHAP (RFC 1994).
#[derive(Clone, PartialEq, Eq)]
pub struct ChapSecret {
    /// CHAP_N.
    pub user: String,
    /// The shared secret.
    pub secret: Vec<u8>,
}

impl fmt::Debug for ChapSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChapSecret")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// How an initiator proves itself, and the target to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChapCredentials {
    /// What the initiator must know.
    pub initiator: ChapSecret,
    /// What the target answers an initiator that asks for mutual CHAP; it must differ from the
    /// initiator's secret. None refuses mutual CHAP.
    pub target: Option<ChapSecret>,
}

/// A login that may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// CHAP, if it is required.
    pub chap: Option<ChapCredentials>,
    /// Handed back in [`LoggedIn`](crate::LoggedIn), for the engine's own use.
    pub cookie: u64,
}

/// One target and where to reach it, for SendTargets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetPortals {
    /// TargetName.
    pub target_name: String,
    /// Its portals; all in the portal group of the connection.
    pub portals: Vec<SocketAddr>,
}

/// Pure look-ups that the engine answers from the site snapshot.
pub trait TargetDirectory {
    /// Whether the login may go on, asked once per login before authentication.
    ///
    /// # Errors
    /// The status with which the login is refused.
    fn access(&self, identity: &LoginIdentity) -> Result<Access, LoginStatus>;

    /// Whether an initiator that was let in so far, and proved itself if it had to, may enter full feature
    /// phase; asked when its last offers tell whose software it is.
    ///
    /// # Errors
    /// The status with which the login is refused.
    fn admit(
        &self,
        _identity: &LoginIdentity,
        _family: InitiatorFamily,
    ) -> Result<(), LoginStatus> {
        Ok(())
    }

    /// The targets that this initiator may see, each with the portals that it can reach, asked by SendTargets.
    fn discover(&self, identity: &LoginIdentity) -> Vec<TargetPortals>;
}
