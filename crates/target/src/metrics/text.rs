//! The text that Prometheus reads.

use std::fmt::{self, Write};
use std::sync::Arc;

use dess_model::{ClientEntry, ClientId, DiskStatus, PoolLevel, VersionRef};

use crate::accounts::{Account, LE_MICROS, Operation};
use crate::service::Service;
use crate::sessions::Session;
use crate::site::Site;

/// One client with its account and open sessions.
struct Row {
    labels: String,
    account: Arc<Account>,
    sessions: Vec<Arc<Session>>,
}

/// One number per client.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&Row) -> Option<f64>,
}

const PER_CLIENT: [Metric; 7] = [
    Metric {
        name: "dess_iscsi_client_sessions",
        kind: "gauge",
        help: "Open sessions of the client.",
        value: |row| Some(row.sessions.len() as f64),
    },
    Metric {
        name: "dess_iscsi_client_queue_depth",
        kind: "gauge",
        help: "Commands under way.",
        value: |row| Some(row.account.depth() as f64),
    },
    Metric {
        name: "dess_iscsi_client_queue_depth_max",
        kind: "gauge",
        help: "Most commands under way in one session since the service started.",
        value: |row| Some(row.account.depth_max() as f64),
    },
    Metric {
        name: "dess_iscsi_client_tcp_rtt_seconds",
        kind: "gauge",
        help: "Smoothed TCP round-trip time, the longest of the client's connections.",
        value: |row| {
            let connections = row.sessions.iter().filter_map(|session| session.tcp());
            Some(f64::from(connections.map(|(_, tcp)| tcp.counters.rtt_us).max()?) / 1e6)
        },
    },
    Metric {
        name: "dess_iscsi_client_tcp_retransmits_total",
        kind: "counter",
        help: "TCP segments sent again.",
        value: |row| {
            let connections = row.sessions.iter().filter_map(|session| session.tcp());
            let open: u64 = connections
                .map(|(_, tcp)| u64::from(tcp.counters.retransmits))
                .sum();
            Some((open + row.account.retransmits()) as f64)
        },
    },
    Metric {
        name: "dess_iscsi_client_throttled_total",
        kind: "counter",
        help: "Commands that waited for a limit.",
        value: |row| Some(row.account.throttled().0 as f64),
    },
    Metric {
        name: "dess_iscsi_client_throttled_seconds_total",
        kind: "counter",
        help: "Sum of the waits for limits.",
        value: |row| Some(row.account.throttled().1.as_secs_f64()),
    },
];

/// All metrics of the service.
pub(super) fn render(service: &Service, disks: &[DiskStatus]) -> String {
    let rows = rows(service);
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_all(&mut text, service, &rows);
    let _ = write_space(&mut text, service, disks);
    text
}

/// The clients that had a session since the service started.
fn rows(service: &Service) -> Vec<Row> {
    let snapshot = match service.site.as_ref() {
        Site::Room(room) => room.snapshots.current(),
        Site::Single(_) => None,
    };
    let entry = |id: ClientId| snapshot.as_deref().and_then(|all| all.client_by_id(id));
    service
        .accounts
        .all()
        .into_iter()
        .filter(|(_, account)| account.depth_max() > 0)
        .map(|(id, account)| Row {
            labels: labels(id, entry(id)),
            account,
            sessions: service
                .sessions
                .matching(|session| session.client == Some(id)),
        })
        .collect()
}

fn labels(id: ClientId, entry: Option<&ClientEntry>) -> String {
    let name = entry.map_or("", |entry| entry.name.as_str());
    let seat = entry.map_or_else(String::new, |entry| entry.seat.to_string());
    let name = escape(name);
    format!("client=\"{id}\",name=\"{name}\",seat=\"{seat}\"")
}

/// A label's value (exposition formats: backslash, double quote and line feed are escaped).
fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn write_all(text: &mut String, service: &Service, rows: &[Row]) -> fmt::Result {
    let name = "dess_iscsi_sessions";
    head(text, name, "gauge", "Open sessions.")?;
    writeln!(text, "{name} {}", service.sessions.matching(|_| true).len())?;
    write_boots(text, service)?;
    write_operations(text, rows)?;
    PER_CLIENT
        .iter()
        .try_for_each(|metric| write_metric(text, metric, rows))
}

/// The pool of the overlays, and what each client's overlay takes.
fn write_space(text: &mut String, service: &Service, disks: &[DiskStatus]) -> fmt::Result {
    let Site::Room(room) = service.site.as_ref() else {
        return Ok(());
    };
    if let Some(pool) = service.space.status() {
        let name = "dess_pool_bytes";
        head(text, name, "gauge", "The file system of the overlays.")?;
        for (state, bytes) in [
            ("total", pool.figures.total_bytes),
            ("used", pool.figures.used_bytes),
            ("available", pool.figures.available_bytes),
        ] {
            writeln!(text, "{name}{{state=\"{state}\"}} {bytes}")?;
        }
        let name = "dess_pool_level";
        head(text, name, "gauge", "1 for the level that holds.")?;
        for level in PoolLevel::ALL {
            let (holds, level) = (u8::from(level == pool.level), level.name());
            writeln!(text, "{name}{{level=\"{level}\"}} {holds}")?;
        }
        if let Some(growth) = pool.growth_bytes_per_sec {
            let name = "dess_pool_growth_bytes_per_second";
            head(text, name, "gauge", "Growth over the last minutes.")?;
            writeln!(text, "{name} {growth}")?;
        }
        if let Some(secs) = pool.full_in_secs {
            let name = "dess_pool_full_in_seconds";
            let help = "Time until clients' writes fail at this rate.";
            head(text, name, "gauge", help)?;
            writeln!(text, "{name} {secs}")?;
        }
    }
    let name = "dess_client_overlay_bytes";
    head(
        text,
        name,
        "gauge",
        "Storage that the client's overlay takes.",
    )?;
    let snapshot = room.snapshots.current();
    for disk in disks {
        let entry = snapshot.as_deref();
        let entry = entry.and_then(|all| all.client_by_id(disk.client));
        let labels = labels(disk.client, entry);
        let lun = disk.lun;
        writeln!(
            text,
            "{name}{{{labels},lun=\"{lun}\"}} {}",
            disk.overlay_bytes
        )?;
    }
    Ok(())
}

/// What boots read, and what was read ahead for them.
fn write_boots(text: &mut String, service: &Service) -> fmt::Result {
    let Some(profiles) = service.profiles() else {
        return Ok(());
    };
    let profiles = profiles.status();
    let name = "dess_iscsi_read_ahead_bytes_total";
    let help = "Bytes of boot profiles that were read ahead, or found in memory.";
    head(text, name, "counter", help)?;
    for status in &profiles {
        let version = labels_of(status.version);
        for (from, bytes) in [
            ("memory", status.ahead_warm_bytes),
            ("storage", status.ahead_bytes),
        ] {
            writeln!(text, "{name}{{{version},from=\"{from}\"}} {bytes}")?;
        }
    }
    let name = "dess_iscsi_boot_units_total";
    let help = "Units of 64 KiB that boots read, by whether the profile of the version named them.";
    head(text, name, "counter", help)?;
    for status in &profiles {
        let version = labels_of(status.version);
        let missed = status.units_read - status.units_predicted;
        for (predicted, units) in [("true", status.units_predicted), ("false", missed)] {
            writeln!(
                text,
                "{name}{{{version},predicted=\"{predicted}\"}} {units}"
            )?;
        }
    }
    let name = "dess_iscsi_boot_reads_total";
    let help = "Reads of boots, by where the answer came from.";
    head(text, name, "counter", help)?;
    for status in &profiles {
        let version = labels_of(status.version);
        for (from, reads) in [
            ("memory", status.reads_from_memory),
            ("storage", status.reads_from_storage),
        ] {
            writeln!(text, "{name}{{{version},from=\"{from}\"}} {reads}")?;
        }
    }
    Ok(())
}

fn labels_of(version: VersionRef) -> String {
    format!("image=\"{}\",version=\"{}\"", version.image, version.number)
}

/// Bytes and latencies; the number of commands is the histogram's count.
fn write_operations(text: &mut String, rows: &[Row]) -> fmt::Result {
    let name = "dess_iscsi_client_bytes_total";
    head(text, name, "counter", "Bytes that commands moved.")?;
    for Row {
        labels, account, ..
    } in rows
    {
        for operation in [Operation::Read, Operation::Write] {
            let bytes = account.bytes(operation);
            let operation = operation.name();
            writeln!(text, "{name}{{{labels},operation=\"{operation}\"}} {bytes}")?;
        }
    }
    let name = "dess_iscsi_client_command_duration_seconds";
    let help = "Time from a command's arrival to its answer.";
    head(text, name, "histogram", help)?;
    for Row {
        labels, account, ..
    } in rows
    {
        for operation in Operation::ALL {
            let latency = account.latency(operation);
            let (below, count) = latency.cumulative();
            let labels = format!("{labels},operation=\"{}\"", operation.name());
            for (bound, below) in LE_MICROS.iter().zip(below) {
                let bound = *bound as f64 / 1e6;
                writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}")?;
            }
            writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}")?;
            let sum = latency.sum().as_secs_f64();
            writeln!(text, "{name}_sum{{{labels}}} {sum}")?;
            writeln!(text, "{name}_count{{{labels}}} {count}")?;
        }
    }
    Ok(())
}

fn write_metric(text: &mut String, metric: &Metric, rows: &[Row]) -> fmt::Result {
    let name = metric.name;
    head(text, name, metric.kind, metric.help)?;
    for row in rows {
        // What was not observed is left out: 0 would say something else.
        if let Some(value) = (metric.value)(row) {
            writeln!(text, "{name}{{{}}} {value}", row.labels)?;
        }
    }
    Ok(())
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_out_of_its_label() {
        assert_eq!(escape("a\"} 1\nb\\"), "a\\\"} 1\\nb\\\\");
    }
}
