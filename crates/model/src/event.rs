//! What the services tell `node` about each step of a boot.
//!
//! One event is one Unix datagram of JSON ([`host::EventSender`](crate::host::EventSender)).

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{Architecture, ClientId, MacAddr, Timestamp};

/// Who speaks DHCP at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DhcpPhase {
    /// The PC's PXE or HTTP boot firmware.
    Firmware,
    /// iPXE, from ROM or chain-loaded.
    Ipxe,
    /// The operating system (no PXE and no iPXE marks).
    Os,
}

/// Whose iSCSI login it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LoginKind {
    /// iPXE or UEFI firmware.
    Firmware,
    /// The operating system's initiator.
    Os,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// The initiator sent a Logout Request.
    Logout,
    /// The peer closed or reset the connection.
    Closed,
    /// The same initiator logged in again (RFC 7143 §6.3.5).
    Reinstated,
    /// The peer no longer answered (TCP keep-alive or user time-out).
    Dead,
    /// The client powered on anew.
    PowerOn,
    /// The operator reset or removed the client.
    Administrative,
    /// An initiator had its whole target reset (TARGET COLD RESET, RFC 7143 §11.5.1).
    TargetReset,
    /// The service stops.
    Shutdown,
    /// The peer broke the protocol.
    Protocol,
}

/// Stage of a boot at which something failed, as iPXE reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootStage {
    /// Getting the script.
    Script,
    /// Attaching or booting the iSCSI disk.
    Sanboot,
}

/// Why a client did not get its boot file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TftpFailure {
    /// There is no such file, or it is not served.
    Refused,
    /// The client stopped answering, or never did.
    Silent,
    /// The client ended it, or this side gave up.
    Ended,
}

/// One step that a service saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When the service saw it.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The steps themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// A DISCOVER of a client that nobody registered; `node` registers it by policy.
    UnknownClient {
        /// Its network card.
        mac: MacAddr,
        /// Its firmware.
        architecture: Option<Architecture>,
        /// SMBIOS UUID (option 97), as hexadecimal digits.
        uuid: Option<String>,
        /// The address that it was offered, if any.
        address: Option<Ipv4Addr>,
    },
    /// An address and boot information were offered (or boot information alone, as proxy).
    DhcpOffer {
        /// The client's network card.
        mac: MacAddr,
        /// Who asked.
        phase: DhcpPhase,
        /// Address offered; none as proxy.
        address: Option<Ipv4Addr>,
        /// Firmware kind.
        architecture: Option<Architecture>,
        /// Boot file or URL sent.
        boot_file: Option<String>,
    },
    /// A lease was given or renewed (or boot information acknowledged, as proxy).
    DhcpAck {
        /// The client's network card.
        mac: MacAddr,
        /// Who asked.
        phase: DhcpPhase,
        /// The address; none as proxy.
        address: Option<Ipv4Addr>,
        /// True for a renewal of a lease that the client already uses.
        renewal: bool,
    },
    /// A DHCP server that is not ours made an offer.
    RogueDhcp {
        /// Its server identifier (option 54).
        server: Ipv4Addr,
        /// Its network card, when known.
        mac: Option<MacAddr>,
        /// The interface on which it was heard.
        interface: String,
    },
    /// A machine uses an address that is not its own: a client declined it, or a probe found it.
    AddressConflict {
        /// The address.
        address: Ipv4Addr,
        /// The client that found out; none if it was a probe.
        found_by: Option<MacAddr>,
        /// Who uses it, if known.
        used_by: Option<MacAddr>,
    },
    /// No address was left to offer; at most one event per network and minute.
    NoFreeAddress {
        /// The client that asked.
        mac: MacAddr,
        /// The network, e.g. `192.168.0.0/24`.
        network: String,
    },
    /// A TFTP transfer ended. A firmware's size probe is not reported.
    TftpTransfer {
        /// The client's address.
        peer: IpAddr,
        /// File asked for.
        file: String,
        /// Bytes acknowledged.
        bytes: u64,
        /// Duration in milliseconds.
        duration_ms: u64,
        /// Why it failed; none if it was complete.
        error: Option<String>,
        /// The kind of failure; none if it was complete, or an older release tells.
        #[serde(default)]
        failure: Option<TftpFailure>,
    },
    /// A boot file went out over HTTP.
    HttpFile {
        /// The client's address.
        peer: IpAddr,
        /// File asked for.
        file: String,
        /// Bytes sent.
        bytes: u64,
    },
    /// The boot script was answered.
    Script {
        /// The client's network card.
        mac: MacAddr,
        /// True if it names a disk; false for a waiting or error screen.
        bootable: bool,
        /// DESS code shown to the person in front of the PC, for a script that boots nothing.
        code: Option<String>,
    },
    /// The client powered on and its disk is ready.
    DiskReady {
        /// The client.
        client: ClientId,
        /// True if a fresh overlay was made.
        fresh: bool,
        /// How long it took, in microseconds.
        duration_us: u64,
    },
    /// iPXE reported a failure.
    BootFailure {
        /// The client's network card.
        mac: MacAddr,
        /// Where.
        stage: BootStage,
        /// iPXE's error number, e.g. `0x2c0d603b`.
        errno: String,
    },
    /// An iSCSI login reached full feature phase.
    Login {
        /// The client.
        client: ClientId,
        /// Who logged in.
        kind: LoginKind,
        /// The initiator's address.
        peer: IpAddr,
        /// Names the session until its end; not reused while the service runs.
        session: u64,
    },
    /// An iSCSI login was refused.
    LoginRefused {
        /// The client whose target was asked for, if there is one.
        client: Option<ClientId>,
        /// The initiator's address.
        peer: IpAddr,
        /// The initiator's name.
        initiator: String,
        /// Login status class and detail (RFC 7143 §11.13.5), e.g. 0x0201.
        status: u16,
    },
    /// A session's counters, now and then while it works.
    SessionProgress {
        /// The client.
        client: ClientId,
        /// The session.
        session: u64,
        /// Bytes read since the login.
        read_bytes: u64,
        /// Bytes written since the login.
        written_bytes: u64,
        /// Read commands since the login.
        reads: u64,
        /// Write commands since the login.
        writes: u64,
    },
    /// A session ended.
    SessionEnded {
        /// The client.
        client: ClientId,
        /// The session.
        session: u64,
        /// Why.
        reason: SessionEnd,
        /// Bytes read in all.
        read_bytes: u64,
        /// Bytes written in all.
        written_bytes: u64,
        /// Read commands in all.
        reads: u64,
    },
    /// A read or write failed in the store.
    DiskError {
        /// The client.
        client: ClientId,
        /// What failed, for people.
        message: String,
    },
    /// Malformed input, counted; at most one event per peer and minute.
    Malformed {
        /// The protocol, e.g. `dhcp`.
        protocol: String,
        /// Sender, as address or MAC.
        peer: String,
        /// What was wrong with the first one.
        reason: String,
        /// How many since the last event.
        count: u64,
    },
}
