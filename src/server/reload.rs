//! Files that may change while the server runs: looked at from time to time, and at once on SIGHUP.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

/// Something that is made of files.
pub(crate) trait Reload: Send + Sync {
    /// Looks at its files and takes what changed; what cannot be taken is logged, and what was there stays.
    fn reload(&self);
}

/// Looks at files until it is dropped.
#[derive(Debug)]
pub(crate) struct Reloader(JoinHandle<()>);

impl Reloader {
    /// From here on SIGHUP means to look, also when there is nothing to look at: it would end the process.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub(crate) fn start(watched: Vec<Arc<dyn Reload>>, interval: Duration) -> anyhow::Result<Self> {
        let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        // Not with zero, which would never rest.
        let interval = interval.max(Duration::from_millis(100));
        Ok(Self(tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = hangup.recv() => tracing::info!("SIGHUP: looking at certificates and callers"),
                    () = tokio::time::sleep(interval), if !watched.is_empty() => {}
                }
                for one in &watched {
                    // A few small files: not worth a thread.
                    one.reload();
                }
            }
        })))
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        self.0.abort();
    }
}
