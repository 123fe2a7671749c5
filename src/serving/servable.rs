//! A loaded version of a model.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::batching::{BatchObserver, Batcher, RunnerPool};
use crate::engine::CompiledModel;
use crate::model::{ModelId, Package, ResponseOutput, Signature};
use crate::telemetry::VersionMetrics;

/// A short lease on a loaded version. Holding one delays unloading; do not store it.
pub type ServableHandle = Arc<Servable>;

/// A loaded and warmed-up version of a model, with the queue in front of it.
#[derive(Debug)]
pub struct Servable {
    package: Package,
    engine: &'static str,
    footprint: u64,
    signature: Signature,
    batcher: Batcher,
    limits: Limits,
    /// One for each request that may be in work.
    permits: Option<Arc<Semaphore>>,
    response: ResponseOutput,
    sharing: RowSharing,
    metrics: Arc<VersionMetrics>,
    vitals: Vitals,
}

/// Whether rows of several requests share runs of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowSharing {
    /// They do: the graph proves that no row depends on another.
    Proven,
    /// They do, as the operator says so; why the graph does not prove it.
    Declared(String),
    /// Each request runs alone: why.
    Alone(String),
}

impl RowSharing {
    /// Whether they do.
    pub fn shares(&self) -> bool {
        !matches!(self, Self::Alone(_))
    }

    /// In one word.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Declared(_) => "declared",
            Self::Alone(_) => "alone",
        }
    }

    /// Why nothing is proven.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Proven => None,
            Self::Declared(reason) | Self::Alone(reason) => Some(reason),
        }
    }
}

/// How the requests of one version ended since it was loaded: what its probation is judged by.
#[derive(Debug)]
pub struct Vitals {
    judged: AtomicU64,
    bad: AtomicU64,
    since: Instant,
    /// `since` by the clock of the wall.
    since_date: SystemTime,
    /// Milliseconds after `since`.
    used: AtomicU64,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            judged: AtomicU64::new(0),
            bad: AtomicU64::new(0),
            since: Instant::now(),
            since_date: SystemTime::now(),
            used: AtomicU64::new(0),
        }
    }
}

impl Vitals {
    /// Counts a request that the model answered, or that failed by no fault of the client.
    pub fn count(&self, bad: bool) {
        self.judged.fetch_add(1, Ordering::Relaxed);
        self.bad.fetch_add(u64::from(bad), Ordering::Relaxed);
    }

    /// Notes that a request came at this time.
    pub fn touch(&self, at: Instant) {
        let after = at.saturating_duration_since(self.since).as_millis();
        let after = u64::try_from(after).unwrap_or(u64::MAX);
        self.used.fetch_max(after, Ordering::Relaxed);
    }

    /// Whether it was loaded just now, and the request that it was loaded for may not have come yet.
    pub fn is_unused(&self, now: Instant) -> bool {
        let grace = Duration::from_secs(1);
        self.used.load(Ordering::Relaxed) == 0 && now < self.since + grace
    }

    /// When the last request came, or when it was loaded.
    pub fn last_used(&self) -> Instant {
        self.since + Duration::from_millis(self.used.load(Ordering::Relaxed))
    }

    /// The date of the last request, or of the load.
    pub fn last_used_date(&self) -> SystemTime {
        self.since_date + Duration::from_millis(self.used.load(Ordering::Relaxed))
    }

    /// How many requests were counted, and how many of them were bad: server errors and outputs that are NaN or
    /// infinite.
    pub fn counts(&self) -> (u64, u64) {
        // In this order: never more bad ones than requests.
        let bad = self.bad.load(Ordering::Relaxed);
        (self.judged.load(Ordering::Relaxed), bad)
    }
}

/// What the operator allows one request of this model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the arrival of the request to its answer.
    pub request_timeout: Duration,
    /// Requests of this version in work at a time; more are refused. `None` has no limit but the queue's.
    pub max_concurrency: Option<usize>,
    /// The most rows of one request.
    pub max_rows: Option<usize>,
}

impl Servable {
    /// A servable over a compiled model.
    pub fn new(
        package: Package,
        engine: &'static str,
        model: &dyn CompiledModel,
        batcher: Batcher,
        (limits, metrics): (Limits, Arc<VersionMetrics>),
    ) -> Self {
        let signature = model.signature().clone();
        Self {
            package,
            engine,
            footprint: model.footprint(),
            signature,
            batcher,
            limits,
            permits: { limits.max_concurrency }.map(|most| Arc::new(Semaphore::new(most))),
            response: ResponseOutput::default(),
            sharing: RowSharing::Alone("nothing was tried".to_owned()),
            metrics,
            vitals: Vitals::default(),
        }
    }

    /// The same servable, whose scoring answers are these.
    #[must_use]
    pub fn with_response(mut self, response: ResponseOutput) -> Self {
        self.response = response;
        self
    }

    /// The same servable, whose requests share runs or not.
    #[must_use]
    pub fn with_sharing(mut self, sharing: RowSharing) -> Self {
        self.sharing = sharing;
        self
    }

    /// The same servable, run by another pool.
    #[must_use]
    pub fn on(mut self, pool: Arc<RunnerPool>) -> Self {
        self.batcher = self.batcher.on(pool);
        self
    }

    /// The same servable, which turned out to take these bytes.
    #[must_use]
    pub fn with_footprint(mut self, footprint: u64) -> Self {
        self.footprint = footprint;
        self
    }

    /// Which model and version this is.
    pub fn id(&self) -> &ModelId {
        &self.package.id
    }

    /// The files behind it.
    pub fn package(&self) -> &Package {
        &self.package
    }

    /// The name of the engine that runs it.
    pub fn engine(&self) -> &'static str {
        self.engine
    }

    /// Bytes of memory that its engine holds.
    pub fn footprint(&self) -> u64 {
        self.footprint
    }

    /// What the graph takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The queue in front of it.
    pub fn batcher(&self) -> &Batcher {
        &self.batcher
    }

    /// What one request may take.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Leave to work on one request, for as long as it is held; an error when as many as may be are in work.
    ///
    /// # Errors
    /// How many may be.
    pub fn permit(&self) -> Result<Option<OwnedSemaphorePermit>, usize> {
        let Some(permits) = &self.permits else {
            return Ok(None);
        };
        let permit = Arc::clone(permits).try_acquire_owned();
        permit
            .map(Some)
            .map_err(|_| self.limits.max_concurrency.unwrap_or_default())
    }

    /// How its requests ended so far.
    pub fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// Whether its requests share runs.
    pub fn sharing(&self) -> &RowSharing {
        &self.sharing
    }

    /// Which outputs answer a scoring request.
    pub fn response(&self) -> ResponseOutput {
        self.response
    }

    /// The series of this version.
    pub fn metrics(&self) -> &Arc<VersionMetrics> {
        &self.metrics
    }
}

impl BatchObserver for VersionMetrics {
    fn queued(&self, waited: Duration) {
        self.observe_queue(waited);
    }

    fn ran(&self, rows: usize, took: Duration) {
        self.observe_run(rows, took);
    }

    fn depth(&self, waiting: usize) {
        self.set_queue_depth(waiting);
    }

    fn limit(&self, rows: usize) {
        self.set_batch_rows_limit(rows);
    }
}
