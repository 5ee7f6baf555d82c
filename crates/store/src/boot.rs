//! Boot attempts and their steps.

use dess_model::{AttemptId, ClientId, MacAddr, Timestamp};

use crate::row::{Columns, Row, count_of, text_of};
use crate::statement::{delete_by, query};
use crate::{StoreError, Tx};

/// One boot attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Identity.
    pub id: AttemptId,
    /// Network card that booted.
    pub mac: MacAddr,
    /// The client, if it is registered.
    pub client: Option<ClientId>,
    /// When it powered on.
    pub started: Timestamp,
    /// When something was heard of it last.
    pub last_event: Timestamp,
    /// When its operating system was up.
    pub up: Option<Timestamp>,
    /// When it failed, was abandoned, or the running client was switched off.
    pub ended: Option<Timestamp>,
    /// Key of the outcome.
    pub outcome: String,
    /// Key of the stage reached last.
    pub stage: String,
    /// Code and text of the fault.
    pub fault: Option<(String, String)>,
    /// Bytes read since power-on.
    pub read_bytes: u64,
    /// Bytes written since power-on.
    pub written_bytes: u64,
}

/// One step of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// Counts the attempt's steps from 0.
    pub position: u32,
    /// When.
    pub at: Timestamp,
    /// Key of the stage.
    pub stage: String,
    /// Details for people.
    pub detail: String,
}

/// Clients that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCount {
    /// False if they wait for approval.
    pub approved: bool,
    /// Key of the outcome of their last attempts; none if those have ended, or there are none.
    pub outcome: Option<String>,
    /// How many.
    pub clients: u64,
}

/// A client's last attempt, and where it sits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeatAttempt {
    /// Seat number.
    pub seat: u32,
    /// Name of the client.
    pub name: String,
    /// The attempt.
    pub attempt: AttemptRecord,
}

impl Tx {
    /// Keeps the present state of an attempt, new or known, and makes a new one its client's
    /// last.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn attempt_put(&mut self, attempt: &AttemptRecord) -> Result<(), StoreError> {
        let (code, text) = attempt.fault.clone().unzip();
        let update = query(
            "UPDATE boot_attempts SET client_id = ?, last_event_at = ?, up_at = ?, ended_at = ?, \
             outcome = ?, stage = ?, fault_code = ?, fault_text = ?, read_bytes = ?, \
             written_bytes = ? WHERE id = ?",
        )
        .bind(text_of(attempt.client))
        .bind(attempt.last_event.0)
        .bind(attempt.up.map(|at| at.0))
        .bind(attempt.ended.map(|at| at.0))
        .bind(attempt.outcome.clone())
        .bind(attempt.stage.clone())
        .bind(code.clone())
        .bind(text.clone())
        .bind(count_of(attempt.read_bytes))
        .bind(count_of(attempt.written_bytes))
        .bind(attempt.id.to_string());
        if self.execute("change a boot attempt", update).await? > 0 {
            return self.last_attempt_update(attempt).await;
        }
        let insert = query(
            "INSERT INTO boot_attempts (id, mac, client_id, started_at, last_event_at, up_at, \
             ended_at, outcome, stage, fault_code, fault_text, read_bytes, written_bytes) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(attempt.id.to_string())
        .bind(attempt.mac.to_string())
        .bind(text_of(attempt.client))
        .bind(attempt.started.0)
        .bind(attempt.last_event.0)
        .bind(attempt.up.map(|at| at.0))
        .bind(attempt.ended.map(|at| at.0))
        .bind(attempt.outcome.clone())
        .bind(attempt.stage.clone())
        .bind(code)
        .bind(text)
        .bind(count_of(attempt.read_bytes))
        .bind(count_of(attempt.written_bytes));
        self.execute("keep a boot attempt", insert).await?;
        self.last_attempt_update(attempt).await
    }

    /// Points the client at its newest attempt; an older one changes nothing (ids sort by age).
    async fn last_attempt_update(&mut self, attempt: &AttemptRecord) -> Result<(), StoreError> {
        let id = attempt.id.to_string();
        let statement = query(
            "UPDATE clients SET last_attempt = ? \
             WHERE mac = ? AND (last_attempt IS NULL OR last_attempt < ?)",
        )
        .bind(id.clone())
        .bind(attempt.mac.to_string())
        .bind(id);
        self.execute("note a client's last boot", statement)
            .await
            .map(drop)
    }

    /// Keeps a step; the same step again changes nothing.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn step_put(
        &mut self,
        attempt: AttemptId,
        step: &StepRecord,
    ) -> Result<(), StoreError> {
        let delete = query("DELETE FROM boot_steps WHERE attempt_id = ? AND position = ?")
            .bind(attempt.to_string())
            .bind(i64::from(step.position));
        self.execute("replace a boot step", delete).await?;
        let insert = query(
            "INSERT INTO boot_steps (attempt_id, position, at, stage, detail) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(attempt.to_string())
        .bind(i64::from(step.position))
        .bind(step.at.0)
        .bind(step.stage.clone())
        .bind(step.detail.clone());
        self.execute("keep a boot step", insert).await.map(drop)
    }

    /// Makes the attempts of a network card those of the client that it now belongs to.
    pub(crate) async fn attempts_adopt(
        &mut self,
        client: ClientId,
        mac: MacAddr,
    ) -> Result<(), StoreError> {
        let adopt =
            query("UPDATE boot_attempts SET client_id = ? WHERE mac = ? AND client_id IS NULL")
                .bind(client.to_string())
                .bind(mac.to_string());
        self.execute("adopt boot attempts", adopt).await?;
        let newest = query(
            "UPDATE clients SET last_attempt = \
             (SELECT MAX(id) FROM boot_attempts WHERE client_id = ?) WHERE id = ?",
        )
        .bind(client.to_string())
        .bind(client.to_string());
        self.execute("note a client's last boot", newest)
            .await
            .map(drop)
    }

    /// The last `limit` attempts of a client, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn attempt_list(
        &mut self,
        client: ClientId,
        limit: u32,
    ) -> Result<Vec<AttemptRecord>, StoreError> {
        let statement = query(
            "SELECT * FROM boot_attempts WHERE client_id = ? \
             ORDER BY started_at DESC, id DESC LIMIT ?",
        )
        .bind(client.to_string())
        .bind(i64::from(limit));
        let rows = self.fetch_all("list boot attempts", statement).await?;
        rows.iter().map(attempt_of).collect()
    }

    /// One attempt.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn attempt_fetch(
        &mut self,
        id: AttemptId,
    ) -> Result<Option<AttemptRecord>, StoreError> {
        let statement = query("SELECT * FROM boot_attempts WHERE id = ?").bind(id.to_string());
        let row = self
            .fetch_optional("read a boot attempt", statement)
            .await?;
        row.as_ref().map(attempt_of).transpose()
    }

    /// The newest attempt of every client that has one.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn attempt_list_last(&mut self) -> Result<Vec<AttemptRecord>, StoreError> {
        let statement = query(
            "SELECT boot_attempts.* FROM clients \
             JOIN boot_attempts ON boot_attempts.id = clients.last_attempt",
        );
        let rows = self.fetch_all("list last boots", statement).await?;
        rows.iter().map(attempt_of).collect()
    }

    /// All attempts that have not ended.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn attempt_list_open(&mut self) -> Result<Vec<AttemptRecord>, StoreError> {
        let statement =
            query("SELECT * FROM boot_attempts WHERE ended_at IS NULL ORDER BY started_at, id");
        let rows = self.fetch_all("list open boot attempts", statement).await?;
        rows.iter().map(attempt_of).collect()
    }

    /// Removes at most `limit` attempts, with their steps, that began before `before`, the oldest
    /// first; a client's last one stays. Answers how many.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn attempt_delete_old(
        &mut self,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let old = query(
            "SELECT id FROM boot_attempts WHERE started_at < ? AND NOT EXISTS \
             (SELECT 1 FROM clients WHERE clients.last_attempt = boot_attempts.id) \
             ORDER BY started_at LIMIT ?",
        )
        .bind(before.0)
        .bind(i64::from(limit));
        let ids = self.ids("find old boot attempts", old).await?;
        self.attempts_delete(ids).await
    }

    /// Removes at most `limit` attempts of unregistered network cards that began before `before`.
    /// Answers how many.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn attempt_delete_strangers(
        &mut self,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let old = query(
            "SELECT id FROM boot_attempts WHERE client_id IS NULL AND started_at < ? \
             ORDER BY started_at LIMIT ?",
        )
        .bind(before.0)
        .bind(i64::from(limit));
        let ids = self.ids("find old boot attempts", old).await?;
        self.attempts_delete(ids).await
    }

    async fn attempts_delete(&mut self, ids: Vec<String>) -> Result<u64, StoreError> {
        let steps = delete_by("boot_steps", "attempt_id", ids.clone());
        let attempts = delete_by("boot_attempts", "id", ids);
        let (Some(steps), Some(attempts)) = (steps, attempts) else {
            return Ok(0);
        };
        self.execute("remove old boot steps", steps).await?;
        self.execute("remove old boot attempts", attempts).await
    }

    /// How many clients there are, by approval and by the outcome of their last attempt if it has
    /// not ended.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn client_count(&mut self) -> Result<Vec<ClientCount>, StoreError> {
        let statement = query(
            "SELECT clients.approved, latest.outcome, COUNT(*) AS found FROM clients \
             LEFT JOIN boot_attempts latest \
             ON latest.id = clients.last_attempt AND latest.ended_at IS NULL \
             GROUP BY clients.approved, latest.outcome",
        );
        let rows = self.fetch_all("count clients", statement).await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(ClientCount {
                    approved: row.flag("approved")?,
                    outcome: row.text_opt("outcome")?,
                    clients: row.number("found")?,
                })
            })
            .collect()
    }

    /// Approved clients whose last attempt has this outcome and has not ended, in seat order, each
    /// with that attempt.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn attempt_list_open_with(
        &mut self,
        outcome: &str,
    ) -> Result<Vec<SeatAttempt>, StoreError> {
        let statement = query(
            "SELECT boot_attempts.*, clients.seat, clients.name FROM boot_attempts \
             JOIN clients ON clients.last_attempt = boot_attempts.id \
             WHERE boot_attempts.ended_at IS NULL AND boot_attempts.outcome = ? \
             AND clients.approved <> 0 ORDER BY clients.seat",
        )
        .bind(outcome.to_owned());
        let rows = self.fetch_all("list open boot attempts", statement).await?;
        rows.iter()
            .map(|row| {
                let attempt = attempt_of(row)?;
                let row = Columns(row);
                Ok(SeatAttempt {
                    seat: row.number("seat")?,
                    name: row.text("name")?,
                    attempt,
                })
            })
            .collect()
    }

    /// The steps of an attempt in order.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn step_list(&mut self, attempt: AttemptId) -> Result<Vec<StepRecord>, StoreError> {
        let statement = query(
            "SELECT position, at, stage, detail FROM boot_steps \
             WHERE attempt_id = ? ORDER BY position",
        )
        .bind(attempt.to_string());
        let rows = self.fetch_all("list boot steps", statement).await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(StepRecord {
                    position: row.number("position")?,
                    at: row.time("at")?,
                    stage: row.text("stage")?,
                    detail: row.text("detail")?,
                })
            })
            .collect()
    }
}

fn attempt_of(row: &Row) -> Result<AttemptRecord, StoreError> {
    let row = Columns(row);
    Ok(AttemptRecord {
        id: row.parsed("id")?,
        mac: row.parsed("mac")?,
        client: row.parsed_opt("client_id")?,
        started: row.time("started_at")?,
        last_event: row.time("last_event_at")?,
        up: row.time_opt("up_at")?,
        ended: row.time_opt("ended_at")?,
        outcome: row.text("outcome")?,
        stage: row.text("stage")?,
        fault: row.text_opt("fault_code")?.zip(row.text_opt("fault_text")?),
        read_bytes: row.number("read_bytes")?,
        written_bytes: row.number("written_bytes")?,
    })
}
