//! The queue of one servable, and what a runner does with it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::policy::{BatchPolicy, Decision, QueueView};
use super::pool::{RunnerPool, Work};
use crate::engine::{CancelToken, CompiledModel, EngineError, Outputs, Session};
use crate::error::{ErrorKind, Kinded};
use crate::model::Batch;

/// How a batcher is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatcherConfig {
    /// Requests that may wait; one more is refused.
    pub max_queue_size: usize,
    /// Sessions, and so concurrent runs, of this model.
    pub instances: usize,
}

/// Sees what happens to requests. Called on runner threads: must be quick and must not block.
pub trait BatchObserver: Send + Sync {
    /// A request left the queue for the engine after this long.
    fn queued(&self, waited: Duration);
    /// The engine ran a batch of this many rows for this long.
    fn ran(&self, rows: usize, took: Duration);
    /// This many requests wait now.
    fn depth(&self, waiting: usize);
}

/// Why a request got no outputs.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The queue is full.
    #[error("the queue of this model is full: {0} requests wait")]
    QueueFull(usize),
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
            Self::QueueFull(_) => ErrorKind::Overloaded,
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
    policy: Box<dyn BatchPolicy>,
    observer: Arc<dyn BatchObserver>,
    config: BatcherConfig,
    queue: Mutex<Queue>,
    idle_sessions: Mutex<Vec<Box<dyn Session>>>,
}

struct Queue {
    entries: VecDeque<Entry>,
    /// Turns that are scheduled on the pool or running.
    turns: usize,
}

struct Entry {
    batch: Batch,
    enqueued: Instant,
    deadline: Option<Instant>,
    reply: oneshot::Sender<Result<Outputs, BatchError>>,
}

impl Entry {
    /// The entry, unless its client has gone or its deadline has passed; then the client is told so.
    fn still_wanted(self, now: Instant) -> Option<Self> {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            let _ = self.reply.send(Err(BatchError::Expired));
            return None;
        }
        (!self.reply.is_closed()).then_some(self)
    }
}

impl Batcher {
    /// A batcher that runs `model` on `pool`.
    pub fn new(
        model: Arc<dyn CompiledModel>,
        pool: Arc<RunnerPool>,
        policy: Box<dyn BatchPolicy>,
        config: BatcherConfig,
        observer: Arc<dyn BatchObserver>,
    ) -> Self {
        let queue = Mutex::new(Queue {
            entries: VecDeque::new(),
            turns: 0,
        });
        let idle_sessions = Mutex::new(Vec::new());
        let pool_of = Mutex::new(Arc::downgrade(&pool));
        let inner = Inner {
            pool: pool_of,
            model,
            policy,
            observer,
            config,
            queue,
            idle_sessions,
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

    /// Queues one request and waits for its outputs.
    ///
    /// # Errors
    /// [`BatchError`]: at once when the queue is full, else after a run, or when `deadline` passes in the queue.
    ///
    /// # Cancel safety
    /// Dropping the future takes the request out of the queue; a run that began goes on, unheard.
    pub async fn submit(
        &self,
        batch: Batch,
        deadline: Option<Instant>,
    ) -> Result<Outputs, BatchError> {
        let (reply, outputs) = oneshot::channel();
        let entry = Entry {
            batch,
            enqueued: Instant::now(),
            deadline,
            reply,
        };
        self.inner.push(entry, &self.pool)?;
        outputs.await.unwrap_or(Err(BatchError::Closed))
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
}

impl Inner {
    fn push(self: &Arc<Self>, entry: Entry, pool: &RunnerPool) -> Result<(), BatchError> {
        let mut queue = self.queue.lock();
        if queue.entries.len() >= self.config.max_queue_size {
            // Those that would not reach the engine make room first.
            let now = Instant::now();
            let entries = std::mem::take(&mut queue.entries);
            queue.entries = entries
                .into_iter()
                .filter_map(|entry| entry.still_wanted(now))
                .collect();
        }
        if queue.entries.len() >= self.config.max_queue_size {
            return Err(BatchError::QueueFull(queue.entries.len()));
        }
        queue.entries.push_back(entry);
        self.observer.depth(queue.entries.len());
        let needs_turn = queue.turns < self.config.instances.max(1);
        queue.turns += usize::from(needs_turn);
        drop(queue);
        if needs_turn {
            pool.schedule(Arc::clone(self) as Arc<dyn Work>);
        }
        Ok(())
    }

    /// The next requests to run together; those without a listener or past their deadline leave here.
    fn take(&self) -> Vec<Entry> {
        let now = Instant::now();
        let mut queue = self.queue.lock();
        let mut taken = Vec::new();
        loop {
            let view = QueueView {
                waiting: queue.entries.len(),
                oldest: queue.entries.front().map(|entry| entry.enqueued),
            };
            let Decision::Dispatch(count) = self.policy.decide(&view, now) else {
                break;
            };
            let available = count.min(queue.entries.len());
            let oldest = queue.entries.drain(..available);
            taken.extend(oldest.filter_map(|entry| entry.still_wanted(now)));
            if !taken.is_empty() || available == 0 {
                break;
            }
        }
        self.observer.depth(queue.entries.len());
        taken
    }

    fn run_entry(&self, entry: Entry) {
        let started = Instant::now();
        self.observer.queued(started - entry.enqueued);
        let rows = entry.batch.rows();
        let result = catch_unwind(AssertUnwindSafe(|| self.run_batch(&entry.batch)));
        self.observer.ran(rows, started.elapsed());
        let result = result.unwrap_or_else(|_| {
            tracing::error!("the engine panicked; the session was dropped");
            Err(BatchError::Panicked)
        });
        // The client may have gone meanwhile.
        let _ = entry.reply.send(result);
    }

    fn run_batch(&self, batch: &Batch) -> Result<Outputs, BatchError> {
        let idle = self.idle_sessions.lock().pop();
        let mut session = match idle {
            Some(session) => session,
            None => self.model.session()?,
        };
        let result = session.run(batch, &CancelToken::new());
        // Not reached after a panic: that session is dropped.
        self.idle_sessions.lock().push(session);
        Ok(result?)
    }
}

impl Work for Inner {
    fn run_one(self: Arc<Self>) {
        for entry in self.take() {
            self.run_entry(entry);
        }
        let again = {
            let mut queue = self.queue.lock();
            queue.turns -= usize::from(queue.entries.is_empty());
            !queue.entries.is_empty()
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
}

impl std::fmt::Debug for Batcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batcher")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}
