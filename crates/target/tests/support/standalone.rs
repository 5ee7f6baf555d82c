//! One sparse file, served by this process.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use dess_target::{Geometry, StandaloneOptions, serve_file};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::initiator::{Initiator, Login};

pub const IQN: &str = "iqn.2026-01.test:file";
pub const DISK_BYTES: u64 = 64 << 20;

/// The running service; it ends with this value.
pub struct Standalone {
    pub address: SocketAddr,
    /// All portals, the first of them is `address`.
    pub portals: Vec<SocketAddr>,
    pub image: PathBuf,
    options: StandaloneOptions,
    _directory: tempfile::TempDir,
    runtime: Option<Runtime>,
}

impl Standalone {
    pub fn serve(change: impl FnOnce(&mut StandaloneOptions)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("disk.raw");
        let file = fs::File::create(&image).unwrap();
        file.set_len(DISK_BYTES).unwrap();
        let mut options = StandaloneOptions {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            image: image.clone(),
            overlay: None,
            read_only: false,
            geometry: Geometry::Native,
            iqn: IQN.into(),
            thin: true,
            chap: None,
            disk_threads: 2,
        };
        change(&mut options);
        let (runtime, portals) = start(&options);
        Self {
            address: portals[0],
            portals,
            image,
            options,
            _directory: directory,
            runtime: Some(runtime),
        }
    }

    /// Ends the service without a farewell and starts it again, on another port.
    pub fn restart(&mut self) {
        drop(self.runtime.take());
        let (runtime, portals) = start(&self.options);
        self.runtime = Some(runtime);
        self.address = portals[0];
        self.portals = portals;
    }

    /// A session of the initiator port with this number.
    pub fn login(&self, number: u16) -> Initiator {
        let [high, low] = number.to_be_bytes();
        Initiator::login(&Login {
            portal: self.address,
            initiator: "iqn.2026-01.test:initiator".into(),
            target: IQN.into(),
            isid: [0x80, 0, 0, 0, high, low],
            chap: None,
        })
        .unwrap()
    }
}

fn start(options: &StandaloneOptions) -> (Runtime, Vec<SocketAddr>) {
    let runtime = Runtime::new().unwrap();
    let (ready, bound) = oneshot::channel();
    let service = serve_file(options.clone(), ready, CancellationToken::new());
    runtime.spawn(async move { service.await.unwrap() });
    let portals = runtime.block_on(bound).unwrap();
    (runtime, portals)
}
