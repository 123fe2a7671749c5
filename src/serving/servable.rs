//! A loaded version of a model.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::caller::Caller;
use super::lease::{Lease, Remains};
use super::observation::{Known, Observation};
use super::observer::Observer;
use crate::batching::{BatchError, BatchObserver, Batcher, RunOptions, RunnerPool};
use crate::engine::{CompiledModel, Outputs};
use crate::model::{Batch, ModelId, Package, ResponseOutput, Signature};
use crate::telemetry::VersionMetrics;

/// A short lease on a loaded version. Holding one delays unloading; do not store it.
pub type ServableHandle = Arc<Servable>;

/// A loaded and warmed-up version of a model, with the queue in front of it.
#[derive(Debug)]
pub struct Servable {
    package: Arc<Package>,
    engine: &'static str,
    footprint: u64,
    signature: Signature,
    batcher: Batcher,
    limits: Limits,
    /// One for each request that may be in work.
    permits: Option<Arc<Semaphore>>,
    response: ResponseOutput,
    sharing: RowSharing,
    confinement: Option<Confinement>,
    metrics: Arc<VersionMetrics>,
    health: Health,
    /// Connections that it answered.
    known: Known,
    /// Whether it answered nothing of what the loader tried.
    in_doubt: bool,
    /// Present while it is on probation.
    observation: ArcSwapOption<Observation>,
    complaints: Complaints,
    /// Who looks at its requests after they were answered: mostly nobody.
    observers: Vec<Arc<dyn Observer>>,
    /// Present once it leaves. The last field, so that it reports when everything else has been dropped.
    lease: OnceLock<Lease>,
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

/// Why a version runs in a process of its own with bounded memory, although that is not configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// What its graph has that no shape bounds.
    pub reason: String,
    /// Bytes by which its process may grow, where the system can bound that.
    pub memory: Option<u64>,
}

/// How often, and how lately, one version was used, and how many requests it has failed for want of time or of numbers.
#[derive(Debug)]
pub struct Health {
    /// Of this minute and the one before, in turns.
    minutes: [Minute; 2],
    since: Instant,
    /// `since` by the clock of the wall.
    since_date: SystemTime,
    /// Milliseconds after `since`.
    used: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            minutes: Default::default(),
            since: Instant::now(),
            since_date: SystemTime::now(),
            used: AtomicU64::new(0),
        }
    }
}

impl Health {
    /// Counts a request that the model answered or failed; `bad` when it was late, or its outputs were not finite: what
    /// cannot be tried again on another version to see whose fault it is.
    pub fn count(&self, bad: bool) {
        let number = self.minute();
        let minute = &self.minutes[usize::from(number % 2 == 1)];
        if minute.number.swap(number, Ordering::Relaxed) != number {
            // What others count at this moment may be lost, which changes no share.
            minute.judged.store(0, Ordering::Relaxed);
            minute.bad.store(0, Ordering::Relaxed);
        }
        minute.judged.fetch_add(1, Ordering::Relaxed);
        minute.bad.fetch_add(u64::from(bad), Ordering::Relaxed);
    }

    fn seconds(&self) -> u64 {
        self.since.elapsed().as_secs()
    }

    fn minute(&self) -> u64 {
        self.seconds() / 60
    }

    /// The share of bad requests in this minute and the one before; few requests make no share.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn bad_share(&self) -> f64 {
        const FEW: u64 = 20;
        let now = self.minute();
        let is_recent = |minute: &&Minute| minute.number.load(Ordering::Relaxed) + 1 >= now;
        let (mut judged, mut bad) = (0, 0);
        for minute in self.minutes.iter().filter(is_recent) {
            bad += minute.bad.load(Ordering::Relaxed);
            judged += minute.judged.load(Ordering::Relaxed);
        }
        bad as f64 / judged.max(FEW) as f64
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
}

#[derive(Debug, Default)]
struct Minute {
    number: AtomicU64,
    judged: AtomicU64,
    bad: AtomicU64,
}

/// Lines of the log about one version: one a second, and how many were left out.
#[derive(Debug, Default)]
struct Complaints(Mutex<(Option<Instant>, u64)>);

impl Complaints {
    const EVERY: Duration = Duration::from_secs(1);

    /// How many lines were left out since the last one; `None` when this one is left out too.
    fn next(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        let (last, left_out) = &mut *state;
        if last.is_some_and(|last| now < last + Self::EVERY) {
            *left_out += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(left_out))
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

/// What a servable is made of.
pub struct ServableParts<'m> {
    /// The package.
    pub package: Package,
    /// The name of the engine that compiled it.
    pub engine: &'static str,
    /// The compiled model.
    pub model: &'m dyn CompiledModel,
    /// What runs it.
    pub batcher: Batcher,
    /// What one request may take.
    pub limits: Limits,
    /// Where it is counted.
    pub metrics: Arc<VersionMetrics>,
}

impl std::fmt::Debug for ServableParts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServableParts").finish_non_exhaustive()
    }
}

impl Servable {
    /// A servable over a compiled model.
    pub fn new(parts: ServableParts<'_>) -> Self {
        let ServableParts {
            package,
            engine,
            model,
            batcher,
            limits,
            metrics,
        } = parts;
        let signature = package.signature();
        Self {
            package: Arc::new(package),
            engine,
            footprint: model.footprint(),
            signature,
            batcher,
            limits,
            permits: limits
                .max_concurrency
                .map(|most| Arc::new(Semaphore::new(most))),
            response: ResponseOutput::default(),
            sharing: RowSharing::Alone("nothing was tried".to_owned()),
            confinement: None,
            metrics,
            health: Health::default(),
            known: Known::default(),
            in_doubt: false,
            observation: ArcSwapOption::empty(),
            complaints: Complaints::default(),
            observers: Vec::new(),
            lease: OnceLock::new(),
        }
    }

    /// The same servable, which answered nothing of what was tried.
    #[must_use]
    pub fn in_doubt(self, in_doubt: bool) -> Self {
        Self { in_doubt, ..self }
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

    /// The same servable, whose requests these look at.
    #[must_use]
    pub fn with_observers(mut self, observers: Vec<Arc<dyn Observer>>) -> Self {
        self.observers = observers;
        self
    }

    /// The same servable, confined to a process.
    #[must_use]
    pub fn with_confinement(mut self, confinement: Option<Confinement>) -> Self {
        self.confinement = confinement;
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

    /// Runs a batch of its [`signature`](Self::signature) when its turn comes.
    ///
    /// # Errors
    /// [`BatchError`].
    pub async fn submit(
        &self,
        batch: Batch,
        terms: impl Into<RunOptions>,
    ) -> Result<Outputs, BatchError> {
        let outputs = self.batcher.submit(batch, terms).await?;
        Ok(self.signature.for_clients(outputs))
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

    /// Who looks at its requests.
    pub(super) fn observers(&self) -> &[Arc<dyn Observer>] {
        &self.observers
    }

    /// How its requests ended so far.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Whether its requests share runs.
    pub fn sharing(&self) -> &RowSharing {
        &self.sharing
    }

    /// Why it runs in a process of its own, where that is not configured.
    pub fn confinement(&self) -> Option<&Confinement> {
        self.confinement.as_ref()
    }

    /// Connections that it answered.
    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    /// How many connections it answered lately.
    pub fn connections(&self) -> usize {
        self.known.lately(self.health.seconds())
    }

    /// A request of this caller was answered.
    pub(super) fn answered(&self, caller: Caller) {
        self.known.note(caller, self.health.seconds());
    }

    /// Whether it answered nothing of what the loader tried.
    pub fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// What is seen of it while it is on probation.
    pub fn observation(&self) -> Option<Arc<Observation>> {
        self.observation.load_full()
    }

    /// It is on probation from here on, with the version before to stand in for it. `news` is notified of its requests.
    pub fn begin_probation(&self, before: &ServableHandle, news: Arc<Notify>) {
        let observation = Observation::new(before, self.in_doubt, news);
        self.observation.store(Some(Arc::new(observation)));
    }

    /// It stands for itself, or has gone.
    pub fn end_probation(&self) {
        self.observation.store(None);
    }

    /// Gives up the owner's handle. `lease` reports when the last of the other handles is gone; until the owner drops what
    /// this returns, that costs whoever drops it next to nothing.
    pub fn leave(self: Arc<Self>, lease: Lease) -> Remains {
        let remains = Remains::new(self.batcher.clone(), Arc::clone(&self.package));
        // A second owner would make the version look released too early, which costs a request the time to free it.
        drop(self.lease.set(lease));
        remains
    }

    /// Says in the log why a run failed; not each time, when that is often.
    pub(super) fn complain(&self, reason: &'static str, error: &dyn std::fmt::Display) {
        if let Some(left_out) = self.complaints.next(Instant::now()) {
            let id = self.id();
            tracing::warn!(model = %id.name, version = %id.version, reason, %error, left_out, "a run failed in the engine");
        }
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

    fn left(&self) {
        self.run_abandoned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_share_of_bad_requests_is_that_of_the_last_two_minutes() {
        let health = Health::default();
        for number in 0..100 {
            health.count(number % 10 == 0);
        }
        assert!((health.bad_share() - 0.1).abs() < 1e-9);
        tokio::time::advance(Duration::from_secs(60)).await;
        for _ in 0..100 {
            health.count(false);
        }
        assert!((health.bad_share() - 0.05).abs() < 1e-9);
        tokio::time::advance(Duration::from_secs(60)).await;
        health.count(true);
        assert!((health.bad_share() - 1.0 / 101.0).abs() < 1e-9);
        tokio::time::advance(Duration::from_secs(600)).await;
        assert!(health.bad_share() < 1e-9);
        health.count(true);
        assert!((health.bad_share() - 0.05).abs() < 1e-9, "one of few");
    }

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second_says_how_many_were_left_out() {
        let complaints = Complaints::default();
        assert_eq!(complaints.next(Instant::now()), Some(0));
        for _ in 0..1238 {
            assert_eq!(complaints.next(Instant::now()), None);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(complaints.next(Instant::now()), Some(1238));
    }
}
