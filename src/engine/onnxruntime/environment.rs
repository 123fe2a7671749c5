//! The one ONNX Runtime of this process: library, environment, thread pool.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ort::environment::{Environment, EnvironmentBuilder, GlobalThreadPoolOptions};
use ort::logging::LogLevel;
use parking_lot::Mutex;

use super::Config;
use super::library::{Origin, Place, look_up, version_of};
use super::threads::Nursery;
use crate::engine::{EngineError, one_line};
use crate::error::panic_text;
use crate::runtime::machine;

/// The loaded library. `ort` allows one for each process and keeps only a weak reference to its environment, so the
/// process keeps this one, whichever engine value loaded it.
static PROCESS: Mutex<Process> = Mutex::new(Process {
    runtime: None,
    refused: Vec::new(),
});

struct Process {
    runtime: Option<Runtime>,
    /// What was wrong with the libraries that were tried before, to tell it again: none is tried after one was loaded.
    refused: Vec<(PathBuf, String)>,
}

/// A loaded library and its environment.
#[derive(Debug, Clone)]
pub(super) struct Runtime {
    pub(super) environment: Environment,
    pub(super) library: PathBuf,
    pub(super) version: String,
    /// Starts the threads of sessions that have a pool of their own.
    pub(super) nursery: Nursery,
    /// Threads inside an operator, of the pool that all sessions share.
    pub(super) intra_op_threads: usize,
    /// Threads across operators, of the same pool.
    pub(super) inter_op_threads: usize,
}

/// One step of the look-up, for a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Why it was tried.
    pub origin: Origin,
    /// The library, or the place that holds none.
    pub path: PathBuf,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of trying a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No library there.
    NotFound,
    /// It is the one in use.
    Loaded {
        /// Its version.
        version: String,
    },
    /// It cannot be used.
    Refused(String),
    /// Not needed: one before it was loaded.
    NotTried,
}

/// Looks for a library and loads the first that works, or takes the one that the process has.
pub(super) fn obtain(config: &Config) -> (Result<Runtime, EngineError>, Vec<Tried>) {
    let mut process = PROCESS.lock();
    let places = look_up(&config.surroundings);
    let mut tried = Vec::new();
    let mut result = match places.first() {
        Some(place) if place.origin.is_explicit() => Err(misconfigured(place)),
        _ => Err(unavailable()),
    };
    for place in places {
        if place.libraries.is_empty() {
            tried.push(Tried {
                origin: place.origin,
                path: place.path,
                outcome: Outcome::NotFound,
            });
            continue;
        }
        for library in place.libraries {
            let outcome = if result.is_ok() {
                Outcome::NotTried
            } else {
                match load(&library, config, &mut process) {
                    Ok(runtime) => {
                        let version = runtime.version.clone();
                        result = Ok(runtime);
                        Outcome::Loaded { version }
                    }
                    Err(reason) => {
                        result = Err(refused(place.origin, &library, &reason, result));
                        Outcome::Refused(reason)
                    }
                }
            };
            tried.push(Tried {
                origin: place.origin,
                path: library,
                outcome,
            });
        }
    }
    (result, tried)
}

fn misconfigured(place: &Place) -> EngineError {
    EngineError::Misconfigured {
        engine: super::NAME,
        reason: format!(
            "there is no library at `{}` ({}); expected libonnxruntime or a folder that holds it",
            place.path.display(),
            place.origin
        ),
    }
}

fn unavailable() -> EngineError {
    EngineError::Unavailable {
        engine: super::NAME,
        reason: "no libonnxruntime was found; install it with `pip install onnxruntime`, or name it with \
                 `--libonnxruntime`, `engine.libonnxruntime` or `ORT_DYLIB_PATH` (`onstage doctor` lists the places)"
            .to_owned(),
    }
}

/// The error after a library did not work: the operator's own choice is final, any other is skipped with a notice.
fn refused(
    origin: Origin,
    library: &Path,
    reason: &str,
    before: Result<Runtime, EngineError>,
) -> EngineError {
    let library = library.display();
    if origin.is_explicit() {
        return EngineError::Misconfigured {
            engine: super::NAME,
            reason: format!("`{library}` ({origin}) cannot be used: {reason}"),
        };
    }
    tracing::info!("skipping `{library}` ({origin}): {reason}");
    before.err().unwrap_or_else(unavailable)
}

fn load(library: &Path, config: &Config, process: &mut Process) -> Result<Runtime, String> {
    if let Some(runtime) = &process.runtime {
        let same = |path: &Path| path.canonicalize().ok();
        if same(&runtime.library) == same(library) {
            return Ok(runtime.clone());
        }
        if let Some((_, reason)) = process.refused.iter().find(|(path, _)| path == library) {
            return Err(reason.clone());
        }
        return Err(format!(
            "this process has loaded `{}` already",
            runtime.library.display()
        ));
    }
    let nursery = Nursery::new().map_err(|error| format!("no thread: {error}"))?;
    let environment = match open(library, config) {
        Ok(environment) => environment,
        Err(reason) => {
            process.refused.retain(|(path, _)| path != library);
            process.refused.push((library.to_owned(), reason.clone()));
            return Err(reason);
        }
    };
    let runtime = Runtime {
        environment,
        library: library.to_owned(),
        version: version(library),
        nursery,
        intra_op_threads: intra_op_threads(config),
        inter_op_threads: inter_op_threads(config),
    };
    process.runtime = Some(runtime.clone());
    Ok(runtime)
}

fn open(library: &Path, config: &Config) -> Result<Environment, String> {
    // A library that is something else than its name says may do anything, and `ort` asserts some of what it expects.
    let loaded = catch_unwind(|| {
        let builder = ort::init_from(library).map_err(|error| explain(&error))?;
        build(builder, config).map_err(|error| one_line(&error.to_string()))
    });
    loaded.unwrap_or_else(|panic| Err(one_line(panic_text(&*panic))))
}

/// Counted from the CPU quota of the container; ONNX Runtime would count the machine's cores.
fn intra_op_threads(config: &Config) -> usize {
    { config.intra_op_threads }.unwrap_or_else(machine::threads)
}

fn inter_op_threads(config: &Config) -> usize {
    config.inter_op_threads.unwrap_or(1)
}

fn build(builder: EnvironmentBuilder, config: &Config) -> ort::Result<Environment> {
    let pool = GlobalThreadPoolOptions::default()
        .with_intra_threads(intra_op_threads(config))?
        .with_inter_threads(inter_op_threads(config))?
        // Idle threads that spin take the CPU from the threads that answer requests.
        .with_spin_control(false)?;
    let environment = builder
        .with_name("onstage")
        // This stops the events of sessions. Official builds from 1.29 on write a device identifier to the cache
        // folder of the user before it, and may send one event about their start: `main` prevents that by
        // `ORT_DISABLE_TELEMETRY=1`.
        .with_telemetry(false)
        .with_global_thread_pool(pool)
        .with_logger(Arc::new(|level, _category, _id, location, message| {
            log(level, location, message);
        }))
        .build()?;
    environment.set_log_level(LogLevel::Warning);
    Ok(environment)
}

/// ONNX Runtime's own log. What goes wrong also comes back as an error, and some graphs warn on every run, so that
/// all of it is for debugging.
fn log(level: LogLevel, location: &str, message: &str) {
    match level {
        LogLevel::Fatal => tracing::error!(target: "onnxruntime", location, "{message}"),
        LogLevel::Error | LogLevel::Warning => {
            tracing::debug!(target: "onnxruntime", location, "{message}");
        }
        LogLevel::Info | LogLevel::Verbose => {
            tracing::trace!(target: "onnxruntime", location, "{message}");
        }
    }
}

fn explain(error: &ort::LoadDynamicError) -> String {
    use ort::LoadDynamicError as Error;
    match error {
        Error::Dlopen { error, .. } => one_line(&error.to_string()),
        Error::MissingApi { .. } => {
            "it is not ONNX Runtime: it does not export `OrtGetApiBase`".to_owned()
        }
        Error::BadVersion { version_str, .. } => format!(
            "version {version_str} is too old; expected 1.{} or newer",
            ort::MINOR_VERSION
        ),
        Error::InvalidVersionString => "it does not tell its version".to_owned(),
    }
}

/// The version: from the file's name, else from what the library says about the branch it was built from.
fn version(library: &Path) -> String {
    let numbers = version_of(library);
    if numbers.len() > 1 {
        let parts: Vec<String> = numbers.iter().map(u64::to_string).collect();
        return parts.join(".");
    }
    let branch = ort::info().split("git-branch=rel-").nth(1);
    let branch = branch.and_then(|rest| rest.split(',').next());
    branch.unwrap_or("unknown").to_owned()
}
