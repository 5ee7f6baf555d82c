//! The DHCP service alone, for measurements: `serve STATE RUNTIME`. The state directory holds a
//! site snapshot (`site.json`); the service ends with SIGTERM or SIGINT.

use std::path::PathBuf;

use dess_dhcp::server::{DhcpOptions, serve};
use dess_model::host::Paths;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(state), Some(runtime)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: serve STATE RUNTIME");
    };
    let runtime_threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime_threads.block_on(run(Paths { state, runtime }))
}

async fn run(paths: Paths) -> anyhow::Result<()> {
    let cancel = CancellationToken::new();
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let stop = cancel.clone();
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        if is_ready.await.is_ok() {
            println!("ready");
        }
        tokio::select! {
            _ = terminated.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        stop.cancel();
    });
    serve(DhcpOptions::new(paths), ready, cancel).await?;
    Ok(())
}
