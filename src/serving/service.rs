//! Runs one request: lease, decode, queue, run, encode; measured once, here, for every protocol.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::aside::Aside;
use super::catalog::{Catalog, LookupError, Selector};
use super::servable::{Servable, ServableHandle};
use crate::batching::{BatchError, Terms};
use crate::engine::{EngineError, Outputs};
use crate::error::{ErrorKind, Kinded};
use crate::machine;
use crate::model::{Batch, ModelId, ModelName};
use crate::telemetry::{InFlight, Metrics, Protocol, VersionMetrics, trace};
use crate::tensor::Value;

/// Turns one request's bytes into tensors and the outputs into an answer. Knows nothing of queues or metrics.
pub trait Codec: Send + 'static {
    /// What the protocol sends back.
    type Answer: Send + 'static;
    /// The protocol's errors.
    type Error: From<ServeError> + Kinded + Send + 'static;

    /// How many bytes there are to decode.
    fn bytes(&self) -> usize;

    /// Tensors for this model, checked against its signature.
    ///
    /// # Errors
    /// The client's fault.
    fn decode(&mut self, servable: &Servable) -> Result<Batch, Self::Error>;

    /// What the request asks of its run, once it was decoded.
    fn wishes(&self) -> Wishes {
        Wishes::default()
    }

    /// The answer out of the outputs, which are in the order of the signature.
    ///
    /// # Errors
    /// When this protocol cannot express them.
    fn encode(self, servable: &Servable, outputs: Outputs) -> Result<Self::Answer, Self::Error>;
}

/// What a request asks of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
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
            Self::Deadline(_) => ErrorKind::DeadlineExceeded,
        }
    }
}

impl ServeError {
    /// The label under which a request is counted that was refused before it waited.
    fn rejection(&self) -> Option<&'static str> {
        match self {
            Self::Busy(_) => Some("max_concurrency"),
            Self::Batch(BatchError::QueueFull(_)) => Some("queue_full"),
            Self::Batch(BatchError::Hopeless { .. }) => Some("deadline"),
            _ => None,
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
    demand: OnceLock<Arc<dyn Demand>>,
    /// As much at a time as there are threads that can run.
    heavy: Aside,
}

impl std::fmt::Debug for InferenceService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InferenceService").finish_non_exhaustive()
    }
}

impl InferenceService {
    /// A service over `catalog`.
    pub fn new(catalog: Arc<Catalog>, metrics: Arc<Metrics>) -> Self {
        let demand = OnceLock::new();
        let threads = machine::threads();
        Self {
            catalog,
            metrics,
            demand,
            heavy: Aside::new(threads),
        }
    }

    /// From here on models are loaded on demand.
    pub fn load_on_demand(&self, demand: Arc<dyn Demand>) {
        // There is one manager, once.
        let _ = self.demand.set(demand);
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
            let demand = self.demand.get();
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

    /// The same, for whoever loads models into it.
    pub fn shared_catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog)
    }

    /// The metrics, for whoever adds series to them.
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
        servable.vitals().touch(started);
        if let Some(trace) = trace::current() {
            trace.set("onstage.model.name", servable.id().name.to_string());
            trace.set("onstage.model.version", servable.id().version.to_string());
            trace.set("onstage.engine", servable.engine());
        }
        let measured = Measured::new(protocol, started, Arc::clone(servable.metrics()));
        let mut non_finite = 0;
        let exchange = self.exchange(&servable, started, codec, &mut non_finite);
        let result = exchange.await;
        let failure = result.as_ref().err().map(Kinded::kind);
        match failure.map_or("success", ErrorKind::outcome) {
            "success" => servable.vitals().count(non_finite > 0),
            "server_error" => servable.vitals().count(true),
            _ => {}
        }
        measured.finish(failure);
        Answered {
            model: Some(servable.id().clone()),
            result,
        }
    }

    async fn exchange<C: Codec>(
        &self,
        servable: &ServableHandle,
        started: Instant,
        mut codec: C,
        non_finite: &mut usize,
    ) -> Result<C::Answer, C::Error> {
        let refused = |error: ServeError| {
            if let Some(reason) = error.rejection() {
                servable.metrics().rejected(reason);
            }
            // A version that is too slow must not look better by refusing, nor one by ending its process.
            if let ServeError::Batch(
                BatchError::Hopeless { .. } | BatchError::Engine(EngineError::Lost { .. }),
            ) = error
            {
                servable.vitals().count(true);
            }
            C::Error::from(error)
        };
        let permit = servable.permit().map_err(ServeError::Busy);
        let _permit = permit.map_err(&refused)?;
        let batch = if codec.bytes() > HEAVY_BYTES {
            let servable = Arc::clone(servable);
            let decoding = move || (codec.decode(&servable), codec);
            let (batch, decoded) = self.heavy.run(decoding).await;
            codec = decoded;
            batch?
        } else {
            codec.decode(servable)?
        };
        servable.metrics().observe_decode(started.elapsed());
        if let Some(most) = servable.limits().max_rows
            && batch.rows() > most
        {
            let rows = batch.rows();
            return Err(ServeError::Rows { rows, most }.into());
        }
        let Wishes { timeout, urgent } = codec.wishes();
        let longest = servable.limits().request_timeout;
        let timeout = timeout.map_or(longest, |timeout| timeout.min(longest));
        let deadline = started + timeout;
        let terms = Terms {
            deadline: Some(deadline),
            urgent,
        };
        let outputs = timeout_at(deadline, servable.batcher().submit(batch, terms)).await;
        let outputs = match outputs {
            Ok(Ok(outputs)) => outputs,
            Ok(Err(error)) => return Err(refused(error.into())),
            Err(_) => return Err(ServeError::Deadline(timeout).into()),
        };
        *non_finite = outputs.iter().map(Value::count_non_finite).sum();
        if *non_finite > 0 {
            servable.metrics().nonfinite(*non_finite);
        }
        let encoding = Instant::now();
        let answer = if outputs.iter().map(elements).sum::<usize>() > HEAVY_ELEMENTS {
            let servable = Arc::clone(servable);
            let encoding = move || codec.encode(&servable, outputs);
            self.heavy.run(encoding).await?
        } else {
            codec.encode(servable, outputs)?
        };
        servable.metrics().observe_encode(encoding.elapsed());
        Ok(answer)
    }
}

/// Bodies larger than this take long enough to decode that other connections of the thread would feel it.
const HEAVY_BYTES: usize = 128 << 10;

/// Likewise for the elements of an answer.
const HEAVY_ELEMENTS: usize = 32 << 10;

fn elements(value: &Value) -> usize {
    match value {
        Value::Tensor(tensor) => tensor.len(),
        Value::Maps(maps) => maps.scores.len(),
    }
}

/// Counts a request when it ends, however it ends.
struct Measured {
    protocol: Protocol,
    started: Instant,
    metrics: Arc<VersionMetrics>,
    failure: Option<ErrorKind>,
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
            failure: Some(ErrorKind::Cancelled),
            _in_flight: in_flight,
        }
    }

    fn finish(mut self, failure: Option<ErrorKind>) {
        self.failure = failure;
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.metrics
            .observe_request(self.protocol, self.failure, self.started.elapsed());
    }
}
