//! Why, and what was seen: keys of the catalog with their values, never sentences.

use std::net::IpAddr;
use std::net::Ipv4Addr;

use dess_model::{ClientId, MacAddr, PoolLevel, VersionRef};
use serde::{Deserialize, Serialize};

/// Why something is wrong. Each is a phrase of the catalog in both languages.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// E11: the service does not run.
    ServiceDown {
        /// Its name, e.g. `iscsi`.
        service: String,
    },
    /// E11: it comes back and crashes again.
    ServiceCrashes {
        /// Its name.
        service: String,
        /// How often within some minutes.
        times: u32,
    },
    /// E11: it runs and does not work.
    ServiceFails {
        /// Its name.
        service: String,
    },
    /// E11: a PC found nobody at the disk service's port.
    ServiceRefuses {
        /// Its name.
        service: String,
    },
    /// E12: sent, and never acknowledged.
    BootFileUnanswered {
        /// File asked for.
        file: String,
    },
    /// E13: there is no such file.
    BootFileMissing {
        /// File asked for.
        file: String,
    },
    /// E21: the server's storage fails.
    StorageFails,
    /// E21: the server's storage does not keep up.
    StorageSlow {
        /// Mean time of a read in milliseconds.
        read_ms: u64,
    },
    /// E22: nothing on the disk starts.
    DiskEmpty,
    /// E22: there is no disk for the PC.
    DiskMissing,
    /// E22: the disk could not be made ready.
    DiskFailed,
    /// E22, for several seats: the version has nothing on it that starts.
    VersionNotBootable {
        /// How many seats.
        seats: usize,
    },
    /// E23: the PC lost its link while it started.
    LinkLost,
    /// E23: iPXE cannot reach the server.
    ServerUnreachable,
    /// E23: the server's own network card has no link.
    CarrierLost {
        /// The interface.
        interface: String,
    },
    /// E24: it starts over before its operating system is up.
    RebootLoop {
        /// How often in a row.
        times: usize,
    },
    /// E24, for several seats: the version does not come up.
    VersionLoops {
        /// How many seats.
        seats: usize,
    },
    /// E25: it fetches boot loaders only.
    ChainLoop {
        /// How often in a row.
        times: usize,
    },
    /// E26: the loader was fetched and does nothing.
    LoaderRefused {
        /// File fetched.
        file: String,
        /// True for UEFI firmware, where Secure Boot may be the reason.
        uefi: bool,
    },
    /// E27: offers are taken by nobody.
    OffersIgnored {
        /// How many.
        times: u32,
    },
    /// E28: wrong name or secret.
    LoginRefused {
        /// Address that it came from.
        peer: IpAddr,
    },
    /// E31: another address than the reserved one.
    ForeignAddress,
    /// E32: somebody else uses the address.
    AddressTaken {
        /// The address.
        address: Ipv4Addr,
        /// Who, if known.
        by: Option<MacAddr>,
    },
    /// E33: no address is left.
    NoAddress {
        /// The network.
        network: String,
    },
    /// E51: the space for writes.
    PoolFills {
        /// How far.
        level: PoolLevel,
        /// Percent in use.
        used_percent: u8,
    },
    /// E52: a foreign server.
    RogueDhcp {
        /// Its address.
        server: Ipv4Addr,
        /// Its network card, if known.
        mac: Option<MacAddr>,
        /// Where it was heard.
        interface: String,
    },
    /// E61: packets are lost.
    PacketsLost {
        /// Thousandths of what was sent.
        permille: u64,
    },
    /// E62: slower than the others.
    BootSlow {
        /// Its last boot in milliseconds.
        boot_ms: u64,
        /// The others' median in milliseconds.
        others_ms: u64,
    },
}

/// Something that was seen. Each is a phrase of the catalog in both languages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// A service ended; how, in English, as the system says it.
    ServiceEnded {
        /// E.g. `was killed by SIGKILL`.
        how: String,
    },
    /// A probe of a service failed; why, in English.
    ProbeFailed {
        /// E.g. `no offer within 2 s`.
        why: String,
    },
    /// iPXE reported an error.
    IpxeError {
        /// Its number, e.g. `0x1d852039`.
        errno: String,
    },
    /// A session with the disk ended after so many reads.
    FewReads {
        /// How many.
        reads: u64,
    },
    /// A command of the disk failed; why, in English.
    DiskError {
        /// What the store said.
        message: String,
        /// How often it was reported.
        times: u64,
    },
    /// Segments were sent again and nothing came back.
    Retransmits {
        /// How many.
        times: u32,
    },
    /// Nothing was heard for so long.
    Silence {
        /// Seconds.
        secs: u64,
    },
    /// It powered on.
    PowerOn,
    /// A boot loader was fetched.
    LoaderFetched {
        /// Which.
        file: String,
    },
    /// A login was refused.
    LoginStatus {
        /// Login status class and detail (RFC 7143 §11.13.5).
        status: u16,
        /// The name that the initiator gave.
        initiator: String,
    },
    /// A client moves much.
    Talker {
        /// Which.
        client: ClientId,
        /// Bytes per second.
        bytes_per_sec: u64,
    },
    /// A seat has the same fault.
    SeatToo {
        /// Which.
        client: ClientId,
    },
    /// The version that is booted.
    Version {
        /// Which.
        version: VersionRef,
    },
}
