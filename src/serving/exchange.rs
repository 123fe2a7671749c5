//! One request on one version: permit, decode, run, encode; and when the version is on probation and fails it, once more
//! on the version before.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::caller::Caller;
use super::catalog::{Selector, VersionSelector};
use super::evidence::{Cause, Failure};
use super::observation::{Observation, Pass};
use super::servable::{Servable, ServableHandle};
use super::service::{Codec, RequestOptions, ServeError};
use super::watch::Watch;
use crate::batching::{BatchError, RunOptions};
use crate::engine::Outputs;
use crate::error::{ErrorKind, Kinded};
use crate::model::{Batch, ModelId};
use crate::runtime::blocking_pool::BlockingPool;
use crate::telemetry::{EngineFailure, Outcome, Protocol, Trace, VersionMetrics, trace};
use crate::tensor::Value;

/// Bodies of more work than this many bytes take long enough to decode that other connections of the thread would feel it.
const HEAVY_BYTES: usize = 128 << 10;

/// Likewise for the elements of an answer.
const HEAVY_ELEMENTS: usize = 32 << 10;

/// See the module.
pub(super) struct Exchange<'a> {
    /// Whoever answers: the version that was found, or the one before it.
    servable: ServableHandle,
    probation: Option<OnProbation>,
    caller: Caller,
    started: Instant,
    heavy: &'a BlockingPool,
    /// How the request ended, when that is not for the protocol's error to say.
    outcome: Option<Outcome>,
    /// Present when somebody looks at requests of this version.
    watch: Option<Watch>,
}

/// A request that begins.
#[derive(Clone, Copy)]
pub(super) struct Begun<'a> {
    pub(super) protocol: Protocol,
    pub(super) started: Instant,
    /// Runs what takes long.
    pub(super) heavy: &'a BlockingPool,
}

/// The version that was found is on probation.
struct OnProbation {
    observation: Arc<Observation>,
    _pass: Pass,
}

/// Until when a request may run.
#[derive(Clone, Copy)]
struct Time {
    deadline: Instant,
    timeout: Duration,
    urgent: bool,
    /// Whether the client chose it, shorter than the operator's limit.
    is_own: bool,
}

/// A deadline of the client's own that leaves the version before this many times what it needs for a request says
/// something of a version that misses it. A shorter one says something of the client.
const GENEROUS: u32 = 8;

/// The same for what takes next to no time.
const GENEROUS_AT_LEAST: Duration = Duration::from_millis(50);

impl<'a> Exchange<'a> {
    /// A request to the version that `selector` led to.
    pub(super) fn new(found: ServableHandle, selector: &Selector, begun: Begun<'a>) -> Self {
        let (servable, probation) = cast(found, selector);
        let when = (begun.protocol, begun.started);
        Self {
            watch: Watch::begin(&servable, selector, when),
            servable,
            probation,
            caller: Caller::current(),
            started: begun.started,
            heavy: begun.heavy,
            outcome: None,
        }
    }

    /// Tells those who look at requests how this one ended.
    pub(super) fn end_watch(&mut self, failure: Option<ErrorKind>) {
        if let Some(watch) = self.watch.take() {
            watch.finish(failure);
        }
    }

    /// Whoever answers, or has answered.
    pub(super) fn id(&self) -> ModelId {
        self.servable.id().clone()
    }

    /// The series of whoever answers.
    pub(super) fn metrics(&self) -> Arc<VersionMetrics> {
        Arc::clone(self.servable.metrics())
    }

    /// How the request is counted, which failed as the protocol says.
    pub(super) fn outcome(&self, failure: Option<ErrorKind>) -> Outcome {
        match (self.outcome, failure) {
            (Some(outcome), Some(_)) => outcome,
            (_, failure) => failure.into(),
        }
    }

    /// Says in the trace of the request who answers it.
    pub(super) fn describe(&self, trace: &Trace) {
        let id = self.servable.id();
        trace.set("onstage.model.name", id.name.to_string());
        trace.set("onstage.model.version", id.version.to_string());
        trace.set("onstage.engine", self.servable.engine());
    }

    /// Runs it.
    pub(super) async fn run<C: Codec>(&mut self, codec: C) -> Result<C::Answer, C::Error> {
        let servable = Arc::clone(&self.servable);
        let permit = servable.permit().map_err(ServeError::Busy);
        let _permit = permit.map_err(|error| self.refused(error))?;
        let (batch, codec) = self.decode(codec).await?;
        let allowance = codec.allowance();
        let batch = batch.charged_to(allowance.clone());
        let decoded = allowance.used();
        if let Some(watch) = &mut self.watch {
            watch.decoded(&batch, codec.request_id());
        }
        if let Some(most) = servable.limits().max_rows
            && batch.rows() > most
        {
            let rows = batch.rows();
            // Only independent rows may be sent in several requests instead.
            return Err(if servable.sharing().shares() {
                ServeError::Rows { rows, most }.into()
            } else {
                ServeError::RowsOfWhole { rows, most }.into()
            });
        }
        let time = self.time(codec.request_options());
        let sent = self.probation.is_some().then(|| batch.clone());
        let outputs = self.outputs(batch, time).await;
        let outputs = outputs.map_err(|error| self.refused(error))?;
        // The inputs are gone by now, unless somebody else may have to run them, or looks at them.
        if let Some(watch) = &mut self.watch {
            watch.answered(&outputs);
        }
        let is_watched = self.watch.as_ref().is_some_and(Watch::keeps_inputs);
        if sent.is_none() && !is_watched {
            allowance.release(decoded);
        }
        let size = outputs.iter().map(Value::size).sum();
        let charged = allowance.charge(size).map_err(ServeError::from);
        charged.map_err(|error| self.refused(error))?;
        let non_finite = non_finite(&outputs);
        let mut numbers = Numbers::Finite;
        if non_finite > 0 {
            self.servable.metrics().nonfinite(non_finite);
            numbers = self.blame(sent, time).await;
        }
        let answer = self.encode(codec, outputs).await;
        self.judge(numbers, answer.as_ref().err());
        answer
    }

    fn time(&self, RequestOptions { timeout, urgent }: RequestOptions) -> Time {
        let longest = self.servable.limits().request_timeout;
        let is_own = timeout.is_some_and(|timeout| timeout < longest);
        let timeout = timeout.map_or(longest, |timeout| timeout.min(longest));
        Time {
            deadline: self.started + timeout,
            timeout,
            urgent,
            is_own,
        }
    }

    /// Whose fault it is that outputs of the version that was found are not finite.
    async fn blame(&self, sent: Option<Batch>, time: Time) -> Numbers {
        let (Some(sent), Some(probation)) = (sent, &self.probation) else {
            return Numbers::Version;
        };
        let inputs = sent.inputs().iter().cloned().map(Value::Tensor);
        if non_finite(&inputs.collect::<Vec<_>>()) > 0 {
            return Numbers::Request;
        }
        let understudy = probation.observation.understudy();
        let again = understudy.and_then(|understudy| {
            let batch = rebound(&sent, &self.servable, &understudy)?;
            Some((understudy, batch))
        });
        let Some((understudy, batch)) = again else {
            return Numbers::Version;
        };
        match submit(&understudy, batch, time).await {
            Ok(outputs) if non_finite(&outputs) > 0 => Numbers::Request,
            _ => Numbers::Version,
        }
    }

    async fn decode<C: Codec>(&self, mut codec: C) -> Result<(Batch, C), C::Error> {
        let batch = if codec.bytes() > HEAVY_BYTES {
            let servable = Arc::clone(&self.servable);
            let decoding = move || (codec.decode(&servable), codec);
            let (batch, decoded) = self.heavy.run(self.caller.turn(), decoding).await;
            codec = decoded;
            batch?
        } else {
            codec.decode(&self.servable)?
        };
        self.servable
            .metrics()
            .observe_decode(self.started.elapsed());
        Ok((batch, codec))
    }

    async fn encode<C: Codec>(&self, codec: C, outputs: Outputs) -> Result<C::Answer, C::Error> {
        let began = Instant::now();
        let answer = if outputs.iter().map(Value::len).sum::<usize>() > HEAVY_ELEMENTS {
            let servable = Arc::clone(&self.servable);
            let encoding = move || codec.encode(&servable, outputs);
            self.heavy.run(self.caller.turn(), encoding).await?
        } else {
            codec.encode(&self.servable, outputs)?
        };
        self.servable.metrics().observe_encode(began.elapsed());
        Ok(answer)
    }

    /// A refusal, counted.
    fn refused<E: From<ServeError>>(&mut self, error: ServeError) -> E {
        if let Some(reason) = error.rejection() {
            self.servable.metrics().rejected(reason);
        }
        self.outcome = Some(error.outcome());
        error.into()
    }

    /// The outputs of the version that was found; when it is on probation and fails, of the version before. Who answers
    /// is in `self.servable` afterwards.
    async fn outputs(&mut self, batch: Batch, time: Time) -> Result<Outputs, ServeError> {
        let understudy = self.understudy(&batch);
        let again = understudy.map(|understudy| (understudy, batch.clone()));
        let own = match &again {
            Some((understudy, _)) => Time {
                deadline: time.deadline - Observation::reserve(understudy, time.timeout),
                ..time
            },
            None => time,
        };
        let error = match submit(&self.servable, batch, own).await {
            Ok(outputs) => return Ok(outputs),
            Err(error) => error,
        };
        let Some(cause) = error.cause() else {
            return Err(error);
        };
        if let Cause::Engine(failure) = cause {
            self.servable.metrics().engine_failed(failure);
            self.servable.complain(failure.label(), &error);
        }
        let is_late = matches!(
            cause,
            Cause::Refused | Cause::Engine(EngineFailure::Timeout)
        );
        // Nobody can have a version taken back by asking for the impossible.
        let is_impatient = is_late && time.is_own;
        if !is_impatient {
            self.servable.health().count(is_late);
        }
        let was_generous = again
            .as_ref()
            .is_some_and(|(before, _)| is_generous(time, before));
        let replayed = match &again {
            Some((understudy, batch)) => Some(self.replay(understudy, batch, time).await),
            None => None,
        };
        let answered = replayed.as_ref().map(Result::is_ok);
        if !is_impatient || (was_generous && answered == Some(true)) {
            self.note_failure(cause, &error, answered);
        }
        match replayed {
            Some(Ok((understudy, outputs))) => {
                self.probation = None;
                if let (Some(watch), Some((_, batch))) = (&mut self.watch, &again) {
                    let batch = rebound(batch, &self.servable, &understudy);
                    watch.moved_to(&understudy, batch.as_ref());
                }
                self.servable = understudy;
                Ok(outputs)
            }
            // Its own error says more than that of the version before.
            _ => Err(error),
        }
    }

    /// Who runs what this version fails.
    fn understudy(&self, batch: &Batch) -> Option<ServableHandle> {
        let probation = self.probation.as_ref()?;
        let understudy = probation.observation.understudy()?;
        // Another form of inputs than it takes tells nothing.
        rebound(batch, &self.servable, &understudy)?;
        Some(understudy)
    }

    async fn replay(
        &self,
        understudy: &ServableHandle,
        batch: &Batch,
        time: Time,
    ) -> Result<(ServableHandle, Outputs), ServeError> {
        let outputs = match rebound(batch, &self.servable, understudy) {
            Some(batch) => submit(understudy, batch, time).await,
            None => Err(ServeError::Batch(BatchError::Closed)),
        };
        self.servable.metrics().replayed(outputs.is_ok());
        if outputs.is_ok()
            && let Some(trace) = trace::current()
        {
            let version = understudy.id().version.to_string();
            trace.set("onstage.model.version", version);
        }
        outputs.map(|outputs| (Arc::clone(understudy), outputs))
    }

    fn note_failure(&self, cause: Cause, error: &ServeError, answered: Option<bool>) {
        if let Some(probation) = &self.probation {
            let failure = Failure {
                cause,
                process: error.process(),
                message: error.to_string(),
            };
            probation.observation.failed(self.caller, failure, answered);
        }
    }

    /// Counts a request that got outputs.
    fn judge<E: Kinded>(&self, numbers: Numbers, failure: Option<&E>) {
        let failure = failure.map(|error| error.kind().outcome());
        let cause = match failure {
            None if numbers == Numbers::Request => {
                return self.servable.answered(self.caller);
            }
            None if numbers == Numbers::Version => {
                Some((Cause::NonFinite, "outputs are NaN or infinite"))
            }
            None => None,
            Some("server_error") => Some((Cause::Answer, "the outputs make no answer")),
            // The client asked for an output that there is not, or the like.
            Some(_) => return,
        };
        self.servable.health().count(cause.is_some());
        match (&self.probation, cause) {
            (Some(probation), Some((cause, message))) => {
                let message = message.to_owned();
                let failure = Failure {
                    cause,
                    process: None,
                    message,
                };
                probation.observation.failed(self.caller, failure, None);
            }
            (Some(probation), None) => probation.observation.succeeded(self.caller),
            (None, _) => {}
        }
        if failure.is_none() {
            self.servable.answered(self.caller);
        }
    }
}

/// What there is to say of the numbers of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbers {
    Finite,
    /// Some are not finite because of what was sent: the inputs are not either, or the version before says the same.
    Request,
    /// Some are not finite because of the version, as far as can be told.
    Version,
}

fn non_finite(values: &[Value]) -> usize {
    values.iter().map(Value::count_non_finite).sum()
}

/// Whether a request left the version before many times what it needs.
fn is_generous(time: Time, before: &Servable) -> bool {
    let single = before.batcher().single_cost().unwrap_or_default();
    time.timeout >= GENEROUS_AT_LEAST + single * GENEROUS
}

/// Who answers a request that led to `found`. Whoever names a version gets that one, whatever it does.
fn cast(found: ServableHandle, selector: &Selector) -> (ServableHandle, Option<OnProbation>) {
    if matches!(selector.version, VersionSelector::Exactly(_)) {
        return (found, None);
    }
    let Some(observation) = found.observation() else {
        return (found, None);
    };
    match (observation.admit(), observation.understudy()) {
        (Some(pass), _) => {
            let on_probation = OnProbation {
                observation,
                _pass: pass,
            };
            (found, Some(on_probation))
        }
        (None, Some(understudy)) => (understudy, None),
        (None, None) => (found, None),
    }
}

/// Runs a batch; no longer than its time.
async fn submit(servable: &Servable, batch: Batch, time: Time) -> Result<Outputs, ServeError> {
    let terms = RunOptions {
        deadline: Some(time.deadline),
        urgent: time.urgent,
    };
    let outputs = timeout_at(time.deadline, servable.submit(batch, terms)).await;
    let outputs = outputs.map_err(|_| ServeError::Deadline(time.timeout))?;
    Ok(outputs?)
}

/// The inputs of one version in the order of another; `None` when that takes others.
fn rebound(batch: &Batch, of: &Servable, to: &Servable) -> Option<Batch> {
    let bound = to.signature().rebind(batch, of.signature())?;
    Some(match batch.allowance() {
        Some(allowance) => bound.charged_to(allowance.clone()),
        None => bound,
    })
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
