//! The log of a running server: what it keeps, and the parts that carry it away.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::PayloadError;
use super::options::PayloadOptions;
use super::queue::Queue;
use super::record::Record;
use super::sender::Sender;
use super::sink::Sink;
use super::spool::Spool;
use super::tally::{Outcome, Tally};
use super::writer::Writer;
use crate::model::ModelName;
use crate::runtime::background::Background;
use crate::runtime::{machine, threads};
use crate::telemetry::Metrics;

/// The directory of files that wait for the sink, below the cache.
pub(super) const SPOOL: &str = "payload";

/// What the log needs to begin.
#[derive(Debug)]
pub struct PayloadParts {
    /// What the operator chose.
    pub options: PayloadOptions,
    /// Where files go.
    pub sink: Sink,
    /// Below which files wait for the sink.
    pub cache: PathBuf,
    /// What this replica is called.
    pub replica: String,
    /// Where rows are counted.
    pub metrics: Arc<Metrics>,
}

/// The log of a running server.
#[derive(Debug)]
pub struct PayloadLog {
    pub(super) tray: Tray,
    switches: Mutex<BTreeMap<ModelName, Arc<AtomicBool>>>,
    /// What is still to do when the server ends.
    rest: Mutex<Option<Rest>>,
}

/// Where records are laid. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Tray {
    pub(super) options: Arc<PayloadOptions>,
    queue: Arc<Queue>,
    pub(super) tally: Tally,
}

impl Tray {
    /// Takes a request, or counts its rows as dropped.
    pub(super) fn offer(&self, record: Record) {
        let (model, rows) = (record.model.name.clone(), record.rows() as u64);
        if !self.queue.push(record) {
            self.tally.count(&model, Outcome::Dropped, rows);
        }
    }
}

#[derive(Debug)]
struct Rest {
    written: oneshot::Receiver<()>,
    sender: AbortOnDropHandle<()>,
    stop: CancellationToken,
}

impl PayloadLog {
    /// Starts the writer and the sender.
    ///
    /// # Errors
    /// When the spool cannot be written, or there is no thread.
    pub fn start(parts: PayloadParts) -> Result<Arc<Self>, PayloadError> {
        let PayloadParts {
            options,
            sink,
            cache,
            replica,
            metrics,
        } = parts;
        let options = Arc::new(options);
        let spool = Arc::new(Spool::open(&cache.join(SPOOL), &replica)?);
        let queue = Arc::new(Queue::new(options.queue));
        let tally = Tally::new(metrics);
        let writer = Writer::new(
            Arc::clone(&options),
            Arc::clone(&queue),
            Arc::clone(&spool),
            tally.clone(),
        );
        let written = threads::run("payload", move || {
            machine::Priority::Background.take();
            writer.run();
        });
        let stop = CancellationToken::new();
        let sender = Sender {
            spool,
            sink,
            tally: tally.clone(),
            keep: options.keep,
            stop: stop.clone(),
        };
        let background = Background::default();
        let sending = async move {
            if let Err(error) = background.run(sender.run()).await {
                tracing::error!(%error, "the payload log is no longer sent");
            }
        };
        let rest = Rest {
            written: written.map_err(PayloadError::io(&cache))?,
            sender: AbortOnDropHandle::new(tokio::spawn(sending)),
            stop,
        };
        Ok(Arc::new(Self {
            tray: Tray {
                options,
                queue,
                tally,
            },
            switches: Mutex::default(),
            rest: Mutex::new(Some(rest)),
        }))
    }

    /// Whether requests to a model are kept: shared with whoever asks before each of them.
    pub(super) fn switch(&self, model: &ModelName) -> Arc<AtomicBool> {
        let mut switches = self.switches.lock();
        let begin = || Arc::new(AtomicBool::new(self.tray.options.includes(model.as_str())));
        Arc::clone(switches.entry(model.clone()).or_insert_with(begin))
    }

    /// Whether requests to a model are kept.
    pub fn is_enabled(&self, model: &ModelName) -> bool {
        self.switch(model).load(Ordering::Relaxed)
    }

    /// Keeps requests to a model from now on, or keeps none.
    pub fn enable(&self, model: &ModelName, enabled: bool) {
        self.switch(model).store(enabled, Ordering::Relaxed);
    }

    /// Writes what waits, and sends it, but no longer than `patience`; the next run sends the rest.
    pub async fn close(&self, patience: Duration) {
        let rest = self.rest.lock().take();
        let Some(Rest {
            written,
            sender,
            stop,
        }) = rest
        else {
            return;
        };
        self.tray.queue.close();
        let ending = async {
            let _ = written.await;
            stop.cancel();
            let _ = sender.await;
        };
        if tokio::time::timeout(patience, ending).await.is_err() {
            tracing::warn!("files of the payload log wait on this machine for the next start");
        }
    }
}
