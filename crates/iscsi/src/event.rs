//! What a connection tells the engine.

use crate::command::{ScsiCommand, TaskManagementRequest};
use crate::connection::ProtocolError;
use crate::directory::{LoginIdentity, SessionType};
use crate::login::LoginStatus;
use crate::negotiation::SessionParameters;

/// One thing that happened.
#[derive(Debug)]
pub enum Event {
    /// The login reached full feature phase; commands may follow.
    LoggedIn(Box<LoggedIn>),
    /// The login was refused; [`Closed`](Event::Closed) follows.
    LoginRefused(Box<LoginRefused>),
    /// A SCSI command with all its data.
    Command(ScsiCommand),
    /// A task management request.
    TaskManagement(TaskManagementRequest),
    /// The last event: send what is queued, then close the socket. Tasks that are not completed
    /// are void.
    Closed(CloseReason),
}

/// A login that succeeded.
#[derive(Clone, Debug)]
pub struct LoggedIn {
    /// Who.
    pub identity: LoginIdentity,
    /// The initiator's part of the session identifier. An older session with the same initiator
    /// name, target and ISID is replaced by this one (RFC 7143 §6.3.5): the engine closes it with
    /// [`Connection::close`](crate::Connection::close) before it sends anything here.
    pub isid: [u8; 6],
    /// Our part of the session identifier.
    pub tsih: u16,
    /// From [`Access`](crate::Access).
    pub cookie: u64,
    /// The initiator proved itself by CHAP.
    pub authenticated: bool,
    /// Whose software it is, by its habits.
    pub family: InitiatorFamily,
    /// What was negotiated.
    pub parameters: SessionParameters,
}

impl LoggedIn {
    /// A session that only asks for target names.
    pub fn is_discovery(&self) -> bool {
        self.identity.session_type == SessionType::Discovery
    }
}

/// Initiators that are told apart by ISID and offered keys. A guess: nothing that must be kept safe from
/// an initiator that lies may depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitiatorFamily {
    /// iPXE; closes the connection on any PDU that it does not know.
    Ipxe,
    /// UEFI firmware (EDK2 IScsiDxe).
    Edk2,
    /// Linux: open-iscsi and iscsistart.
    OpenIscsi,
    /// Microsoft's initiator.
    Microsoft,
    /// libiscsi, e.g. in QEMU and test tools.
    Libiscsi,
    /// Anything else.
    Other,
}

impl InitiatorFamily {
    /// Firmware rather than an operating system.
    pub fn is_firmware(self) -> bool {
        matches!(self, Self::Ipxe | Self::Edk2)
    }

    /// Reject and Async Message PDUs may be sent to it.
    pub(crate) fn understands_reject(self) -> bool {
        !self.is_firmware()
    }
}

/// A login that was refused.
#[derive(Clone, Debug)]
pub struct LoginRefused {
    /// Who, as far as it got.
    pub identity: Option<LoginIdentity>,
    /// What it was told.
    pub status: LoginStatus,
}

/// Why a connection ends.
#[derive(Debug)]
pub enum CloseReason {
    /// The initiator logged out.
    Logout,
    /// The login was refused.
    LoginRefused(LoginStatus),
    /// The peer broke the protocol.
    Protocol(ProtocolError),
    /// The login took too long.
    LoginTimeout,
    /// A target-initiated ping was not answered (only if pings are configured).
    PingTimeout,
    /// The engine asked for it.
    Requested,
}
