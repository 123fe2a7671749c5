//! The stop signal, and an end whatever happens.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Starts to listen: from here on these signals no longer end the process by themselves.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one and names it.
    ///
    /// # Cancel safety
    /// No signal is lost.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// How long the process may take to end once it is time: what still runs then is left.
pub const LAST_STEPS: Duration = Duration::from_millis(700);

/// Ends the process after so long, should it not have ended by itself: no run of a model can keep it.
#[expect(clippy::exit, reason = "whoever should return hangs")]
pub fn end_after(time: Duration) {
    let end = move || {
        std::thread::sleep(time);
        tracing::warn!("ended although something still runs");
        std::process::exit(0);
    };
    let started = std::thread::Builder::new()
        .name("end".to_owned())
        .spawn(end);
    if let Err(error) = started {
        tracing::error!(%error, "no thread can be started that ends the process in time");
    }
}
