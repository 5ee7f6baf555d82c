//! A real Galera cluster of three nodes, one of which is killed.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{ConnectOptions, Connection, Row};
use tempfile::TempDir;
use tokio::time::{Duration, Instant, sleep};

use super::*;
use crate::testing::{PASSWORD, USER, at, free_port, install, launch};

const PROVIDER: &str = "/usr/lib/libgalera_smm.so";
const NODES: usize = 3;
/// How long a node may take to join: a state transfer on a busy machine.
const JOIN_MAX: Duration = Duration::from_secs(90);
/// Changes of each writer.
const CHANGES: u32 = 40;

/// The nodes; killed when dropped.
struct Cluster {
    _directory: TempDir,
    nodes: Vec<Child>,
    ports: Vec<u16>,
}

impl Cluster {
    /// Starts a cluster; none, with a loud word, if what it needs is not installed.
    async fn start() -> Option<Self> {
        for needed in [
            "/usr/sbin/mariadbd",
            PROVIDER,
            "/usr/bin/rsync",
            "/usr/bin/lsof",
        ] {
            if !Path::new(needed).exists() {
                eprintln!(
                    "SKIPPED: {needed} is not installed (apt-get install mariadb-server rsync lsof)"
                );
                return None;
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let places: Vec<_> = (1..=NODES)
            .map(|number| directory.path().join(number.to_string()))
            .collect();
        let ports: Vec<[u16; 4]> = (0..NODES)
            .map(|_| [free_port(), free_port(), free_port(), free_port()])
            .collect();
        for place in &places {
            fs::create_dir_all(place.join("data")).unwrap();
            // The others have the users of the first one.
            fs::write(place.join("users.sql"), "").unwrap();
        }
        install(&places[0]);
        give_away(directory.path());
        let mut cluster = Self {
            _directory: directory,
            nodes: Vec::new(),
            ports: ports.iter().map(|ports| ports[0]).collect(),
        };
        for (index, place) in places.iter().enumerate() {
            let options = node_options(&ports, index);
            cluster.nodes.push(launch(place, ports[index][0], &options));
            cluster.wait_for(index, place).await;
        }
        Some(cluster)
    }

    /// Waits until a node has everything and takes statements.
    async fn wait_for(&mut self, index: usize, place: &Path) {
        let deadline = Instant::now() + JOIN_MAX;
        while !is_synced(self.ports[index]).await {
            let log = || fs::read_to_string(place.join("log")).unwrap_or_default();
            let ended = self.nodes[index].try_wait().unwrap();
            assert!(ended.is_none(), "node {index} ended: {}", log());
            assert!(Instant::now() < deadline, "node {index} waits: {}", log());
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn kill(&mut self, index: usize) {
        self.nodes[index].kill().unwrap();
        self.nodes[index].wait().unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // It may be dead already.
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// Options of one node; `ports` are those of its clients, the group, incremental and whole state
/// transfers.
fn node_options(ports: &[[u16; 4]], index: usize) -> Vec<String> {
    let all: Vec<String> = ports
        .iter()
        .map(|ports| format!("127.0.0.1:{}", ports[1]))
        .collect();
    let [_, group, increments, state] = ports[index];
    let mut options = vec![
        "--binlog-format=ROW".to_owned(),
        "--innodb-autoinc-lock-mode=2".to_owned(),
        "--wsrep-on=ON".to_owned(),
        format!("--wsrep-provider={PROVIDER}"),
        format!("--wsrep-cluster-address=gcomm://{}", all.join(",")),
        format!("--wsrep-node-address=127.0.0.1:{group}"),
        "--wsrep-sst-method=rsync".to_owned(),
        format!("--wsrep-sst-receive-address=127.0.0.1:{state}"),
        format!(
            "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{group};\
             ist.recv_addr=127.0.0.1:{increments};gcache.size=16M"
        ),
    ];
    if index == 0 {
        options.push("--wsrep-new-cluster".to_owned());
    }
    // rsync gives up its rights when it is started by root, and could not write then.
    options.extend(crate::testing::is_root().then(|| "--user=mysql".to_owned()));
    options
}

fn give_away(directory: &Path) {
    if crate::testing::is_root() {
        let done = Command::new("chown")
            .args(["-R", "mysql:mysql"])
            .arg(directory)
            .status()
            .unwrap();
        assert!(done.success());
    }
}

async fn is_synced(port: u16) -> bool {
    let options = MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(port)
        .username(USER)
        .password(PASSWORD)
        .disable_statement_logging();
    let Ok(mut connection) = MySqlConnection::connect_with(&options).await else {
        return false;
    };
    let row = sqlx::query("SHOW STATUS LIKE 'wsrep_local_state_comment'")
        .fetch_one(&mut connection)
        .await;
    row.is_ok_and(|row| {
        row.try_get::<String, _>(1)
            .is_ok_and(|state| state == "Synced")
    })
}

/// Registers one client after the other; answers the seats that were acknowledged.
async fn write(
    store: Store,
    group: GroupId,
    first: u32,
    told: tokio::sync::mpsc::Sender<()>,
) -> Vec<u32> {
    let mut acknowledged = Vec::new();
    for seat in first..first + CHANGES {
        let record = &client(group, seat);
        store
            .transact(|mut tx| async move {
                tx.client_insert(record).await?;
                tx.revision_raise(0).await
            })
            .await
            .unwrap();
        acknowledged.push(seat);
        // Nobody may listen any more.
        let _ = told.send(()).await;
    }
    acknowledged
}

#[tokio::test]
async fn a_cluster_that_loses_the_node_in_use_loses_and_doubles_no_change() {
    let Some(mut cluster) = Cluster::start().await else {
        return;
    };
    let ports = cluster.ports.clone();
    let mut options = MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(ports[0])
        .username(USER)
        .password(PASSWORD)
        .connect()
        .await
        .unwrap();
    sqlx::query("CREATE DATABASE drill")
        .execute(&mut options)
        .await
        .unwrap();
    let site = site_at(DatabaseLocation::Servers(at(&ports, "drill"))).await;
    // A second writer in the same order, and one that has it wrong and writes on another node.
    let reversed: Vec<u16> = ports.iter().rev().copied().collect();
    let wrong = DatabaseLocation::Servers(at(&reversed, "drill"));
    let stores = [
        site.store.clone(),
        Store::open(site.database.location(), false).await.unwrap(),
        Store::open(&wrong, false).await.unwrap(),
    ];
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    let mut writers = Vec::new();
    for (store, first) in stores.into_iter().zip([1, 1 + CHANGES, 1 + 2 * CHANGES]) {
        writers.push(tokio::spawn(write(store, site.group, first, told.clone())));
    }
    drop(told);
    for _ in 0..20 {
        heard.recv().await.unwrap();
    }
    cluster.kill(0);
    while heard.recv().await.is_some() {}

    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    let mut tx = site.store.read().await.unwrap();
    let seats: Vec<u32> = tx
        .client_list()
        .await
        .unwrap()
        .iter()
        .map(|client| client.seat)
        .collect();
    assert_eq!(seats, acknowledged);
    let revision = tx.site_fetch().await.unwrap().unwrap().revision;
    assert_eq!(
        revision,
        u64::from(3 * CHANGES),
        "each change was made once"
    );
}
