//! From when on something is a fault. Each number with its reason; none is anywhere else.

/// A service that is not ready for so long is down. The supervisor starts a crashed one again
/// within a second, and the room is to hear of a real outage within three.
pub(crate) const SERVICE_DOWN_MS: u64 = 1_500;
/// One that is starting, and has not crashed, may take so long: iSCSI reads its maps.
pub(crate) const SERVICE_START_MS: u64 = 20_000;
/// Crashes within [`CRASHES_WITHIN_MS`] that are a fault although the service always comes back.
pub(crate) const CRASHES_MAX: u32 = 3;
/// See [`CRASHES_MAX`].
pub(crate) const CRASHES_WITHIN_MS: u64 = 5 * 60 * 1000;

/// A firmware's session that read at most so many times and ended found nothing to start: an
/// empty disk is read three times (`LBA 0x40`, twice `LBA 0`). A boot loader reads dozens.
pub(crate) const EMPTY_READS_MAX: u64 = 10;
/// So long after its end the firmware has not come back. BIOS clients log in again after 2 ms.
pub(crate) const EMPTY_AFTER_MS: u64 = 5_000;

/// After a boot script iPXE logs in within a second; it gives up an unreachable portal after 21 s
/// and says so. Silent for so long, it lost its link or its power.
pub(crate) const SCRIPT_SILENCE_MS: u64 = 15_000;
/// Segments sent again between two looks (5 s apart) at a session that asks for nothing meanwhile:
/// TCP sends the same one after 0.2, 0.6, 1.4, 3 and 6.2 s. A loss that TCP heals needs one or two.
pub(crate) const STALL_RETRANSMITS: u32 = 3;
/// A session without a command for so long, with segments sent again, is cut off.
pub(crate) const STALL_MS: u64 = 5_000;

/// Power-ons in a row, the present one included, that make a loop.
pub(crate) const LOOP_BOOTS: usize = 3;
/// Within this time; Windows takes about two minutes to its blue screen on slow machines.
pub(crate) const LOOP_WITHIN_MS: u64 = 15 * 60 * 1000;
/// The same for a PC that only fetches boot loaders: a turn takes 21 to 26 s.
pub(crate) const CHAIN_WITHIN_MS: u64 = 5 * 60 * 1000;
/// Seats on one version that fail alike, before the version is blamed and not the seats.
pub(crate) const VERSION_SEATS: usize = 2;

/// A boot loader that was fetched whole asks for an address within 3 s, on slow virtual machines
/// within 15.
pub(crate) const LOADER_SILENCE_MS: u64 = 30_000;

/// Unanswered offers of one boot: firmware repeats after 1, 3, 7 s (iPXE) or 4, 12, 29 s (EDK2).
pub(crate) const OFFERS_IGNORED: u32 = 4;
/// They are spread over at least so long; a relay may send one DISCOVER several times at once.
pub(crate) const OFFERS_WITHIN_MS: u64 = 6_000;

/// A disk error is over when none was seen for so long.
pub(crate) const DISK_QUIET_MS: u64 = 10 * 60 * 1000;
/// A machine that took a foreign address mostly stays for a while.
pub(crate) const CONFLICT_QUIET_MS: u64 = 30 * 60 * 1000;
/// A PC without an address asks again within a minute.
pub(crate) const NO_ADDRESS_QUIET_MS: u64 = 5 * 60 * 1000;
/// A foreign DHCP server is reported once a minute while PCs boot, and is asked by nobody else.
pub(crate) const ROGUE_QUIET_MS: u64 = 10 * 60 * 1000;
/// A link that lost packets and no longer does.
pub(crate) const LINK_QUIET_MS: u64 = 10 * 60 * 1000;

/// Mean time of a read between two looks from which on clients feel it; a hard disk needs 10 ms.
pub(crate) const READ_SLOW_US: u64 = 250_000;
/// Reads between two looks for a mean to mean anything.
pub(crate) const READS_MIN: u64 = 20;
/// Looks in a row over the limit: 5 s apart, so that it is told within 10 s.
pub(crate) const READ_SLOW_LOOKS: u32 = 2;
/// Clients named as the ones that move most.
pub(crate) const TALKERS_MAX: usize = 3;

/// Share of the segments sent again that no healthy cable needs, in thousandths.
pub(crate) const LOSS_PERMILLE: u64 = 20;
/// Least of them between two looks.
pub(crate) const LOSS_SEGMENTS_MIN: u32 = 20;
/// Bytes in a full segment on Ethernet.
pub(crate) const SEGMENT_BYTES: u64 = 1_448;

/// A seat is slow from so many times the others' median boot on.
pub(crate) const SLOW_TIMES: u64 = 2;
/// And by at least so much: a few seconds are no matter.
pub(crate) const SLOW_BY_MS: u64 = 15_000;
/// In so many boots in a row.
pub(crate) const SLOW_BOOTS: usize = 2;
/// Other seats on the same version that it takes for a median.
pub(crate) const SLOW_OTHERS: usize = 4;

/// Boots of a seat that are kept in mind.
pub(crate) const BOOTS_KEPT: usize = 6;
/// Foreign servers, conflicts and the like that are kept in mind, each: peers can invent them.
pub(crate) const SIGNALS_MAX: usize = 64;
/// Facts kept with a case: the first and the newest.
pub(crate) const EVIDENCE_MAX: usize = 16;
