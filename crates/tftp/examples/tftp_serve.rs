//! Serves a directory, for measurements: `tftp_serve 127.0.0.1:6969 DIRECTORY`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use dess_tftp::server::{FileBody, FileSource, OpenError, ServeOptions, serve};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

struct Directory(PathBuf);

struct OnDisk {
    file: std::fs::File,
    length: u64,
}

impl FileSource for Directory {
    fn open(&self, name: &str, _: IpAddr) -> Result<Box<dyn FileBody>, OpenError> {
        let plain = |part| matches!(part, std::path::Component::Normal(_));
        let path = self.0.join(name);
        if !std::path::Path::new(name).components().all(plain) {
            return Err(OpenError::Refused(name.to_owned()));
        }
        let found = |error: io::Error| OpenError::NotFound(format!("{name}: {error}"));
        let file = std::fs::File::open(path).map_err(found)?;
        let length = file.metadata().map_err(found)?.len();
        Ok(Box::new(OnDisk { file, length }))
    }
}

impl FileBody for OnDisk {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(directory)) = (arguments.next(), arguments.next()) else {
        return Err("usage: tftp_serve ADDRESS:PORT DIRECTORY".into());
    };
    let address: SocketAddr = address.parse()?;
    let source = Arc::new(Directory(directory.into()));
    let (ready, _) = oneshot::channel();
    serve(
        ServeOptions::new(address, source),
        ready,
        CancellationToken::new(),
    )
    .await?;
    Ok(())
}
