//! The composition root: the only file that names concrete engines and protocols.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{EngineSettings, Settings};
use crate::engine::Engine;

/// What `onstage serve` was asked to do, checked as far as that goes without touching a package.
#[derive(Debug, Clone)]
pub struct ServeRequest {
    /// The settings; everything in them is built.
    pub settings: Settings,
    /// Paths of packages, directories of packages and `.onnx` files; each is required.
    pub targets: Vec<PathBuf>,
    /// Another name for the only target.
    pub name: Option<String>,
}

/// One place where a library of ONNX Runtime was looked for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LibraryPlace {
    /// The file, or the pattern.
    pub path: String,
    /// Why it was looked at: `configuration`, `ORT_DYLIB_PATH`, `beside the executable`, …
    pub origin: String,
    /// What was found there.
    pub outcome: String,
}

/// Serves until the process is told to stop.
///
/// # Errors
/// When a target cannot be loaded or a listener cannot be opened.
pub async fn serve(request: ServeRequest) -> anyhow::Result<()> {
    let _ = request;
    anyhow::bail!("serving is not wired up")
}

/// The engines, in the order in which `auto` prefers them, whether or not their library is there.
pub fn engines(settings: &EngineSettings) -> Vec<Arc<dyn Engine>> {
    let _ = settings;
    Vec::new()
}

/// Where a library of ONNX Runtime is looked for, in order, and what is there.
pub fn library_search(settings: &EngineSettings) -> Vec<LibraryPlace> {
    let _ = settings;
    Vec::new()
}
