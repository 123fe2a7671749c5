//! The one table of engines.

use std::sync::Arc;

use super::EngineSettings;
use crate::engine::onnxruntime::library::Surroundings;
use crate::engine::onnxruntime::{self, Outcome, Tried};
use crate::engine::{Classic, Engine, OnnxRuntime, Tract};

/// One place where a library of ONNX Runtime was looked for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LibraryPlace {
    /// The file, or the pattern.
    pub path: String,
    /// Why it was looked at: `engine.libonnxruntime`, `ORT_DYLIB_PATH`, beside the executable, …
    pub origin: String,
    /// What was found there.
    pub outcome: String,
}

/// The engines of this build, in the order in which `auto` prefers them. The one table of engines.
pub fn engines(settings: &EngineSettings) -> Vec<Arc<dyn Engine>> {
    vec![
        Arc::new(Classic),
        Arc::new(onnxruntime(settings)),
        Arc::new(Tract),
    ]
}

/// Where a library of ONNX Runtime is looked for, in order, and what is there.
pub fn library_search(settings: &EngineSettings) -> Vec<LibraryPlace> {
    let engine = onnxruntime(settings);
    let place = |tried: &Tried| LibraryPlace {
        path: tried.path.display().to_string(),
        origin: tried.origin.to_string(),
        outcome: match &tried.outcome {
            Outcome::NotFound => "not there".to_owned(),
            Outcome::Loaded { version } => format!("loaded, version {version}"),
            Outcome::Refused(reason) => reason.clone(),
            Outcome::NotTried => "not needed".to_owned(),
        },
    };
    engine.tried().iter().map(place).collect()
}

/// The libraries of custom operators that are configured, and whether they are what they should be.
pub fn custom_operators(settings: &EngineSettings) -> Vec<LibraryPlace> {
    let engine = onnxruntime(settings);
    let libraries = engine.custom_operators().into_iter();
    let places = libraries.map(|(library, checked)| LibraryPlace {
        path: library.path.display().to_string(),
        origin: "engine.custom_operators".to_owned(),
        outcome: match checked {
            Ok(()) => format!("sha256:{} agrees", library.sha256),
            Err(error) => error.to_string(),
        },
    });
    places.collect()
}

fn onnxruntime(settings: &EngineSettings) -> OnnxRuntime {
    OnnxRuntime::new(onnxruntime::Config {
        surroundings: Surroundings::of_process(settings.libonnxruntime.clone()),
        intra_op_threads: settings.intra_op_threads,
        inter_op_threads: settings.inter_op_threads,
        // What is none was refused when the configuration was checked.
        custom_operators: settings
            .custom_operators
            .iter()
            .filter_map(|library| library.parse().ok())
            .collect(),
    })
}
