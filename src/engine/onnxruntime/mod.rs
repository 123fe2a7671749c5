//! ONNX Runtime, from a library that is found at run time.
//!
//! The library is looked for when first needed ([`library`]), loaded once for the whole process and kept. All sessions
//! share one thread pool, unless a package or the operator asks for another number of threads for a model.

mod convert;
mod environment;
pub mod library;
mod model;
mod providers;

use std::sync::{Arc, OnceLock};

pub use self::environment::{Outcome, Tried};
use self::environment::{Runtime, obtain};
use self::library::Surroundings;
use self::model::{Model, Recipe};
use super::{CancelToken, CompiledModel, Engine, EngineError, EngineOptions, Support};
use crate::model::{Graph, Package};

const NAME: &str = "onnxruntime";

/// What the operator may set for all models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Where to look for the library.
    pub surroundings: Surroundings,
    /// Threads inside one operator, of the pool that all sessions share; by default one for each CPU of the quota.
    pub intra_op_threads: Option<usize>,
    /// Threads across operators, of the same pool.
    pub inter_op_threads: Option<usize>,
}

/// The engine. Nothing is loaded before it is asked for something.
#[derive(Debug)]
pub struct OnnxRuntime {
    config: Config,
    looked_up: OnceLock<LookedUp>,
}

#[derive(Debug)]
struct LookedUp {
    runtime: Result<Runtime, Failure>,
    tried: Vec<Tried>,
}

/// [`EngineError`] of a look-up, which is told more than once.
#[derive(Debug)]
struct Failure {
    misconfigured: bool,
    reason: String,
}

impl OnnxRuntime {
    /// The engine with this configuration.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            looked_up: OnceLock::new(),
        }
    }

    /// Each place that was looked in, in order, and what came of it. Loads the library when that was not done yet.
    pub fn tried(&self) -> &[Tried] {
        &self.looked_up().tried
    }

    fn looked_up(&self) -> &LookedUp {
        self.looked_up.get_or_init(|| {
            let (result, tried) = obtain(&self.config);
            let runtime = result.map_err(|error| match error {
                EngineError::Misconfigured { reason, .. } => Failure {
                    misconfigured: true,
                    reason,
                },
                EngineError::Unavailable { reason, .. } => Failure {
                    misconfigured: false,
                    reason,
                },
                other => Failure {
                    misconfigured: false,
                    reason: other.to_string(),
                },
            });
            LookedUp { runtime, tried }
        })
    }

    fn runtime(&self) -> Result<&Runtime, EngineError> {
        self.looked_up().runtime.as_ref().map_err(|failure| {
            let (engine, reason) = (NAME, failure.reason.clone());
            if failure.misconfigured {
                EngineError::Misconfigured { engine, reason }
            } else {
                EngineError::Unavailable { engine, reason }
            }
        })
    }
}

impl Engine for OnnxRuntime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> Option<String> {
        self.runtime().ok().map(|runtime| runtime.version.clone())
    }

    fn check(&self) -> Result<(), EngineError> {
        self.runtime().map(|_| ())
    }

    fn supports(&self, _graph: &Graph) -> Support {
        // Which operators a library has depends on its version; it names what it lacks when it loads a graph.
        Support::Yes
    }

    fn estimate(&self, package: &Package) -> u64 {
        model::estimate(package)
    }

    fn compile(
        &self,
        package: &Package,
        options: &EngineOptions,
        cancel: &CancelToken,
    ) -> Result<Arc<dyn CompiledModel>, EngineError> {
        let recipe = Recipe::new(self.runtime()?.clone(), package, options);
        Ok(Arc::new(Model::load(recipe, package, cancel)?))
    }
}
