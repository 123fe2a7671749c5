//! The first runs of a version: they find out what it cannot do, what its runs cost, and whether its rows are independent.

use std::sync::Arc;
use std::time::Duration;

use super::row_independence::refute;
use crate::engine::{CancelToken, Session};
use crate::model::Batch;
use crate::serving::{ExampleError, RowSharing, Servable};

/// Runs a package's own example through a servable; blocking.
pub type WarmUp = Arc<dyn Fn(&Servable, Vec<u8>) -> Result<Warmed, ExampleError> + Send + Sync>;

/// What came of a package's own example.
#[derive(Debug)]
pub struct Warmed {
    /// How many numbers in the outputs are NaN or infinite.
    pub non_finite: usize,
    /// Its tensors.
    pub batch: Batch,
}

/// Whether requests share runs after all: rows that differ when they are tried together refute everything else.
pub(super) fn try_sharing(
    servable: &Servable,
    sharing: RowSharing,
    example: Option<&Batch>,
) -> RowSharing {
    let id = servable.id();
    if let RowSharing::Declared(reason) = &sharing {
        tracing::warn!(model = %id.name, version = %id.version, reason, "requests share runs because `rows = \"independent\"` says so; the graph does not prove it");
    }
    let refuted = sharing
        .shares()
        .then(|| refute(servable, example))
        .flatten();
    let Some(reason) = refuted else {
        return sharing;
    };
    tracing::warn!(model = %id.name, version = %id.version, reason, "requests run alone: the rows of this model depend on each other");
    servable.batcher().stop_grouping();
    RowSharing::Alone(reason)
}

/// Time for measuring what batches cost; whatever is not known then is learned from the requests. Short, as the threads of
/// an engine's own pool do not have the low priority of the one that loads.
const CALIBRATION: Duration = Duration::from_millis(20);

/// Measures a run of one row, and of several where that is of use.
pub(super) fn calibrate(servable: &Servable, example: Option<&Batch>) {
    let zeros = || servable.signature().zeros();
    let Some(batch) = example.cloned().or_else(zeros) else {
        return;
    };
    let first = || batch.is_even().then(|| batch.rows_of(0..1)).flatten();
    let row = servable.signature().has_batch_axis().then(first).flatten();
    let measured = servable
        .batcher()
        .calibrate(&row.unwrap_or(batch), CALIBRATION);
    if let Err(error) = measured {
        tracing::debug!(model = %servable.id().name, %error, "what runs cost was not measured");
    }
}

/// A first run, so that the first request does not pay for it; false when the engine fails on all that is tried. The
/// model may have its reasons to refuse zeros, and even ones and random numbers.
pub(super) fn answers_something(servable: &Servable, cancel: &CancelToken) -> bool {
    let mut failed = None;
    for (what, batch) in servable.signature().samples() {
        let run = |session: &mut dyn Session| session.run(&batch, cancel);
        let ran = servable.batcher().with_session(run);
        match ran.and_then(|ran| ran) {
            Ok(_) => return true,
            Err(error) => failed = Some((what, error)),
        }
    }
    // Where nothing can be tried, nothing is known.
    let Some((what, error)) = failed else {
        return true;
    };
    let id = servable.id();
    tracing::warn!(model = %id.name, version = %id.version, what, %error, "the engine fails on zeros, ones and random numbers: give the package an input example");
    false
}
