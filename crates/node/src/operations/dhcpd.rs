//! Hosts and subnets of an ISC `dhcpd.conf`, the file of the system that DESS replaces.

mod parse;

use std::net::Ipv4Addr;

use dess_model::{AddressRange, DhcpMode, MacAddr, Subnet};
use dess_store::Tx;
use ipnet::Ipv4Net;
use serde::Serialize;
use serde_json::json;

use super::sheet::{Plan, Wanted};
use super::trial::Undone;
use super::{Operations, Result, record};
use parse::{ParseError, Statement};

/// Lease time if the file names none, in seconds: that of dhcpd.
const LEASE_SECS: u32 = 43_200;
/// Shortest lease in seconds.
const LEASE_SECS_MIN: u32 = 60;

/// What was taken from a `dhcpd.conf`, and what not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DhcpdReport {
    /// Subnets that are new.
    pub subnets: Vec<Ipv4Net>,
    /// Names of clients that are new.
    pub added: Vec<String>,
    /// Names of clients that are changed.
    pub changed: Vec<String>,
    /// Clients that are as the file says already.
    pub unchanged: usize,
    /// What was not taken, in the order of the file.
    pub left: Vec<DhcpdLeft>,
    /// True if it was done; false if it was only tried, or the file cannot be understood.
    pub done: bool,
}

/// A statement that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DhcpdLeft {
    /// Its line, from 1.
    pub line: usize,
    /// Its first words.
    pub what: String,
    /// Why.
    pub reason: String,
}

impl Operations {
    /// Takes over the subnets and hosts of a `dhcpd.conf`. What cannot be taken is told and left
    /// out; a file whose form is broken is left out as a whole. With `dry_run` nothing is done.
    ///
    /// # Errors
    /// If the database cannot be used, or the site is not set up.
    pub async fn dhcpd_import(&self, text: &str, dry_run: bool) -> Result<DhcpdReport> {
        let statements = match parse::parse(text) {
            Ok(statements) => statements,
            Err(ParseError { line, reason }) => {
                let mut report = DhcpdReport::default();
                report.left.push(DhcpdLeft {
                    line,
                    what: "the whole file".to_owned(),
                    reason: reason.to_owned(),
                });
                return Ok(report);
            }
        };
        let (statements, actor) = (&statements, &*self.actor);
        let imported = self
            .store()
            .await?
            .transact(|tx| import(tx, statements, dry_run, actor))
            .await;
        self.reported(imported).await
    }
}

async fn import(
    mut tx: Tx,
    statements: &[Statement],
    dry_run: bool,
    actor: &str,
) -> std::result::Result<DhcpdReport, Undone<DhcpdReport>> {
    let mut found = Found::default();
    found.walk(statements, &Inherited::default());
    let known = tx.subnet_list().await?;
    let mode = known.first().map(|subnet| subnet.mode).unwrap_or_default();
    let mut report = DhcpdReport::default();
    for (line, mut subnet) in found.subnets {
        let what = format!("subnet {}", subnet.network);
        let overlaps = |other: &Subnet| {
            let (a, b) = (other.network, subnet.network);
            a.contains(&b.network()) || b.contains(&a.network())
        };
        if known.iter().any(overlaps) {
            found
                .left
                .push(left(line, what, "the site has this network already"));
            continue;
        }
        if mode == DhcpMode::Proxy {
            subnet.mode = mode;
            subnet.pool = None;
        }
        tx.subnet_insert(&subnet).await?;
        report.subnets.push(subnet.network);
    }
    let (plan, before) = Plan::of_hosts(&mut tx, found.hosts, &mut found.left).await?;
    let done = plan.report(&before);
    report.added = done.added;
    report.changed = done.changed;
    report.unchanged = done.unchanged;
    report.left = found.left;
    report.left.sort_by_key(|left| left.line);
    if dry_run {
        return Err(Undone::Reported(report));
    }
    plan.apply(&mut tx, &before).await?;
    let details = json!({
        "subnets": report.subnets, "added": report.added, "changed": report.changed,
    });
    record(&mut tx, actor, "dhcpd.import", "clients", details).await?;
    report.done = true;
    Ok(report)
}

pub(super) fn left(line: usize, what: impl Into<String>, reason: impl Into<String>) -> DhcpdLeft {
    DhcpdLeft {
        line,
        what: what.into(),
        reason: reason.into(),
    }
}

/// What holds for everything inside a block.
#[derive(Clone, Debug, Default)]
struct Inherited {
    router: Option<Ipv4Addr>,
    dns: Vec<Ipv4Addr>,
    lease_secs: Option<u32>,
}

#[derive(Debug, Default)]
struct Found {
    subnets: Vec<(usize, Subnet)>,
    hosts: Vec<Wanted>,
    left: Vec<DhcpdLeft>,
}

impl Found {
    fn walk(&mut self, statements: &[Statement], outer: &Inherited) {
        let mut inherited = outer.clone();
        for statement in statements {
            self.read_option(statement, &mut inherited);
        }
        for statement in statements {
            let Some(block) = &statement.block else {
                continue;
            };
            match words(statement).as_slice() {
                ["host", name] => self.read_host(statement.line, name, block),
                ["subnet", network, "netmask", mask] => {
                    self.read_subnet(statement.line, (network, mask), block, &inherited);
                }
                ["group" | "shared-network", ..] => self.walk(block, &inherited),
                _ => self.leave(statement, "DESS has nothing like it"),
            }
        }
    }

    fn leave(&mut self, statement: &Statement, reason: &str) {
        let what = words(statement);
        let what = what[..what.len().min(4)].join(" ");
        self.left.push(left(statement.line, what, reason));
    }

    /// Takes what has no block: an option that holds here, or something that is not taken.
    fn read_option(&mut self, statement: &Statement, inherited: &mut Inherited) {
        if statement.block.is_some() {
            return;
        }
        match words(statement).as_slice() {
            ["option", "routers", router, rest @ ..] => {
                inherited.router = router.parse().ok();
                if inherited.router.is_none() || !rest.is_empty() {
                    self.leave(statement, "only one router is taken, by its address");
                }
            }
            ["option", "domain-name-servers", servers @ ..] => {
                inherited.dns = servers
                    .iter()
                    .filter_map(|text| text.parse().ok())
                    .collect();
                if inherited.dns.len() < servers.len() {
                    self.leave(statement, "name servers are taken by their addresses only");
                }
            }
            ["default-lease-time", secs] => match secs.parse() {
                Ok(secs) => inherited.lease_secs = Some(LEASE_SECS_MIN.max(secs)),
                Err(_) => self.leave(statement, "this is no number of seconds"),
            },
            ["range", ..] => {}
            ["filename" | "next-server", ..] | ["option", "root-path", ..] => {
                self.leave(statement, "DESS says itself what a client boots");
            }
            ["include", ..] => self.leave(statement, "import that file too"),
            _ => self.leave(statement, "DESS has nothing like it, or does it by itself"),
        }
    }

    fn read_host(&mut self, line: usize, name: &str, block: &[Statement]) {
        let (mut mac, mut address) = (None, None);
        for statement in block {
            match words(statement).as_slice() {
                ["hardware", "ethernet", text] => mac = text.parse::<MacAddr>().ok(),
                ["fixed-address", first, rest @ ..] => {
                    address = first.parse::<Ipv4Addr>().ok();
                    if address.is_none() {
                        self.leave(statement, "a name is not looked up: write its address");
                    } else if !rest.is_empty() {
                        self.leave(statement, "a client has one address: the first was taken");
                    }
                }
                ["option", "host-name", _] => {}
                ["filename" | "next-server", ..] | ["option", "root-path", ..] => {
                    self.leave(statement, "DESS says itself what a client boots");
                }
                _ => self.leave(statement, "DESS has nothing like it for one client"),
            }
        }
        match mac {
            Some(mac) => self.hosts.push(Wanted {
                line,
                mac,
                name: name.to_owned(),
                address,
            }),
            None => {
                let reason = "it has no \"hardware ethernet\" with a MAC address";
                self.left.push(left(line, format!("host {name}"), reason));
            }
        }
    }

    fn read_subnet(
        &mut self,
        line: usize,
        (network, mask): (&str, &str),
        block: &[Statement],
        outer: &Inherited,
    ) {
        let network = network
            .parse()
            .ok()
            .zip(mask.parse().ok())
            .and_then(|(network, mask)| Ipv4Net::with_netmask(network, mask).ok());
        let Some(network) = network else {
            let reason = "this is no network and netmask";
            return self.left.push(left(line, "subnet", reason));
        };
        let mut here = outer.clone();
        let mut pool = None;
        for statement in block {
            self.read_range(statement, network, &mut pool);
            match (&statement.block, words(statement).as_slice()) {
                (None, _) => self.read_option(statement, &mut here),
                (Some(pools), ["pool"]) => {
                    for statement in pools {
                        self.read_range(statement, network, &mut pool);
                    }
                }
                (Some(_), _) => {}
            }
        }
        // Hosts and groups that stand inside.
        let inside: Vec<Statement> = block
            .iter()
            .filter(|statement| statement.block.is_some() && words(statement) != ["pool"])
            .cloned()
            .collect();
        self.walk(&inside, &here);
        let subnet = Subnet {
            network: network.trunc(),
            mode: DhcpMode::Server,
            pool,
            router: here.router.filter(|router| network.contains(router)),
            dns: here.dns,
            lease_secs: here.lease_secs.unwrap_or(LEASE_SECS),
        };
        self.subnets.push((line, subnet));
    }

    fn read_range(
        &mut self,
        statement: &Statement,
        network: Ipv4Net,
        pool: &mut Option<AddressRange>,
    ) {
        let words = words(statement);
        let Some(("range", ends)) = words.split_first().map(|(first, rest)| (*first, rest)) else {
            return;
        };
        let ends: Vec<Ipv4Addr> = ends.iter().filter_map(|text| text.parse().ok()).collect();
        let range = ends.first().map(|&first| AddressRange {
            first,
            last: ends.get(1).copied().unwrap_or(first),
        });
        match range {
            Some(range)
                if network.contains(&range.first)
                    && network.contains(&range.last)
                    && range.first <= range.last =>
            {
                if pool.is_none() {
                    *pool = Some(range);
                } else {
                    self.leave(statement, "a subnet has one pool: the first was taken");
                }
            }
            _ => self.leave(statement, "these are no addresses of the subnet"),
        }
    }
}

fn words(statement: &Statement) -> Vec<&str> {
    statement.words.iter().map(String::as_str).collect()
}

#[cfg(test)]
mod tests;
