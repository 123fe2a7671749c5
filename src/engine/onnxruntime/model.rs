//! A graph in ONNX Runtime: its options, its sessions, a run.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{RunOptions, Session as OrtSession, SessionInputValue};
use ort::value::{DynValue, Outlet, TensorElementType, ValueType};
use ort::{Error, ErrorCode};
use parking_lot::Mutex;

use super::NAME;
use super::convert::{element_type, from_ort, to_ort};
use super::environment::Runtime;
use super::locale::explained;
use super::operators::Operators;
use super::providers::{Selection, select};
use crate::engine::{
    CancelToken, CompiledModel, EngineError, EngineOptions, Interrupt, Outputs, Session, load_error,
};
use crate::machine;
use crate::model::{Batch, OutputKind, Package, Provider, SessionOptions, Signature};
use crate::tensor::{DType, Tensor};

/// How often a running load looks whether it was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// Whether an entry of the session's configuration names neither files nor threads of this machine.
fn is_harmless(key: &str) -> bool {
    let words = ["path", "file", "folder", "save", "thread", "spin", "ep."];
    !words.iter().any(|word| key.contains(word))
}

/// All that a session of a model is made from.
#[derive(Clone)]
pub(super) struct Recipe {
    runtime: Runtime,
    file: PathBuf,
    options: SessionOptions,
    intra_op_threads: Option<usize>,
    inter_op_threads: Option<usize>,
    providers: Vec<Provider>,
    operators: Operators,
}

impl Recipe {
    /// What the operator says wins over what the package says.
    pub(super) fn new(runtime: Runtime, package: &Package, options: &EngineOptions) -> Self {
        let flavor = &package.manifest.onnx;
        let session = &flavor.session;
        // A package cannot know how many there are to share.
        let most = machine::threads();
        let of_package = |threads: Option<usize>| threads.map(|threads| threads.min(most));
        let intra = { options.intra_op_threads }.or(of_package(session.intra_op_num_threads));
        let inter = { options.inter_op_threads }.or(of_package(session.inter_op_num_threads));
        let mut session = session.clone();
        let id = &package.id;
        session.extra.retain(|(key, _)| {
            let is_harmless = is_harmless(key);
            if !is_harmless {
                tracing::warn!(model = %id.name, version = %id.version, key, "the package asks for a session option that is not for a package to say");
            }
            is_harmless
        });
        Self {
            file: package.model_file.clone(),
            // The same numbers as those of the shared pool are no reason for a pool of its own.
            intra_op_threads: intra.filter(|&threads| threads != runtime.intra_op_threads),
            inter_op_threads: inter.filter(|&threads| threads != runtime.inter_op_threads),
            runtime,
            providers: options
                .providers
                .clone()
                .unwrap_or_else(|| flavor.providers.clone()),
            options: session,
            operators: Operators::default(),
        }
    }

    /// The same with custom operators.
    pub(super) fn with(self, operators: Operators) -> Self {
        Self { operators, ..self }
    }

    fn builder(&self, providers: &Selection) -> ort::Result<SessionBuilder> {
        let mut builder = OrtSession::builder(&self.runtime.environment)?;
        if self.has_own_threads() {
            builder = builder
                .with_independent_thread_pool()?
                .with_thread_manager(self.runtime.nursery.clone())?
                .with_intra_threads(
                    self.intra_op_threads
                        .unwrap_or(self.runtime.intra_op_threads),
                )?
                .with_intra_op_spinning(false)?
                .with_inter_op_spinning(false)?;
            if let Some(threads) = self.inter_op_threads {
                builder = builder.with_inter_threads(threads)?;
            }
        }
        if self.options.parallel {
            builder = builder.with_parallel_execution(true)?;
        }
        if let Some(level) = self.options.graph_optimization_level {
            builder = builder.with_optimization_level(match level {
                0 => GraphOptimizationLevel::Disable,
                1 => GraphOptimizationLevel::Level1,
                2 => GraphOptimizationLevel::Level2,
                _ => GraphOptimizationLevel::All,
            })?;
        }
        for (key, value) in &self.options.extra {
            builder = builder.with_config_entry(key, value)?;
        }
        if !providers.usable.is_empty() {
            builder = builder.with_execution_providers(&providers.usable)?;
        }
        self.operators.register(builder)
    }

    /// Running operators in parallel takes a second pool, which the shared one does not have.
    fn has_own_threads(&self) -> bool {
        self.intra_op_threads.is_some() || self.inter_op_threads.is_some() || self.options.parallel
    }

    fn open(&self, providers: &Selection, cancel: &CancelToken) -> ort::Result<OrtSession> {
        let mut builder = self.builder(providers)?;
        let canceler = builder.canceler();
        thread::scope(|scope| {
            let (done, is_done) = channel::<()>();
            let watch = move || {
                while is_done.recv_timeout(CANCEL_POLL) == Err(RecvTimeoutError::Timeout) {
                    if cancel.is_cancelled() {
                        let _ = canceler.cancel();
                        return;
                    }
                }
            };
            // Without the thread the load cannot be cancelled, which is no reason not to load.
            let _ = thread::Builder::new()
                .name("onstage-load-cancel".to_owned())
                .spawn_scoped(scope, watch);
            let session = builder.commit_from_file(&self.file);
            drop(done);
            session
        })
    }
}

/// The graph as read, the weights as packed by the kernels.
pub(super) fn estimate(package: &Package) -> u64 {
    package
        .weight_bytes
        .saturating_mul(2)
        .saturating_add(4 << 20)
}

/// A loaded graph. ONNX Runtime shares nothing between sessions, so that the first one, which loading made, is kept
/// for the first thread that asks.
pub(super) struct Model {
    recipe: Recipe,
    signature: Arc<Signature>,
    file: String,
    footprint: u64,
    first: Mutex<Option<OrtSession>>,
}

impl Model {
    pub(super) fn load(
        mut recipe: Recipe,
        package: &Package,
        cancel: &CancelToken,
    ) -> Result<Self, EngineError> {
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let failed = |error: Error| match error.code() {
            ErrorCode::ModelLoadCanceled => EngineError::Cancelled,
            _ if cancel.is_cancelled() => EngineError::Cancelled,
            _ => load_error(NAME, package, explained(&error)),
        };
        let selection = select(&recipe.providers);
        if !selection.missing.is_empty() {
            tracing::warn!(
                model = %package.id,
                "execution providers that are not available here: {}; using what is left, the CPU last",
                selection.missing.join(", ")
            );
        }
        let session = match recipe.open(&selection, cancel) {
            Err(error) if !selection.usable.is_empty() && !cancel.is_cancelled() => {
                tracing::warn!(
                    model = %package.id,
                    "the session could not be made with the execution providers asked for, using the CPU: {}",
                    explained(&error)
                );
                recipe.providers = vec![];
                recipe.open(&Selection::default(), cancel)
            }
            result => result,
        };
        let session = session.map_err(failed)?;
        let signature = package.graph.signature.clone();
        agree(&signature, &session).map_err(|reason| load_error(NAME, package, reason))?;
        Ok(Self {
            recipe,
            signature: Arc::new(signature),
            file: super::super::relative(package).display().to_string(),
            footprint: estimate(package),
            first: Mutex::new(Some(session)),
        })
    }
}

/// Whether ONNX Runtime sees the same inputs and outputs as our own reader.
fn agree(signature: &Signature, session: &OrtSession) -> Result<(), String> {
    let inputs = signature.required();
    let inputs: Vec<(&String, Option<DType>)> = inputs
        .map(|input| (&input.name, Some(input.dtype)))
        .collect();
    let outputs = signature.outputs.iter().map(|output| match output.kind {
        OutputKind::Tensor { dtype, .. } => (&output.name, Some(dtype)),
        OutputKind::Maps { .. } | OutputKind::Sequence { .. } => (&output.name, None),
    });
    let same = |(name, dtype): (&String, Option<_>), outlet: &Outlet| {
        name == outlet.name() && dtype.map(element_type) == tensor_type(outlet.dtype())
    };
    let listed = |outlets: &[Outlet]| {
        let texts: Vec<String> = outlets
            .iter()
            .map(|outlet| format!("`{}`: {}", outlet.name(), outlet.dtype()))
            .collect();
        texts.join(", ")
    };
    let (seen_inputs, seen_outputs) = (session.inputs(), session.outputs());
    let agree = inputs.len() == seen_inputs.len();
    if !agree || !inputs.into_iter().zip(seen_inputs).all(|(a, b)| same(a, b)) {
        return Err(format!(
            "ONNX Runtime reads the inputs as {}",
            listed(seen_inputs)
        ));
    }
    let once: Vec<&Outlet> = each_once(seen_outputs.iter(), |output| output.name()).collect();
    if outputs.len() != once.len() || !outputs.zip(once).all(|(a, b)| same(a, b)) {
        return Err(format!(
            "ONNX Runtime reads the outputs as {}",
            listed(seen_outputs)
        ));
    }
    Ok(())
}

/// The element type of a tensor, and of an optional one.
fn tensor_type(kind: &ValueType) -> Option<TensorElementType> {
    match kind {
        ValueType::Tensor { ty, .. } => Some(*ty),
        ValueType::Optional(inner) => tensor_type(inner),
        _ => None,
    }
}

/// The first output of each name: a graph may name a value twice, and a [`Signature`] has it once.
fn each_once<T>(
    outputs: impl Iterator<Item = T>,
    name: impl Fn(&T) -> &str,
) -> impl Iterator<Item = T> {
    let mut seen = HashSet::new();
    outputs.filter(move |output| seen.insert(name(output).to_owned()))
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
            None => {
                let selection = select(&self.recipe.providers);
                let session = self.recipe.open(&selection, &CancelToken::new());
                session.map_err(|error| EngineError::Load {
                    engine: NAME,
                    file: self.file.clone(),
                    reason: explained(&error),
                })?
            }
        };
        let stop = Stop::new().map_err(|error| EngineError::Load {
            engine: NAME,
            file: self.file.clone(),
            reason: explained(&error),
        })?;
        Ok(Box::new(Running {
            session,
            signature: Arc::clone(&self.signature),
            stop: Arc::new(stop),
            keeps: Keeps::Runs,
        }))
    }
}

/// A run that takes more bytes leaves no memory for the next ones.
const LARGE: u64 = 128 << 20;

/// Gives memory that no tensor has back to the system when a run ends.
const SHRINK: (&str, &str) = ("memory.enable_memory_arena_shrinkage", "cpu:0");

/// What becomes of the memory of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    /// It is kept for the next ones.
    Runs,
    /// The next run gives back what it can.
    Little,
    /// The same, and so does the run after it: outputs of a large run were in use when it ended.
    LittleTwice,
    /// ONNX Runtime has nothing to give back.
    Nothing,
}

/// A session in use by one thread.
struct Running {
    session: OrtSession,
    signature: Arc<Signature>,
    stop: Arc<Stop>,
    keeps: Keeps,
}

/// The options of a session's runs, by which another thread stops them. ONNX Runtime has no way to take that back, so
/// that options are used until a run was stopped.
struct Stop {
    options: Mutex<Arc<RunOptions>>,
    fired: AtomicBool,
}

impl Stop {
    fn new() -> ort::Result<Self> {
        Ok(Self {
            options: Mutex::new(Arc::new(RunOptions::new()?)),
            fired: AtomicBool::new(false),
        })
    }

    fn options(&self) -> Arc<RunOptions> {
        Arc::clone(&self.options.lock())
    }

    /// Other options from here on, unless a run was stopped.
    fn replace(&self, options: RunOptions) {
        let mut own = self.options.lock();
        if !self.fired.load(Ordering::Relaxed) {
            *own = Arc::new(options);
        }
    }
}

impl Interrupt for Stop {
    fn interrupt(&self) {
        self.fired.store(true, Ordering::Relaxed);
        // Not stopped, it ends a little later.
        let _ = self.options().terminate();
    }

    fn clear(&self) {
        if self.fired.swap(false, Ordering::Relaxed)
            && let Ok(fresh) = RunOptions::new()
        {
            *self.options.lock() = Arc::new(fresh);
        }
    }
}

impl Session for Running {
    fn run(&mut self, batch: &Batch, cancel: &CancelToken) -> Result<Outputs, EngineError> {
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let shrinks = matches!(self.keeps, Keeps::Little | Keeps::LittleTwice);
        let options = self.options();
        let mut answer = self.answer(batch.inputs(), &options);
        if shrinks {
            self.reset_options();
        }
        if let Err(error) = &answer
            && shrinks
            && error.message().contains("shrink")
        {
            // It has no arena; it says so before it runs.
            self.keeps = Keeps::Nothing;
            let options = self.stop.options();
            answer = self.answer(batch.inputs(), &options);
        }
        answer.map_err(|error| {
            if cancel.is_cancelled() {
                return EngineError::Cancelled;
            }
            EngineError::Run {
                engine: NAME,
                reason: explained(&error),
                bad_input: blames_inputs(&error),
            }
        })
    }

    fn expect(&mut self, bytes: u64) {
        if bytes > LARGE && self.keeps != Keeps::Nothing {
            self.keeps = Keeps::LittleTwice;
        }
    }

    fn interrupt(&self) -> Option<Arc<dyn Interrupt>> {
        Some(Arc::clone(&self.stop) as Arc<dyn Interrupt>)
    }
}

impl Running {
    /// The options of the next run.
    fn options(&mut self) -> Arc<RunOptions> {
        self.keeps = match self.keeps {
            Keeps::Runs | Keeps::Nothing => return self.stop.options(),
            Keeps::LittleTwice => Keeps::Little,
            Keeps::Little => Keeps::Runs,
        };
        let shrinking = || {
            let mut options = RunOptions::new()?;
            options.set(SHRINK.0, SHRINK.1)?;
            Ok::<_, Error>(options)
        };
        // Without it the run is as good.
        if let Ok(options) = shrinking() {
            self.stop.replace(options);
        }
        self.stop.options()
    }

    /// Options of an ordinary run again.
    fn reset_options(&self) {
        if let Ok(options) = RunOptions::new() {
            self.stop.replace(options);
        }
    }

    fn answer(&mut self, inputs: &[Tensor], options: &RunOptions) -> ort::Result<Outputs> {
        let specs = &self.signature.inputs;
        let fits = inputs.len() == specs.len()
            && inputs
                .iter()
                .zip(specs)
                .all(|(tensor, spec)| tensor.dtype() == spec.dtype);
        if !fits {
            let message = "the batch was made for another model";
            return Err(Error::new_with_code(ErrorCode::InvalidArgument, message));
        }
        // An output that is an input is read from these after the run.
        let inputs: Vec<Cow<'_, Tensor>> = inputs.iter().map(Tensor::aligned).collect();
        let feeds = inputs
            .iter()
            .zip(specs)
            .map(|(tensor, spec)| {
                Ok((
                    Cow::Borrowed(spec.name.as_str()),
                    to_ort(tensor, &spec.name)?,
                ))
            })
            .collect::<ort::Result<Vec<(Cow<'_, str>, SessionInputValue<'_>)>>>()?;
        let outputs = self.session.run_with_options(feeds, options)?;
        let mut outputs: Vec<(&str, DynValue)> = outputs.into_iter().collect();
        if outputs.len() > self.signature.outputs.len() {
            outputs = each_once(outputs.into_iter(), |(name, _)| name).collect();
        }
        outputs
            .into_iter()
            .zip(&self.signature.outputs)
            .map(|((_, value), spec)| {
                // An output that is an input lies in the memory of the request, which does not live as long.
                let is_input = specs.iter().any(|input| input.name == spec.name);
                from_ort(value, spec, is_input)
            })
            .collect()
    }
}

/// Whether ONNX Runtime blames what it was given. It says so for what it checks itself; what a kernel finds out has
/// other codes, but with right names, datatypes and ranks it is about sizes and values, unless the kernel, the device
/// or the memory is what was missing.
fn blames_inputs(error: &Error) -> bool {
    let message = error.message();
    match error.code() {
        ErrorCode::InvalidArgument => true,
        ErrorCode::NotImplemented
        | ErrorCode::EngineError
        | ErrorCode::ExecutionProviderFailure
        | ErrorCode::DeviceReset => false,
        _ => {
            message.contains("returned while running")
                && !message.contains("allocate memory")
                // As in `CUDA failure 2: out of memory ; GPU=0 ; hostname=…`.
                && !message.contains(" ; GPU=")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_blamed_for_sizes_and_values_only() {
        let kernel = |words: &str| format!("Non-zero status code returned while running {words}");
        let cases = [
            (
                ErrorCode::InvalidArgument,
                "Got invalid dimensions".to_owned(),
                true,
            ),
            (
                ErrorCode::GenericFailure,
                kernel("Div node. Integer division by zero"),
                true,
            ),
            (
                ErrorCode::GenericFailure,
                kernel("Add node. Failed to allocate memory"),
                false,
            ),
            (
                ErrorCode::GenericFailure,
                kernel("Conv node. CUDA failure 2: out of memory ; GPU=0 ; hostname=h"),
                false,
            ),
            (ErrorCode::NotImplemented, kernel("Resize node"), false),
            (ErrorCode::DeviceReset, kernel("Conv node"), false),
            (
                ErrorCode::GenericFailure,
                "the session is gone".to_owned(),
                false,
            ),
        ];
        for (code, message, expected) in cases {
            let error = Error::new_with_code(code, message.as_str());
            assert_eq!(blames_inputs(&error), expected, "{message}");
        }
    }
}
