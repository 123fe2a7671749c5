//! What batches cost, measured before the first request.

use std::time::Duration;

use tokio::time::Instant;

use super::batcher::Batcher;
use crate::engine::{CancelToken, EngineError, Session};
use crate::model::Batch;

/// Sizes that are tried. Larger ones are left to the requests: engines keep the memory of the largest batch that they
/// ever ran, and a model that never sees so many requests at a time should not hold it.
const SIZES: [usize; 4] = [1, 2, 4, 8];

/// Runs of a size: the first makes what the others use, and the quickest of the others counts.
const RUNS: u32 = 3;

impl Batcher {
    /// Learns what a run of `row` costs and, where requests may run together, what runs of several such rows cost, as
    /// long as larger ones pay and there is `time`. Blocking.
    ///
    /// # Errors
    /// [`EngineError`] of a run.
    pub fn calibrate(&self, row: &Batch, time: Duration) -> Result<(), EngineError> {
        let is_of_use = self.may_group() && !self.model().plans_by_shape();
        let sizes = if is_of_use { &SIZES[..] } else { &SIZES[..1] };
        let until = Instant::now() + time;
        // Known roughly, when the model ran before.
        let mut last = self.single_cost();
        self.with_session(|session| {
            for &rows in sizes {
                // A larger run takes no longer than as many runs of one row, or it does not pay.
                if last.is_some_and(|last| Instant::now() + last * RUNS * 2 > until) {
                    break;
                }
                let Some(batch) = repeated(row, rows) else {
                    break;
                };
                let took = quickest(session, &batch, until)?;
                last = Some(took);
                if !self.settle(batch.rows(), took) {
                    break;
                }
            }
            Ok(())
        })?
    }
}

impl Batcher {
    /// Makes as many sessions as may run at a time, when runs are so quick that they happen where the requests are: who
    /// finds none has to hand the request over, which takes longer than the run.
    ///
    /// # Errors
    /// [`EngineError`] of a session.
    pub fn prepare_sessions(&self) -> Result<(), EngineError> {
        if self.is_quick() {
            for _ in 1..self.instances() {
                self.prepare_session()?;
            }
        }
        Ok(())
    }
}

fn repeated(row: &Batch, rows: usize) -> Option<Batch> {
    if rows == 1 {
        return Some(row.clone());
    }
    row.repeat_rows(rows)
}

/// The shortest run; of one that leaves no time for another, that one.
fn quickest(
    session: &mut dyn Session,
    batch: &Batch,
    until: Instant,
) -> Result<Duration, EngineError> {
    let mut quickest = Duration::MAX;
    for run in 0..RUNS {
        let began = Instant::now();
        session.run(batch, &CancelToken::new())?;
        let is_last = Instant::now() >= until;
        if run > 0 || is_last {
            quickest = quickest.min(began.elapsed());
        }
        if is_last {
            break;
        }
    }
    Ok(quickest)
}
