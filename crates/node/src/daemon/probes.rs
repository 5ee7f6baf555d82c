//! Probes every service every minute, keeps what was found, and restarts the admin page when it does not answer any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dess_model::{ProbeReport, ServiceName, Timestamp};
use dess_probe::Endpoints;
use dess_store::NoticeKind;
use tokio::time::sleep;

use super::shared::{Shared, chain};
use crate::services;

/// From the start of the daemon to the first probes: the services start beside it.
const FIRST_AFTER: Duration = Duration::from_secs(5);
/// How often a service that works is probed.
const EVERY: Duration = Duration::from_secs(60);
/// How often one that does not is.
const EVERY_WHILE_FAILING: Duration = Duration::from_secs(10);
/// Failures in a row after which the page is restarted.
const FAILURES_MAX: u32 = 3;
/// Shortest time between two such restarts; doubled at each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(60);
/// Longest time between two of them.
const BACKOFF_MAX: Duration = Duration::from_secs(30 * 60);

/// What the probes found.
#[derive(Debug)]
pub(crate) struct Probes {
    endpoints: Option<Endpoints>,
    reports: Mutex<BTreeMap<ServiceName, ProbeReport>>,
    /// One round at a time: two at once would tell two times since when.
    probing: tokio::sync::Mutex<()>,
}

impl Probes {
    pub(crate) fn new(endpoints: Option<Endpoints>) -> Self {
        Self {
            endpoints,
            reports: Mutex::default(),
            probing: tokio::sync::Mutex::default(),
        }
    }

    /// What the last probes found, in the order in which services start.
    pub(crate) fn reports(&self) -> Vec<ProbeReport> {
        let reports = self.lock();
        let known = ServiceName::START_ORDER.iter();
        known
            .filter_map(|name| reports.get(name).cloned())
            .collect()
    }

    /// Probes a service, or all; returns what was found.
    pub(crate) async fn probe(&self, service: Option<ServiceName>) -> Vec<ProbeReport> {
        let wanted = ServiceName::START_ORDER.into_iter();
        let wanted = wanted.filter(|name| service.is_none_or(|only| only == *name));
        self.probe_those(wanted.collect()).await
    }

    async fn probe_those(&self, services: Vec<ServiceName>) -> Vec<ProbeReport> {
        let Some(endpoints) = &self.endpoints else {
            return Vec::new();
        };
        let _one_at_a_time = self.probing.lock().await;
        let mut found = Vec::new();
        for service in services {
            let former = self.lock().get(&service).cloned();
            let report = dess_probe::probe(endpoints, service, former.as_ref()).await;
            log_change(former.as_ref(), &report);
            self.lock().insert(service, report.clone());
            found.push(report);
        }
        found
    }

    /// Those that failed the last time.
    fn failing(&self) -> Vec<ServiceName> {
        let reports = self.lock();
        let failing = reports.values().filter(|report| !report.works());
        failing.map(|report| report.service).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceName, ProbeReport>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Probes until the future is dropped.
pub(crate) async fn run(shared: Arc<Shared>, probes: Arc<Probes>) {
    let mut page = Revival::default();
    sleep(FIRST_AFTER).await;
    loop {
        let round = Instant::now();
        probes.probe(None).await;
        loop {
            let page_report = probes.lock().get(&ServiceName::Web).cloned();
            if let Some(report) = page_report
                && page.is_due(Instant::now(), &report)
            {
                restart_page(&shared, &report).await;
            }
            if round.elapsed() + EVERY_WHILE_FAILING >= EVERY {
                break;
            }
            sleep(EVERY_WHILE_FAILING).await;
            let failing = probes.failing();
            if !failing.is_empty() {
                probes.probe_those(failing).await;
            }
        }
        sleep(EVERY.saturating_sub(round.elapsed())).await;
    }
}

/// When a service is to be restarted: after some failures in a row, then ever more rarely.
#[derive(Debug, Default)]
struct Revival {
    failures: u32,
    /// The last report that was counted.
    counted: Option<Timestamp>,
    /// The last restart, and the wait after it.
    restarted: Option<(Instant, Duration)>,
}

impl Revival {
    /// Counts a report; true if the service is to be restarted now.
    fn is_due(&mut self, now: Instant, report: &ProbeReport) -> bool {
        if self.counted == Some(report.at) {
            return false;
        }
        self.counted = Some(report.at);
        if report.works() {
            self.failures = 0;
            if self
                .restarted
                .is_some_and(|(at, _)| now - at >= BACKOFF_MAX)
            {
                self.restarted = None;
            }
            return false;
        }
        self.failures += 1;
        let waited = self.restarted.is_none_or(|(at, wait)| now - at >= wait);
        if self.failures < FAILURES_MAX || !waited {
            return false;
        }
        self.failures = 0;
        let wait = self
            .restarted
            .map_or(BACKOFF_MIN, |(_, wait)| (wait * 2).min(BACKOFF_MAX));
        self.restarted = Some((now, wait));
        true
    }
}

async fn restart_page(shared: &Shared, report: &ProbeReport) {
    let service = report.service;
    let reason = report
        .failure
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    tracing::warn!(service.name = %service, "{service} does not work ({reason}); it is restarted");
    if let Err(error) = services::restart(&shared.paths, service).await {
        let error = chain(&error);
        tracing::error!(service.name = %service, "{service} cannot be restarted: {error}");
    }
    let noted = match shared.database.store().await {
        Ok(store) => {
            let now = Timestamp::now();
            let note = move |mut tx: dess_store::Tx| {
                let reason = reason.clone();
                async move {
                    let kind = NoticeKind::ServiceRestarted;
                    tx.notice_count(kind, service.as_str(), &reason, 1, now)
                        .await
                }
            };
            store.transact(note).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = noted {
        shared.degraded(&error);
    }
}

/// Says when a service begins to fail, fails otherwise, or works again.
fn log_change(former: Option<&ProbeReport>, report: &ProbeReport) {
    let service = report.service;
    let before = former.and_then(|former| former.failure.as_ref());
    match &report.failure {
        Some(failure) if before != Some(failure) => tracing::warn!(
            service.name = %service,
            duration_ms = report.duration_ms,
            "the probe of {service} failed: {failure}"
        ),
        None if before.is_some() => {
            tracing::info!(service.name = %service, "{service} works again");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
