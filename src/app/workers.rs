//! Processes for models that want one of their own: how the server starts them, and what they then do.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::config::{EngineSettings, Settings, TelemetrySettings};
use crate::engine::worker::Workers;
use crate::lifecycle::Compiler;
use crate::runtime::machine::Priority;
use crate::telemetry::Metrics;

/// The configuration of a worker. It holds no secret, because process lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerSettings {
    /// `[engine]`
    pub engine: EngineSettings,
    /// `[telemetry]`, for the log.
    pub telemetry: TelemetrySettings,
}

/// The compiler with a way to start workers, for models that want one or have to have one.
///
/// # Errors
/// When this program cannot be found, or no thread started.
pub(super) fn with_workers(
    compiler: Compiler,
    settings: &Settings,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Compiler> {
    let described = WorkerSettings {
        engine: settings.engine.clone(),
        telemetry: TelemetrySettings {
            // It may hold a password, and a worker has no traces.
            otlp_endpoint: None,
            ..settings.telemetry.clone()
        },
    };
    let described =
        serde_json::to_string(&described).context("cannot write the settings of workers")?;
    let arguments = ["worker", "--settings", &described]
        .map(Into::into)
        .to_vec();
    let restarted = Arc::new(move |model: &crate::model::ModelName| {
        metrics.worker_restarted(model.as_str());
    });
    let workers = Workers::new(program()?, arguments, restarted);
    Ok(compiler.with_workers(workers.context("cannot start a thread for workers")?))
}

/// This program, also after its file was replaced by another release.
fn program() -> anyhow::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() {
        return Ok(running);
    }
    std::env::current_exe().context("cannot find this program, to start workers")
}

/// Works for the server behind standard input, until it goes.
///
/// # Errors
/// When it was not started by a server.
#[cfg(unix)]
pub fn work(settings: &WorkerSettings) -> anyhow::Result<()> {
    Priority::Runs.take();
    let engines = crate::config::engines(&settings.engine);
    crate::engine::worker::serve(&engines)
        .context("this command is for `onstage serve`, which speaks to it over standard input")
}

/// Works for nobody.
///
/// # Errors
/// Always.
#[cfg(not(unix))]
pub fn work(_: &WorkerSettings) -> anyhow::Result<()> {
    anyhow::bail!("workers need a Unix system")
}
