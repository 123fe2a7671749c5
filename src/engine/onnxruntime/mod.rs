//! ONNX Runtime, through a library that is found at run time.
//!
//! The library is optional: without it this engine says so, and the embedded one serves what it can.

mod convert;
mod library;
mod providers;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session as OrtSession, SessionInputValue};
use parking_lot::Mutex;

pub use library::Surroundings;

use self::convert::ConvertError;
use super::{
    CancelToken, CompiledModel, Engine, EngineError, EngineOptions, Outputs, Session, Support,
};
use crate::model::{Batch, Graph, Package, Signature};

const NAME: &str = "onnxruntime";

/// What to do to get the library.
const HOW_TO_INSTALL: &str = "install it with `pip install onnxruntime` (1.24 or newer) in the active virtual \
                              environment, or set `engine.libonnxruntime` or `ORT_DYLIB_PATH` to libonnxruntime.so";

/// What the operator chose for the whole engine.
#[derive(Debug, Clone, Default)]
pub struct OnnxRuntimeConfig {
    /// The library; looked for when `None`.
    pub library: Option<PathBuf>,
    /// Threads inside one operator, shared by all models.
    pub intra_op_threads: Option<usize>,
    /// Threads across operators, shared by all models.
    pub inter_op_threads: Option<usize>,
}

/// The engine `onnxruntime`.
#[derive(Debug)]
pub struct OnnxRuntime {
    config: OnnxRuntimeConfig,
    surroundings: Surroundings,
    loaded: OnceLock<Loaded>,
}

/// One place where the library was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryAttempt {
    /// The file, or the place that holds none.
    pub path: PathBuf,
    /// Why it was looked at.
    pub origin: &'static str,
    /// What came of it.
    pub outcome: String,
}

/// What the search gave; kept for the life of the process, as ONNX Runtime wants its environment.
#[derive(Debug)]
struct Loaded {
    environment: Result<(Environment, PathBuf), String>,
    attempts: Vec<LibraryAttempt>,
}

/// One environment per process is all that the library allows; a second engine shares it.
static ENVIRONMENT: OnceLock<(Environment, PathBuf)> = OnceLock::new();

impl OnnxRuntime {
    /// The engine; the library is looked for when it is first needed.
    pub fn new(config: OnnxRuntimeConfig, surroundings: Surroundings) -> Self {
        Self {
            config,
            surroundings,
            loaded: OnceLock::new(),
        }
    }

    /// Every place that was looked at, in order.
    pub fn attempts(&self) -> &[LibraryAttempt] {
        &self.loaded().attempts
    }

    fn loaded(&self) -> &Loaded {
        self.loaded.get_or_init(|| self.search())
    }

    fn search(&self) -> Loaded {
        let mut attempts = Vec::new();
        let mut attempt = |path: &Path, origin, outcome: &str| {
            attempts.push(LibraryAttempt {
                path: path.to_owned(),
                origin,
                outcome: outcome.to_owned(),
            });
        };
        for place in library::places(self.config.library.as_deref(), &self.surroundings) {
            if place.candidates.is_empty() {
                attempt(&place.path, place.origin, "not there");
            }
            for candidate in &place.candidates {
                match self.environment(candidate) {
                    Ok(environment) => {
                        attempt(candidate, place.origin, "loaded");
                        return Loaded {
                            environment: Ok(environment),
                            attempts,
                        };
                    }
                    Err(reason) if place.explicit => {
                        attempt(candidate, place.origin, &reason);
                        let reason =
                            format!("{} is `{}`: {reason}", place.origin, candidate.display());
                        return Loaded {
                            environment: Err(reason),
                            attempts,
                        };
                    }
                    Err(reason) => {
                        tracing::warn!(library = %candidate.display(), reason, "skipping a libonnxruntime");
                        attempt(candidate, place.origin, &reason);
                    }
                }
            }
        }
        Loaded {
            environment: Err(format!("no libonnxruntime was found; {HOW_TO_INSTALL}")),
            attempts,
        }
    }

    fn environment(&self, path: &Path) -> Result<(Environment, PathBuf), String> {
        if let Some(shared) = ENVIRONMENT.get() {
            return Ok(shared.clone());
        }
        if !path.is_file() {
            return Err("there is no such file".to_owned());
        }
        // Telemetry is on by default from 1.29 on; the environment's switch turns it off. (The variable
        // `ORT_DISABLE_TELEMETRY` would have to be set before this process starts.)
        let builder = ort::init_from(path).map_err(|error| error.to_string())?;
        let pool = self.thread_pool().map_err(|error| error.to_string())?;
        let builder = builder
            .with_name("onstage")
            .with_telemetry(false)
            .with_logger(Arc::new(log));
        let environment = builder
            .with_global_thread_pool(pool)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(ENVIRONMENT
            .get_or_init(|| (environment, path.to_owned()))
            .clone())
    }

    /// One pool for all models: a pool per session would make threads by the dozen.
    fn thread_pool(&self) -> ort::Result<GlobalThreadPoolOptions> {
        let mut options = GlobalThreadPoolOptions::default().with_spin_control(false)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        options = options.with_intra_threads(self.config.intra_op_threads.unwrap_or(cores))?;
        options.with_inter_threads(self.config.inter_op_threads.unwrap_or(1))
    }

    fn ready(&self) -> Result<&Environment, EngineError> {
        match &self.loaded().environment {
            Ok((environment, _)) => Ok(environment),
            Err(reason) => {
                let explicit =
                    self.config.library.is_some() || self.surroundings.ort_dylib_path.is_some();
                Err(EngineError::Unavailable {
                    engine: NAME,
                    reason: reason.clone(),
                    explicit,
                })
            }
        }
    }
}

/// ONNX Runtime's log lines, which would otherwise go to stderr.
fn log(level: LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Verbose | LogLevel::Info => {
            tracing::trace!(target: "onnxruntime", category, location, message)
        }
        LogLevel::Warning => tracing::debug!(target: "onnxruntime", category, location, message),
        // What fails a request is reported with the request.
        LogLevel::Error | LogLevel::Fatal => {
            tracing::debug!(target: "onnxruntime", category, location, message)
        }
    }
}

impl Engine for OnnxRuntime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> Option<String> {
        let (_, path) = self.loaded().environment.as_ref().ok()?;
        let numbers: Vec<String> = library::version_of(path)
            .iter()
            .map(u32::to_string)
            .collect();
        if numbers.is_empty() {
            Some(ort::info().to_owned())
        } else {
            Some(numbers.join("."))
        }
    }

    fn check(&self) -> Result<(), EngineError> {
        self.ready().map(drop)
    }

    fn supports(&self, _graph: &Graph) -> Support {
        // It knows every standard operator; what it does not know, loading tells.
        match self.ready() {
            Ok(_) => Support::Yes,
            Err(error) => Support::No(vec![error.to_string()]),
        }
    }

    fn estimate(&self, package: &Package) -> u64 {
        // Weights once, and again while they are prepacked; the rest is small beside them.
        package.weight_bytes * 2 + (4 << 20)
    }

    fn compile(
        &self,
        package: &Package,
        options: &EngineOptions,
        cancel: &CancelToken,
    ) -> Result<Arc<dyn CompiledModel>, EngineError> {
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let recipe = Recipe {
            environment: self.ready()?.clone(),
            package: package.clone(),
            options: options.clone(),
        };
        let first = recipe.session()?;
        recipe.check_names(&first)?;
        let signature = Arc::new(package.graph.signature.clone());
        let footprint = self.estimate(package);
        Ok(Arc::new(Model {
            recipe,
            signature,
            footprint,
            first: Mutex::new(Some(first)),
        }))
    }
}

/// How to make a session of one model.
struct Recipe {
    environment: Environment,
    package: Package,
    options: EngineOptions,
}

impl Recipe {
    fn session(&self) -> Result<OrtSession, EngineError> {
        let wanted = self
            .options
            .providers
            .as_ref()
            .unwrap_or(&self.package.manifest.onnx.providers);
        let (usable, missing) = providers::choose(wanted);
        let id = &self.package.id;
        if !missing.is_empty() {
            tracing::warn!(model = %id.name, ?missing, "execution providers are not available here; using the others");
        }
        if usable.is_empty() {
            return self.commit(&[]).map_err(|error| self.load_error(&error));
        }
        self.commit(&usable).or_else(|error| {
            tracing::warn!(model = %id.name, %error, "execution providers failed to start; using the CPU");
            self.commit(&[]).map_err(|error| self.load_error(&error))
        })
    }

    fn commit(&self, providers: &[ort::ep::ExecutionProviderDispatch]) -> ort::Result<OrtSession> {
        let mut builder = self.configure(OrtSession::builder(&self.environment)?)?;
        if !providers.is_empty() {
            builder = builder.with_execution_providers(providers)?;
        }
        builder.commit_from_file(&self.package.model_file)
    }

    /// The package's session options; the operator's thread counts win.
    fn configure(&self, mut builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        let declared = &self.package.manifest.onnx.session;
        // The operator's own counts are those of the shared pool.
        let operator_chose =
            self.options.intra_op_threads.is_some() || self.options.inter_op_threads.is_some();
        let intra = declared.intra_op_num_threads.filter(|_| !operator_chose);
        let inter = declared.inter_op_num_threads.filter(|_| !operator_chose);
        if intra.is_some() || inter.is_some() {
            builder = builder.with_independent_thread_pool()?;
            builder = builder
                .with_intra_threads(intra.unwrap_or(0))?
                .with_inter_threads(inter.unwrap_or(0))?;
        }
        if declared.parallel {
            builder = builder.with_parallel_execution(true)?;
        }
        match declared.graph_optimization_level {
            Some(1) => builder = builder.with_optimization_level(GraphOptimizationLevel::Level1)?,
            Some(2) => builder = builder.with_optimization_level(GraphOptimizationLevel::Level2)?,
            Some(99) => builder = builder.with_optimization_level(GraphOptimizationLevel::All)?,
            _ => {}
        }
        for (key, value) in &declared.extra {
            builder = builder.with_config_entry(key, value)?;
        }
        Ok(builder)
    }

    fn check_names(&self, session: &OrtSession) -> Result<(), EngineError> {
        let signature = &self.package.graph.signature;
        let inputs = session.inputs().iter().map(|outlet| outlet.name());
        let outputs = session.outputs().iter().map(|outlet| outlet.name());
        let same = inputs.eq(signature.inputs.iter().map(|input| input.name.as_str()))
            && outputs.eq(signature.outputs.iter().map(|output| output.name.as_str()));
        if same {
            return Ok(());
        }
        Err(self.load_failure("its inputs and outputs differ from those in the file".to_owned()))
    }

    fn load_error(&self, error: &ort::Error) -> EngineError {
        self.load_failure(error.to_string())
    }

    fn load_failure(&self, reason: String) -> EngineError {
        let file = self
            .package
            .model_file
            .strip_prefix(&self.package.root)
            .unwrap_or(&self.package.model_file);
        EngineError::Load {
            engine: NAME,
            file: file.display().to_string(),
            reason,
        }
    }
}

struct Model {
    recipe: Recipe,
    signature: Arc<Signature>,
    footprint: u64,
    /// The session that proved the model loadable, until somebody takes it.
    first: Mutex<Option<OrtSession>>,
}

impl CompiledModel for Model {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn footprint(&self) -> u64 {
        self.footprint
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        let first = self.first.lock().take();
        let session = match first {
            Some(session) => session,
            None => self.recipe.session()?,
        };
        Ok(Box::new(Runner {
            session,
            signature: Arc::clone(&self.signature),
        }))
    }
}

struct Runner {
    session: OrtSession,
    signature: Arc<Signature>,
}

impl Session for Runner {
    fn run(&mut self, batch: &Batch, cancel: &CancelToken) -> Result<Outputs, EngineError> {
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> =
            Vec::with_capacity(batch.inputs().len());
        for (spec, tensor) in self.signature.inputs.iter().zip(batch.inputs()) {
            inputs.push((
                Cow::Borrowed(spec.name.as_str()),
                convert::input(tensor).map_err(run_error)?,
            ));
        }
        let mut values = self
            .session
            .run(inputs)
            .map_err(|error| run_error(error.into()))?;
        let outputs = self.signature.outputs.iter().map(|output| {
            let value = values
                .remove(&output.name)
                .expect("the outputs were checked when the model was loaded");
            convert::output(value, &output.kind).map_err(run_error)
        });
        outputs.collect()
    }
}

/// Shapes that the graph cannot put together surface while it runs; so does a text that no category has. The file
/// and the environment were proved good when the model was loaded, so what the engine says now is about the data.
fn run_error(error: ConvertError) -> EngineError {
    let bad_input = matches!(
        &error,
        ConvertError::Ort(error) if matches!(
            error.code(),
            ort::ErrorCode::InvalidArgument | ort::ErrorCode::RuntimeException | ort::ErrorCode::GenericFailure
        )
    );
    EngineError::Run {
        engine: NAME,
        reason: error.to_string(),
        bad_input,
    }
}
