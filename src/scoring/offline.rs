//! A package that answers scoring requests without a server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Runtime;

use crate::batching::{BatchObserver, Batcher, BatcherConfig, RunnerPool};
use crate::config::engines;
use crate::config::{Settings, load_options};
use crate::engine::{CancelToken, CompiledModel, Engine, EngineChoice, Engines, Outputs};
use crate::model::{Batch, Package, Probe, ResponseForm, ResponseOutput};
use crate::protocol::{self, NonFinite};
use crate::serving::{Limits, Servable, ServableParts};
use crate::telemetry::{DURATION_BUCKETS, Metrics};

/// A package on an engine, ready to answer. Everything blocks.
#[derive(Debug)]
pub struct Offline {
    servable: Arc<Servable>,
    runtime: Runtime,
    non_finite: NonFinite,
}

/// Why a request got no predictions, in the words that a client would read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

/// An answer, and who gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The engine.
    pub engine: &'static str,
    /// What `/invocations` would answer.
    pub answer: Vec<u8>,
}

impl Offline {
    /// Compiles `package` on `engine`.
    ///
    /// # Errors
    /// When the engine refuses the package.
    pub fn load(
        package: &Package,
        engine: &dyn Engine,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let options = load_options(settings, package.id.name.as_str());
        let model = engine.compile(package, &options.engine_options, &CancelToken::new())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        let inside = runtime.enter();
        let servable = servable(package, engine, &model, options.response)?;
        drop(inside);
        Ok(Self {
            servable: Arc::new(servable),
            runtime,
            non_finite: settings.server.nonfinite,
        })
    }

    /// Compiles `package` on the requested engine, else on the one that `serve` would take.
    ///
    /// # Errors
    /// When there is no such engine, or it refuses the package.
    pub fn choose(
        package: &Package,
        engine: Option<EngineChoice>,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let engine = chosen(package, engine, settings)?;
        Self::load(package, &*engine, settings)
    }

    /// The engine that runs it.
    pub fn engine(&self) -> &'static str {
        self.servable.engine()
    }

    /// The loaded package.
    pub fn servable(&self) -> Arc<Servable> {
        Arc::clone(&self.servable)
    }

    /// What `/invocations` answers to this body, byte by byte.
    ///
    /// # Errors
    /// The message of the error answer.
    pub fn score(&self, content_type: &str, body: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        let answer = protocol::score(&self.servable, content_type, body, self.non_finite);
        let answer = self.runtime.block_on(answer);
        answer.map_err(|(_, message)| Refusal(message))
    }

    /// The answer to a [sample](crate::model::Signature::samples) of one row of this kind; `None` when a rank is open.
    pub fn score_sample(&self, kind: &str) -> Option<Result<Vec<u8>, Refusal>> {
        let mut samples = self.servable.signature().samples();
        let (_, batch) = samples.find(|(word, _)| *word == kind)?;
        Some(self.score_batch(batch))
    }

    /// Inputs of the shape of this example, a scoring body, with the values of a probe; without an example of one that the
    /// signature leaves open to choose. `None` when there are no such inputs.
    pub fn probe(&self, example: Option<&[u8]>, probe: Probe) -> Option<Batch> {
        let decode = |body: &[u8]| protocol::example_batch(&self.servable, body.to_vec()).ok();
        let shape = example.and_then(decode);
        shape
            .or_else(|| self.servable.signature().zeros())?
            .probe(probe)
    }

    /// The answer to inputs that were made for the signature of `made_for`; `None` when this package takes others.
    pub fn score_inputs(
        &self,
        made_for: &Servable,
        batch: &Batch,
    ) -> Option<Result<Vec<u8>, Refusal>> {
        let signature = self.servable.signature();
        let batch = signature.rebind(batch, made_for.signature())?;
        Some(self.score_batch(batch))
    }

    /// The outputs for inputs of this package.
    ///
    /// # Errors
    /// What the engine says.
    pub fn run(&self, batch: Batch) -> Result<Outputs, Refusal> {
        let outputs = self.runtime.block_on(self.servable.submit(batch, None));
        outputs.map_err(|error| Refusal(error.to_string()))
    }

    /// What `/invocations` answers when the outputs are these.
    ///
    /// # Errors
    /// The message of the error answer.
    pub fn answer(&self, outputs: Outputs) -> Result<Vec<u8>, Refusal> {
        let answer = protocol::score_outputs(&self.servable, outputs, self.non_finite);
        answer.map_err(|(_, message)| Refusal(message))
    }

    fn score_batch(&self, batch: Batch) -> Result<Vec<u8>, Refusal> {
        let answer = protocol::score_batch(&self.servable, batch);
        let answer = self.runtime.block_on(answer);
        answer.map_err(|(_, message)| Refusal(message))
    }
}

fn chosen(
    package: &Package,
    engine: Option<EngineChoice>,
    settings: &Settings,
) -> anyhow::Result<Arc<dyn Engine>> {
    let options = load_options(settings, package.id.name.as_str());
    let engines = Engines::new(engines(&settings.engine));
    let choice = engine.unwrap_or(options.engine);
    Ok(engines.choose(choice, package, &options.engine_options)?)
}

/// Loads `package` on the engine that `settings` choose and sends it the scoring request `body`.
///
/// # Errors
/// When no engine can load it, or it does not answer.
pub fn try_request(package: Package, settings: &Settings, body: Vec<u8>) -> anyhow::Result<Trial> {
    let offline = Offline::choose(&package, None, settings)?;
    let answer = offline.score("application/json", body)?;
    Ok(Trial {
        engine: offline.engine(),
        answer,
    })
}

/// What reads requests needs a servable; this one is in no catalog.
pub fn servable(
    package: &Package,
    engine: &dyn Engine,
    model: &Arc<dyn CompiledModel>,
    response: ResponseForm,
) -> anyhow::Result<Servable> {
    let outputs = &model.signature().outputs;
    let response = ResponseOutput::resolve(response, outputs, &package.graph.origins)?;
    let metrics = Metrics::new(&DURATION_BUCKETS);
    let id = &package.id;
    let version = id.version.to_string();
    let metrics = metrics.version(id.name.as_str(), &version, engine.name(), &package.digest);
    let config = BatcherConfig {
        max_queue_size: 1,
        instances: 1,
        groups: false,
        max_rows: None,
        max_delay: Duration::ZERO,
        in_place: Duration::ZERO,
    };
    let batcher = Batcher::new(
        Arc::clone(model),
        Arc::new(RunnerPool::new(1).context("cannot start a runner thread")?),
        config,
        Arc::clone(&metrics) as Arc<dyn BatchObserver>,
    );
    let limits = Limits {
        request_timeout: Duration::MAX,
        max_concurrency: None,
        max_rows: None,
    };
    let servable = Servable::new(ServableParts {
        package: package.clone(),
        engine: engine.name(),
        model: &**model,
        batcher,
        limits,
        metrics,
    });
    Ok(servable.with_response(response))
}
