//! The queue of one servable, and what a runner does with it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::cost::Costs;
use super::group::{join_outputs, split_outputs};
use super::policy::{BatchPolicy, Decision, LastRun, QueueView, WorkConserving};
use super::pool::{RunnerPool, Work};
use super::queue::{Entry, Place, Queue};
use super::run::Run;
use crate::budget::Allowance;
use crate::engine::{CompiledModel, EngineError, Outputs, Session};
use crate::error::{ErrorKind, Kinded};
use crate::model::Batch;
use crate::telemetry::{Trace, trace};

/// A moment in which clients ask again is this part of what a run of one row takes, which is what it may save each time.
const ECHO: u32 = 16;

/// A shorter moment would mostly go by with looking again.
const SHORTEST_ECHO: Duration = Duration::from_micros(200);

/// Clients that are not quicker than this do not ask again at once.
const LONGEST_ECHO: Duration = Duration::from_millis(2);

/// How a batcher is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatcherConfig {
    /// Requests that may wait; one more is refused.
    pub max_queue_size: usize,
    /// Sessions, and so concurrent runs, of this model.
    pub instances: usize,
    /// Whether requests may run together at all.
    pub groups: bool,
    /// The most rows of one call of the engine: more requests wait for the next one, and larger requests are run in
    /// parts where rows are independent. `None` learns what pays, and leaves requests whole.
    pub max_rows: Option<usize>,
    /// The longest wait for more rows.
    pub max_delay: Duration,
    /// A run that is expected to be shorter happens where the request is; zero is never.
    pub in_place: Duration,
}

/// What a request asks of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// Nobody waits for it any longer than this.
    pub deadline: Option<Instant>,
    /// Whether it goes before those that are not.
    pub urgent: bool,
}

impl From<Option<Instant>> for Terms {
    fn from(deadline: Option<Instant>) -> Self {
        Self {
            deadline,
            ..Self::default()
        }
    }
}

/// Sees what happens to requests. Called on runner threads: must be quick and must not block.
pub trait BatchObserver: Send + Sync {
    /// A request left the queue for the engine after this long.
    fn queued(&self, waited: Duration);
    /// The engine ran a batch of this many rows for this long.
    fn ran(&self, rows: usize, took: Duration);
    /// This many requests wait now.
    fn depth(&self, waiting: usize);
    /// One run may have this many rows from here on.
    fn limit(&self, rows: usize);
}

/// Why a request got no outputs.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The queue is full.
    #[error("the queue of this model is full: {0} requests wait")]
    QueueFull(usize),
    /// The requests that wait hold as much memory as those of one model may.
    #[error(
        "the queue of this model is full: {waiting} requests wait, which hold half of what all requests may (`limits.memory`)"
    )]
    QueueHeavy {
        /// How many.
        waiting: usize,
    },
    /// Those that wait take longer than the request's deadline allows.
    #[error(
        "{waiting} requests wait, which takes about {wait:?}, longer than the deadline of this one allows"
    )]
    Hopeless {
        /// How many.
        waiting: usize,
        /// How long, by what runs have cost.
        wait: Duration,
    },
    /// The request's deadline passed before an engine took it.
    #[error("the deadline passed while the request waited in the queue")]
    Expired,
    /// The model is being unloaded.
    #[error("the model is being unloaded")]
    Closed,
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine panicked; the session was replaced.
    #[error("the engine panicked")]
    Panicked,
}

impl Kinded for BatchError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::QueueFull(_) | Self::QueueHeavy { .. } | Self::Hopeless { .. } => {
                ErrorKind::Overloaded
            }
            Self::Expired => ErrorKind::DeadlineExceeded,
            Self::Closed => ErrorKind::NotReady,
            Self::Engine(error) => error.kind(),
            Self::Panicked => ErrorKind::Internal,
        }
    }
}

/// Runs one model's requests on the pool.
pub struct Batcher {
    inner: Arc<Inner>,
    pool: Arc<RunnerPool>,
}

struct Inner {
    /// Weak, lest a runner that drops the last batcher joins itself.
    pool: Mutex<Weak<RunnerPool>>,
    model: Arc<dyn CompiledModel>,
    policy: WorkConserving,
    observer: Arc<dyn BatchObserver>,
    config: BatcherConfig,
    costs: Costs,
    /// Turned off when outputs turn out not to have the rows of the inputs.
    groups: AtomicBool,
    queue: Mutex<Queue>,
    idle_sessions: Mutex<Vec<Box<dyn Session>>>,
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
            model,
            observer,
            config,
            costs: Costs::new(),
            groups: AtomicBool::new(config.groups),
            queue: Mutex::default(),
            idle_sessions: Mutex::default(),
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
        terms: impl Into<Terms>,
    ) -> Result<Outputs, BatchError> {
        let (terms, now) = (terms.into(), Instant::now());
        if terms.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(BatchError::Expired);
        }
        let trace = trace::current();
        let batch = match self.inner.run_in_place(batch, trace.as_ref()) {
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
        let session = self.inner.model.session()?;
        self.inner.idle_sessions.lock().push(session);
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
        let idle = self.inner.idle_sessions.lock().pop();
        let mut session = idle.map_or_else(|| self.inner.model.session(), Ok)?;
        let done = work(&mut *session);
        self.inner.idle_sessions.lock().push(session);
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
        self.single_cost()
            .is_some_and(|single| single < self.inner.config.in_place)
    }

    /// What a run of one row takes, as far as that is known.
    pub fn single_cost(&self) -> Option<Duration> {
        self.inner.costs.single()
    }

    pub(super) fn model(&self) -> &dyn CompiledModel {
        &*self.inner.model
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
        self.inner.model.forget(batch);
    }

    /// From here on requests run alone.
    pub fn stop_grouping(&self) {
        self.inner.groups.store(false, Ordering::Relaxed);
        self.inner.observer.limit(1);
    }
}

impl Inner {
    fn limit(&self) -> usize {
        if !self.groups.load(Ordering::Relaxed) {
            return 1;
        }
        let learned = || self.costs.limit();
        self.config.max_rows.unwrap_or_else(learned).max(1)
    }

    /// Runs a request on the calling thread when that is expected to be quicker than handing it over. Gives it back
    /// otherwise.
    fn run_in_place(
        &self,
        batch: Batch,
        trace: Option<&Trace>,
    ) -> Result<Result<Outputs, BatchError>, Batch> {
        let rows = u32::try_from(batch.rows()).unwrap_or(u32::MAX);
        let quick = { self.costs.single() }
            .is_some_and(|single| single.saturating_mul(rows) < self.config.in_place);
        // Those that wait were first.
        if !quick || !self.queue.lock().is_idle() {
            return Err(batch);
        }
        let Some(session) = self.idle_sessions.lock().pop() else {
            return Err(batch);
        };
        self.observer.queued(Duration::ZERO);
        let spans = trace.map(|trace| trace.child("batch", Instant::now()));
        let run = Run::new(1, spans.into_iter().collect());
        Ok(self.timed(&batch, &run, |batch| {
            self.with_session(session, batch, &run)
        }))
    }

    fn push(self: &Arc<Self>, entry: Entry, pool: &RunnerPool) -> Result<(), BatchError> {
        let mut queue = self.queue.lock();
        if self.refusal(&queue, &entry).is_some() {
            // Those that would not reach the engine make room first.
            queue.purge(entry.enqueued);
        }
        if let Some(refusal) = self.refusal(&queue, &entry) {
            return Err(refusal);
        }
        queue.push(entry);
        self.observer.depth(queue.len());
        let needs_turn = queue.turns < self.config.instances.max(1);
        queue.turns += usize::from(needs_turn);
        drop(queue);
        if needs_turn {
            pool.schedule(Arc::clone(self) as Arc<dyn Work>);
        }
        Ok(())
    }

    /// Why a request is better refused at once: it would not be answered in time, and keep others from it.
    fn refusal(&self, queue: &Queue, entry: &Entry) -> Option<BatchError> {
        let waiting = queue.len();
        if waiting >= self.config.max_queue_size {
            return Some(BatchError::QueueFull(waiting));
        }
        // The other half is for other models.
        let all = entry
            .batch
            .allowance()
            .map_or(usize::MAX, Allowance::of_process);
        if waiting > 0 && queue.bytes().saturating_add(entry.bytes) > all / 2 {
            return Some(BatchError::QueueHeavy { waiting });
        }
        let rows = u32::try_from(queue.rows_before(entry.terms.urgent)).unwrap_or(u32::MAX);
        let runners = u32::try_from(self.config.instances.max(1)).unwrap_or(u32::MAX);
        // No more than a guess, and a short one: other models need the runners too.
        let wait = self.costs.per_row()?.saturating_mul(rows) / runners;
        let is_late = entry.enqueued.checked_add(wait)? > entry.terms.deadline?;
        (is_late && waiting > 0).then_some(BatchError::Hopeless { waiting, wait })
    }

    /// What a run that ends now, of so many rows, says of those that come next.
    fn last_run(&self, rows: usize) -> Option<LastRun> {
        let moment = (self.costs.single()? / ECHO).min(LONGEST_ECHO);
        (moment >= SHORTEST_ECHO).then(|| LastRun {
            rows,
            echo: Instant::now() + moment,
        })
    }

    /// The next requests to run together; those without a listener or past their deadline leave here.
    fn take(self: &Arc<Self>) -> Vec<Entry> {
        let now = Instant::now();
        let limit = self.limit();
        let mut queue = self.queue.lock();
        let mut taken = Vec::new();
        while taken.is_empty() {
            queue.purge_front(now);
            let view = QueueView {
                rows: queue.rows(limit, now),
                limit,
                oldest: queue.oldest(),
                last: queue.last,
            };
            match self.policy.decide(&view, now) {
                Decision::Idle => break,
                Decision::Dispatch(limit) => taken = queue.take(limit, now),
                Decision::WaitUntil(at) => {
                    let parks = !std::mem::replace(&mut queue.parked, true);
                    let pool = self.pool.lock().upgrade();
                    if let Some(pool) = pool.filter(|_| parks) {
                        pool.look_again_at(at, Arc::clone(self) as Arc<dyn Work>);
                    }
                    break;
                }
            }
        }
        self.observer.depth(queue.len());
        taken
    }

    /// Runs requests that may join; each gets its own rows.
    fn run_entries(&self, mut entries: Vec<Entry>) {
        let now = Instant::now();
        for entry in &entries {
            self.observer.queued(now - entry.enqueued);
            if let Some(trace) = &entry.trace {
                trace.child("queue", entry.enqueued).end_at(now);
            }
        }
        if let [_] = entries.as_slice() {
            entries.into_iter().for_each(|entry| self.run_alone(entry));
            return;
        }
        let run = Run::of(&entries, now);
        entries.retain(|entry| entry.begin(&run));
        let batches: Vec<&Batch> = entries.iter().map(|entry| &entry.batch).collect();
        let rows: Vec<usize> = batches.iter().map(|batch| batch.rows()).collect();
        let joined = Batch::join(&batches);
        let result =
            joined.map(|joined| self.timed(&joined, &run, |batch| self.run_batch(batch, &run)));
        match result {
            Some(Ok(outputs)) => match split_outputs(&outputs, &rows) {
                Some(parts) => {
                    for (entry, part) in entries.into_iter().zip(parts) {
                        // The client may have gone meanwhile.
                        let _ = entry.reply.send(Ok(part));
                    }
                    return;
                }
                None => {
                    tracing::warn!(
                        "outputs do not have the rows of the inputs: requests of this model run alone from here on"
                    );
                    self.groups.store(false, Ordering::Relaxed);
                }
            },
            // Stopped, as nobody waits for any of them.
            Some(Err(BatchError::Engine(EngineError::Cancelled))) => return,
            // Whichever it was that ended the process must not end the next one.
            Some(Err(BatchError::Engine(EngineError::Lost {
                engine,
                reason,
                process,
            }))) => {
                for entry in entries {
                    let lost = EngineError::Lost {
                        engine,
                        reason: reason.clone(),
                        process,
                    };
                    let _ = entry.reply.send(Err(lost.into()));
                }
                return;
            }
            // One of them is to blame; the others must not pay for it.
            Some(Err(_)) | None => {}
        }
        entries.into_iter().for_each(|entry| self.run_alone(entry));
    }

    fn run_alone(&self, entry: Entry) {
        let run = Run::of(std::slice::from_ref(&entry), Instant::now());
        if !entry.begin(&run) {
            return;
        }
        let rows = entry.batch.rows();
        let part = { self.config.max_rows }.filter(|most| {
            self.groups.load(Ordering::Relaxed) && rows > *most && entry.batch.is_even()
        });
        let result = match part {
            Some(most) => self.run_in_parts(&entry.batch, most, &run),
            None => self.timed(&entry.batch, &run, |batch| self.run_batch(batch, &run)),
        };
        // The client may have gone meanwhile.
        let _ = entry.reply.send(result);
    }

    /// A request that is larger than the operator allows.
    fn run_in_parts(
        &self,
        batch: &Batch,
        most: usize,
        run: &Arc<Run>,
    ) -> Result<Outputs, BatchError> {
        let rows = batch.rows();
        let mut parts = Vec::new();
        for start in (0..rows).step_by(most) {
            let Some(part) = batch.rows_of(start..rows.min(start + most)) else {
                break;
            };
            parts.push(self.timed(&part, run, |part| self.run_batch(part, run))?);
        }
        match join_outputs(&parts) {
            Some(outputs) => Ok(outputs),
            // The parts do not fit together: this model has to see the whole.
            None => self.timed(batch, run, |batch| self.run_batch(batch, run)),
        }
    }

    /// Runs, measures, and catches a panic.
    fn timed(
        &self,
        batch: &Batch,
        run: &Run,
        work: impl FnOnce(&Batch) -> Result<Outputs, BatchError>,
    ) -> Result<Outputs, BatchError> {
        let (rows, started) = (batch.rows(), Instant::now());
        let result = catch_unwind(AssertUnwindSafe(|| work(batch)));
        let took = started.elapsed();
        self.observer.ran(rows, took);
        run.ran(rows, started, !matches!(result, Ok(Ok(_))));
        if matches!(result, Ok(Ok(_))) {
            self.costs.learn(rows, took);
            self.observer.limit(self.limit());
        }
        result.unwrap_or_else(|_| {
            tracing::error!("the engine panicked; the session was dropped");
            Err(BatchError::Panicked)
        })
    }

    fn run_batch(&self, batch: &Batch, run: &Arc<Run>) -> Result<Outputs, BatchError> {
        let idle = self.idle_sessions.lock().pop();
        let session = match idle {
            Some(session) => session,
            None => self.model.session()?,
        };
        self.with_session(session, batch, run)
    }

    fn with_session(
        &self,
        mut session: Box<dyn Session>,
        batch: &Batch,
        run: &Arc<Run>,
    ) -> Result<Outputs, BatchError> {
        let interrupt = session.interrupt();
        if let Some(interrupt) = &interrupt {
            interrupt.clear();
        }
        run.begin(interrupt);
        let result = session.run(batch, run.cancel());
        run.end();
        // Not reached after a panic: that session is dropped.
        self.idle_sessions.lock().push(session);
        Ok(result?)
    }
}

impl Work for Inner {
    fn run_one(self: Arc<Self>) {
        let taken = self.take();
        let waits = taken.is_empty();
        let rows = taken.iter().map(|entry| entry.batch.rows()).sum();
        let company = taken.len() > 1;
        if !waits {
            self.run_entries(taken);
        }
        let again = {
            let mut queue = self.queue.lock();
            if !waits {
                queue.last = company.then(|| self.last_run(rows)).flatten();
            }
            // What waits for more rows is looked at again later, or when a request arrives.
            let again = !queue.is_empty() && !waits;
            queue.turns -= usize::from(!again);
            again
        };
        if again {
            let pool = self.pool.lock().upgrade();
            match pool {
                Some(pool) => pool.schedule(Arc::clone(&self) as Arc<dyn Work>),
                // The pool is closing: nobody else will come for these.
                None => self.run_one(),
            }
        }
    }

    fn look_again(self: Arc<Self>) {
        {
            let mut queue = self.queue.lock();
            queue.parked = false;
            if queue.turns >= self.config.instances.max(1) {
                return;
            }
            queue.turns += 1;
        }
        self.run_one();
    }
}

impl std::fmt::Debug for Batcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batcher")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}
