//! The series of one version.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::labels::{EngineFailure, Outcome, Protocol, REPLAYS};
use super::metrics::{ByProtocol, RequestSeries, Shared};
use super::statistics::{Statistics, Totals};

/// The series of one loaded version. Observing is a few atomic operations.
pub struct VersionMetrics {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u64,
    pub(super) model: String,
    pub(super) version: String,
    pub(super) requests: ByProtocol,
    pub(super) queue_duration: Histogram,
    pub(super) inference_duration: Histogram,
    pub(super) batch_rows: Histogram,
    pub(super) batch_rows_limit: IntGauge,
    pub(super) rows: IntCounter,
    pub(super) nonfinite: IntCounter,
    pub(super) engine_errors: [IntCounter; EngineFailure::ALL.len()],
    pub(super) replays: [IntCounter; REPLAYS.len()],
    pub(super) memory: IntGauge,
    pub(super) in_flight: IntGauge,
    pub(super) queue_depth: IntGauge,
    pub(super) own_queue_depth: AtomicI64,
    pub(super) statistics: Statistics,
}

impl VersionMetrics {
    /// Counts an answered request.
    pub fn observe_request(&self, protocol: Protocol, outcome: Outcome, took: Duration) {
        self.statistics.answered(outcome == Outcome::Success, took);
        let slot = &self.requests[protocol as usize];
        let series = slot.get().or_else(|| {
            // Under the lock: a series made after `remove` would never leave.
            let holders = self.shared.holders.lock();
            holders.contains_key(&self.key()).then(|| {
                let families = &self.shared.families;
                slot.get_or_init(|| {
                    RequestSeries::new(families, &self.model, &self.version, protocol)
                })
            })
        });
        if let Some(series) = series {
            series.observe(outcome, took);
        }
    }

    /// Counts the wait of one request for a runner.
    pub fn observe_queue(&self, waited: Duration) {
        self.statistics.queued(waited);
        self.queue_duration.observe(waited.as_secs_f64());
    }

    /// Counts a batch of `rows` given to the engine, and the engine's time for it.
    #[expect(clippy::cast_precision_loss, reason = "a histogram of row counts")]
    pub fn observe_run(&self, rows: usize, took: Duration) {
        self.statistics.ran(rows, took);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let total = &self.shared.engine_nanoseconds;
        total.fetch_add(nanoseconds, Ordering::Relaxed);
        self.inference_duration.observe(took.as_secs_f64());
        self.batch_rows.observe(rows as f64);
        self.rows.inc_by(rows as u64);
    }

    /// Counts the time from a request's arrival to its tensors.
    pub fn observe_decode(&self, took: Duration) {
        self.statistics.decoded(took);
    }

    /// Counts the time from the outputs to the answer.
    pub fn observe_encode(&self, took: Duration) {
        self.statistics.encoded(took);
    }

    /// Counts a run that was left behind.
    pub fn run_abandoned(&self) {
        let abandoned = &self.shared.families.process.abandoned_runs;
        abandoned.with_label_values(&[&self.model]).inc();
    }

    /// What this version did since it was loaded.
    pub fn totals(&self) -> Totals {
        self.statistics.read()
    }

    /// Leaves what was done so far, such as the warm-up, out of [`totals`](Self::totals).
    pub fn clear_totals(&self) {
        self.statistics.clear();
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// The most rows that one run may have now.
    pub fn set_batch_rows_limit(&self, rows: usize) {
        self.batch_rows_limit
            .set(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    /// The number of requests that wait for this version. The gauge is the sum over the versions of the model.
    pub fn set_queue_depth(&self, depth: usize) {
        let depth = i64::try_from(depth).unwrap_or(i64::MAX);
        let before = self.own_queue_depth.swap(depth, Ordering::Relaxed);
        self.queue_depth.add(depth - before);
    }

    /// Counts a request that was refused before it ran. `reason` is of the program's own closed list.
    pub fn rejected(&self, reason: &'static str) {
        let labels = [self.model.as_str(), reason];
        self.shared
            .families
            .requests
            .rejected
            .with_label_values(&labels)
            .inc();
    }

    /// Counts NaN and infinite numbers in outputs.
    pub fn nonfinite(&self, count: usize) {
        self.nonfinite.inc_by(count as u64);
    }

    /// Counts a request whose run failed in the engine.
    pub fn engine_failed(&self, reason: EngineFailure) {
        self.engine_errors[reason as usize].inc();
    }

    /// Counts a request that failed on this version and was run again on the version before.
    pub fn replayed(&self, answered: bool) {
        self.replays[usize::from(!answered)].inc();
    }

    /// The memory that the version holds.
    pub fn set_memory(&self, bytes: u64) {
        self.memory.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Gives up the series of this version, and the model's own when it was the last version. Later observations are
    /// lost. While another load of the same version holds the series they stay, and are those of that load.
    pub fn remove(&self) {
        self.set_queue_depth(0);
        let key = self.key();
        let mut all = self.shared.holders.lock();
        let Some(holders) = all.get_mut(&key) else {
            return;
        };
        let info = &self.shared.families.versions.info;
        let (model, version) = (&*self.model, &*self.version);
        for ours in holders.extract_if(.., |holder| holder.number == self.number) {
            let _ = info.remove_label_values(&[model, version, &ours.engine, &ours.digest]);
        }
        if let Some(holder) = holders.last() {
            let labels = [model, version, &holder.engine, &holder.digest];
            info.with_label_values(&labels).set(1);
            return;
        }
        all.remove(&key);
        self.remove_version();
        if !all.keys().any(|(model, _)| *model == self.model) {
            self.remove_model();
        }
    }

    /// Results are dropped here and below: taking away fails only when a series is not there.
    fn remove_version(&self) {
        let families = &self.shared.families;
        let (model, version) = (self.model.as_str(), self.version.as_str());
        for protocol in Protocol::ALL.map(Protocol::label) {
            for outcome in Outcome::ALL {
                let labels = [model, version, protocol, outcome.label()];
                let _ = families.requests.total.remove_label_values(&labels);
            }
            let labels = [model, version, protocol];
            let _ = families.requests.duration.remove_label_values(&labels);
        }
        let labels = [model, version];
        let _ = families.batches.queue_duration.remove_label_values(&labels);
        let _ = families.batches.batch_rows.remove_label_values(&labels);
        let _ = families.batches.rows_limit.remove_label_values(&labels);
        let _ = families.batches.rows.remove_label_values(&labels);
        let _ = families.batches.nonfinite.remove_label_values(&labels);
        let _ = families.versions.memory.remove_label_values(&labels);
        for reason in EngineFailure::ALL {
            let labels = [model, version, reason.label()];
            let _ = families.requests.engine_errors.remove_label_values(&labels);
        }
        for outcome in REPLAYS {
            let labels = [model, version, outcome];
            let _ = families.requests.replays.remove_label_values(&labels);
        }
        remove_matching(
            &families.batches.inference_duration,
            &[("model", model), ("version", version)],
        );
    }

    fn remove_model(&self) {
        let families = &self.shared.families;
        let labels = [self.model.as_str()];
        let _ = families.requests.in_flight.remove_label_values(&labels);
        let _ = families.batches.queue_depth.remove_label_values(&labels);
        remove_matching(&families.requests.rejected, &[("model", &self.model)]);
    }

    fn key(&self) -> (String, String) {
        (self.model.clone(), self.version.clone())
    }
}

/// Takes away each series of `family` that has these label values, whatever its other labels are.
fn remove_matching<B: prometheus::core::MetricVecBuilder>(
    family: &prometheus::core::MetricVec<B>,
    wanted: &[(&str, &str)],
) {
    use prometheus::core::Collector;
    for gathered in family.collect() {
        for metric in gathered.get_metric() {
            let labels: HashMap<&str, &str> = metric
                .get_label()
                .iter()
                .map(|pair| (pair.name(), pair.value()))
                .collect();
            if wanted
                .iter()
                .all(|(name, value)| labels.get(name) == Some(value))
            {
                let _ = family.remove(&labels);
            }
        }
    }
}

impl fmt::Debug for VersionMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionMetrics")
            .field("model", &self.model)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Counts a request as in flight for as long as it lives.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
