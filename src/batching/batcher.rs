//! The queue of one servable, as those who send requests see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::cost::Costs;
use super::error::BatchError;
use super::inner::Inner;
use super::options::{BatchObserver, BatcherConfig, RunOptions};
use super::policy::WorkConserving;
use super::pool::RunnerPool;
use super::queue::{Entry, Place};
use super::room::Room;
use super::sessions::{Rescue, Sessions};
use crate::budget::Budget;
use crate::engine::{CompiledModel, EngineError, Outputs, Session};
use crate::model::{Batch, Work as WorkOfGraph};
use crate::telemetry::trace;

/// Runs one model's requests on the pool. Clones share its queue and its sessions.
#[derive(Clone)]
pub struct Batcher {
    inner: Arc<Inner>,
    pool: Arc<RunnerPool>,
}

/// A client that waits; when it stops, its run may stop.
struct Client {
    outputs: oneshot::Receiver<Result<Outputs, BatchError>>,
    place: Arc<Mutex<Place>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.outputs.close();
        let place = std::mem::replace(&mut *self.place.lock(), Place::Gone);
        if let Place::Running(run) = place {
            run.abandon();
        }
    }
}

impl Batcher {
    /// A batcher that runs `model` on `pool`.
    pub fn new(
        model: Arc<dyn CompiledModel>,
        pool: Arc<RunnerPool>,
        config: BatcherConfig,
        observer: Arc<dyn BatchObserver>,
    ) -> Self {
        let inner = Inner {
            pool: Mutex::new(Arc::downgrade(&pool)),
            policy: WorkConserving {
                max_delay: config.max_delay,
            },
            costs: Costs::new(model.stated_cost()),
            sessions: Arc::new(Sessions::new(model)),
            room: Room::new(WorkOfGraph::default(), Budget::unlimited()),
            observer,
            config,
            groups: AtomicBool::new(config.groups),
            queue: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
            pool,
        }
    }

    /// The same queue and sessions on another pool.
    #[must_use]
    pub fn on(mut self, pool: Arc<RunnerPool>) -> Self {
        *self.inner.pool.lock() = Arc::downgrade(&pool);
        // Ends the runners of the pool before, if this was its last batcher.
        self.pool = pool;
        self
    }

    /// The same, whose runs take what this says of memory that there is so much of. Before the first request.
    #[must_use]
    pub fn within(mut self, budget: Budget, work: WorkOfGraph) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.room = Room::new(work, budget);
        }
        self
    }

    /// The same, with a way out for a model whose runs do not end.
    #[must_use]
    pub fn rescued_by(self, rescue: Rescue) -> Self {
        self.inner.sessions.set_rescue(rescue);
        self
    }

    /// Why it takes no requests, ever.
    pub fn refusal(&self) -> Option<Arc<str>> {
        self.inner.sessions.refusal()
    }

    /// Runs one request, here when that is quick, else on a runner, with others where that pays, and waits for its
    /// outputs.
    ///
    /// # Errors
    /// [`BatchError`]: at once when the queue is full, else after a run, or when the deadline passes in the queue.
    ///
    /// # Cancel safety
    /// Dropping the future takes the request out of the queue; a run that nobody else waits for is stopped, where the
    /// engine can.
    pub async fn submit(
        &self,
        batch: Batch,
        terms: impl Into<RunOptions>,
    ) -> Result<Outputs, BatchError> {
        let (terms, now) = (terms.into(), Instant::now());
        if terms.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(BatchError::Expired);
        }
        self.inner.sessions.check()?;
        let needs = self.inner.needs(&batch)?;
        let trace = trace::current();
        let batch = match self.inner.run_in_place(batch, needs, trace.as_ref()) {
            Ok(result) => return result,
            Err(batch) => batch,
        };
        let (reply, outputs) = oneshot::channel();
        let place = Arc::new(Mutex::new(Place::Waiting));
        let entry = Entry {
            bytes: batch.size(),
            batch,
            enqueued: now,
            terms,
            reply,
            place: Arc::clone(&place),
            trace,
        };
        self.inner.push(entry, &self.pool)?;
        let mut client = Client { outputs, place };
        let outputs = (&mut client.outputs).await;
        outputs.unwrap_or(Err(BatchError::Closed))
    }

    /// Makes a session ahead of the first request.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn prepare_session(&self) -> Result<(), EngineError> {
        let loan = self.inner.sessions.fresh()?;
        self.inner.sessions.give_back(loan);
        Ok(())
    }

    /// Does something with a session of its own: an idle one, else a new one.
    ///
    /// # Errors
    /// [`EngineError`] when there is none to be had.
    pub fn with_session<T>(
        &self,
        work: impl FnOnce(&mut dyn Session) -> T,
    ) -> Result<T, EngineError> {
        let mut loan = self.inner.sessions.take()?;
        let done = work(&mut *loan.session);
        self.inner.sessions.give_back(loan);
        Ok(done)
    }

    /// How it is bounded.
    pub fn config(&self) -> &BatcherConfig {
        &self.inner.config
    }

    /// The most rows of one call of the engine by now; `None` when requests run alone.
    pub fn rows_limit(&self) -> Option<usize> {
        let groups = self.inner.groups.load(Ordering::Relaxed);
        groups.then(|| self.inner.limit())
    }

    /// Whether requests may run together, and how many is for the costs to say.
    pub(super) fn may_group(&self) -> bool {
        self.inner.groups.load(Ordering::Relaxed) && self.inner.config.max_rows.is_none()
    }

    /// Whether a run of one row is expected to happen where the request is.
    pub(super) fn is_quick(&self) -> bool {
        let expected = self.inner.costs.expected();
        expected.is_some_and(|expected| expected < self.inner.config.in_place)
    }

    /// What a run of one row takes, as far as that is known.
    pub fn single_cost(&self) -> Option<Duration> {
        self.inner.costs.single()
    }

    pub(super) fn model(&self) -> Arc<dyn CompiledModel> {
        self.inner.sessions.model()
    }

    /// The most runs at a time.
    pub(super) fn instances(&self) -> usize {
        self.inner.config.instances
    }

    /// Takes a measurement for the truth; says whether batches of so many rows pay, or nearly.
    pub fn settle(&self, rows: usize, took: Duration) -> bool {
        self.inner.costs.settle(rows, took);
        self.inner.observer.limit(self.inner.limit());
        self.inner.costs.limit() > rows
    }

    /// Lets go of what a run of this batch left behind, whose shapes no request is known to bring.
    pub fn forget(&self, batch: &Batch) {
        self.inner.sessions.model().forget(batch);
    }

    /// From here on requests run alone.
    pub fn stop_grouping(&self) {
        self.inner.groups.store(false, Ordering::Relaxed);
        self.inner.observer.limit(1);
    }
}

impl std::fmt::Debug for Batcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batcher")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}
