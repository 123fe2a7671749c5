//! Loads one version: verify, compile, warm up, publish. Runs off the request path.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::row_independence::refute;
use crate::batching::{Batcher, BatcherConfig, Rescue, RunnerPool};
use crate::budget::Budget;
use crate::engine::worker::Workers;
use crate::engine::{
    CancelToken, CompiledModel, Engine, EngineChoice, EngineError, EngineOptions, Engines, Session,
};
use crate::error::{ErrorKind, Kinded};
use crate::machine;
use crate::model::{
    Batch, Dim, Extent, Hints, NoSuchOutput, Package, PackageError, ResponseForm, ResponseOutput,
    RowProof,
};
use crate::registry::{SourceError, without_paths};
use crate::serving::{Confinement, ExampleError, Limits, RowSharing, Servable, VersionState};
use crate::signing::{SealError, SealPolicy};
use crate::telemetry::{Metrics, VersionMetrics};

/// Runs a package's own example through a servable; blocking.
pub type WarmUp = Arc<dyn Fn(&Servable, Vec<u8>) -> Result<Warmed, ExampleError> + Send + Sync>;

/// What came of a package's own example.
#[derive(Debug)]
pub struct Warmed {
    /// How many numbers in the outputs are NaN or infinite.
    pub non_finite: usize,
    /// Its tensors.
    pub batch: Batch,
}

/// Makes servables out of packages.
pub struct Loader {
    engines: Arc<Engines>,
    pool: Arc<RunnerPool>,
    metrics: Arc<Metrics>,
    warm_up: WarmUp,
    workers: Option<Workers>,
    budget: Budget,
}

/// What the operator chose for one model.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Which engine.
    pub engine: EngineChoice,
    /// Whether it runs in a process of its own.
    pub isolated: bool,
    /// Threads and providers.
    pub engine_options: EngineOptions,
    /// How requests wait and run together.
    pub batching: BatchingOptions,
    /// Which models may run rows of several requests together.
    pub rows: RowPolicy,
    /// Requests that may be in work at a time.
    pub max_concurrency: Option<usize>,
    /// The most rows of one request.
    pub max_rows: Option<usize>,
    /// Time for one request.
    pub request_timeout: Duration,
    /// Whether to run the package's example before serving; `None` leaves that to the package.
    pub warmup: Option<bool>,
    /// Whether a package whose own example fails in the engine may serve.
    pub example: ExamplePolicy,
    /// The form of scoring answers.
    pub response: ResponseForm,
    /// Whose signature the package needs.
    pub seal: SealPolicy,
    /// How long it may take.
    pub limits: LoadLimits,
}

/// How long a load may take before its place goes to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadLimits {
    /// Time to fetch the package.
    pub fetch: Duration,
    /// Time for each phase after that: to verify, to compile, to warm up.
    pub phase: Duration,
}

/// When rows of several requests may share a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowPolicy {
    /// When the graph proves that no row depends on another.
    #[default]
    Proven,
    /// Always: the operator knows that no row depends on another.
    Independent,
}

impl RowPolicy {
    fn sharing(self, proof: &RowProof) -> RowSharing {
        match (proof, self) {
            (RowProof::Independent, _) => RowSharing::Proven,
            (RowProof::Unproven(reason), Self::Proven) => RowSharing::Alone(reason.clone()),
            (RowProof::Unproven(reason), Self::Independent) => RowSharing::Declared(reason.clone()),
        }
    }
}

/// What it means that the package's own example fails in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExamplePolicy {
    /// The version cannot be served.
    #[default]
    Require,
    /// A warning.
    Warn,
}

/// What the operator chose of how requests wait and run together. What is `None` is for the package to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchingOptions {
    /// The most rows of one call of the engine.
    pub max_rows: Option<usize>,
    /// The longest wait for more rows.
    pub max_delay: Option<Duration>,
    /// Requests that may wait, at most.
    pub max_queue_size: usize,
    /// The most runs at a time; never more than there are runners.
    pub instances: Option<usize>,
}

impl BatchingOptions {
    fn with(&self, hints: &Hints, runners: usize) -> BatcherConfig {
        let max_delay = self.max_delay.or(hints.max_queue_delay).unwrap_or_default();
        let wished = hints.max_queue_size.unwrap_or(self.max_queue_size);
        BatcherConfig {
            max_queue_size: self.max_queue_size.min(wished),
            instances: self.instances.map_or(runners, |most| most.min(runners)),
            groups: false,
            max_rows: self.max_rows.or(hints.max_batch_size),
            max_delay,
            // Who waits for company must not run ahead of it.
            in_place: if max_delay.is_zero() {
                IN_PLACE
            } else {
                Duration::ZERO
            },
        }
    }
}

/// Handing a request to a runner and back costs some tens of microseconds; what is quicker than that runs where it is.
const IN_PLACE: Duration = Duration::from_micros(50);

/// Who loads a version, and what for.
pub struct Circumstances<'a> {
    /// Told each step.
    pub enter: &'a dyn Fn(VersionState),
    /// Asked for this many bytes before compiling; blocks until there is room.
    pub room: &'a dyn Fn(u64) -> Result<(), LoadError>,
    /// Whether it takes the place of a version that serves: then its example's outputs must be finite.
    pub replaces: bool,
    /// Stops the load.
    pub cancel: &'a CancelToken,
}

impl std::fmt::Debug for Circumstances<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Circumstances").finish_non_exhaustive()
    }
}

/// Why a version does not serve.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It could not be had.
    #[error(transparent)]
    Fetch(SourceError),
    /// The files.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// Other files than the registry says.
    #[error(
        "the package has digest `{found}`, the registry says `{expected}`: it was changed or damaged on its way"
    )]
    Digest {
        /// What was computed.
        found: String,
        /// What the registry says.
        expected: String,
    },
    /// Nobody who is trusted vouches for the files.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// No engine, or the engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The chosen form of answers does not fit the graph.
    #[error(transparent)]
    Response(#[from] NoSuchOutput),
    /// The engine failed on the package's own example.
    #[error("the input example of the package fails: {0}")]
    Example(String),
    /// The outputs of the package's own example are not finite.
    #[error(
        "the outputs for the input example of the package hold {0} numbers that are NaN or infinite, expected none"
    )]
    NonFinite(usize),
    /// Clients of the version that serves would break.
    #[error("its contract breaks clients of the version that serves: {0}")]
    Contract(String),
    /// It does not fit.
    #[error("{0}")]
    Memory(String),
    /// The process that was to read it did not live to tell.
    #[error("the process that was to read the package went meanwhile: {0}")]
    Unreadable(String),
    /// The registry is too slow.
    #[error("it was not fetched within {0:?} (`registry.fetch_timeout`); what has come is kept")]
    Slow(Duration),
    /// A phase takes too long: nobody waits for it, and its thread may go on for ever.
    #[error(
        "to {phase} took longer than {limit:?} (`engine.load_timeout`): it is left alone, and other models load in its place"
    )]
    Hung {
        /// Which phase.
        phase: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// Loads of it ended the process.
    #[error(
        "{0} loads of it never returned, as the process ended first: it is not tried again before another release of \
         onstage, unless you load it by hand"
    )]
    Unfinished(u32),
    /// It is no longer wanted.
    #[error("cancelled: it is no longer wanted")]
    Cancelled,
    /// A bug of ours or of an engine.
    #[error("loading panicked: {0}")]
    Panicked(String),
}

impl LoadError {
    /// The `reason` label of `onstage_candidate_failures_total`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Fetch(_) => "fetch",
            Self::Package(error) if error.is_foreign() => "no_onnx_model",
            Self::Package(_) => "invalid_package",
            Self::Digest { .. } => "digest",
            Self::Seal(error) => error.label(),
            Self::Engine(EngineError::Load { .. } | EngineError::Run { .. }) => "compile",
            Self::Engine(_) => "unsupported",
            Self::Response(_) => "response",
            Self::Example(_) => "example",
            Self::NonFinite(_) => "nonfinite",
            Self::Contract(_) => "contract_changed",
            Self::Memory(_) => "memory",
            Self::Unreadable(_) => "invalid_package",
            Self::Slow(_) => "fetch",
            Self::Hung { .. } => "hung",
            Self::Unfinished(_) => "unfinished",
            Self::Cancelled => "cancelled",
            Self::Panicked(_) => "internal",
        }
    }

    /// Whether it is a model of another kind, which no attempt makes one of ours.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Package(error) if error.is_foreign())
    }

    /// Whether trying again may help although nothing changed in the registry.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Fetch(error) => error.is_transient(),
            Self::Digest { .. } | Self::Slow(_) => true,
            Self::Package(PackageError::Io { .. }) | Self::Seal(SealError::Io { .. }) => true,
            // Without a thread or a process to be had nothing is known of the version.
            Self::Panicked(_) | Self::Engine(_) => self.chain().contains(SHORTAGE),
            _ => false,
        }
    }

    /// The error and its causes on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let next = error.to_string();
            if !text.contains(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text
    }

    /// The same for clients: without paths of this machine and words of other servers.
    pub fn for_clients(&self) -> String {
        match self {
            Self::Fetch(error) => error.for_clients(),
            _ => without_paths(&self.chain()),
        }
    }
}

/// What the operating system says when there are too many threads or processes (EAGAIN).
const SHORTAGE: &str = "Resource temporarily unavailable";

/// A package of another kind is no fault of the registry.
impl From<SourceError> for LoadError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Package(error) => Self::Package(*error),
            error => Self::Fetch(error),
        }
    }
}

impl Kinded for LoadError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fetch(error) => error.kind(),
            Self::Package(error) => error.kind(),
            Self::Engine(error) => error.kind(),
            Self::Response(error) => error.kind(),
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Panicked(_) => ErrorKind::Internal,
            Self::Slow(_) | Self::Hung { .. } => ErrorKind::DeadlineExceeded,
            _ => ErrorKind::InvalidArgument,
        }
    }
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").finish_non_exhaustive()
    }
}

impl Loader {
    /// A loader over these engines, whose models run on `pool`.
    pub fn new(
        engines: Arc<Engines>,
        pool: Arc<RunnerPool>,
        metrics: Arc<Metrics>,
        warm_up: WarmUp,
    ) -> Self {
        Self {
            engines,
            pool,
            metrics,
            warm_up,
            workers: None,
            budget: Budget::unlimited(),
        }
    }

    /// The same, whose models share this memory for what they calculate.
    #[must_use]
    pub fn within(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// The same, with processes for models that want one of their own.
    #[must_use]
    pub fn with_workers(mut self, workers: Workers) -> Self {
        self.workers = Some(workers);
        self
    }

    /// The engine for a graph, in a process of its own where that is wanted or has to be.
    fn engine(
        &self,
        package: &Package,
        options: &LoadOptions,
    ) -> Result<(Arc<dyn Engine>, Option<Confinement>), EngineError> {
        let engine = self.engines.choose(options.engine, &package.graph)?;
        let reason = package.graph.work.unbounded();
        let memory = u64::try_from(self.budget.limit()).ok();
        let memory = memory.filter(|_| self.budget.is_limited());
        match (&self.workers, reason) {
            (Some(workers), Some(reason)) => {
                let confinement = Confinement {
                    reason: reason.to_owned(),
                    memory,
                };
                Ok((workers.isolate(engine, memory), Some(confinement)))
            }
            (Some(workers), None) if options.isolated => Ok((workers.isolate(engine, None), None)),
            (None, _) if options.isolated => Err(EngineError::Misconfigured {
                engine: engine.name(),
                reason: "there are no processes for `isolation = \"process\"` here".to_owned(),
            }),
            // Commands of the operator run what the operator gives them.
            _ => Ok((engine, None)),
        }
    }

    /// Opens a package in a process of its own, so that whatever a file does to its reader is not done to this one first.
    ///
    /// # Errors
    /// When that process went, or was stopped. What it found wrong in an orderly way this one will find too.
    pub(super) fn open_apart(
        &self,
        directory: &Path,
        cancel: &CancelToken,
    ) -> Result<(), LoadError> {
        match &self.workers {
            Some(workers) => workers
                .open(directory, cancel)
                .map_err(LoadError::Unreadable),
            None => Ok(()),
        }
    }

    /// A way into a process of its own for a model whose runs do not end.
    fn rescue(
        &self,
        engine: &'static str,
        package: &Package,
        options: &EngineOptions,
    ) -> Option<Rescue> {
        let engine = { self.engines.iter() }.find(|own| own.name() == engine)?;
        let isolated = self.workers.as_ref()?.isolate(Arc::clone(engine), None);
        let (package, options) = (package.clone(), options.clone());
        Some(Box::new(move || {
            isolated.compile(&package, &options, &CancelToken::new())
        }))
    }

    /// Starts what models of this choice of engine share, at the priority of the caller.
    pub(super) fn start_engine(&self, choice: EngineChoice) {
        self.engines.start(choice);
    }

    /// Compiles an opened package and warms it up. Blocking; for a thread of its own.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(
        &self,
        package: Package,
        options: &LoadOptions,
        around: &Circumstances<'_>,
    ) -> Result<Arc<Servable>, LoadError> {
        let (engine, confinement) = self.engine(&package, options)?;
        if !options.isolated && confinement.is_none() {
            self.check_run(&package)?;
        }
        let estimate = engine.estimate(&package);
        (around.room)(estimate)?;
        let (before, weights) = (machine::resident(), package.weight_bytes);
        (around.enter)(VersionState::Compiling);
        let compiled = engine.compile(&package, &options.engine_options, around.cancel);
        let model = compiled.map_err(|error| match error {
            EngineError::Cancelled => LoadError::Cancelled,
            other => other.into(),
        })?;
        let id = &package.id;
        let version = id.version.to_string();
        let metrics =
            self.metrics
                .version(id.name.as_str(), &version, engine.name(), &package.digest);
        (around.enter)(VersionState::WarmingUp);
        let isolated = options.isolated || confinement.is_some();
        let place = (engine.name(), isolated);
        let wanted = (options, around.cancel);
        let warmed = self.warm(package, (place, &model), wanted, &metrics);
        let warmed = warmed.and_then(|(servable, non_finite)| match non_finite {
            _ if around.cancel.is_cancelled() => Err(LoadError::Cancelled),
            1.. if around.replaces => Err(LoadError::NonFinite(non_finite)),
            _ => Ok(servable),
        });
        match warmed {
            Ok(servable) => {
                let own = model.resident();
                let footprint = own.unwrap_or_else(|| footprint(before, weights, estimate));
                metrics.set_memory(footprint);
                let servable = servable.with_footprint(footprint);
                Ok(Arc::new(servable.with_confinement(confinement)))
            }
            Err(error) => {
                metrics.withdraw();
                Err(error)
            }
        }
    }

    /// Refuses what could answer no request: engines try it out when they load it, in the memory of all others.
    fn check_run(&self, package: &Package) -> Result<(), LoadError> {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => *size,
            Dim::Any(_) => 1,
        };
        let inputs = package.graph.signature.inputs.iter();
        let one_row = inputs.map(|input| match &input.default {
            Some(default) => Extent::of(&default.0),
            None => Extent {
                shape: input.shape.iter().flatten().map(size).collect(),
                longest: 0,
            },
        });
        let needs = package.graph.work.needs(&one_row.collect::<Vec<_>>());
        let most = u64::try_from(self.budget.limit()).unwrap_or(u64::MAX);
        if self.budget.is_limited() && needs.bytes > most {
            return Err(LoadError::Memory(format!(
                "a run of one row takes about {} bytes of memory, more than the {most} that requests may hold together \
                 (`limits.memory`): raise the limit, or serve a smaller model",
                needs.bytes
            )));
        }
        Ok(())
    }

    fn warm(
        &self,
        package: Package,
        ((engine, isolated), model): ((&'static str, bool), &Arc<dyn CompiledModel>),
        (options, cancel): (&LoadOptions, &CancelToken),
        metrics: &Arc<VersionMetrics>,
    ) -> Result<(Servable, usize), LoadError> {
        let outputs = &model.signature().outputs;
        let response = ResponseOutput::resolve(options.response, outputs, &package.graph.origins)?;
        let hints = &package.manifest.hints;
        for key in &hints.unknown {
            let id = &package.id;
            tracing::warn!(model = %id.name, version = %id.version, key, "the package asks for something that is not for a package to say");
        }
        let sharing = options.rows.sharing(&package.graph.rows);
        let mut config = options.batching.with(hints, self.pool.threads());
        config.groups = sharing.shares();
        if isolated {
            // A request that waits for another process must not hold a thread that others need.
            config.in_place = Duration::ZERO;
        }
        let warmup = options.warmup.or(hints.warmup).unwrap_or(true);
        let observer = Arc::clone(metrics) as Arc<dyn crate::batching::BatchObserver>;
        // A runner of its own, which has the priority of this thread: the first run is slow, and those that serve have
        // other work.
        let own = RunnerPool::new(1).map(Arc::new);
        let batcher = Batcher::new(
            Arc::clone(model),
            own.unwrap_or_else(|_| Arc::clone(&self.pool)),
            config,
            observer,
        );
        let work = package.graph.work.clone();
        let mut batcher = batcher.within(self.budget.clone(), work);
        if let Some(rescue) = (!isolated)
            .then(|| self.rescue(engine, &package, &options.engine_options))
            .flatten()
        {
            batcher = batcher.rescued_by(rescue);
        }
        batcher.prepare_session()?;
        let example = if warmup {
            package.serving_input()?
        } else {
            None
        };
        let limits = Limits {
            request_timeout: options.request_timeout,
            max_concurrency: options.max_concurrency,
            max_rows: options.max_rows,
        };
        let servable = Servable::new(
            package,
            engine,
            &**model,
            batcher,
            (limits, Arc::clone(metrics)),
        );
        let servable = servable.with_response(response);
        let warmed = match example {
            Some(body) => self.run_example(&servable, body, options.example)?,
            None => None,
        };
        let in_doubt = warmup && warmed.is_none() && !answers_something(&servable, cancel);
        let batch = warmed.as_ref().map(|warmed| &warmed.batch);
        let sharing = tried(&servable, sharing, batch);
        let servable = servable.with_sharing(sharing);
        if warmup {
            calibrate(&servable, batch);
        }
        let non_finite = warmed.map_or(0, |warmed| warmed.non_finite);
        // Its statistics are those of its clients.
        metrics.clear_totals();
        let servable = servable.in_doubt(in_doubt);
        let pool = match isolated {
            // Its runners wait for another process, which must not keep those of the others from their work.
            true => RunnerPool::new(config.instances).map(Arc::new),
            false => Ok(Arc::clone(&self.pool)),
        };
        let pool = pool.unwrap_or_else(|_| Arc::clone(&self.pool));
        Ok((servable.on(pool), non_finite))
    }

    /// What MLflow would serve, we serve: an example that the protocol refuses is worth a warning; one that breaks
    /// the engine is not worth a place on stage.
    fn run_example(
        &self,
        servable: &Servable,
        body: Vec<u8>,
        policy: ExamplePolicy,
    ) -> Result<Option<Warmed>, LoadError> {
        let id = servable.id();
        match (self.warm_up)(servable, body) {
            Ok(warmed) => Ok(Some(warmed)),
            Err(ExampleError::Failed(message)) if policy == ExamplePolicy::Require => {
                Err(LoadError::Example(message))
            }
            Err(ExampleError::Failed(message)) => {
                tracing::warn!(model = %id.name, version = %id.version, error = %message, "the package's own example fails in the engine");
                Ok(None)
            }
            Err(ExampleError::Refused(message)) => {
                tracing::warn!(model = %id.name, version = %id.version, error = %message, "the package's own example is refused");
                Ok(None)
            }
        }
    }
}

/// Whether requests share runs after all: rows that differ when they are tried together refute everything else.
fn tried(servable: &Servable, sharing: RowSharing, example: Option<&Batch>) -> RowSharing {
    let id = servable.id();
    if let RowSharing::Declared(reason) = &sharing {
        tracing::warn!(model = %id.name, version = %id.version, reason, "requests share runs because `rows = \"independent\"` says so; the graph does not prove it");
    }
    let refuted = sharing
        .shares()
        .then(|| refute(servable, example))
        .flatten();
    let Some(reason) = refuted else {
        return sharing;
    };
    tracing::warn!(model = %id.name, version = %id.version, reason, "requests run alone: the rows of this model depend on each other");
    servable.batcher().stop_grouping();
    RowSharing::Alone(reason)
}

/// What the process has grown by since `before`, within reason: other loads and requests grow it at the same time, and
/// memory of models that have gone is used again.
fn footprint(before: Option<u64>, weights: u64, estimate: u64) -> u64 {
    let grown = before.and_then(|before| Some(machine::resident()?.saturating_sub(before)));
    grown.map_or(estimate, |grown| {
        grown.clamp(weights.min(estimate), estimate)
    })
}

/// Time for measuring what batches cost; whatever is not known then is learned from the requests. Short, as the threads of
/// an engine's own pool do not have the low priority of the one that loads.
const CALIBRATION: Duration = Duration::from_millis(20);

/// Measures a run of one row, and of several where that is of use.
fn calibrate(servable: &Servable, example: Option<&Batch>) {
    let zeros = || servable.signature().zeros();
    let Some(batch) = example.cloned().or_else(zeros) else {
        return;
    };
    let first = || batch.is_even().then(|| batch.rows_of(0..1)).flatten();
    let row = { servable.signature().has_batch_axis() }
        .then(first)
        .flatten();
    let measured = servable
        .batcher()
        .calibrate(&row.unwrap_or(batch), CALIBRATION);
    if let Err(error) = measured {
        tracing::debug!(model = %servable.id().name, %error, "what runs cost was not measured");
    }
}

/// A first run, so that the first request does not pay for it; false when the engine fails on all that is tried. The
/// model may have its reasons to refuse zeros, and even ones and random numbers.
fn answers_something(servable: &Servable, cancel: &CancelToken) -> bool {
    let mut failed = None;
    for (what, batch) in servable.signature().samples() {
        let run = |session: &mut dyn Session| session.run(&batch, cancel);
        let ran = servable.batcher().with_session(run);
        match ran.and_then(|ran| ran) {
            Ok(_) => return true,
            Err(error) => failed = Some((what, error)),
        }
    }
    // Where nothing can be tried, nothing is known.
    let Some((what, error)) = failed else {
        return true;
    };
    let id = servable.id();
    tracing::warn!(model = %id.name, version = %id.version, what, %error, "the engine fails on zeros, ones and random numbers: give the package an input example");
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_threads_or_processes_costs_no_version() {
        let shortage = std::io::Error::from_raw_os_error(11);
        let load = |reason: String| {
            LoadError::Engine(EngineError::Load {
                engine: "tract",
                file: "model.onnx".to_owned(),
                reason,
            })
        };
        let no_thread = LoadError::Panicked(format!("no thread: {shortage}"));
        let no_process = load(format!("cannot start a worker: {shortage}"));
        if cfg!(target_os = "linux") {
            assert!(no_thread.is_transient() && no_process.is_transient());
        }
        assert!(!load("no such operator".to_owned()).is_transient());
        assert!(!LoadError::Panicked("index out of bounds".to_owned()).is_transient());
    }

    #[test]
    fn clients_hear_what_is_wrong_with_a_package_and_not_where_it_is() {
        let error = LoadError::Package(PackageError::Missing {
            root: "/root/.cache/onstage/packages/abc".into(),
            part: "model file".to_owned(),
            file: "model.onnx".into(),
            reason: "is missing",
        });
        let text = error.for_clients();
        assert!(text.contains("`model.onnx` is missing"), "{text}");
        assert!(!text.contains(".cache"), "{text}");
        assert!(error.chain().contains("/root/.cache/onstage"));
    }

    #[test]
    fn a_package_may_wish_where_the_operator_is_silent_and_never_for_more() {
        let hints = Hints {
            max_batch_size: Some(8),
            max_queue_delay: Some(Duration::from_millis(2)),
            max_queue_size: Some(5000),
            ..Hints::default()
        };
        let silent = BatchingOptions {
            max_rows: None,
            max_delay: None,
            max_queue_size: 1024,
            instances: None,
        };
        let config = silent.with(&hints, 4);
        assert_eq!(
            (config.max_rows, config.max_delay),
            (Some(8), Duration::from_millis(2))
        );
        assert_eq!((config.max_queue_size, config.instances), (1024, 4));
        assert_eq!(config.in_place, Duration::ZERO, "it waits for company");
        let chosen = BatchingOptions {
            max_rows: Some(2),
            max_delay: Some(Duration::ZERO),
            instances: Some(9),
            ..silent
        };
        let config = chosen.with(&hints, 4);
        assert_eq!(
            (config.max_rows, config.max_delay),
            (Some(2), Duration::ZERO)
        );
        assert_eq!((config.instances, config.in_place), (4, IN_PLACE));
    }
}
