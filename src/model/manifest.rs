//! The `MLmodel` file.

use std::path::PathBuf;

use crate::model::ModelSignature;

/// What an `MLmodel` file says, or what was derived from a bare graph. Unknown keys are ignored.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The `onnx` flavor.
    pub onnx: OnnxFlavor,
    /// The signature, when the package has one.
    pub signature: Option<ModelSignature>,
    /// The input example, when the package has one.
    pub example: Option<ExampleInfo>,
    /// MLflow's version that wrote the package.
    pub mlflow_version: Option<String>,
    /// The run that logged it.
    pub run_id: Option<String>,
    /// MLflow 3's id of the logged model.
    pub model_id: Option<String>,
    /// When it was logged, as written.
    pub created: Option<String>,
    /// The free mapping `metadata`.
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

/// The `flavors.onnx` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxFlavor {
    /// The model file, relative to the package.
    pub data: PathBuf,
    /// Execution providers, best first; empty when the package names none.
    pub providers: Vec<Provider>,
    /// Session options of the package.
    pub session: SessionOptions,
}

/// An execution provider of ONNX Runtime and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// ONNX Runtime's name, such as `CPUExecutionProvider`.
    pub name: String,
    /// Its options.
    pub options: Vec<(String, String)>,
}

/// `onnx_session_options` of the manifest; `None` and empty mean ONNX Runtime's default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionOptions {
    /// Threads inside one operator.
    pub intra_op_num_threads: Option<usize>,
    /// Threads across operators.
    pub inter_op_num_threads: Option<usize>,
    /// Whether independent operators run in parallel (`execution_mode: parallel`).
    pub parallel: bool,
    /// 1, 2 or 99 (MLflow ignores 0).
    pub graph_optimization_level: Option<u32>,
    /// `extra_session_config`.
    pub extra: Vec<(String, String)>,
}

/// `saved_input_example_info` of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExampleInfo {
    /// The example as saved, relative to the package.
    pub artifact_path: PathBuf,
    /// A ready request body, relative to the package; absent in packages of early MLflow 2.
    pub serving_input_path: Option<PathBuf>,
    /// `dataframe`, `ndarray`, `json_object`, …
    pub kind: String,
    /// Whether the file holds `{"inputs": …, "params": …}`.
    pub has_params: bool,
}

/// Why an `MLmodel` file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {}
