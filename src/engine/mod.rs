//! The seam between a package and whatever runs its graph.
//!
//! An [`Engine`] is a factory; a [`CompiledModel`] is immutable and shared; a [`Session`] belongs to one thread at a
//! time. Adding an engine is one file here and one row in the table of `app`.

mod classic;
/// For tests; releases do not have it.
#[cfg(debug_assertions)]
pub mod fake;
pub mod onnxruntime;
mod select;
mod tract;
pub mod worker;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::{ErrorKind, Kinded};
use crate::model::{Batch, Graph, Package, Provider, Signature};
use crate::tensor::Value;

pub use self::classic::Classic;
pub use self::onnxruntime::OnnxRuntime;
pub use self::select::{Chosen, EngineChoice, Engines, UnknownEngine};
pub use self::tract::Tract;

/// Tells a long compile or run to stop at the next opportunity.
pub type CancelToken = CancellationToken;

/// What a graph returns, in the order of [`Signature::outputs`].
pub type Outputs = Vec<Value>;

/// A factory of compiled models.
pub trait Engine: Send + Sync {
    /// The name in configuration, metrics and messages.
    fn name(&self) -> &'static str;

    /// The version of the library behind it, when it is there.
    fn version(&self) -> Option<String>;

    /// Whether this engine can run at all on this machine.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`], with what was looked for and how to get it; [`EngineError::Misconfigured`] when
    /// the operator asked for something that is not there.
    fn check(&self) -> Result<(), EngineError>;

    /// Whether this engine runs this package's graph, and rightly; asked before loading.
    fn supports(&self, package: &Package) -> Support;

    /// The operators of this graph, by domain and name, that this engine is known to lack before it loads the graph.
    fn missing_operators(&self, _graph: &Graph) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Bytes of memory that a compiled model will take, estimated before loading.
    fn estimate(&self, package: &Package) -> u64;

    /// Loads and optimises the graph. Blocking and slow.
    ///
    /// # Errors
    /// [`EngineError`]; [`EngineError::Cancelled`] when `cancel` fired.
    fn compile(
        &self,
        package: &Package,
        options: &EngineOptions,
        cancel: &CancelToken,
    ) -> Result<Arc<dyn CompiledModel>, EngineError>;
}

/// A loaded graph: immutable, shared by all its sessions.
pub trait CompiledModel: Send + Sync {
    /// What the graph takes and gives.
    fn signature(&self) -> &Signature;

    /// Bytes of memory held.
    fn footprint(&self) -> u64;

    /// Bytes of memory of the process that holds it, when that is another one than ours.
    fn resident(&self) -> Option<u64> {
        None
    }

    /// Roughly how long a run of one row takes, where the program tells; `None` where that has to be measured.
    fn stated_cost(&self) -> Option<Duration> {
        None
    }

    /// Whether each shape of the inputs needs a plan of its own, with weights packed for it: then no shape should be tried
    /// that no request brings.
    fn plans_by_shape(&self) -> bool {
        false
    }

    /// Lets go of a plan for the shapes of this batch, which no request is known to bring.
    fn forget(&self, _batch: &Batch) {}

    /// Ends all runs that go on now, where they can be ended by force; false where they cannot.
    fn end_runs(&self) -> bool {
        false
    }

    /// A new session. May be slow; made off the request path where possible.
    ///
    /// # Errors
    /// [`EngineError::Load`].
    fn session(&self) -> Result<Box<dyn Session>, EngineError>;
}

/// One thread's way to run a model.
pub trait Session: Send {
    /// Runs the graph. Blocking.
    ///
    /// # Errors
    /// [`EngineError::Run`], or [`EngineError::Cancelled`] when `cancel` fired.
    fn run(&mut self, batch: &Batch, cancel: &CancelToken) -> Result<Outputs, EngineError>;

    /// The next run takes about so many bytes: an engine that keeps the memory of its runs for the next ones should not
    /// keep that of a very large one.
    fn expect(&mut self, _bytes: u64) {}

    /// What stops a run that has begun, for engines that do not look at `cancel` meanwhile.
    fn interrupt(&self) -> Option<Arc<dyn Interrupt>> {
        None
    }
}

/// Stops what a session runs, from another thread.
pub trait Interrupt: Send + Sync {
    /// The run that goes on ends soon, with an error; so does the next one, until [`Interrupt::clear`].
    fn interrupt(&self);

    /// The next run is not stopped by what was said before.
    fn clear(&self);
}

/// What the operator may choose for an engine; what is `None` is the package's choice, then the engine's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineOptions {
    /// Threads inside one operator.
    pub intra_op_threads: Option<usize>,
    /// Threads across operators.
    pub inter_op_threads: Option<usize>,
    /// Execution providers, best first.
    pub providers: Option<Vec<Provider>>,
    /// Whether a graph is run that the engine answers wrongly for some values, on the operator's word.
    pub allows_quirks: bool,
}

/// The answer to [`Engine::supports`].
#[derive(Clone)]
pub enum Support {
    /// Nothing speaks against it.
    Yes,
    /// It does, and compiled the graph to find out: [`Engine::compile`] would give the same model with any options.
    Compiled(Arc<dyn CompiledModel>),
    /// It cannot, or would answer wrongly: one sentence per reason, naming operators.
    No(Vec<String>),
}

impl Support {
    /// Why it does not; empty when it does.
    pub fn reasons(self) -> Vec<String> {
        match self {
            Self::Yes | Self::Compiled(_) => Vec::new(),
            Self::No(reasons) => reasons,
        }
    }
}

impl std::fmt::Debug for Support {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Yes => f.write_str("Yes"),
            Self::Compiled(_) => f.debug_struct("Compiled").finish_non_exhaustive(),
            Self::No(reasons) => f.debug_tuple("No").field(reasons).finish(),
        }
    }
}

/// Why an engine did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine itself is not there.
    #[error("engine `{engine}` is not available: {reason}")]
    Unavailable {
        /// The engine.
        engine: &'static str,
        /// What was looked for and what was found.
        reason: String,
    },
    /// The engine cannot be had the way the operator asked for it.
    #[error("engine `{engine}` is not available: {reason}")]
    Misconfigured {
        /// The engine.
        engine: &'static str,
        /// What was asked for, by which setting, and what is wrong with it.
        reason: String,
    },
    /// The engine is there but not for this graph.
    #[error("engine `{engine}` cannot run this graph: {}", reasons.join("; "))]
    Unsupported {
        /// The engine.
        engine: &'static str,
        /// One sentence per reason, naming operators.
        reasons: Vec<String>,
    },
    /// The graph does not load.
    #[error("engine `{engine}` cannot load `{file}`: {reason}")]
    Load {
        /// The engine.
        engine: &'static str,
        /// The model file, relative to the package.
        file: String,
        /// The engine's own words.
        reason: String,
    },
    /// The graph failed while running on valid tensors.
    #[error("engine `{engine}` failed: {reason}")]
    Run {
        /// The engine.
        engine: &'static str,
        /// The engine's own words.
        reason: String,
        /// Whether the engine blames the inputs.
        bad_input: bool,
    },
    /// The engine panicked; its session is not used again.
    #[error("engine `{engine}` panicked: {reason}")]
    Panicked {
        /// The engine.
        engine: &'static str,
        /// What the panic said.
        reason: String,
    },
    /// The process that ran the model has gone; another one takes its place.
    #[error("engine `{engine}` was interrupted: {reason}")]
    Lost {
        /// The engine.
        engine: &'static str,
        /// What is known of it.
        reason: String,
        /// The process that ended while it had this request; `None` when the request came too late for it.
        process: Option<u32>,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl Kinded for EngineError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable { .. } | Self::Misconfigured { .. } | Self::Unsupported { .. } => {
                ErrorKind::Unsupported
            }
            Self::Run {
                bad_input: true, ..
            } => ErrorKind::InvalidArgument,
            Self::Load { .. } | Self::Run { .. } | Self::Panicked { .. } => ErrorKind::Internal,
            Self::Lost { .. } => ErrorKind::NotReady,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }
}

/// [`EngineError::Load`] of `package`, naming the file as the package does.
fn load_error(engine: &'static str, package: &Package, reason: String) -> EngineError {
    EngineError::Load {
        engine,
        file: relative(package).display().to_string(),
        reason,
    }
}

fn relative(package: &Package) -> &Path {
    let file = &package.model_file;
    file.strip_prefix(&package.root).unwrap_or(file)
}

/// The words of a library on one line of bounded length.
fn one_line(text: &str) -> String {
    const LIMIT: usize = 1000;
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(LIMIT) {
        line.truncate(end);
        line.push('…');
    }
    line
}
