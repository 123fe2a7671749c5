//! Loads one version: verify, compile, warm up, publish. Runs off the request path.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::batching::{Batcher, BatcherConfig, OneByOne, RunnerPool};
use crate::engine::{
    CancelToken, CompiledModel, EngineChoice, EngineError, EngineOptions, Engines,
};
use crate::error::{ErrorKind, Kinded};
use crate::model::{ModelId, Package, PackageError};
use crate::serving::{Catalog, FailureReason, Limits, Servable, VersionEntry, VersionState};
use crate::telemetry::{Metrics, VersionMetrics};

/// Runs a package's own example through a servable; blocking.
pub type WarmUp = Arc<dyn Fn(&Servable, Vec<u8>) -> Result<(), (ErrorKind, String)> + Send + Sync>;

/// Loads versions into a catalog.
pub struct Loader {
    engines: Arc<Engines>,
    pool: Arc<RunnerPool>,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    warm_up: WarmUp,
}

/// What the operator chose for one model.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Which engine.
    pub engine: EngineChoice,
    /// Threads and providers.
    pub engine_options: EngineOptions,
    /// Requests that may wait.
    pub max_queue_size: usize,
    /// Time for one request.
    pub request_timeout: Duration,
    /// Whether to run the package's example before serving.
    pub warmup: bool,
}

/// Why a version does not serve.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The files.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// No engine, or the engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine failed on the package's own example.
    #[error("the input example of the package fails: {0}")]
    Example(String),
}

impl Kinded for LoadError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Package(error) => error.kind(),
            Self::Engine(error) => error.kind(),
            Self::Example(_) => ErrorKind::InvalidArgument,
        }
    }
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").finish_non_exhaustive()
    }
}

impl Loader {
    /// A loader that publishes into `catalog`.
    pub fn new(
        engines: Arc<Engines>,
        pool: Arc<RunnerPool>,
        catalog: Arc<Catalog>,
        metrics: Arc<Metrics>,
        warm_up: WarmUp,
    ) -> Self {
        Self {
            engines,
            pool,
            catalog,
            metrics,
            warm_up,
        }
    }

    /// Takes an opened package on stage. Blocking; for a thread of its own.
    ///
    /// # Errors
    /// [`LoadError`]; the version is then `Failed` in the catalog, and whatever served before still does.
    pub fn load(
        &self,
        package: Package,
        options: &LoadOptions,
    ) -> Result<Arc<Servable>, LoadError> {
        let id = package.id.clone();
        let result = self.prepare(package, options);
        match &result {
            Ok(servable) => {
                self.publish(&id, VersionState::Ready, Some(Arc::clone(servable)));
                servable.metrics().set_state("ready", &VersionState::LABELS);
                tracing::info!(model = %id.name, version = %id.version, engine = servable.engine(), "on stage");
            }
            // Told by the caller, who knows whether the server can do without it.
            Err(error) => {
                let reason = FailureReason {
                    message: error.to_string(),
                };
                self.publish(&id, VersionState::Failed(reason), None);
            }
        }
        result
    }

    fn prepare(&self, package: Package, options: &LoadOptions) -> Result<Arc<Servable>, LoadError> {
        let id = package.id.clone();
        let enter = |state: VersionState| {
            tracing::debug!(model = %id.name, version = %id.version, state = state.label(), "loading");
            self.publish(&id, state, None);
        };
        enter(VersionState::Verifying);
        let engine = self.engines.choose(options.engine, &package.graph)?;
        enter(VersionState::Compiling);
        let started = Instant::now();
        let model = engine.compile(&package, &options.engine_options, &CancelToken::new())?;
        tracing::debug!(model = %id.name, took = ?started.elapsed(), "compiled");
        let version = id.version.to_string();
        let metrics =
            self.metrics
                .version(id.name.as_str(), &version, engine.name(), &package.digest);
        metrics.set_memory(model.footprint());
        enter(VersionState::WarmingUp);
        metrics.set_state("warming_up", &VersionState::LABELS);
        let warmed = self.warm(package, engine.name(), &model, options, &metrics);
        if warmed.is_err() {
            metrics.remove();
        }
        warmed
    }

    fn warm(
        &self,
        package: Package,
        engine: &'static str,
        model: &Arc<dyn CompiledModel>,
        options: &LoadOptions,
        metrics: &Arc<VersionMetrics>,
    ) -> Result<Arc<Servable>, LoadError> {
        let config = BatcherConfig {
            max_queue_size: options.max_queue_size,
            instances: self.pool.threads(),
        };
        let observer = Arc::clone(metrics) as Arc<dyn crate::batching::BatchObserver>;
        let batcher = Batcher::new(
            Arc::clone(model),
            Arc::clone(&self.pool),
            Box::new(OneByOne),
            config,
            observer,
        );
        batcher.prepare_session()?;
        let example = if options.warmup {
            package.serving_input()?
        } else {
            None
        };
        let limits = Limits {
            request_timeout: options.request_timeout,
        };
        let servable = Arc::new(Servable::new(
            package,
            engine,
            &**model,
            batcher,
            (limits, Arc::clone(metrics)),
        ));
        match example {
            Some(body) => self.run_example(&servable, body)?,
            None if options.warmup => run_zeros(&servable, model),
            None => {}
        }
        Ok(servable)
    }

    /// What MLflow would serve, we serve: an example that the protocol refuses is worth a warning; one that breaks
    /// the engine is not worth a place on stage.
    fn run_example(&self, servable: &Servable, body: Vec<u8>) -> Result<(), LoadError> {
        match (self.warm_up)(servable, body) {
            Ok(()) => Ok(()),
            Err((ErrorKind::Internal, message)) => Err(LoadError::Example(message)),
            Err((_, message)) => {
                let id = servable.id();
                tracing::warn!(model = %id.name, version = %id.version, %message, "the package's own example is refused");
                Ok(())
            }
        }
    }

    fn publish(&self, id: &ModelId, state: VersionState, servable: Option<Arc<Servable>>) {
        self.catalog.update(|snapshot| {
            let model = snapshot.models.entry(id.name.clone()).or_default();
            model
                .versions
                .insert(id.version, VersionEntry { state, servable });
        });
    }
}

/// A first run on zeros, so that the first request does not pay for it. The model may have reasons to refuse them.
fn run_zeros(servable: &Servable, model: &Arc<dyn CompiledModel>) {
    let Some(batch) = servable.signature().zeros() else {
        return;
    };
    let ran = model
        .session()
        .and_then(|mut session| session.run(&batch, &CancelToken::new()));
    if let Err(error) = ran {
        tracing::debug!(model = %servable.id().name, %error, "the graph does not take zeros; not warmed up");
    }
}
