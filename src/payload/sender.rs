//! Closed files on their way to the sink: again and again, under the same name, until they are there.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::PayloadError;
use super::partition::{self, Partition};
use super::sink::Sink;
use super::spool::Spool;
use super::tally::{Outcome, Tally};
use crate::jitter::jittered;

/// The waits after failures double from the first to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(60);

/// How often files are looked for that are too old.
const RETENTION: Duration = Duration::from_secs(3600);

/// See the module.
pub(super) struct Sender {
    pub(super) spool: Arc<Spool>,
    pub(super) sink: Sink,
    pub(super) tally: Tally,
    pub(super) keep: Option<Duration>,
    pub(super) stop: CancellationToken,
}

impl Sender {
    /// Sends until it is stopped, and then once more.
    pub(super) async fn run(self) {
        let mut wait = FIRST_WAIT;
        let mut is_failing = false;
        let mut swept: Option<Instant> = None;
        loop {
            let is_last = self.stop.is_cancelled();
            let sent = self.send_all().await;
            match &sent {
                Ok(()) if is_failing => {
                    tracing::info!(sink = self.sink.address(), "the payload log is sent again");
                }
                Err(error) if !is_failing => {
                    tracing::warn!(sink = self.sink.address(), %error, "files of the payload log cannot be sent and wait on this machine");
                }
                _ => {}
            }
            is_failing = sent.is_err();
            if is_last {
                return;
            }
            if !is_failing && swept.is_none_or(|swept| swept.elapsed() >= RETENTION) {
                swept = Some(Instant::now());
                self.sweep().await;
            }
            wait = if is_failing {
                (wait * 2).min(LAST_WAIT)
            } else {
                FIRST_WAIT
            };
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = self.spool.changed(), if !is_failing => {}
                () = tokio::time::sleep(jittered(wait, 0.2)), if is_failing => {}
                () = tokio::time::sleep(RETENTION), if !is_failing => {}
            }
        }
    }

    /// Sends every file that waits; the first one that fails ends it.
    async fn send_all(&self) -> Result<(), PayloadError> {
        for (path, waiting) in self.spool.waiting() {
            self.sink.put(&path, &self.spool.path(&path)).await?;
            self.spool.remove(&path);
            // Labels and bodies are no rows of the log.
            let is_row = path.starts_with("model=");
            if let Some(model) = partition::model_of(&path).filter(|_| is_row) {
                self.tally.count(&model, Outcome::Written, waiting.rows);
            }
        }
        Ok(())
    }

    /// Deletes files of hours that are too long ago.
    async fn sweep(&self) {
        let Some(keep) = self.keep else { return };
        if let Err(error) = delete_older(&self.sink, keep, SystemTime::now()).await {
            tracing::warn!(sink = self.sink.address(), %error, "old files of the payload log cannot be deleted");
        }
    }
}

/// Deletes the files of the log whose hour ended longer ago than this; others in the same place stay.
pub(super) async fn delete_older(
    sink: &Sink,
    keep: Duration,
    now: SystemTime,
) -> Result<(), PayloadError> {
    for path in sink.list().await? {
        let is_ours = path.ends_with(".parquet") && partition::model_of(&path).is_some();
        let is_old = Partition::of_path(&path).is_some_and(|hour| hour.is_older(keep, now));
        if is_ours && is_old && !path.starts_with(partition::LABELS) {
            sink.delete(&path).await?;
        }
    }
    Ok(())
}
