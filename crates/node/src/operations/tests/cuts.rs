//! Connections to the database that are cut in the middle of an operation.

use dess_store::testing::{At, Cutter, at};
use dess_store::{DatabaseLocation, StoreError};

use super::*;

/// True if an operation said that the database cannot be used; panics at any other error.
fn says_why<T: std::fmt::Debug>(result: &Result<T>) -> bool {
    match result {
        Ok(_) => false,
        Err(OperationError::Store(
            StoreError::Unreachable { .. } | StoreError::Unknown { .. } | StoreError::Busy,
        )) => true,
        Err(other) => panic!("not for want of a database: {other:?}"),
    }
}

#[tokio::test]
async fn a_connection_cut_at_any_packet_of_an_operation_loses_and_doubles_nothing() {
    let Some(server) = Server::start().await else {
        return;
    };
    for hand_on in [true, false] {
        let name = format!("cut_{hand_on}");
        server.database(&name);
        let cutter = Cutter::start(server.port, At::Any, hand_on).await;
        let servers = DatabaseLocation::Servers(at(&[cutter.port], &name));
        let site = empty_on(|_| Database::at(servers));
        site.operations.site_init(setup()).await.unwrap();
        let operations = &site.operations;
        let mut known = 0;
        let mut packets = 0;
        for packet in 1_u8.. {
            let cuts = cutter.cuts();
            cutter.arm(i64::from(packet));
            let added = operations.client_add(new_client(packet)).await;
            let listed = operations.client_list().await;
            let whole = cutter.cuts() == cuts;
            cutter.arm(i64::MAX);
            says_why(&listed);
            // The next one finds the database again, and what the one before did, once.
            let clients = operations.client_list().await.unwrap();
            let mac = mac(packet);
            let saved = clients.iter().filter(|client| client.mac == mac).count();
            if !says_why(&added) {
                assert_eq!(saved, 1, "packet {packet}: acknowledged");
            }
            known += saved;
            assert_eq!(clients.len(), known, "packet {packet}");
            packets = packet;
            if whole {
                break;
            }
        }
        assert!(packets > 20, "two operations have more packets: {packets}");
        let actions = site.actions().await;
        let added = actions.iter().filter(|action| *action == "client.add");
        assert_eq!(added.count(), known.min(100), "one line for each");
        let snapshot = SnapshotReader::new(site.paths.snapshot());
        assert_eq!(snapshot.current().unwrap().clients.len(), known);
    }
}
