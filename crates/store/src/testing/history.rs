//! The rows of a large site that has been used for half a year.

use dess_model::{
    AttemptId, BootPolicy, ClientId, DiskId, DiskIdentity, GroupId, IoLimits, IscsiIdentity,
    MacAddr, OverlayLimits, Secret, Timestamp,
};
use uuid::Uuid;

use crate::statement::{Value, query, query_of};
use crate::{ClientRecord, Store, StoreError, Tx};

/// Over how many milliseconds the boots are spread: half a year.
const SPAN_MS: u64 = 183 * 24 * 3600 * 1000;
/// Steps of each boot.
const STEPS: i64 = 4;
/// Rows of one statement; SQLite takes 32,766 values.
const ROWS: u64 = 1000;
/// Rows of one transaction.
const ROWS_AT_ONCE: u64 = 50_000;

/// How large the site is to be.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// Clients.
    pub clients: u32,
    /// Boot attempts of all of them together, up to `now`.
    pub attempts: u64,
    /// Lines of the audit log.
    pub audit: u64,
    /// Jobs that have ended.
    pub jobs: u64,
    /// The end of the history.
    pub now: Timestamp,
}

/// Fills a site that was just set up. Of the last boots, most are up, some under way, few failed.
///
/// # Errors
/// If the database cannot be written.
pub async fn fill(store: &Store, history: &History) -> Result<(), StoreError> {
    let group = store.read().await?.group_list().await?.remove(0).id;
    let ids: Vec<ClientId> = (0..history.clients)
        .map(|_| ClientId(Uuid::now_v7()))
        .collect();
    let ids = &ids;
    for part in chunks(u64::from(history.clients), 500) {
        let part = &part;
        store
            .transact(|mut tx| async move {
                for index in part.clone() {
                    let id = ids[usize::try_from(index).unwrap()];
                    tx.client_insert(&client(group, id, u32::try_from(index).unwrap()))
                        .await?;
                }
                Ok::<_, StoreError>(())
            })
            .await?;
    }
    bulk(store, history.attempts, |range| {
        attempts(history, ids, range)
    })
    .await?;
    bulk(store, history.attempts, |range| steps(history, range)).await?;
    bulk(store, history.audit, |range| audit(history, range)).await?;
    bulk(store, history.jobs, |range| jobs(history, range)).await?;
    store
        .transact(|mut tx| async move {
            let newest = query(
                "UPDATE clients SET last_attempt = (SELECT MAX(id) FROM boot_attempts \
                 WHERE boot_attempts.client_id = clients.id)",
            );
            tx.execute("note the last boots", newest).await.map(drop)
        })
        .await
}

/// Rows for a table: its name and columns, and how many values a row has.
struct Rows {
    into: &'static str,
    width: usize,
    values: Vec<Value>,
}

async fn bulk(
    store: &Store,
    count: u64,
    rows: impl Fn(std::ops::Range<u64>) -> Rows,
) -> Result<(), StoreError> {
    let rows = &rows;
    for part in chunks(count, ROWS_AT_ONCE) {
        let part = &part;
        store
            .transact(|mut tx| async move {
                for piece in chunks(part.end - part.start, ROWS) {
                    let range = part.start + piece.start..part.start + piece.end;
                    insert(&mut tx, rows(range)).await?;
                }
                Ok::<_, StoreError>(())
            })
            .await?;
    }
    Ok(())
}

async fn insert(tx: &mut Tx, rows: Rows) -> Result<(), StoreError> {
    let one = format!("({})", vec!["?"; rows.width].join(", "));
    let places = vec![one; rows.values.len() / rows.width].join(", ");
    let sql = format!("INSERT INTO {} VALUES {places}", rows.into);
    let statement = rows
        .values
        .into_iter()
        .fold(query_of(sql), crate::statement::Statement::bind);
    tx.execute("fill a table", statement).await.map(drop)
}

fn chunks(count: u64, most: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    (0..count.div_ceil(most)).map(move |part| part * most..((part + 1) * most).min(count))
}

fn client(group: GroupId, id: ClientId, index: u32) -> ClientRecord {
    let [_, b1, b2, b3] = index.to_be_bytes();
    let seat = index + 1;
    ClientRecord {
        id,
        mac: MacAddr([2, 0, 0, b1, b2, b3]),
        seat,
        name: format!("PC-{seat:05}"),
        group,
        approved: true,
        address: None,
        version: None,
        follows_latest: false,
        policy: seat.is_multiple_of(50).then_some(BootPolicy::Persistent),
        boot_file: None,
        limits: IoLimits::default(),
        overlay_limits: OverlayLimits::default(),
        iscsi: IscsiIdentity {
            target_iqn: format!("iqn.2026-01.net.dess:client-{id}"),
            initiator_iqn: format!("iqn.2026-01.net.dess:initiator-{id}"),
            chap_user: format!("pc-{seat}"),
            chap_secret: Secret::new("sixteen-letters!"),
        },
        disk: DiskIdentity {
            id: DiskId(Uuid::now_v7()),
            serial: format!("DESS{seat:012}"),
            naa: 3 << 60 | u64::from(seat),
        },
        reset_epoch: 0,
        architecture: None,
        uuid: None,
        last_attempt: None,
        created: Timestamp(1),
    }
}

/// Power-on of the `index`-th boot.
fn started_ms(history: &History, index: u64) -> u64 {
    let now = u64::try_from(history.now.0).unwrap();
    now - (history.attempts - index) * SPAN_MS / history.attempts.max(1)
}

/// Identities (UUIDs, version 7) sort by age, as those that the daemon makes do.
fn attempt_id(history: &History, index: u64) -> String {
    let ms = u128::from(started_ms(history, index));
    let id = ms << 80 | 7 << 76 | 1 << 63 | u128::from(index);
    AttemptId(Uuid::from_u128(id)).to_string()
}

fn attempts(history: &History, clients: &[ClientId], range: std::ops::Range<u64>) -> Rows {
    let mut values = Vec::new();
    for index in range {
        let seat = usize::try_from(index).unwrap() % clients.len();
        let started = i64::try_from(started_ms(history, index)).unwrap();
        let last = index + clients.len() as u64 >= history.attempts;
        let (outcome, stage, ended) = match (last, seat % 100) {
            (true, 0) => ("failed", "os_login", None),
            (true, 1..10) => ("in_progress", "script", None),
            (true, 10..70) => ("up", "up", None),
            _ => ("up", "up", Some(started + 3_600_000)),
        };
        let fault = (outcome == "failed").then(|| "E22".to_owned());
        let [_, b1, b2, b3] = u32::try_from(seat).unwrap().to_be_bytes();
        values.extend([
            Value::from(attempt_id(history, index)),
            MacAddr([2, 0, 0, b1, b2, b3]).to_string().into(),
            clients[seat].to_string().into(),
            started.into(),
            (started + 30_000).into(),
            (outcome == "up").then_some(started + 30_000).into(),
            ended.into(),
            outcome.into(),
            stage.into(),
            fault.clone().into(),
            fault.map(|_| "no boot sector".to_owned()).into(),
            400_000_000.into(),
            90_000_000.into(),
        ]);
    }
    Rows {
        into: "boot_attempts (id, mac, client_id, started_at, last_event_at, up_at, ended_at, \
               outcome, stage, fault_code, fault_text, read_bytes, written_bytes)",
        width: 13,
        values,
    }
}

fn steps(history: &History, range: std::ops::Range<u64>) -> Rows {
    let mut values = Vec::new();
    for index in range {
        let started = i64::try_from(started_ms(history, index)).unwrap();
        for position in 0..STEPS {
            values.extend([
                Value::from(attempt_id(history, index)),
                position.into(),
                (started + 1000 * position).into(),
                "boot_file".into(),
                "undionly.kpxe, 74 KB in 120 ms".into(),
            ]);
        }
    }
    Rows {
        into: "boot_steps (attempt_id, position, at, stage, detail)",
        width: 5,
        values,
    }
}

fn audit(history: &History, range: std::ops::Range<u64>) -> Rows {
    let mut values = Vec::new();
    for index in range {
        values.extend([
            Value::from(Uuid::now_v7().to_string()),
            (history.now.0 - i64::try_from(history.audit - index).unwrap() * 60_000).into(),
            "web:owner@192.168.0.7".into(),
            "client.reset".into(),
            format!("PC-{index:05}").into(),
            r#"{"epoch":1,"force":false}"#.into(),
        ]);
    }
    Rows {
        into: "audit (id, at, actor, action, subject, details)",
        width: 6,
        values,
    }
}

fn jobs(history: &History, range: std::ops::Range<u64>) -> Rows {
    let mut values = Vec::new();
    for index in range {
        let at = history.now.0 - i64::try_from(history.jobs - index).unwrap() * 600_000;
        values.extend([
            Value::from(Uuid::now_v7().to_string()),
            "image_publish".into(),
            "debian".into(),
            "done".into(),
            "{}".into(),
            100.into(),
            100.into(),
            1.into(),
            0.into(),
            at.into(),
            at.into(),
            (at + 60_000).into(),
        ]);
    }
    Rows {
        into: "jobs (id, kind, subject, state, payload, progress, total, runs, cancel_requested, \
               created_at, started_at, ended_at)",
        width: 12,
        values,
    }
}
