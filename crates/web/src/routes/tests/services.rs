//! Services as the supervisor tells them.

use std::sync::{Arc, Mutex};

use dess_model::host::{bind_control, serve_control};
use dess_node::supervisor::protocol::{
    ServiceName, ServiceState, ServiceStatus, SupervisorReply, SupervisorRequest,
};

use super::live::{live_path, watch, with_polling};
use super::*;
use crate::sample;

type Statuses = Arc<Mutex<Vec<ServiceStatus>>>;

/// Answers as the supervisor would; a restart makes a service ready.
fn play_supervisor(hall: &Hall, down: Option<ServiceName>) -> Statuses {
    let statuses: Statuses = Arc::new(Mutex::new(sample::services(down)));
    let listener = bind_control(&hall.app.paths.supervisor_control()).unwrap();
    let shared = Arc::clone(&statuses);
    let answer = move |question| {
        let statuses = Arc::clone(&shared);
        async move {
            let mut statuses = statuses.lock().unwrap();
            match question {
                SupervisorRequest::List => SupervisorReply::Services {
                    services: statuses.clone(),
                },
                SupervisorRequest::Restart { service } => {
                    let status = statuses
                        .iter_mut()
                        .find(|status| status.name == service)
                        .unwrap();
                    status.state = ServiceState::Ready;
                    SupervisorReply::Restarted {
                        service: status.clone(),
                    }
                }
            }
        }
    };
    tokio::spawn(serve_control(listener, answer, |message| {
        SupervisorReply::Error { message }
    }));
    statuses
}

fn set(statuses: &Statuses, name: ServiceName, state: ServiceState) {
    let mut statuses = statuses.lock().unwrap();
    let status = statuses.iter_mut().find(|status| status.name == name);
    status.unwrap().state = state;
}

/// The change shows this service in red.
fn is_bad(change: &serde_json::Value, service: &str) -> bool {
    let services = change["set"]["services"].as_str().unwrap_or_default();
    services.contains(&format!("data-service=\"{service}\" data-health=\"bad\""))
}

/// The change shows the services, none in red.
fn all_good(change: &serde_json::Value) -> bool {
    let services = change["set"]["services"].as_str();
    services.is_some_and(|services| !services.contains("\"bad\""))
}

#[tokio::test]
async fn a_service_that_dies_turns_red_in_the_open_page_and_back() {
    let mut hall = with_polling().await;
    let statuses = play_supervisor(&hall, None);
    let page = hall.get("/").await.text;
    assert!(!page.contains("data-health=\"bad\""), "{page}");
    assert!(page.contains("All 5 services are running"), "{page}");
    let mut events = watch(&hall, &live_path(&page)).await;
    // One change there and back shows that the stream is up to date.
    set(&statuses, ServiceName::Dhcp, ServiceState::Backoff);
    events.change(|change| is_bad(change, "dhcp")).await;
    set(&statuses, ServiceName::Dhcp, ServiceState::Ready);
    events.change(all_good).await;
    set(&statuses, ServiceName::Boot, ServiceState::Backoff);
    let change = events.change(|change| is_bad(change, "boot")).await;
    let services = change["set"]["services"].as_str().unwrap();
    assert!(services.contains("Down"), "in words too");
    assert!(services.contains("4 of 5 services are running"));
    let verdict = change["set"]["verdict"].as_str().unwrap();
    assert!(verdict.contains("Boot files (TFTP): down"), "{verdict}");
    assert_eq!(
        change["say"], "1 thing needs a look",
        "a screen reader is told"
    );
    set(&statuses, ServiceName::Boot, ServiceState::Ready);
    events.change(all_good).await;
}

#[tokio::test]
async fn a_restart_is_asked_for_then_done_and_audited() {
    let mut hall = Hall::logged_in().await;
    let statuses = play_supervisor(&hall, Some(ServiceName::Iscsi));
    let page = hall.get("/services/iscsi").await.text;
    assert!(page.contains("Killed by SIGKILL") && page.contains("listening on 10.77.0.1:3260"));
    assert!(!page.contains('\u{1b}'), "no terminal colours");
    let ask = hall.get("/services/iscsi/restart").await.text;
    assert!(
        ask.contains("No PC is running, so nobody is affected."),
        "{ask}"
    );
    let csrf = hall.csrf().await;
    let answer = hall
        .post("/services/iscsi/restart", &[("csrf", &csrf)])
        .await;
    assert_eq!(answer.location(), "/services/iscsi?done=restarted");
    assert!(
        statuses
            .lock()
            .unwrap()
            .iter()
            .all(|status| status.state == ServiceState::Ready)
    );
    let note = hall.get("/services/iscsi?done=restarted").await.text;
    assert!(note.contains("Disks (iSCSI) was restarted."), "{note}");
    let audit = hall.operations.audit_list(1).await.unwrap();
    assert_eq!(
        (audit[0].action.as_str(), audit[0].subject.as_str()),
        ("service.restart", "iscsi")
    );
    assert_eq!(
        (audit[0].actor.as_str(), audit[0].origin.as_str()),
        ("web:admin", "192.0.2.7")
    );
}

#[tokio::test]
async fn a_restart_that_fails_is_said_in_words() {
    let mut hall = Hall::logged_in().await;
    let csrf = hall.csrf().await;
    let answer = hall
        .post("/services/dhcp/restart", &[("csrf", &csrf)])
        .await;
    assert_eq!(
        answer.location(),
        "/services/dhcp?done=restart_failed",
        "no supervisor runs here"
    );
    let page = hall.get("/services/dhcp?done=restart_failed").await.text;
    assert!(page.contains("did not come back"), "{page}");
}

#[tokio::test]
async fn the_api_tells_services_and_clients_to_those_logged_in() {
    let mut hall = Hall::logged_in().await;
    let silent: serde_json::Value =
        serde_json::from_str(&hall.get("/api/v1/services").await.text).unwrap();
    assert_eq!(silent["supervised"], false);
    play_supervisor(&hall, None);
    hall.add(1, "PC-01").await;
    let services: serde_json::Value =
        serde_json::from_str(&hall.get("/api/v1/services").await.text).unwrap();
    assert_eq!(services["services"].as_array().unwrap().len(), 5);
    let clients = hall.get("/api/v1/clients").await.text;
    assert!(
        clients.contains("\"PC-01\"") && !clients.contains("chap"),
        "{clients}"
    );
    let session: serde_json::Value =
        serde_json::from_str(&hall.get("/api/v1/session").await.text).unwrap();
    assert_eq!(session["user"], "admin");
}
