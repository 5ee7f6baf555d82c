//! Serves one raw file: `serve_file ADDR:PORT IMAGE IQN [--read-only] [--thin] [--overlay DIR] [--chap USER:SECRET]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use dess_model::Secret;
use dess_target::{Geometry, StandaloneChap, StandaloneOptions, serve_file};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let usage = "serve_file ADDR:PORT IMAGE IQN [--read-only] [--thin] [--overlay DIR] [--chap USER:SECRET]";
    let (Some(listen), Some(image), Some(iqn)) = (words.next(), words.next(), words.next()) else {
        return Err(usage.into());
    };
    let mut options = StandaloneOptions {
        listen: vec![listen.parse()?],
        image: PathBuf::from(image),
        overlay: None,
        read_only: false,
        geometry: Geometry::Native,
        iqn,
        thin: false,
        chap: None,
        disk_threads: 4,
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--read-only" => options.read_only = true,
            "--thin" => options.thin = true,
            "--overlay" => options.overlay = Some(words.next().ok_or(usage)?.into()),
            "--chap" => {
                let pair = words.next().ok_or(usage)?;
                let (user, secret) = pair.split_once(':').ok_or(usage)?;
                options.chap = Some(StandaloneChap {
                    initiator: (user.to_owned(), Secret::new(secret)),
                    target: None,
                });
            }
            _ => return Err(usage.into()),
        }
    }
    let (ready, bound) = oneshot::channel();
    tokio::spawn(async move {
        let bound: Result<Vec<SocketAddr>, _> = bound.await;
        if let Some(first) = bound.unwrap_or_default().first() {
            // The line that scripts wait for.
            println!("ready {first}");
        }
    });
    serve_file(options, ready, CancellationToken::new()).await?;
    Ok(())
}
