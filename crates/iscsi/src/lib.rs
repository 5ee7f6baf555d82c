//! RFC 7143: PDUs, login and text negotiation, sessions, as values.
//!
//! The target side of iSCSI without sockets, clocks or disks: a [`Connection`] takes the bytes of
//! one TCP connection and gives [`Event`]s (SCSI commands, task management, the end), takes the
//! answers of the disk and gives bytes to send. One session has one connection and error recovery
//! level 0, which is what every boot initiator uses.
//!
//! Read in this order: [`pdu`] (what is on the wire), [`text`] and [`negotiation`] (keys),
//! [`chap`], [`login`], then [`connection`].

pub mod budget;
pub mod chap;
pub mod command;
pub mod connection;
pub mod directory;
pub mod event;
pub mod login;
pub mod negotiation;
pub mod pdu;
pub mod text;

pub use budget::{Budget, Charge};
pub use command::{
    Lun, ScsiCommand, ScsiResponse, TaskAttribute, TaskFunction, TaskId, TaskManagementRequest,
    TaskManagementResponse,
};
pub use connection::{Connection, ConnectionConfig, Limits};
pub use directory::{
    Access, ChapCredentials, ChapSecret, LoginIdentity, SessionType, TargetDirectory, TargetPortals,
};
pub use event::{CloseReason, Event, InitiatorFamily, LoggedIn, LoginRefused};
pub use login::LoginStatus;
