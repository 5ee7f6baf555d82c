//! A site with one image and a few clients, served on 127.0.0.1.

use std::fs;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use dess_disk::{ImageFormat, ImportRequest, ImportSource, import, version_directory};
use dess_model::host::{Paths, request, write_snapshot};
use dess_model::{
    BootPolicy, ClientEntry, ClientId, DataAccess, DataDiskEntry, DhcpMode, DiskId, DiskIdentity,
    Event, EventKind, ImageId, IscsiIdentity, MacAddr, Registration, SNAPSHOT_FORMAT, Secret,
    ServerEntry, SiteSnapshot, Subnet, TargetReply, TargetRequest, Timestamp, VersionEntry,
    VersionRef,
};
use dess_target::{TargetOptions, serve};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::initiator::Login;

pub const IMAGE_BYTES: usize = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// Files, snapshot and event socket of a site, without a running service.
pub struct Site {
    pub paths: Paths,
    pub snapshot: SiteSnapshot,
    pub portal: SocketAddr,
    pub image: Vec<u8>,
    events: UnixDatagram,
    _directory: tempfile::TempDir,
}

/// A service that runs in this process.
pub struct Running {
    pub runtime: Runtime,
    cancel: CancellationToken,
    served: Option<tokio::task::JoinHandle<Result<(), dess_target::ServeError>>>,
}

fn uuid(number: u32) -> String {
    format!("00000000-0000-7000-8000-{number:012}")
}

pub fn client_id(seat: u32) -> ClientId {
    uuid(seat).parse().unwrap()
}

fn client(seat: u32, policy: BootPolicy, version: VersionRef) -> ClientEntry {
    ClientEntry {
        id: client_id(seat),
        mac: MacAddr([2, 0, 0, 0, 0, seat as u8]),
        seat,
        name: format!("pc-{seat}"),
        approved: true,
        address: None,
        version: Some(version),
        policy,
        reset_epoch: 0,
        boot_file: None,
        iscsi: IscsiIdentity {
            target_iqn: format!("iqn.2026-01.test:disk{seat}"),
            initiator_iqn: format!("iqn.2026-01.test:pc{seat}"),
            chap_user: format!("pc{seat}"),
            chap_secret: Secret::new(format!("secret-of-pc-{seat}")),
        },
        disk: DiskIdentity {
            id: uuid(100 + seat).parse::<DiskId>().unwrap(),
            serial: format!("serial{seat}"),
            naa: 0x3000_0000_0000_0000 | u64::from(seat),
        },
        data_disks: Vec::new(),
        group: None,
        limits: Default::default(),
        overlay_limits: Default::default(),
    }
}

fn snapshot(
    paths: &Paths,
    version: VersionRef,
    portal: SocketAddrV4,
    clients: Vec<ClientEntry>,
) -> SiteSnapshot {
    let name = version_directory(&paths.images(), version);
    SiteSnapshot {
        format: SNAPSHOT_FORMAT,
        revision: 1,
        compiled_at: Timestamp(1),
        site_name: "test".into(),
        registration: Registration::Auto,
        server: ServerEntry {
            address: *portal.ip(),
            interfaces: vec![],
            http_port: 80,
            portals: vec![portal],
        },
        subnets: vec![Subnet {
            network: "127.0.0.0/8".parse().unwrap(),
            mode: DhcpMode::Server,
            pool: None,
            router: None,
            dns: vec![],
            lease_secs: 600,
        }],
        clients,
        versions: vec![VersionEntry {
            version,
            image_name: "test".into(),
            directory: name
                .strip_prefix(paths.images())
                .unwrap()
                .to_str()
                .unwrap()
                .into(),
            size_bytes: IMAGE_BYTES as u64,
        }],
        groups: vec![],
        pool: Default::default(),
    }
}

impl Site {
    /// Seat 1 is volatile, seat 2 persistent, seat 3 not approved, seat 4 without an image.
    pub fn new() -> Self {
        Self::new_in(&std::env::temp_dir())
    }

    /// The same, with its files below `directory`.
    pub fn new_in(directory: &Path) -> Self {
        let directory = tempfile::tempdir_in(directory).unwrap();
        let paths = Paths {
            state: directory.path().join("state"),
            runtime: directory.path().join("run"),
        };
        fs::create_dir_all(&paths.state).unwrap();
        fs::create_dir_all(&paths.runtime).unwrap();
        let image: Vec<u8> = (0..IMAGE_BYTES / 4)
            .flat_map(|word| (word as u32).wrapping_mul(0x9e37_79b9).to_le_bytes())
            .collect();
        let version = VersionRef {
            image: uuid(50).parse::<ImageId>().unwrap(),
            number: 1,
        };
        import_image(&paths, version, &image, directory.path());
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let portal = SocketAddrV4::new([127, 0, 0, 1].into(), port);
        let mut clients: Vec<_> = (1..=4)
            .map(|seat| {
                let policy = match seat {
                    2 => BootPolicy::Persistent,
                    _ => BootPolicy::Volatile,
                };
                client(seat, policy, version)
            })
            .collect();
        clients[2].approved = false;
        clients[3].version = None;
        let snapshot = snapshot(&paths, version, portal, clients);
        write_snapshot(&paths.snapshot(), &snapshot).unwrap();
        let events = UnixDatagram::bind(paths.events()).unwrap();
        events.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            paths,
            snapshot,
            portal: portal.into(),
            image,
            events,
            _directory: directory,
        }
    }

    /// Imports one more version; the snapshot knows it from its next publication on.
    pub fn add_version(&mut self, image: u32, number: u32, content: &[u8]) -> VersionRef {
        let version = VersionRef {
            image: uuid(image).parse::<ImageId>().unwrap(),
            number,
        };
        import_image(&self.paths, version, content, &self.paths.state);
        self.snapshot.versions.push(VersionEntry {
            version,
            image_name: format!("image{image}"),
            directory: format!("{}/{number}", version.image.simple()),
            size_bytes: content.len() as u64,
        });
        version
    }

    /// A data disk of a seat.
    pub fn data_disk(
        &self,
        seat: u32,
        lun: u8,
        version: VersionRef,
        access: DataAccess,
    ) -> DataDiskEntry {
        let client = self.snapshot.client_by_id(client_id(seat)).unwrap();
        DataDiskEntry {
            lun,
            version,
            access,
            disk: client.disk.data_disk(version.image),
        }
    }

    /// How seat `seat` logs in.
    pub fn login(&self, seat: u32) -> Login {
        let client = self.snapshot.client_by_id(client_id(seat)).unwrap();
        Login {
            portal: self.portal,
            initiator: client.iscsi.initiator_iqn.clone(),
            target: client.iscsi.target_iqn.clone(),
            isid: [0x80, 0, 0, 0, 0, seat as u8],
            chap: Some((
                client.iscsi.chap_user.clone(),
                client.iscsi.chap_secret.expose().to_owned(),
            )),
        }
    }

    /// Replaces the snapshot after a change.
    pub fn publish(&mut self, change: impl FnOnce(&mut SiteSnapshot)) {
        self.snapshot.revision += 1;
        change(&mut self.snapshot);
        write_snapshot(&self.paths.snapshot(), &self.snapshot).unwrap();
    }

    /// Waits for the first event that `pick` takes.
    pub fn event<T>(&self, mut pick: impl FnMut(EventKind) -> Option<T>) -> T {
        let mut buffer = vec![0; 65536];
        loop {
            let length = self.events.recv(&mut buffer).expect("an event in time");
            let event: Event = serde_json::from_slice(&buffer[..length]).unwrap();
            if let Some(picked) = pick(event.kind) {
                return picked;
            }
        }
    }

    /// Starts the service in this process.
    pub fn start(&self) -> Running {
        self.start_with(|_| {})
    }

    /// Starts the service with other options.
    pub fn start_with(&self, change: impl FnOnce(&mut TargetOptions)) -> Running {
        let runtime = Runtime::new().unwrap();
        let cancel = CancellationToken::new();
        let (ready, is_ready) = oneshot::channel();
        let mut options = TargetOptions::new(self.paths.clone());
        change(&mut options);
        let served = runtime.spawn(serve(options, ready, cancel.clone()));
        let ready = runtime.block_on(is_ready);
        if ready.is_err() {
            panic!("the service did not start: {:?}", runtime.block_on(served));
        }
        Running {
            runtime,
            cancel,
            served: Some(served),
        }
    }

    /// Waits until somebody accepts on the portal.
    pub fn wait_for_portal(&self) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.portal).is_err() {
            assert!(Instant::now() < deadline, "nobody listens in time");
            std::thread::yield_now();
        }
    }
}

impl Running {
    pub fn ask(&self, site: &Site, question: &TargetRequest) -> TargetReply {
        let path = site.paths.target_control();
        self.runtime
            .block_on(request(&path, question, PATIENCE))
            .unwrap()
    }

    pub fn power_on(&self, site: &Site, seat: u32) -> TargetReply {
        let client = client_id(seat);
        self.power_on_from(site, client, [127, 0, 0, 1].into())
    }

    pub fn power_on_from(&self, site: &Site, client: ClientId, peer: IpAddr) -> TargetReply {
        self.ask(site, &TargetRequest::PowerOn { client, peer })
    }

    pub fn reset(&self, site: &Site, seat: u32, force: bool) -> TargetReply {
        let reset = TargetRequest::Reset {
            client: client_id(seat),
            force,
            epoch: 1,
        };
        self.ask(site, &reset)
    }

    /// Stops the service in order.
    pub fn stop(mut self) {
        self.cancel.cancel();
        let served = self.served.take().unwrap();
        self.runtime.block_on(served).unwrap().unwrap();
    }
}

fn import_image(paths: &Paths, version: VersionRef, image: &[u8], scratch: &Path) {
    let source = scratch.join("source.raw");
    fs::write(&source, image).unwrap();
    let request = ImportRequest {
        images: paths.images(),
        version,
        source: ImportSource {
            path: source,
            format: Some(ImageFormat::Raw),
            end_marker: None,
        },
        comment: String::new(),
        created: Timestamp(1),
    };
    import(&request, &mut |_| {}, &|| false).unwrap();
}
