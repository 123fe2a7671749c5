//! An engine in a process of its own, for models whose native code may crash.
//!
//! ```text
//! server                                        worker: the same program, `onstage worker`
//!   Session::run ──► frames over a socket ──►   a thread for each session ──► the engine's own session
//!   supervisor   ◄── answers, or the end  ◄──   ends when the server does
//! ```
//!
//! [`Workers::isolate`] wraps any engine. A worker holds one version of one model; when it ends, requests that it had
//! fail with [`EngineError::Lost`], a new one is started, at once and then ever later, and nobody else notices.

mod frame;
#[cfg(unix)]
#[cfg(unix)]
pub(crate) mod messages;
#[cfg(unix)]
mod process;
#[cfg(unix)]
mod serve;
#[cfg(unix)]
mod session;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{CancelToken, CompiledModel, Engine, EngineError, EngineOptions, Support};
use crate::model::{Graph, ModelName, Package};

#[cfg(unix)]
pub use self::serve::serve;

/// Memory of a worker beside its model: the program, the engine's library and its threads.
const BASE: u64 = 64 << 20;

/// How workers are started. Cheap to clone.
#[derive(Clone)]
pub struct Workers {
    #[cfg(unix)]
    starter: process::Starter,
    restarted: Restarted,
}

/// Hears that a worker of this model ended and is started again.
pub type Restarted = Arc<dyn Fn(&ModelName) + Send + Sync>;

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

impl Workers {
    /// Workers that are this program with these arguments. Made on a thread of normal priority, which they inherit.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(
        program: PathBuf,
        arguments: Vec<OsString>,
        restarted: Restarted,
    ) -> std::io::Result<Self> {
        #[cfg(not(unix))]
        let _ = (program, arguments);
        Ok(Self {
            #[cfg(unix)]
            starter: process::Starter::new(program, arguments)?,
            restarted,
        })
    }

    /// Opens a package in a worker that does nothing else. Blocking.
    ///
    /// # Errors
    /// How the worker ended, when it did not live to tell what it found.
    #[cfg(unix)]
    pub fn open(&self, package: &Path, cancel: &CancelToken) -> Result<(), String> {
        session::open(self, package, cancel)
    }

    /// Opens nothing where there are no workers.
    ///
    /// # Errors
    /// Never.
    #[cfg(not(unix))]
    pub fn open(&self, _: &Path, _: &CancelToken) -> Result<(), String> {
        Ok(())
    }

    /// The same engine, in workers, each of which may grow by so many bytes once it has loaded its model.
    pub fn isolate(&self, engine: Arc<dyn Engine>, memory: Option<u64>) -> Arc<dyn Engine> {
        let workers = self.clone();
        Arc::new(Isolated {
            engine,
            workers,
            memory,
        })
    }
}

struct Isolated {
    engine: Arc<dyn Engine>,
    workers: Workers,
    memory: Option<u64>,
}

impl Engine for Isolated {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn version(&self) -> Option<String> {
        self.engine.version()
    }

    fn check(&self) -> Result<(), EngineError> {
        self.engine.check()
    }

    fn supports(&self, package: &Package) -> Support {
        self.engine.supports(package)
    }

    fn missing_operators(&self, graph: &Graph) -> Vec<(String, String)> {
        self.engine.missing_operators(graph)
    }

    fn estimate(&self, package: &Package) -> u64 {
        self.engine.estimate(package).saturating_add(BASE)
    }

    #[cfg(unix)]
    fn compile(
        &self,
        package: &Package,
        options: &EngineOptions,
        cancel: &CancelToken,
    ) -> Result<Arc<dyn CompiledModel>, EngineError> {
        let order = crate::engine::worker::messages::Order::new(self.name(), package, options)
            .within(self.memory);
        session::compile(&self.workers, self.name(), (package, order), cancel)
    }

    #[cfg(not(unix))]
    fn compile(
        &self,
        _: &Package,
        _: &EngineOptions,
        _: &CancelToken,
    ) -> Result<Arc<dyn CompiledModel>, EngineError> {
        let _ = (&self.workers.restarted, self.memory);
        Err(EngineError::Misconfigured {
            engine: self.name(),
            reason: "a process of its own needs a Unix system".to_owned(),
        })
    }
}
