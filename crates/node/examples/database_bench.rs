//! How long the pages, the status and the snapshot of a large site take, on a SQLite file and on
//! a MariaDB server.
//!
//! `database_bench fill DIRECTORY` makes both databases; `database_bench measure DIRECTORY`
//! measures them and prints a table.

#![allow(clippy::unwrap_used, reason = "a benchmark cannot go on without")]

use std::path::Path;
use std::time::{Duration, Instant};

use dess_model::host::Paths;
use dess_model::{AddressRange, AttemptId, DhcpMode, Registration, Timestamp};
use dess_node::operations::{ClientChange, Operations, SiteSetup};
use dess_store::testing::{History, Server, fill};
use dess_store::{AttemptRecord, Database, DatabaseLocation, Store, StoreError};
use uuid::Uuid;

const CLIENTS: u32 = 10_000;
const ATTEMPTS: u64 = 1_000_000;
const AUDIT: u64 = 200_000;
const JOBS: u64 = 10_000;
/// Runs of each measurement; the median and the slowest are shown.
const RUNS: usize = 15;
/// The name of the database on the server.
const NAME: &str = "large";
/// As Debian configures a server, with one process on it.
const SERVER_OPTIONS: [&str; 3] = [
    "--innodb-buffer-pool-size=128M",
    "--innodb-log-file-size=96M",
    "--innodb-flush-log-at-trx-commit=1",
];

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [task, directory] = arguments.as_slice() else {
        panic!("usage: database_bench fill|measure DIRECTORY");
    };
    let directory = Path::new(directory);
    let options: Vec<String> = SERVER_OPTIONS.iter().map(|&text| text.into()).collect();
    let server = Server::start_in(directory.join("mariadb"), &options).await;
    let mut server = server.expect("apt-get install mariadb-server");
    let sites = [
        (
            "SQLite",
            DatabaseLocation::File(directory.join("sqlite/dess.db")),
        ),
        ("MariaDB", server.database(NAME)),
    ];
    if task == "measure" {
        println!("| {CLIENTS} clients, {ATTEMPTS} boot attempts | SQLite | MariaDB |");
        println!("|---|--:|--:|");
    }
    let mut columns = Vec::new();
    for (name, location) in sites {
        let state = directory.join(name.to_lowercase());
        std::fs::create_dir_all(&state).unwrap();
        let paths = Paths {
            runtime: state.clone(),
            state,
        };
        let database = Database::at(location);
        let operations = Operations::with_database(paths, database.clone());
        match task.as_str() {
            "fill" => make(name, &operations).await,
            "measure" => columns.push(measure(&operations).await),
            other => panic!("{other}: fill or measure"),
        }
        database.close().await;
    }
    server.stop();
    if let [sqlite, mariadb] = columns.as_slice() {
        for ((name, one), (_, two)) in sqlite.iter().zip(mariadb) {
            println!("| {name} | {} | {} |", shown(one), shown(two));
        }
    }
}

/// Median and slowest, in milliseconds.
fn shown(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    format!(
        "{:.1} ms ({:.1})",
        ms(times[times.len() / 2]),
        ms(times[times.len() - 1])
    )
}

async fn make(name: &str, operations: &Operations) {
    let start = Instant::now();
    operations
        .site_init(SiteSetup {
            name: "large".into(),
            server_address: [10, 77, 0, 1].into(),
            interfaces: vec!["br0".into()],
            subnet: "10.77.0.0/16".parse().unwrap(),
            mode: DhcpMode::Server,
            pool: Some(AddressRange {
                first: [10, 77, 1, 0].into(),
                last: [10, 77, 200, 0].into(),
            }),
            router: None,
            dns: vec![],
            lease_secs: 3600,
            http_port: 80,
            portals: vec![],
            registration: Registration::Auto,
        })
        .await
        .unwrap();
    let history = History {
        clients: CLIENTS,
        attempts: ATTEMPTS,
        audit: AUDIT,
        jobs: JOBS,
        now: Timestamp::now(),
    };
    fill(&store(operations).await, &history).await.unwrap();
    eprintln!("{name}: filled in {:.0} s", start.elapsed().as_secs_f64());
}

async fn store(operations: &Operations) -> Store {
    operations.database().store().await.unwrap()
}

type Column = Vec<(&'static str, Vec<Duration>)>;

async fn measure(operations: &Operations) -> Column {
    let mut column = Column::new();
    let clients = operations.client_list().await.unwrap();
    assert_eq!(clients.len(), CLIENTS as usize);
    let one = clients[4999].id;
    column.push((
        "client list: all clients with their last boots",
        timed(async || drop(operations.client_list().await.unwrap())).await,
    ));
    column.push((
        "the page's other data: site, groups, images, 20 jobs, notices",
        timed(async || {
            operations.site().await.unwrap();
            operations.group_list().await.unwrap();
            operations.image_list().await.unwrap();
            operations.job_list(20).await.unwrap();
            operations.notice_list(600_000).await.unwrap();
        })
        .await,
    ));
    column.push((
        "status: site, clients in numbers, those with a fault, notices",
        timed(async || {
            operations.site().await.unwrap();
            assert_eq!(
                operations.overview().await.unwrap().clients,
                u64::from(CLIENTS)
            );
            operations.notice_list(3_600_000).await.unwrap();
        })
        .await,
    ));
    column.push((
        "one client with its last 10 boots and their steps",
        timed(async || {
            operations.client_get(one).await.unwrap();
            assert_eq!(operations.client_boots(one, 10).await.unwrap().len(), 10);
        })
        .await,
    ));
    column.push((
        "100 lines of the audit log",
        timed(async || drop(operations.audit_list(100).await.unwrap())).await,
    ));
    column.push((
        "snapshot: compile",
        timed(async || drop(operations.site_snapshot().await.unwrap())).await,
    ));
    let mut persistent = false;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        persistent = !persistent;
        let policy = if persistent { "persistent" } else { "volatile" };
        let change: ClientChange =
            serde_json::from_value(serde_json::json!({ "policy": policy })).unwrap();
        let start = Instant::now();
        operations.client_set(one, change).await.unwrap();
        times.push(start.elapsed());
    }
    column.push(("a change of one client, until it is published", times));
    column.push((
        "write a boot's beginning and two steps",
        write_boots(operations).await,
    ));
    column.push((
        "forget 250 boots with their steps",
        rotate(operations).await,
    ));
    column
}

async fn timed(mut work: impl AsyncFnMut()) -> Vec<Duration> {
    work().await;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        work().await;
        times.push(start.elapsed());
    }
    times
}

async fn write_boots(operations: &Operations) -> Vec<Duration> {
    let client = operations.client_list().await.unwrap().remove(100);
    let store = store(operations).await;
    timed(async || {
        let attempt = &AttemptRecord {
            id: AttemptId(Uuid::now_v7()),
            mac: client.mac,
            client: Some(client.id),
            started: Timestamp::now(),
            last_event: Timestamp::now(),
            up: None,
            ended: Some(Timestamp::now()),
            outcome: "abandoned".into(),
            stage: "dhcp".into(),
            fault: None,
            read_bytes: 0,
            written_bytes: 0,
        };
        store
            .transact(|mut tx| async move {
                tx.attempt_put(attempt).await?;
                for position in 0..2 {
                    let step = dess_store::StepRecord {
                        position,
                        at: attempt.started,
                        stage: "dhcp".into(),
                        detail: String::new(),
                    };
                    tx.step_put(attempt.id, &step).await?;
                }
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
    })
    .await
}

/// The daemon forgets in such batches.
async fn rotate(operations: &Operations) -> Vec<Duration> {
    let store = store(operations).await;
    timed(async || {
        let removed = store
            .transact(|mut tx| async move { tx.attempt_delete_old(Timestamp::now(), 250).await })
            .await
            .unwrap();
        assert_eq!(removed, 250);
    })
    .await
}
