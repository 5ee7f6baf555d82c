//! What waits to be written: changes of boot attempts, newcomers, notices, hardware.
//!
//! Changes of the same thing are merged, so that the queue is bounded by the room and not by how
//! long the database is away; and writing it twice does no harm, so that a transaction whose end
//! is unknown can be run again.

use std::collections::{BTreeMap, HashMap};

use dess_diagnosis::{Attempt, Case, Change, Step};
use dess_model::{Architecture, AttemptId, CaseId, MacAddr, Registration, Timestamp};
use dess_store::{ClientRecord, NoticeKind, Store, StoreError, Tx};
use serde_json::json;

use crate::case_record;
use crate::operations::audit;
use crate::registration::{Allowance, Newcomer, register};
use crate::timeline::{record_of, step_record_of};

/// Most boot attempts that wait; the oldest go first.
const ATTEMPTS_MAX: usize = 20_000;
/// Most newcomers, notices and hardware facts that wait, each; later ones are not taken.
const OTHERS_MAX: usize = 4096;

#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    attempts: BTreeMap<AttemptId, (Attempt, Vec<Step>)>,
    cases: BTreeMap<CaseId, Case>,
    newcomers: HashMap<MacAddr, Newcomer>,
    notices: HashMap<(NoticeKind, String), Notice>,
    architectures: HashMap<MacAddr, Architecture>,
    dropped: u64,
    allowance: Allowance,
}

/// Subject of the notice that newcomers wait for approval.
const REGISTRATION: &str = "registration";

#[derive(Clone, Debug)]
struct Notice {
    detail: String,
    times: u64,
    at: Timestamp,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.attempts.is_empty()
            && self.cases.is_empty()
            && self.newcomers.is_empty()
            && self.notices.is_empty()
            && self.architectures.is_empty()
    }

    pub(super) fn len(&self) -> u64 {
        let len = self.attempts.len()
            + self.cases.len()
            + self.newcomers.len()
            + self.notices.len()
            + self.architectures.len();
        u64::try_from(len).unwrap_or(u64::MAX)
    }

    pub(super) fn change(&mut self, change: Change) {
        let Change { attempt, mut steps } = change;
        let entry = self.attempts.entry(attempt.id);
        let (known, kept) = entry.or_insert_with(|| (attempt.clone(), Vec::new()));
        *known = attempt;
        kept.append(&mut steps);
        if self.attempts.len() > ATTEMPTS_MAX {
            self.attempts.pop_first();
            self.dropped += 1;
        }
    }

    /// Takes the present state of a case; the oldest go if there are too many.
    pub(super) fn case(&mut self, case: Case) {
        self.cases.insert(case.id, case);
        if self.cases.len() > OTHERS_MAX {
            self.cases.pop_first();
        }
    }

    /// Takes a newcomer. The services tell of it in turn; each may know something more.
    pub(super) fn newcomer(&mut self, newcomer: Newcomer) {
        if let Some(known) = self.newcomers.get_mut(&newcomer.mac) {
            known.architecture = known.architecture.or(newcomer.architecture);
            known.address = known.address.or(newcomer.address);
            known.uuid = known.uuid.take().or(newcomer.uuid);
        } else if self.newcomers.len() < OTHERS_MAX {
            self.newcomers.insert(newcomer.mac, newcomer);
        }
    }

    pub(super) fn architecture(&mut self, mac: MacAddr, architecture: Architecture) {
        if self.architectures.len() < OTHERS_MAX {
            self.architectures.insert(mac, architecture);
        }
    }

    pub(super) fn notice(
        &mut self,
        kind: NoticeKind,
        subject: String,
        detail: String,
        times: u64,
        at: Timestamp,
    ) {
        let full = self.notices.len() >= OTHERS_MAX;
        let key = (kind, subject);
        if full && !self.notices.contains_key(&key) {
            return;
        }
        let notice = self.notices.entry(key).or_insert_with(|| Notice {
            detail: String::new(),
            times: 0,
            at,
        });
        notice.detail = detail;
        notice.times = notice.times.saturating_add(times);
        notice.at = at;
    }

    /// Writes boot attempts and what belongs to them, in one transaction, and forgets them.
    ///
    /// What the database refuses for what it is, and not for how the database is, would be
    /// refused for ever and hold up all others: it is given up.
    pub(super) async fn write_boots(&mut self, store: &Store) -> Result<(), StoreError> {
        if self.dropped > 0 {
            tracing::warn!(
                attempts.dropped = self.dropped,
                "the database was away for so long that old boot attempts were given up"
            );
            self.dropped = 0;
        }
        let boots = &*self;
        match store.transact(|tx| boots.put(tx)).await {
            Err(error) if !is_hopeless(&error) => return Err(error),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                attempts.dropped = self.attempts.len(),
                "the database refuses boot events; they are given up"
            ),
            Ok(()) => {}
        }
        self.attempts.clear();
        self.cases.clear();
        self.notices.clear();
        self.architectures.clear();
        Ok(())
    }

    /// Registers newcomers in one transaction, after the attempts (a client adopts those of its
    /// network card); answers the new clients.
    pub(super) async fn write_newcomers(
        &mut self,
        store: &Store,
    ) -> Result<Vec<ClientRecord>, StoreError> {
        if self.newcomers.is_empty() {
            return Ok(Vec::new());
        }
        let now = Timestamp::now();
        let allowed = self.allowance.refill(now);
        let newcomers = &*self;
        let registered = match store
            .transact(|tx| newcomers.register(tx, now, allowed))
            .await
        {
            Err(error) if !is_hopeless(&error) => return Err(error),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot register new clients"
                );
                Vec::new()
            }
            Ok(registered) => registered,
        };
        let approved = registered.iter().filter(|client| client.approved).count();
        self.allowance
            .spend(u32::try_from(approved).unwrap_or(u32::MAX));
        // One that could not be registered announces itself again.
        self.newcomers.clear();
        Ok(registered)
    }

    async fn put(&self, mut tx: Tx) -> Result<(), StoreError> {
        for (attempt, steps) in self.attempts.values() {
            tx.attempt_put(&record_of(attempt)).await?;
            for step in steps {
                tx.step_put(attempt.id, &step_record_of(step)).await?;
            }
        }
        for case in self.cases.values() {
            tx.case_put(&case_record::record_of(case)).await?;
        }
        for ((kind, subject), notice) in &self.notices {
            tx.notice_count(*kind, subject, &notice.detail, notice.times, notice.at)
                .await?;
        }
        for (mac, architecture) in &self.architectures {
            if let Some(mut client) = tx.client_fetch_by_mac(*mac).await?
                && client.architecture != Some(*architecture)
            {
                client.architecture = Some(*architecture);
                tx.client_update(&client).await?;
            }
        }
        Ok(())
    }

    /// Registers all newcomers, at most `allowed` of them without approval.
    async fn register(
        &self,
        mut tx: Tx,
        now: Timestamp,
        mut allowed: u32,
    ) -> Result<Vec<ClientRecord>, StoreError> {
        let is_automatic = tx
            .site_fetch()
            .await?
            .is_some_and(|site| site.registration == Registration::Auto);
        let mut held = 0;
        let mut registered = Vec::new();
        let mut newcomers: Vec<&Newcomer> = self.newcomers.values().collect();
        newcomers.sort_by_key(|newcomer| newcomer.mac);
        for newcomer in newcomers {
            let Some(client) = register(&mut tx, newcomer, allowed > 0, now).await? else {
                continue;
            };
            let details = json!({
                "seat": client.seat, "mac": client.mac, "address": client.address,
                "approved": client.approved,
            });
            audit(&mut tx, "node", "client.register", &client.name, details).await?;
            tx.revision_raise(0).await?;
            if client.approved {
                allowed -= 1;
            } else {
                held += 1;
            }
            registered.push(client);
        }
        if is_automatic && held > 0 {
            let detail = "more new PCs than are registered by themselves in a minute; approve \
                          those that you know";
            tracing::warn!(clients.held = held, "{detail}");
            let kind = NoticeKind::RegistrationHeld;
            tx.notice_count(kind, REGISTRATION, detail, held, now)
                .await?;
        }
        Ok(registered)
    }
}

/// True if the same would be refused again.
fn is_hopeless(error: &StoreError) -> bool {
    matches!(error, StoreError::Taken { .. } | StoreError::Value { .. })
}
