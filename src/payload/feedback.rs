//! The labels that a running server takes: into files below `labels/`, by the same way as the log.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::PayloadError;
use super::labels::{self, Label, Sent};
use super::partition::{self, Partition};
use super::sender::Sender;
use super::sink::Sink;
use super::spool::Spool;
use super::tally::Tally;
use crate::error::{ErrorKind, Kinded};
use crate::model::ModelName;
use crate::runtime::background::Background;
use crate::telemetry::Metrics;

/// The directory of files that wait for the sink, below the cache.
pub(super) const SPOOL: &str = "feedback";

/// Labels that wait to be written: more are refused, and their clients come again.
const MOST: usize = 200_000;

/// Bytes of files that wait for the sink.
const MOST_WAITING: u64 = 1 << 30;

/// How long labels gather for one file.
const ROLL: Duration = Duration::from_secs(5);

/// What the labels need to begin.
#[derive(Debug)]
pub struct FeedbackParts {
    /// Where files go.
    pub sink: Sink,
    /// Below which files wait for the sink.
    pub cache: PathBuf,
    /// What this replica is called.
    pub replica: String,
    /// Where what goes wrong is counted.
    pub metrics: Arc<Metrics>,
}

/// Takes labels.
#[derive(Debug)]
pub struct Feedback {
    shared: Arc<Shared>,
    rest: Mutex<Option<(AbortOnDropHandle<()>, CancellationToken)>>,
}

#[derive(Debug)]
struct Shared {
    spool: Arc<Spool>,
    pending: Mutex<BTreeMap<ModelName, Vec<Sent>>>,
}

/// There is no room for more labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("labels cannot be stored at the moment: send them again later")]
pub struct NoRoom;

impl Kinded for NoRoom {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Overloaded
    }
}

impl Feedback {
    /// Starts to write and to send.
    ///
    /// # Errors
    /// When the spool cannot be written.
    pub fn start(parts: FeedbackParts) -> Result<Arc<Self>, PayloadError> {
        let root = parts.cache.join(SPOOL);
        let spool = Arc::new(Spool::open(&root, &parts.replica)?);
        let shared = Arc::new(Shared {
            spool: Arc::clone(&spool),
            pending: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let sender = Sender {
            spool,
            sink: parts.sink,
            tally: Tally::new(parts.metrics),
            keep: None,
            stop: stop.clone(),
        };
        let (writing, ended) = (Arc::clone(&shared), stop.clone());
        let work = async move {
            let write = async {
                while !ended.is_cancelled() {
                    tokio::select! {
                        () = tokio::time::sleep(ROLL) => {}
                        () = ended.cancelled() => {}
                    }
                    writing.write();
                }
            };
            tokio::join!(write, sender.run());
        };
        let background = Background::default();
        let task = async move {
            if let Err(error) = background.run(work).await {
                tracing::error!(%error, "labels are no longer stored");
            }
        };
        let task = AbortOnDropHandle::new(tokio::spawn(task));
        Ok(Arc::new(Self {
            shared,
            rest: Mutex::new(Some((task, stop))),
        }))
    }

    /// Takes the labels of a body: all of them, or none.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn take(
        &self,
        model: &ModelName,
        labels: Vec<Label>,
        caller: Option<Arc<str>>,
    ) -> Result<(), NoRoom> {
        if self.shared.spool.bytes() > MOST_WAITING {
            return Err(NoRoom);
        }
        let mut pending = self.shared.pending.lock();
        let waiting: usize = pending.values().map(Vec::len).sum();
        if waiting + labels.len() > MOST {
            return Err(NoRoom);
        }
        let sent = labels.into_iter().map(|label| (label, caller.clone()));
        pending.entry(model.clone()).or_default().extend(sent);
        Ok(())
    }

    /// Writes what waits, and sends it, but no longer than `patience`; the next run sends the rest.
    pub async fn close(&self, patience: Duration) {
        let rest = self.rest.lock().take();
        let Some((task, stop)) = rest else { return };
        // Onto the disk in any case.
        self.shared.write();
        stop.cancel();
        if tokio::time::timeout(patience, task).await.is_err() {
            tracing::warn!("labels wait on this machine for the next start");
        }
    }
}

impl Shared {
    /// Writes the labels that wait, a file for each model. Those that cannot be written wait on.
    fn write(&self) {
        let pending = std::mem::take(&mut *self.pending.lock());
        for (model, labels) in pending {
            if let Err(error) = self.write_file(&model, &labels) {
                tracing::error!(model = %model, %error, "labels cannot be written and wait in memory");
                let mut pending = self.pending.lock();
                pending.entry(model).or_default().splice(0..0, labels);
            }
        }
    }

    fn write_file(&self, model: &ModelName, labels: &[Sent]) -> Result<(), ParquetError> {
        let name = self.spool.name();
        let file = self.spool.open_path(&name);
        let hour = Partition::of(SystemTime::now()).directory(None);
        let path = format!(
            "{}/{}/{hour}/{name}",
            partition::LABELS,
            partition::of_model(model.as_str())
        );
        let written = write_parquet(&file, labels)
            .and_then(|()| Ok(self.spool.admit(&file, &path, labels.len() as u64)?));
        if written.is_err() {
            let _ = fs::remove_file(&file);
        }
        written
    }
}

fn write_parquet(file: &PathBuf, labels: &[Sent]) -> Result<(), ParquetError> {
    let batch = labels::batch(labels)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .build();
    let mut writer =
        ArrowWriter::try_new(File::create_new(file)?, batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.into_inner()?.sync_all()?;
    Ok(())
}
