//! A graph in ONNX Runtime: its options, its sessions, a run.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use ort::session::Session as OrtSession;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{Outlet, TensorElementType, ValueType};
use ort::{Error, ErrorCode};
use parking_lot::Mutex;

use super::NAME;
use super::convert::element_type;
use super::environment::Runtime;
use super::locale::explained;
use super::operators::Operators;
use super::providers::{Selection, select};
use super::running::{Keeps, Running, Stop, each_once};
use crate::engine::{CancelToken, CompiledModel, EngineError, EngineOptions, Session, load_error};
use crate::model::{OutputKind, Package, Provider, SessionOptions, Signature};
use crate::runtime::machine;
use crate::tensor::DType;

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
    /// Whether the operator asked for them, not the package.
    providers_are_configured: bool,
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
            providers_are_configured: options.providers.is_some(),
            operators: Operators::default(),
        }
    }

    /// The same with custom operators.
    pub(super) fn with(self, operators: Operators) -> Self {
        Self { operators, ..self }
    }

    /// Tells of providers that are not here: each time if the operator asked for them. Packages name CUDA because MLflow
    /// writes it into all of them, which is worth saying once.
    fn report_missing(&self, selection: &Selection, package: &Package) {
        static TOLD: AtomicBool = AtomicBool::new(false);
        if selection.missing.is_empty() {
            return;
        }
        let missing = selection.missing.join(", ");
        if self.providers_are_configured {
            tracing::warn!(
                model = %package.id,
                "execution providers that are not available here: {missing}; using what is left, the CPU last"
            );
        } else if TOLD.swap(true, Ordering::Relaxed) {
            tracing::debug!(model = %package.id, "the package names providers that are not available here: {missing}");
        } else {
            tracing::info!(
                model = %package.id,
                "the package names execution providers that are not available here: {missing}; the CPU runs it. MLflow \
                 names CUDA unless a model is logged with `onnx_execution_providers=[\"CPUExecutionProvider\"]`. This is \
                 said once, not for each package"
            );
        }
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
        recipe.report_missing(&selection, package);
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
        let disagree = |error: Disagreement| load_error(NAME, package, error.to_string());
        agree(&signature, &session).map_err(disagree)?;
        Ok(Self {
            recipe,
            signature: Arc::new(signature),
            file: super::super::relative(package).display().to_string(),
            footprint: estimate(package),
            first: Mutex::new(Some(session)),
        })
    }
}

/// ONNX Runtime sees another graph than our own reader.
#[derive(Debug, thiserror::Error)]
#[error("ONNX Runtime reads the {what} as {seen}")]
struct Disagreement {
    what: &'static str,
    seen: String,
}

/// Whether ONNX Runtime sees the same inputs and outputs as our own reader.
fn agree(signature: &Signature, session: &OrtSession) -> Result<(), Disagreement> {
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
        return Err(Disagreement {
            what: "inputs",
            seen: listed(seen_inputs),
        });
    }
    let once: Vec<&Outlet> = each_once(seen_outputs.iter(), |output| output.name()).collect();
    if outputs.len() != once.len() || !outputs.zip(once).all(|(a, b)| same(a, b)) {
        return Err(Disagreement {
            what: "outputs",
            seen: listed(seen_outputs),
        });
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
