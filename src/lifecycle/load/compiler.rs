//! Makes servables out of opened packages: compiles them and warms them up. Blocking.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::context::LoadContext;
use super::error::LoadError;
use super::options::{ExamplePolicy, LoadOptions};
use super::warm_up::{WarmUp, Warmed, answers_something, calibrate, try_sharing};
use crate::batching::{BatchObserver, Batcher, BatcherConfig, Rescue, RunnerPool};
use crate::budget::Budget;
use crate::engine::worker::Workers;
use crate::engine::{CancelToken, Chosen, CompiledModel, EngineError, EngineOptions, Engines};
use crate::model::{Dim, Extent, Package, ResponseOutput};
use crate::runtime::machine;
use crate::serving::{
    Confinement, ExampleError, Limits, Observable, Observer, Observers, Servable, ServableParts,
    VersionState,
};
use crate::telemetry::{Metrics, VersionMetrics};

/// Makes servables out of packages.
pub struct Compiler {
    engines: Arc<Engines>,
    pool: Arc<RunnerPool>,
    metrics: Arc<Metrics>,
    warm_up: WarmUp,
    workers: Option<Workers>,
    budget: Budget,
    observers: Vec<Arc<dyn Observers>>,
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiler").finish_non_exhaustive()
    }
}

impl Compiler {
    /// A compiler with these engines, whose models run on `pool`.
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
            observers: Vec::new(),
        }
    }

    /// The same, whose models these look at while they serve.
    #[must_use]
    pub fn observed_by(mut self, observers: Vec<Arc<dyn Observers>>) -> Self {
        self.observers = observers;
        self
    }

    /// The same, whose models share this memory for what they calculate.
    #[must_use]
    pub fn within(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// The same, with worker processes for isolated models.
    #[must_use]
    pub fn with_workers(mut self, workers: Workers) -> Self {
        self.workers = Some(workers);
        self
    }

    /// The chosen engine, in a process of its own where that is wanted or has to be.
    fn confined(
        &self,
        chosen: Chosen,
        package: &Package,
        options: &LoadOptions,
    ) -> Result<(Chosen, Option<Confinement>), EngineError> {
        let reason = package.graph.work.unbounded();
        let memory = u64::try_from(self.budget.limit()).ok();
        let memory = memory.filter(|_| self.budget.is_limited());
        match (&self.workers, reason) {
            (Some(workers), Some(reason)) => {
                let confinement = Confinement {
                    reason: reason.to_owned(),
                    memory,
                };
                let isolated = chosen.map(|engine| workers.isolate(engine, memory));
                Ok((isolated, Some(confinement)))
            }
            (Some(workers), None) if options.isolated => {
                let isolated = chosen.map(|engine| workers.isolate(engine, None));
                Ok((isolated, None))
            }
            (None, _) if options.isolated => Err(EngineError::Misconfigured {
                engine: chosen.engine().name(),
                reason: "there are no processes for `isolation = \"process\"` here".to_owned(),
            }),
            // Commands of the operator run what the operator gives them.
            _ => Ok((chosen, None)),
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
        let engine = self.engines.iter().find(|own| own.name() == engine)?;
        let isolated = self.workers.as_ref()?.isolate(Arc::clone(engine), None);
        let (package, options) = (package.clone(), options.clone());
        Some(Box::new(move || {
            isolated.compile(&package, &options, &CancelToken::new())
        }))
    }

    /// Starts what models of the engine share, at the priority of the caller, and chooses it if the package is known.
    pub(super) fn start_engine(
        &self,
        package: Option<&Package>,
        options: &LoadOptions,
    ) -> Option<Chosen> {
        let Some(package) = package else {
            self.engines.start(options.engine);
            return None;
        };
        // What is wrong with it is reported when it is compiled.
        self.choose(package, options).ok()
    }

    /// The engine for an opened package.
    ///
    /// # Errors
    /// As [`Engines::choose`].
    pub(super) fn choose(
        &self,
        package: &Package,
        options: &LoadOptions,
    ) -> Result<Chosen, EngineError> {
        self.engines
            .choose(options.engine, package, &options.engine_options)
    }

    /// Compiles an opened package on the chosen engine and warms it up. Blocking; for a thread of its own. When it
    /// `replaces` a version that serves, the outputs for its example must be finite.
    ///
    /// # Errors
    /// [`LoadError`].
    pub(super) fn compile(
        &self,
        package: Package,
        chosen: Chosen,
        (options, replaces): (&LoadOptions, bool),
        context: &LoadContext,
    ) -> Result<Arc<Servable>, LoadError> {
        let (chosen, confinement) = self.confined(chosen, &package, options)?;
        let engine = Arc::clone(chosen.engine());
        if !options.isolated && confinement.is_none() {
            self.check_run(&package)?;
        }
        let estimate = engine.estimate(&package);
        context.reserve_memory_blocking(estimate)?;
        let (before, weights) = (machine::resident(), package.weight_bytes);
        context.enter_blocking(VersionState::Compiling);
        let compiled = chosen.compile(&package, &options.engine_options, context.cancel());
        let model = compiled.map_err(|error| match error {
            EngineError::Cancelled => LoadError::Cancelled,
            other => other.into(),
        })?;
        let id = &package.id;
        let version = id.version.to_string();
        let metrics =
            self.metrics
                .version(id.name.as_str(), &version, engine.name(), &package.digest);
        context.enter_blocking(VersionState::WarmingUp);
        let compiled = Compiled {
            engine: engine.name(),
            isolated: options.isolated || confinement.is_some(),
            model: &model,
            metrics: &metrics,
        };
        let warmed = self.warm(package, &compiled, options, context.cancel());
        let warmed = warmed.and_then(|(servable, non_finite)| match non_finite {
            _ if context.cancel().is_cancelled() => Err(LoadError::Cancelled),
            1.. if replaces => Err(LoadError::NonFinite(non_finite)),
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
                metrics.remove();
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
            Some(default) => Extent::from_tensor(&default.0),
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
        compiled: &Compiled<'_>,
        options: &LoadOptions,
        cancel: &CancelToken,
    ) -> Result<(Servable, usize), LoadError> {
        let Compiled {
            engine,
            isolated,
            model,
            metrics,
        } = *compiled;
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
        let batcher = self.batcher(&package, compiled, config, &options.engine_options);
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
        let servable = Servable::new(ServableParts {
            package,
            engine,
            model: &**model,
            batcher,
            limits,
            metrics: Arc::clone(metrics),
        });
        let servable = servable.with_response(response);
        let warmed = match example {
            Some(body) => self.run_example(&servable, body, options.example)?,
            None => None,
        };
        let in_doubt = warmup && warmed.is_none() && !answers_something(&servable, cancel);
        let batch = warmed.as_ref().map(|warmed| &warmed.batch);
        let sharing = try_sharing(&servable, sharing, batch);
        let servable = servable.with_sharing(sharing);
        if warmup {
            calibrate(&servable, batch);
        }
        let non_finite = warmed.map_or(0, |warmed| warmed.non_finite);
        // Its statistics are those of its clients.
        metrics.clear_totals();
        let servable = servable.in_doubt(in_doubt);
        let observers = self.observers_of(&servable);
        let servable = servable.with_observers(observers);
        let pool = match isolated {
            // Its runners wait for another process, which must not keep those of the others from their work.
            true => RunnerPool::new(config.instances).map(Arc::new),
            false => Ok(Arc::clone(&self.pool)),
        };
        let pool = pool.unwrap_or_else(|_| Arc::clone(&self.pool));
        Ok((servable.on(pool), non_finite))
    }

    /// Who looks at requests of this version.
    fn observers_of(&self, servable: &Servable) -> Vec<Arc<dyn Observer>> {
        let version = Observable {
            package: servable.package(),
            signature: servable.signature(),
            response: servable.response(),
        };
        let observers = self.observers.iter();
        observers
            .filter_map(|observers| observers.observer(&version))
            .collect()
    }

    /// What runs the model while it warms up.
    fn batcher(
        &self,
        package: &Package,
        compiled: &Compiled<'_>,
        config: BatcherConfig,
        options: &EngineOptions,
    ) -> Batcher {
        let observer = Arc::clone(compiled.metrics) as Arc<dyn BatchObserver>;
        // A runner of its own, which has the priority of this thread: the first run is slow, and those that serve have
        // other work.
        let own = RunnerPool::new(1).map(Arc::new);
        let pool = own.unwrap_or_else(|_| Arc::clone(&self.pool));
        let batcher = Batcher::new(Arc::clone(compiled.model), pool, config, observer);
        let batcher = batcher.within(self.budget.clone(), package.graph.work.clone());
        if compiled.isolated {
            return batcher;
        }
        match self.rescue(compiled.engine, package, options) {
            Some(rescue) => batcher.rescued_by(rescue),
            None => batcher,
        }
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

/// What came of compiling a package.
struct Compiled<'c> {
    /// The name of the engine.
    engine: &'static str,
    /// Whether it runs in a process of its own.
    isolated: bool,
    model: &'c Arc<dyn CompiledModel>,
    metrics: &'c Arc<VersionMetrics>,
}

/// The growth of the process since `before`, within reason: other loads and requests grow it at the same time, and
/// memory of models that have gone is used again.
fn footprint(before: Option<u64>, weights: u64, estimate: u64) -> u64 {
    let grown = before.and_then(|before| Some(machine::resident()?.saturating_sub(before)));
    grown.map_or(estimate, |grown| {
        grown.clamp(weights.min(estimate), estimate)
    })
}
