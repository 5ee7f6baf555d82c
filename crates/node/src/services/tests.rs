use super::*;
use crate::supervisor::protocol::ServiceState;

fn service(name: ServiceName, since: i64) -> ServiceStatus {
    ServiceStatus {
        name,
        state: ServiceState::Ready,
        pid: Some(1),
        since: Timestamp(since),
        restarts: 0,
        last_exit: None,
        log_tail: Vec::new(),
        probe: None,
    }
}

fn failed(at: i64) -> ProbeReport {
    ProbeReport {
        service: ServiceName::Boot,
        failure: Some(ProbeFailure::NoSite),
        at: Timestamp(at),
        since: Timestamp(at),
        duration_ms: 3,
    }
}

#[test]
fn a_report_of_before_the_restart_or_of_long_ago_does_not_count() {
    let boot = service(ServiceName::Boot, 1_000);
    assert!(counts(&boot, &failed(1_000), Timestamp(1_500)));
    assert!(!counts(&boot, &failed(999), Timestamp(1_500)));
    assert!(!counts(&boot, &failed(1_000), Timestamp(181_000)));
}

#[test]
fn a_service_whose_probe_fails_is_not_up() {
    let mut boot = service(ServiceName::Boot, 0);
    assert!(boot.works(), "as far as is known");
    boot.probe = Some(failed(1));
    assert!(!boot.works());
}

#[tokio::test]
async fn a_daemon_that_does_not_answer_is_found_by_whoever_asks() {
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths {
        state: directory.path().into(),
        runtime: directory.path().into(),
    };
    assert_eq!(reports(&paths).await, [], "no daemon, no finding");
    // What a dead process leaves behind.
    drop(std::os::unix::net::UnixListener::bind(paths.node_control()).unwrap());
    let reports = reports(&paths).await;
    let failure = reports[0].failure.as_ref();
    assert_eq!(reports[0].service, ServiceName::Node);
    assert!(matches!(failure, Some(ProbeFailure::Refused { .. })));
}
