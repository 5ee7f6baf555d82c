//! Running one service as a process: options, readiness, signals.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use dess_boot::server::BootOptions;
use dess_dhcp::server::DhcpOptions;
use dess_model::SiteSnapshot;
use dess_model::host::{Paths, SnapshotReader};
use dess_node::NodeOptions;
use dess_node::operations::Operations;
use dess_target::{StandaloneOptions, TargetOptions};
use dess_tftp::server::ServeOptions as TftpOptions;
use dess_web::WebOptions;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::arguments::{IscsiCommand, IscsiServeArguments};
use crate::boot_files::TftpFiles;
use crate::chap_file;
use crate::config::Config;

/// A token that SIGINT and SIGTERM cancel. SIGHUP is ignored: a terminal that goes away (an ssh
/// line that drops) must not take the room with it.
pub(crate) fn stop_signal() -> Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let cancel = CancellationToken::new();
    let stopped = cancel.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                Some(()) = hangup.recv() => {}
            }
        }
        stopped.cancel();
    });
    Ok(cancel)
}

/// Makes the state and runtime directories, readable only by their owner.
pub(crate) fn make_directories(paths: &Paths) -> Result<()> {
    let wanted = [
        paths.state.clone(),
        paths.runtime.clone(),
        paths.images(),
        paths.overlays(),
        paths.boot_files(),
        paths.live_maps(),
    ];
    wanted.iter().try_for_each(|path| make_directory(path))
}

fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| {
            format!(
                "cannot make the directory {}; run as root, or choose another",
                path.display()
            )
        })?;
    fs::metadata(path)
        .map(drop)
        .with_context(|| format!("cannot use {}", path.display()))
}

/// What a running service is given: told when ready, stopped by a signal.
struct Running {
    ready: oneshot::Sender<()>,
    cancel: CancellationToken,
}

/// Each client takes a socket and the files of its disk: all open files that this user may have are
/// ours. (The usual soft limit of 1024 is for programs that use `select`.)
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn start(paths: &Paths) -> Result<Running> {
    make_directories(paths)?;
    raise_file_limit();
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        // The supervisor must not leave services behind, even if it is killed.
        set_pdeathsig(Signal::SIGTERM).context("cannot follow the supervisor's end")?;
    }
    let (ready, bound) = oneshot::channel();
    tokio::spawn(async move {
        if bound.await.is_ok()
            && let Err(error) = sd_notify::notify(&[NotifyState::Ready])
        {
            tracing::warn!(%error, "cannot say that the service is ready");
        }
    });
    if let Some(limit) = sd_notify::watchdog_enabled() {
        tokio::spawn(keep_alive(limit / 3));
    }
    Ok(Running {
        ready,
        cancel: stop_signal()?,
    })
}

/// Tells the watchdog of systemd (`WatchdogSec=`) that tasks still get their turn.
async fn keep_alive(every: Duration) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
            tracing::debug!(%error, "cannot tell the watchdog");
        }
    }
}

/// Threads of `dess iscsi serve` for reads that are not in memory, and as many for flushes.
const STANDALONE_DISK_THREADS: usize = 8;
/// How often a missing site snapshot is looked for.
const SNAPSHOT_POLL: Duration = Duration::from_millis(200);

/// `dess dhcp`
pub(crate) async fn dhcp(config: &Config) -> Result<ExitCode> {
    let paths = config.paths();
    let running = start(&paths)?;
    let options = DhcpOptions {
        router_advertisement: config.dhcp.router_advertisement,
        ..DhcpOptions::new(paths)
    };
    dess_dhcp::server::serve(options, running.ready, running.cancel).await?;
    Ok(ExitCode::SUCCESS)
}

/// `dess boot`: TFTP and HTTP side by side; the service ends when either does.
pub(crate) async fn boot(config: &Config) -> Result<ExitCode> {
    let paths = config.paths();
    let running = start(&paths)?;
    let Some(snapshot) = snapshot(&paths, &running.cancel).await else {
        return Ok(ExitCode::SUCCESS);
    };
    let server = &snapshot.server;
    let http = BootOptions::new((server.address, server.http_port).into(), paths);
    let files = Arc::new(TftpFiles(Arc::clone(&http.files)));
    let mut tftp = TftpOptions::new((server.address, config.boot.tftp_port).into(), files);
    tftp.own_address = Some(server.address.into());
    let events = http.events.clone();
    tftp.on_notice = Arc::new(move |notice| events.send(notice.into()));

    let both = running.cancel.child_token();
    let _end_both = both.clone().drop_guard();
    let (tftp_ready, tftp_bound) = oneshot::channel();
    let (http_ready, http_bound) = oneshot::channel();
    tokio::spawn(async move {
        if tftp_bound.await.is_ok() && http_bound.await.is_ok() {
            // The receiver is gone only if the service ends already.
            let _ = running.ready.send(());
        }
    });
    tokio::select! {
        ended = dess_tftp::server::serve(tftp, tftp_ready, both.clone()) => ended?,
        ended = dess_boot::server::serve(http, http_ready, both.clone()) => ended?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `dess iscsi`
pub(crate) async fn iscsi(config: &Config, command: Option<IscsiCommand>) -> Result<ExitCode> {
    if let Some(IscsiCommand::Serve(arguments)) = command {
        return serve_standalone(arguments).await;
    }
    let paths = config.paths();
    let running = start(&paths)?;
    let options = TargetOptions {
        listen: config.iscsi.listen.clone(),
        metrics: config.iscsi.metrics.clone(),
        ..TargetOptions::new(paths)
    };
    dess_target::serve(options, running.ready, running.cancel).await?;
    Ok(ExitCode::SUCCESS)
}

/// `dess iscsi serve`
async fn serve_standalone(arguments: IscsiServeArguments) -> Result<ExitCode> {
    let chap = arguments.chap.as_deref().map(chap_file::read).transpose()?;
    let options = StandaloneOptions {
        listen: arguments.listen,
        image: arguments.image,
        overlay: arguments.overlay,
        read_only: arguments.read_only,
        geometry: arguments.physical_block,
        iqn: arguments.iqn,
        thin: arguments.thin,
        chap,
        disk_threads: STANDALONE_DISK_THREADS,
    };
    raise_file_limit();
    let (ready, bound) = oneshot::channel();
    tokio::spawn(async move {
        let Ok(addresses) = bound.await else {
            return;
        };
        for address in addresses {
            println!("serving on {address}");
        }
    });
    dess_target::serve_file(options, ready, stop_signal()?).await?;
    Ok(ExitCode::SUCCESS)
}

/// `dess node`
pub(crate) async fn node(config: &Config) -> Result<ExitCode> {
    let paths = config.paths();
    let running = start(&paths)?;
    let database = config.database()?;
    let options = NodeOptions {
        paths,
        scrub: config.node.scrub(),
        database,
        backups_kept: config.database.backups_kept,
        retention: config.retention.retention(),
        probed: Some(config.endpoints()),
    };
    dess_node::serve(options, running.ready, running.cancel).await?;
    Ok(ExitCode::SUCCESS)
}

/// `dess web`
pub(crate) async fn web(config: &Config) -> Result<ExitCode> {
    let paths = config.paths();
    let running = start(&paths)?;
    let database = config.database()?;
    let options = WebOptions {
        operations: Operations::with_database(paths, database),
        listen: config.web.listen,
    };
    dess_web::serve(options, running.ready, running.cancel).await?;
    Ok(ExitCode::SUCCESS)
}

/// The site snapshot, waited for if the site is not set up yet; none if stopped meanwhile.
async fn snapshot(paths: &Paths, cancel: &CancellationToken) -> Option<Arc<SiteSnapshot>> {
    let reader = SnapshotReader::new(paths.snapshot());
    let mut told = false;
    loop {
        if let Some(snapshot) = reader.current() {
            return Some(snapshot);
        }
        if !told {
            tracing::info!("waiting for the site to be set up (dess init)");
            told = true;
        }
        cancel
            .run_until_cancelled(tokio::time::sleep(SNAPSHOT_POLL))
            .await?;
    }
}
