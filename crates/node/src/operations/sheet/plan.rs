//! The clients as a file wants them: what is wrong with them, and how they become so.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::str::FromStr;

use dess_model::{BootPolicy, GroupId, MacAddr, Timestamp};
use dess_store::{ClientRecord, StoreError, Tx};

use super::csv::{self, Record};
use super::{COLUMNS, SheetProblem, SheetReport};
use crate::operations::client_change::{check_alone, conflict};
use crate::operations::dhcpd::DhcpdLeft;
use crate::operations::images::{Catalogue, default_group};
use crate::operations::{OperationError, Result};
use crate::registration;

/// Most clients of one sheet.
const ROWS_MAX: usize = 20_000;

/// A client that another file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::operations) struct Wanted {
    /// Line of that file, from 1.
    pub(in crate::operations) line: usize,
    pub(in crate::operations) mac: MacAddr,
    pub(in crate::operations) name: String,
    /// Reserved address; without one it keeps what it has.
    pub(in crate::operations) address: Option<Ipv4Addr>,
}

/// The clients as they are to be.
pub(in crate::operations) struct Plan {
    /// By MAC address.
    clients: BTreeMap<MacAddr, ClientRecord>,
    /// Those that the sheet names, and on which line.
    lines: HashMap<MacAddr, usize>,
    seats: HashSet<u32>,
    group: GroupId,
    problems: Vec<SheetProblem>,
}

impl Plan {
    pub(super) fn new(before: &[ClientRecord], group: GroupId) -> Self {
        Self {
            clients: before
                .iter()
                .map(|client| (client.mac, client.clone()))
                .collect(),
            lines: HashMap::new(),
            seats: before.iter().map(|client| client.seat).collect(),
            group,
            problems: Vec::new(),
        }
    }

    fn wrong(&mut self, line: usize, field: &str, reason: impl Into<String>) {
        self.problems.push(SheetProblem {
            line,
            field: field.to_owned(),
            reason: reason.into(),
        });
    }

    /// Takes in what a sheet says.
    pub(super) fn read(&mut self, sheet: &str, catalogue: &Catalogue) {
        let mut records = match csv::parse(sheet) {
            Ok(records) => records.into_iter(),
            Err(line) => return self.wrong(line, "", "a quote is not closed"),
        };
        let Some(head) = records.next() else {
            return self.wrong(
                1,
                "mac",
                "the sheet is empty; its first line names the columns",
            );
        };
        let columns: Vec<String> = head.fields.iter().map(|name| name.to_lowercase()).collect();
        for (index, name) in columns.iter().enumerate() {
            if !COLUMNS.contains(&name.as_str()) {
                let known = COLUMNS.join(", ");
                self.wrong(
                    head.line,
                    name,
                    format!("unknown column; there are {known}"),
                );
            } else if columns[..index].contains(name) {
                self.wrong(head.line, name, "the column is there twice");
            }
        }
        if !columns.iter().any(|name| name == "mac") {
            self.wrong(
                head.line,
                "mac",
                "the column is missing; clients are known by it",
            );
        }
        if !self.problems.is_empty() {
            return;
        }
        if records.len() > ROWS_MAX {
            return self.wrong(head.line, "", format!("more than {ROWS_MAX} clients"));
        }
        let mut unseated = Vec::new();
        for row in records {
            if let Some(mac) = self.read_row(&columns, &row, catalogue) {
                unseated.push(mac);
            }
        }
        self.seat(unseated);
    }

    /// A plan of the hosts that fit; what is wrong with the others is added to `left`. Answers the
    /// clients of now, too.
    pub(in crate::operations) async fn of_hosts(
        tx: &mut Tx,
        mut hosts: Vec<Wanted>,
        left: &mut Vec<DhcpdLeft>,
    ) -> Result<(Self, Vec<ClientRecord>)> {
        let before = tx.client_list().await?;
        let group = default_group(tx).await?.id;
        loop {
            let mut plan = Self::new(&before, group);
            plan.take(&hosts);
            plan.check(tx).await?;
            if plan.problems.is_empty() {
                return Ok((plan, before));
            }
            let count = hosts.len();
            hosts.retain(|host| {
                let problem = plan
                    .problems
                    .iter()
                    .find(|problem| problem.line == host.line);
                left.extend(problem.map(|SheetProblem { field, reason, .. }| DhcpdLeft {
                    line: host.line,
                    what: format!("host {}", host.name),
                    reason: format!("{field}: {reason}"),
                }));
                problem.is_none()
            });
            assert!(hosts.len() < count, "every problem is one of a host");
        }
    }

    fn take(&mut self, hosts: &[Wanted]) {
        let mut unseated = Vec::new();
        for host in hosts {
            if let Some(line) = self.lines.insert(host.mac, host.line) {
                let reason = format!("{} is on line {line} already", host.mac);
                self.wrong(host.line, "mac", reason);
                self.lines.insert(host.mac, line);
                continue;
            }
            let group = self.group;
            let client = self.clients.entry(host.mac).or_insert_with(|| {
                unseated.push(host.mac);
                registration::client(host.mac, 0, group, Timestamp::now())
            });
            client.name.clone_from(&host.name);
            client.address = host.address.or(client.address);
        }
        self.seat(unseated);
    }

    /// Gives new clients without a seat the next free ones, after all that are named.
    fn seat(&mut self, unseated: Vec<MacAddr>) {
        for mac in unseated {
            let seat = (1..).find(|seat| self.seats.insert(*seat));
            if let (Some(client), Some(seat)) = (self.clients.get_mut(&mac), seat) {
                client.seat = seat;
                if client.name.is_empty() {
                    client.name = registration::default_name(seat);
                }
            }
        }
    }

    /// Takes one row in; answers the client if it is new and has no seat yet.
    fn read_row(
        &mut self,
        columns: &[String],
        row: &Record,
        catalogue: &Catalogue,
    ) -> Option<MacAddr> {
        if row.fields.len() > columns.len() {
            let reason = format!("{} fields, but {} columns", row.fields.len(), columns.len());
            self.wrong(row.line, "", reason);
            return None;
        }
        let given: Vec<(&str, &str)> = columns
            .iter()
            .map(String::as_str)
            .zip(row.fields.iter().map(String::as_str))
            .collect();
        let mac = given.iter().find(|(column, _)| *column == "mac");
        let text = mac.map_or("", |(_, text)| text);
        let mac = self.parsed::<MacAddr>(row.line, "mac", text)?;
        if let Some(line) = self.lines.insert(mac, row.line) {
            self.wrong(row.line, "mac", format!("{mac} is on line {line} already"));
            return None;
        }
        let known = self.clients.get(&mac).cloned();
        let is_new = known.is_none();
        let mut client = known.unwrap_or_else(|| {
            let mut client = registration::client(mac, 0, self.group, Timestamp::now());
            client.name.clear();
            client
        });
        for (column, text) in given {
            self.read_field(&mut client, row.line, (column, text), catalogue);
        }
        let seatless = is_new && client.seat == 0;
        if seatless {
            self.clients.insert(mac, client);
            return Some(mac);
        }
        self.seats.insert(client.seat);
        if client.name.is_empty() {
            client.name = registration::default_name(client.seat);
        }
        self.clients.insert(mac, client);
        None
    }

    fn read_field(
        &mut self,
        client: &mut ClientRecord,
        line: usize,
        (column, text): (&str, &str),
        catalogue: &Catalogue,
    ) {
        let empty = text.is_empty();
        match column {
            "seat" if !empty => {
                client.seat = self.parsed(line, column, text).unwrap_or(client.seat);
            }
            "name" if !empty => client.name = text.to_owned(),
            "address" if empty => client.address = None,
            "address" => client.address = self.parsed(line, column, text),
            "policy" if empty => client.policy = None,
            "policy" => match text {
                "volatile" => client.policy = Some(BootPolicy::Volatile),
                "persistent" => client.policy = Some(BootPolicy::Persistent),
                _ => self.wrong(
                    line,
                    column,
                    format!("\"{text}\" is neither volatile nor persistent"),
                ),
            },
            "image" if empty => client.version = None,
            // What was written out is read back as it is, a version that follows its image too.
            "image"
                if client
                    .version
                    .is_some_and(|version| catalogue.label(version) == text) => {}
            "image" => match catalogue.find(text) {
                Ok(version) => {
                    client.version = Some(version);
                    client.follows_latest = false;
                }
                Err(error) => self.wrong(line, column, error.to_string()),
            },
            "boot_file" => client.boot_file = (!empty).then(|| text.to_owned()),
            _ => {}
        }
    }

    fn parsed<T: FromStr>(&mut self, line: usize, field: &str, text: &str) -> Option<T> {
        let parsed = text.parse().ok();
        if parsed.is_none() {
            let wanted = match field {
                "mac" => "a MAC address such as 52:54:00:12:34:56",
                "address" => "an IPv4 address",
                _ => "a number",
            };
            self.wrong(line, field, format!("\"{text}\" is not {wanted}"));
        }
        parsed
    }

    /// Finds what makes no sense by itself, and what two clients would have.
    pub(super) async fn check(&mut self, tx: &mut Tx) -> Result<()> {
        let (subnets, servers) = (tx.subnet_list().await?, tx.server_list().await?);
        let mut found = Vec::new();
        for (mac, line) in &self.lines {
            if let Some(client) = self.clients.get(mac)
                && let Err(error) = check_alone(client, &subnets, &servers)
            {
                found.push((*line, error));
            }
        }
        let mut taken: HashMap<(&str, String), &ClientRecord> = HashMap::new();
        for client in self.clients.values() {
            let values = [
                ("seat", Some(client.seat.to_string())),
                ("name", Some(client.name.to_lowercase())),
                ("address", client.address.map(|address| address.to_string())),
            ];
            for (field, value) in values {
                let Some(value) = value else { continue };
                let Some(other) = taken.insert((field, value), client) else {
                    continue;
                };
                // The one that the sheet names is told of the other; the later one if both are.
                let (line, error) = match (self.lines.get(&client.mac), self.lines.get(&other.mac))
                {
                    (Some(line), Some(earlier)) if line < earlier => {
                        (earlier, conflict(other, client))
                    }
                    (Some(line), _) => (line, conflict(client, other)),
                    (None, Some(line)) => (line, conflict(other, client)),
                    (None, None) => continue,
                };
                found.extend(error.map(|error| (*line, error)));
            }
        }
        for (line, error) in found {
            let (field, reason) = match error {
                OperationError::Invalid { field, reason } => (field, reason),
                OperationError::Conflict {
                    field,
                    value,
                    owner,
                } => (field, format!("{value} is already used by {owner}")),
                other => return Err(other),
            };
            let field = field.to_lowercase().replace(' ', "_");
            self.wrong(line, &field, reason);
        }
        self.problems.sort_by_key(|problem| problem.line);
        self.problems.dedup();
        Ok(())
    }

    /// What it does to the clients of before.
    pub(in crate::operations) fn report(&self, before: &[ClientRecord]) -> SheetReport {
        let mut report = SheetReport {
            problems: self.problems.clone(),
            ..SheetReport::default()
        };
        let known: HashMap<MacAddr, &ClientRecord> =
            before.iter().map(|client| (client.mac, client)).collect();
        for (mac, client) in &self.clients {
            match known.get(mac) {
                None => report.added.push(client.name.clone()),
                Some(known) if *known != client => report.changed.push(client.name.clone()),
                Some(_) => report.unchanged += usize::from(self.lines.contains_key(mac)),
            }
        }
        report
    }

    /// Makes the clients so.
    pub(in crate::operations) async fn apply(
        &self,
        tx: &mut Tx,
        before: &[ClientRecord],
    ) -> std::result::Result<(), StoreError> {
        let changed: Vec<&ClientRecord> = before
            .iter()
            .filter(|known| self.clients.get(&known.mac) != Some(known))
            .collect();
        // Two may swap seats, names or addresses: all are moved out of the way first.
        for (known, index) in changed.iter().zip(1..) {
            let aside = ClientRecord {
                seat: u32::MAX - index,
                name: format!("~{index}"),
                address: None,
                ..(*known).clone()
            };
            tx.client_update(&aside).await?;
        }
        for known in &changed {
            tx.client_update(&self.clients[&known.mac]).await?;
        }
        let known: HashSet<MacAddr> = before.iter().map(|client| client.mac).collect();
        for (mac, client) in &self.clients {
            if !known.contains(mac) {
                tx.client_insert(client).await?;
            }
        }
        Ok(())
    }
}
