//! What clients move, from look to look at the iSCSI service's counters.

use std::collections::HashMap;

use dess_model::{ClientCounters, ClientId, LoginKind, SessionStatus, Timestamp};

use crate::case::limits::{
    LINK_QUIET_MS, LOSS_PERMILLE, LOSS_SEGMENTS_MIN, READ_SLOW_US, READS_MIN, SEGMENT_BYTES,
    STALL_MS, STALL_RETRANSMITS, TALKERS_MAX,
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    at: Option<Timestamp>,
    sessions: HashMap<u64, SessionStatus>,
    counters: HashMap<ClientId, ClientCounters>,
    /// Sessions that ask for nothing while segments are sent again: since when, how many.
    pub(crate) stalled: HashMap<ClientId, (Timestamp, u32)>,
    /// Links that lose packets: last seen, thousandths.
    pub(crate) lossy: HashMap<ClientId, (Timestamp, u64)>,
    /// Looks in a row at which reads were slow, since when, and the last mean in microseconds.
    pub(crate) slow: Option<(u32, Timestamp, u64)>,
    /// Who moved most since the look before, in bytes per second.
    pub(crate) talkers: Vec<(ClientId, u64)>,
}

impl Traffic {
    /// When the last look was; none before the first.
    pub(crate) fn looked_at(&self) -> Option<Timestamp> {
        self.at
    }

    pub(super) fn observe(
        &mut self,
        now: Timestamp,
        sessions: &[SessionStatus],
        counters: &[ClientCounters],
    ) {
        let elapsed_ms = self.at.map_or(0, |at| now.millis_since(at));
        self.links(now, sessions);
        if elapsed_ms > 0 {
            self.reads(now, counters, elapsed_ms);
        }
        self.sessions = sessions
            .iter()
            .map(|session| (session.session, session.clone()))
            .collect();
        self.counters = counters
            .iter()
            .map(|counted| (counted.client, counted.clone()))
            .collect();
        self.at = Some(now);
    }

    /// Segments that were sent again since the look before.
    fn links(&mut self, now: Timestamp, sessions: &[SessionStatus]) {
        let mut stalled = HashMap::new();
        self.lossy
            .retain(|_, (seen, _)| now.millis_since(*seen) < LINK_QUIET_MS);
        for session in sessions {
            let Some((tcp, before)) = session.tcp.zip(self.sessions.get(&session.session)) else {
                continue;
            };
            let Some(tcp_before) = before.tcp.filter(|_| before.since == session.since) else {
                continue;
            };
            let again = tcp.retransmits.saturating_sub(tcp_before.retransmits);
            let idle = now.millis_since(session.last_command) >= STALL_MS;
            let was = self.stalled.get(&session.client);
            if session.kind == LoginKind::Firmware && idle {
                if again >= STALL_RETRANSMITS {
                    let (since, times) = was.copied().unwrap_or((session.last_command, 0));
                    stalled.insert(session.client, (since, times + again));
                } else if let Some(was) =
                    was.filter(|_| session.last_command == before.last_command)
                {
                    // TCP waits longer from try to try.
                    stalled.insert(session.client, *was);
                }
            }
            let sent = session.read_bytes.saturating_sub(before.read_bytes) / SEGMENT_BYTES;
            let permille = u64::from(again) * 1000 / sent.max(1);
            if again >= LOSS_SEGMENTS_MIN && permille >= LOSS_PERMILLE {
                self.lossy.insert(session.client, (now, permille.min(1000)));
            }
        }
        self.stalled = stalled;
    }

    /// How long reads took since the look before, and who moved most.
    fn reads(&mut self, now: Timestamp, counters: &[ClientCounters], elapsed_ms: u64) {
        let (mut reads, mut total_us) = (0, 0);
        let mut moved = Vec::new();
        for counted in counters {
            let Some(before) = self.counters.get(&counted.client) else {
                continue;
            };
            let count = counted.read.count.saturating_sub(before.read.count);
            // The mean since the start is rounded; for few reads among many that is too coarse.
            if count > 0 && count >= counted.read.count / 1000 {
                let sum = |of: &ClientCounters| of.read.count.saturating_mul(of.read.mean_us);
                reads += count;
                total_us += sum(counted).saturating_sub(sum(before));
            }
            let bytes = |of: &ClientCounters| of.read.bytes.saturating_add(of.write.bytes);
            let grown = bytes(counted).saturating_sub(bytes(before));
            moved.push((counted.client, grown.saturating_mul(1000) / elapsed_ms));
        }
        moved.retain(|(_, rate)| *rate > 0);
        moved.sort_by_key(|(client, rate)| (std::cmp::Reverse(*rate), *client));
        moved.truncate(TALKERS_MAX);
        self.talkers = moved;
        let mean_us = total_us / reads.max(1);
        self.slow = (reads >= READS_MIN && mean_us >= READ_SLOW_US).then(|| match self.slow {
            Some((looks, since, _)) => (looks + 1, since, mean_us),
            None => (1, now, mean_us),
        });
    }
}
