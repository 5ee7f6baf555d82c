//! One interface: its sockets and the tasks that serve them.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dess_model::{EventKind, Timestamp};
use nix::net::if_::if_nametoindex;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::probe::{Prober, neighbour};
use super::router_advertisement::{self as advertisement, ADVERTISEMENT};
use super::socket::{Sharing, bind};
use super::{DhcpOptions, ServeError, Shared};
use crate::exchange::{Arrival, CLIENT_PORT, PROXY_PORT, SERVER_PORT};
use crate::lease::{Binding, BindingState};

/// How often addresses are probed ahead: what was taken is soon replaced.
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// Datagrams handled before other tasks get their turn.
const BATCH_MAX: usize = 64;
/// How often overheard datagrams are looked at.
const OVERHEAR_EVERY: Duration = Duration::from_millis(100);
/// Most of them looked at each time.
const OVERHEAR_MAX: usize = 128;
/// Longest datagram read; longer ones are cut, and then malformed.
const DATAGRAM_BYTES_MAX: usize = 4096;
/// The kernel's neighbour table.
const NEIGHBOURS: &str = "/proc/net/arp";

/// The sockets of one interface.
pub(crate) struct Link {
    name: Arc<str>,
    /// The kernel's number of the interface; another one under the same name is another interface.
    index: Option<u32>,
    addresses: Arc<Mutex<Arc<[Ipv4Addr]>>>,
    server: Arc<UdpSocket>,
    proxy: Arc<UdpSocket>,
    overhearing: Option<Arc<UdpSocket>>,
    solicitations: Option<Arc<UdpSocket>>,
}

impl Link {
    /// Binds the interface's sockets. Those that are good to have only are done without, and
    /// logged, if they cannot be bound.
    pub(crate) fn bind(name: &str, options: &DhcpOptions) -> Result<Self, ServeError> {
        let server = bind(name, SERVER_PORT, Sharing::Exclusive)?;
        let proxy = bind(name, PROXY_PORT, Sharing::Exclusive)?;
        let overhearing = bind(name, CLIENT_PORT, Sharing::Shared)
            .inspect_err(|error| {
                tracing::warn!(%error, "foreign DHCP servers on {name} will not be noticed");
            })
            .ok();
        let solicitations = options
            .router_advertisement
            .then(|| advertisement::bind(name))
            .and_then(|bound| {
                bound
                    .inspect_err(|error| {
                        tracing::info!(%error, "no IPv6 on {name}: booting clients get no router advertisement");
                    })
                    .ok()
            });
        Ok(Self {
            name: name.into(),
            index: if_nametoindex(name).ok(),
            addresses: Arc::new(Mutex::new(Arc::new([]))),
            server: Arc::new(server),
            proxy: Arc::new(proxy),
            overhearing: overhearing.map(Arc::new),
            solicitations: solicitations.map(Arc::new),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// True if there is another interface of this name now (a VLAN or bridge made anew).
    pub(crate) fn is_replaced(&self) -> bool {
        if_nametoindex(&*self.name).is_ok_and(|index| Some(index) != self.index)
    }

    /// Tells the link its IPv4 addresses.
    pub(crate) fn set_addresses(&self, addresses: Vec<Ipv4Addr>) {
        let mut held = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if **held != *addresses {
            *held = addresses.into();
        }
    }

    /// Starts the tasks of this link.
    pub(crate) fn spawn(&self, shared: &Arc<Shared>, tasks: &mut JoinSet<Result<(), ServeError>>) {
        for (socket, port) in [(&self.server, SERVER_PORT), (&self.proxy, PROXY_PORT)] {
            tasks.spawn(self.listener(shared, socket, port).serve());
        }
        if let Some(socket) = &self.overhearing {
            tasks.spawn(self.listener(shared, socket, CLIENT_PORT).overhear());
        }
        if let Some(socket) = &self.solicitations {
            let listener = self.listener(shared, socket, 0);
            tasks.spawn(listener.advertise());
        }
        if shared.options.address_probe {
            let listener = self.listener(shared, &self.server, 0);
            tasks.spawn(listener.probe());
        }
    }

    fn listener(&self, shared: &Arc<Shared>, socket: &Arc<UdpSocket>, port: u16) -> Listener {
        Listener {
            name: Arc::clone(&self.name),
            addresses: Arc::clone(&self.addresses),
            shared: Arc::clone(shared),
            socket: Arc::clone(socket),
            port,
        }
    }
}

/// One socket's task.
struct Listener {
    name: Arc<str>,
    addresses: Arc<Mutex<Arc<[Ipv4Addr]>>>,
    shared: Arc<Shared>,
    socket: Arc<UdpSocket>,
    port: u16,
}

impl Listener {
    fn local(&self) -> Arc<[Ipv4Addr]> {
        let held = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&held)
    }

    /// Answers clients.
    async fn serve(self) -> Result<(), ServeError> {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            self.readable().await?;
            self.shared.refresh();
            let local = self.local();
            let mut events = Vec::new();
            for _ in 0..BATCH_MAX {
                let Some((length, source)) = self.receive(&mut buffer) else {
                    break;
                };
                let Some(arrival) = self.arrival(&local, source) else {
                    continue;
                };
                let outcome = self
                    .shared
                    .exchange()
                    .handle_datagram(arrival, &buffer[..length]);
                events.extend(self.shared.committer.carry_out(&self.socket, outcome));
            }
            for event in events {
                self.shared.events.send(event);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Listens for servers that are not ours. Our own broadcasts come back here, thousands a
    /// second when a room powers on: so it looks only now and then, and not at all of them. A
    /// foreign server that matters answers again.
    async fn overhear(self) -> Result<(), ServeError> {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let mut timer = tokio::time::interval(OVERHEAR_EVERY);
        loop {
            timer.tick().await;
            let local = self.local();
            for _ in 0..OVERHEAR_MAX {
                let Some((length, source)) = self.receive(&mut buffer) else {
                    break;
                };
                let Some(arrival) = self.arrival(&local, source) else {
                    continue;
                };
                let sender = *arrival.source.ip();
                if local.contains(&sender) {
                    continue;
                }
                let table = fs::read_to_string(NEIGHBOURS).unwrap_or_default();
                let mac = neighbour(&table, &self.name, sender);
                let event =
                    self.shared
                        .exchange()
                        .handle_overheard(arrival, &buffer[..length], mac);
                if let Some(event) = event {
                    self.shared.events.send(event);
                }
            }
        }
    }

    /// Tells booting clients that there is no IPv6 router.
    async fn advertise(self) -> Result<(), ServeError> {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            self.readable().await?;
            while let Some((length, source)) = self.receive(&mut buffer) {
                let Some(mac) = advertisement::solicitor(source, &buffer[..length]) else {
                    continue;
                };
                let now = self.shared.clock.now();
                if !self.shared.exchange().is_booting(mac, now) {
                    continue;
                }
                match self.socket.try_send_to(&ADVERTISEMENT, source) {
                    Ok(_) => {
                        tracing::debug!(client.mac = %mac, "told {mac} that there is no IPv6 router");
                    }
                    Err(error) => tracing::debug!(%error, "cannot answer a router solicitation"),
                }
            }
        }
    }

    /// Keeps a few addresses probed ahead.
    async fn probe(self) -> Result<(), ServeError> {
        let socket = match bind(&self.name, 0, Sharing::Exclusive) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "addresses on {} are not probed", self.name);
                // Nothing could be offered to anybody new.
                self.shared.exchange().doubt(Timestamp(0));
                return Ok(());
            }
        };
        let mut prober = Prober::new(&self.name, socket);
        let mut timer = tokio::time::interval(PROBE_EVERY);
        loop {
            timer.tick().await;
            let now = self.shared.clock.now();
            let wanted = self.shared.exchange().poll_probes(now, &self.local());
            prober.start(Instant::now(), wanted);
            if !prober.is_busy() {
                continue;
            }
            let table = fs::read_to_string(NEIGHBOURS).unwrap_or_default();
            for finding in prober.findings(Instant::now(), &table) {
                let found =
                    self.shared
                        .exchange()
                        .handle_probe(now, finding.address, finding.occupant);
                if let Some(binding) = found {
                    log_occupant(&binding);
                    if binding.state == BindingState::Quarantined {
                        self.shared.events.send(EventKind::AddressConflict {
                            address: binding.address,
                            found_by: None,
                            used_by: Some(binding.mac),
                        });
                    }
                    self.shared.committer.write(&[binding]);
                }
            }
        }
    }

    async fn readable(&self) -> Result<(), ServeError> {
        self.socket
            .readable()
            .await
            .map_err(|source| ServeError::Receive {
                interface: self.name.to_string(),
                source,
            })
    }

    /// The next datagram that is already there.
    fn receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        loop {
            match self.socket.try_recv_from(buffer) {
                Ok(received) => return Some(received),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // E.g. an ICMP error about an earlier answer, or the interface went down.
                Err(error) => {
                    tracing::debug!(%error, "receive on {}", self.name);
                    if error.kind() != io::ErrorKind::ConnectionRefused {
                        return None;
                    }
                }
            }
        }
    }

    fn arrival<'a>(&'a self, local: &'a [Ipv4Addr], source: SocketAddr) -> Option<Arrival<'a>> {
        let SocketAddr::V4(source) = source else {
            return None;
        };
        Some(Arrival {
            now: self.shared.clock.now(),
            interface: &self.name,
            local,
            source,
            port: self.port,
        })
    }
}

fn log_occupant(binding: &Binding) {
    let &Binding { mac, address, .. } = binding;
    if binding.state == BindingState::Leased {
        tracing::warn!(
            lease.address = %address,
            occupant.mac = %mac,
            "{mac} uses {address}; its lease is taken for lost in the power failure and renewed"
        );
        return;
    }
    tracing::warn!(
        lease.address = %address,
        occupant.mac = %mac,
        "{mac} uses {address} of the pool without a lease; nobody gets it for a while"
    );
}
