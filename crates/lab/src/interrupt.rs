//! Ctrl-C and SIGTERM: end the waits, then remove this process's rooms whatever happens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, Once, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

static REQUESTED: AtomicBool = AtomicBool::new(false);
static INSTALL: Once = Once::new();
static LOCK: Mutex<()> = Mutex::new(());
static CHANGED: Condvar = Condvar::new();

/// How long the program has to end by itself (drops run) before its rooms are removed and it exits.
const GRACE: Duration = Duration::from_secs(20);

/// Starts listening for Ctrl-C, SIGTERM and SIGHUP; further calls do nothing.
///
/// From the first signal on [`requested`] is true and every bounded wait of this crate fails, so
/// that normal unwinding removes the rooms. A program that has not ended 20 s later, or that gets a
/// second signal, has its rooms removed for it and exits with status 130.
pub fn install() {
    INSTALL.call_once(|| {
        let started = std::thread::Builder::new()
            .name("lab-interrupt".to_owned())
            .spawn(listen);
        if let Err(error) = started {
            tracing::warn!("cannot watch for Ctrl-C: {error}");
        }
    });
}

/// Whether the person asked the program to stop.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Acquire)
}

/// Blocks until Ctrl-C, SIGTERM or SIGHUP.
pub fn wait() {
    install();
    let mut guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    while !requested() {
        guard = CHANGED.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Fails when [`requested`].
///
/// # Errors
/// "interrupted".
pub fn check() -> anyhow::Result<()> {
    anyhow::ensure!(!requested(), "interrupted");
    Ok(())
}

fn listen() {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::warn!("cannot watch for Ctrl-C: {error}");
            return;
        }
    };
    runtime.block_on(async {
        let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
            signal(SignalKind::hangup()),
        ) else {
            tracing::warn!("cannot watch for Ctrl-C");
            return;
        };
        any(&mut interrupt, &mut terminate, &mut hangup).await;
        announce();
        let second = any(&mut interrupt, &mut terminate, &mut hangup);
        let _ = tokio::time::timeout(GRACE, second).await;
    });
    if requested() {
        crate::room::remove_own();
        std::process::exit(130);
    }
}

fn announce() {
    let guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    REQUESTED.store(true, Ordering::Release);
    CHANGED.notify_all();
    drop(guard);
}

async fn any(interrupt: &mut Signal, terminate: &mut Signal, hangup: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
