//! Runs one request: lease, decode, queue, run, encode; measured once, here, for every protocol.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::caller::Caller;
use super::catalog::{Catalog, LookupError, Selector};
use super::evidence::Cause;
use super::exchange::{Begun, Exchange};
use super::request::RequestId;
use super::servable::{Servable, ServableHandle};
use crate::batching::BatchError;
use crate::budget::{Allowance, OverBudget};
use crate::engine::{EngineError, Outputs};
use crate::error::{ErrorKind, Kinded};
use crate::model::{Batch, ModelId, ModelName};
use crate::runtime::blocking_pool::BlockingPool;
use crate::runtime::machine;
use crate::telemetry::{
    EngineFailure, InFlight, Metrics, Outcome, Protocol, VersionMetrics, trace,
};

/// Turns one request's bytes into tensors and the outputs into an answer. Knows nothing of queues or metrics.
pub trait Codec: Send + 'static {
    /// What the protocol sends back.
    type Answer: Send + 'static;
    /// The protocol's errors.
    type Error: From<ServeError> + Kinded + Send + 'static;

    /// How much work decoding can be: that of so many bytes of numbers in JSON.
    fn bytes(&self) -> usize;

    /// What the request may hold in memory.
    fn allowance(&self) -> Allowance {
        Allowance::unlimited()
    }

    /// Tensors for this model, checked against its signature.
    ///
    /// # Errors
    /// The client's fault.
    fn decode(&mut self, servable: &Servable) -> Result<Batch, Self::Error>;

    /// What the request asks of its run, once it was decoded.
    fn request_options(&self) -> RequestOptions {
        RequestOptions::default()
    }

    /// The id in its body, once it was decoded.
    fn request_id(&self) -> Option<RequestId> {
        None
    }

    /// The answer out of the outputs, which are in the order of the signature.
    ///
    /// # Errors
    /// When this protocol cannot express them.
    fn encode(self, servable: &Servable, outputs: Outputs) -> Result<Self::Answer, Self::Error>;
}

/// What a request asks of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestOptions {
    /// How long it is worth waiting for; the operator's limit holds as well.
    pub timeout: Option<Duration>,
    /// Whether it goes before others.
    pub urgent: bool,
}

/// The result of a request, and which version gave it.
#[derive(Debug)]
pub struct Answered<A, E> {
    /// `None` when the request found no model.
    pub model: Option<ModelId>,
    /// The protocol's answer or error.
    pub result: Result<A, E>,
}

/// Why a request failed that was well-formed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It found no servable.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// Queue or engine.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// As many requests as the operator allows are in work.
    #[error("{0} requests of this model are in work, which is its `max_concurrency`")]
    Busy(usize),
    /// More rows than one request may have.
    #[error(
        "the request has {rows} rows, more than `max_rows`, {most}, of this model: send them in several requests"
    )]
    Rows {
        /// How many it has.
        rows: usize,
        /// How many it may have.
        most: usize,
    },
    /// More rows than one request may have, of a model whose rows depend on each other.
    #[error(
        "the request has {rows} rows, more than `max_rows`, {most}, of this model, whose rows are not known to be independent: \
         send fewer rows, as several requests may get other answers than one"
    )]
    RowsOfWhole {
        /// How many it has.
        rows: usize,
        /// How many it may have.
        most: usize,
    },
    /// Its outputs, or its answer, have no room in memory.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// The deadline passed while the engine ran.
    #[error("the request took longer than {0:?}")]
    Deadline(Duration),
}

impl Kinded for ServeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Lookup(error) => error.kind(),
            Self::Batch(error) => error.kind(),
            Self::Busy(_) => ErrorKind::Overloaded,
            Self::Rows { .. } => ErrorKind::TooLarge,
            Self::RowsOfWhole { .. } => ErrorKind::InvalidArgument,
            Self::OverBudget(error) => error.kind(),
            Self::Deadline(_) => ErrorKind::DeadlineExceeded,
        }
    }
}

impl ServeError {
    /// The label under which a request is counted that was refused before it waited.
    pub(super) fn rejection(&self) -> Option<&'static str> {
        match self {
            Self::Busy(_) => Some("max_concurrency"),
            Self::OverBudget(OverBudget::Process { .. })
            | Self::Batch(BatchError::NoMemory(_) | BatchError::TooLarge { .. }) => Some("memory"),
            Self::Batch(BatchError::QueueFull(_) | BatchError::QueueHeavy { .. }) => {
                Some("queue_full")
            }
            Self::Batch(BatchError::WouldMissDeadline { .. }) => Some("deadline"),
            _ => None,
        }
    }

    /// What went wrong with a request that satisfied the signature, when its fate says something of the version.
    pub(super) fn cause(&self) -> Option<Cause> {
        let failure = match self {
            Self::Batch(BatchError::WouldMissDeadline { .. }) => return Some(Cause::Refused),
            Self::Deadline(_)
            | Self::Batch(BatchError::Expired | BatchError::Moving | BatchError::Withdrawn(_)) => {
                EngineFailure::Timeout
            }
            Self::Batch(BatchError::Panicked) => EngineFailure::Panic,
            Self::Batch(BatchError::Engine(error)) => match error {
                EngineError::Cancelled => return None,
                EngineError::Panicked { .. } => EngineFailure::Panic,
                EngineError::Lost { .. } => EngineFailure::Lost,
                _ => EngineFailure::Run,
            },
            _ => return None,
        };
        Some(Cause::Engine(failure))
    }

    /// The process that ended with the request.
    pub(super) fn process(&self) -> Option<u32> {
        match self {
            Self::Batch(BatchError::Engine(EngineError::Lost { process, .. })) => *process,
            _ => None,
        }
    }

    /// How a request that failed so is counted.
    pub(super) fn outcome(&self) -> Outcome {
        use EngineFailure::{Lost, Panic, Run};
        match self.cause() {
            Some(Cause::Engine(Run | Panic | Lost)) => Outcome::EngineError,
            _ => Outcome::from(Some(self.kind())),
        }
    }
}

/// Loads models that are loaded on demand only.
#[async_trait]
pub trait Demand: Send + Sync {
    /// Says that a request waits for this model.
    async fn wake(&self, model: &ModelName);

    /// Changes each time that something may have come on stage.
    fn progress(&self) -> watch::Receiver<u64>;
}

/// The one way from a protocol to the models.
pub struct InferenceService {
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    demand: Option<Arc<dyn Demand>>,
    /// More at a time than there are threads that can run: what takes long shares them with what comes later.
    heavy: BlockingPool,
}

impl std::fmt::Debug for InferenceService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InferenceService").finish_non_exhaustive()
    }
}

impl InferenceService {
    /// A service over `catalog`, which loads nothing on demand.
    pub fn new(catalog: Arc<Catalog>, metrics: Arc<Metrics>) -> Self {
        let threads = machine::threads();
        Self {
            catalog,
            metrics,
            demand: None,
            heavy: BlockingPool::new((2 * threads).max(4)),
        }
    }

    /// Runs work that takes long without keeping a thread from its connections; callers take turns.
    pub async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        self.heavy.run(Caller::current().turn(), work).await
    }

    /// The same service, which loads models on demand.
    #[must_use]
    pub fn with_demand(mut self, demand: Arc<dyn Demand>) -> Self {
        self.demand = Some(demand);
        self
    }

    /// Finds the servable that a request means; where that is loaded on demand, it is, and the request waits.
    ///
    /// # Errors
    /// [`ServeError::Lookup`], [`ServeError::Deadline`].
    pub async fn find(
        &self,
        selector: &Selector,
        started: Instant,
    ) -> Result<ServableHandle, ServeError> {
        let wait = match self.catalog.lookup(selector) {
            Err(LookupError::Asleep { wait, .. }) => wait,
            found => return Ok(found?),
        };
        let awake = async {
            let demand = self.demand.as_ref();
            let mut progress = demand.map(|demand| demand.progress());
            loop {
                if let Some(progress) = &mut progress {
                    progress.mark_unchanged();
                }
                let error = match self.catalog.lookup(selector) {
                    Ok(servable) => return Ok(servable),
                    Err(error) => error,
                };
                let (
                    LookupError::Asleep {
                        name, is_loading, ..
                    },
                    Some(demand),
                    Some(progress),
                ) = (&error, demand, &mut progress)
                else {
                    return Err(error);
                };
                // Once it is on its way it may still be unloaded again before our turn comes.
                if !is_loading {
                    demand.wake(name).await;
                }
                if progress.changed().await.is_err() {
                    return Err(error);
                }
            }
        };
        let woken = timeout_at(started + wait, awake).await;
        Ok(woken.map_err(|_| ServeError::Deadline(wait))??)
    }

    /// What is wanted and loaded.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The same, to load models into it.
    pub fn shared_catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog)
    }

    /// The metrics, to add series to them.
    pub fn shared_metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// The series of this process.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Runs one request.
    ///
    /// # Cancel safety
    /// Dropping the future drops the request; it is counted as cancelled.
    pub async fn infer<C: Codec>(
        &self,
        protocol: Protocol,
        selector: &Selector,
        codec: C,
    ) -> Answered<C::Answer, C::Error> {
        let started = Instant::now();
        let servable = match self.find(selector, started).await {
            Ok(servable) => servable,
            Err(error) => {
                self.metrics
                    .unknown_request(protocol, Some(error.kind()), started.elapsed());
                return Answered {
                    model: None,
                    result: Err(error.into()),
                };
            }
        };
        servable.health().touch(started);
        let begun = Begun {
            protocol,
            started,
            heavy: &self.heavy,
        };
        let mut exchange = Exchange::new(servable, selector, begun);
        if let Some(trace) = trace::current() {
            exchange.describe(&trace);
        }
        let mut measured = Measured::new(protocol, started, exchange.metrics());
        let result = exchange.run(codec).await;
        measured.metrics = exchange.metrics();
        let failure = result.as_ref().err().map(Kinded::kind);
        measured.finish(exchange.outcome(failure));
        exchange.end_watch(failure);
        Answered {
            model: Some(exchange.id()),
            result,
        }
    }
}

/// Counts a request when it ends, however it ends.
struct Measured {
    protocol: Protocol,
    started: Instant,
    metrics: Arc<VersionMetrics>,
    outcome: Outcome,
    _in_flight: InFlight,
}

impl Measured {
    fn new(protocol: Protocol, started: Instant, metrics: Arc<VersionMetrics>) -> Self {
        let in_flight = metrics.in_flight();
        // What is dropped before it finished was cancelled by its client.
        Self {
            protocol,
            started,
            metrics,
            outcome: Outcome::Cancelled,
            _in_flight: in_flight,
        }
    }

    fn finish(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.metrics
            .observe_request(self.protocol, self.outcome, self.started.elapsed());
    }
}
