//! What became of rows: counted, and said in the server's log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::ModelName;
use crate::telemetry::Metrics;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is in the sink.
    Written,
    /// There was no room for it, in the queue or in the spool.
    Dropped,
    /// It could not be written to the disk.
    Failed,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

/// Counts rows, and says in the log what goes wrong, once until it goes well again.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    metrics: Arc<Metrics>,
    is_failing: Arc<AtomicBool>,
}

impl Tally {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            is_failing: Arc::default(),
        }
    }

    /// Counts from 0 on, so that the first loss is seen.
    pub(super) fn begin(&self, model: &ModelName) {
        for outcome in [Outcome::Written, Outcome::Dropped, Outcome::Failed] {
            self.count(model, outcome, 0);
        }
    }

    pub(super) fn count(&self, model: &ModelName, outcome: Outcome, rows: u64) {
        self.metrics
            .payload_rows(model.as_str(), outcome.label(), rows);
    }

    /// The disk takes what it gets.
    pub(super) fn went_well(&self) {
        self.is_failing.store(false, Ordering::Relaxed);
    }

    /// The disk refuses.
    pub(super) fn failed(&self, error: &dyn std::error::Error) {
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "rows of the payload log cannot be written; see `onstage_payload_rows_total`");
        }
    }
}
