//! ONNX Runtime, from a library that is found at run time.
//!
//! The library is looked for when first needed ([`library`]), loaded once for the whole process and kept. All sessions
//! share one thread pool, unless a package or the operator asks for another number of threads for a model.

mod convert;
mod environment;
pub mod library;
mod locale;
mod model;
mod operators;
mod providers;
mod running;
mod threads;

use std::sync::{Arc, OnceLock};

pub use self::environment::{Outcome, Tried};
use self::environment::{Runtime, obtain};
use self::library::Surroundings;
use self::model::{Model, Recipe};
use self::operators::Operators;
pub use self::operators::{OperatorLibrary, OperatorLibraryError};
use super::{CancelToken, CompiledModel, Engine, EngineError, EngineOptions, Support};
use crate::model::Package;

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
    /// Libraries of custom operators, known to every session.
    pub custom_operators: Vec<OperatorLibrary>,
}

/// The engine. It loads nothing before its first use.
#[derive(Debug)]
pub struct OnnxRuntime {
    config: Config,
    looked_up: OnceLock<LookedUp>,
    operators: OnceLock<Result<Operators, String>>,
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
            operators: OnceLock::new(),
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

    /// The libraries of custom operators, each with what is wrong with it.
    pub fn custom_operators(&self) -> Vec<(&OperatorLibrary, Result<(), String>)> {
        let check = |library| {
            let checked = Operators::obtain(std::slice::from_ref(library));
            (library, checked.map(drop))
        };
        self.config.custom_operators.iter().map(check).collect()
    }

    fn operators(&self) -> Result<&Operators, EngineError> {
        let obtain = || Operators::obtain(&self.config.custom_operators);
        let operators = self.operators.get_or_init(obtain).as_ref();
        operators.map_err(|reason| EngineError::Misconfigured {
            engine: NAME,
            reason: reason.clone(),
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

    fn supports(&self, package: &Package) -> Support {
        // Which operators a library has depends on its version; it names what it lacks when it loads a graph.
        match operators::foreign(&package.graph) {
            Some(reason) if self.config.custom_operators.is_empty() => Support::No(vec![reason]),
            _ => Support::Yes,
        }
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
        let operators = self.operators()?.clone();
        let recipe = Recipe::new(self.runtime()?.clone(), package, options).with(operators);
        Ok(Arc::new(Model::load(recipe, package, cancel)?))
    }
}
