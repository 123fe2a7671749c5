//! The `MLmodel` file.

mod conversion;
mod edit;
mod flavors;
mod hints;
mod signature;
mod tree;

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use self::conversion::Conversion;
pub use self::edit::{EditError, with_baseline};
pub use self::hints::Hints;

use serde::Deserialize;
use serde_json::Value;

use self::tree::Tree;
use crate::error::{ErrorKind, Kinded};
use crate::model::{ModelSignature, small_file};

/// Larger manifests are refused unread: MLflow writes a few kilobytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

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
    /// What it wishes of its server, from `metadata.onstage`.
    pub hints: Hints,
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
    /// 1, 2, 3 or 99 (MLflow ignores 0).
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
pub struct ManifestError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: ManifestProblem,
    /// The way out for a model that Python must load.
    pub conversion: Box<Conversion>,
}

impl ManifestError {
    fn new(file: &Path, problem: ManifestProblem) -> Self {
        let package = file.parent().unwrap_or(file);
        Self {
            file: file.to_owned(),
            problem,
            conversion: Box::new(Conversion::of_directory(package)),
        }
    }

    /// The same about a package that its user knows by another name than the path of its files.
    #[must_use]
    pub fn named(self, conversion: Conversion) -> Self {
        Self {
            conversion: Box::new(conversion),
            ..self
        }
    }
}

/// A model of another kind is one of its user's, whose name for it counts; a damaged file is one to look into.
impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (problem, conversion) = (&self.problem, &self.conversion);
        match problem.foreign_flavors() {
            Some(flavors) => write!(
                f,
                "package `{}` {problem}; {}",
                conversion.source(),
                conversion.advice(flavors)
            ),
            None => write!(f, "manifest `{}` {problem}", self.file.display()),
        }
    }
}

/// What is wrong with an `MLmodel` file.
#[derive(Debug, thiserror::Error)]
pub enum ManifestProblem {
    /// The operating system refused.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// Larger than any manifest.
    #[error("has more than 4 MiB; is it another file?")]
    TooLarge,
    /// Not text.
    #[error("is not UTF-8 text: line {line} holds other bytes")]
    NotUtf8 {
        /// The first line with such bytes.
        line: usize,
    },
    /// Text, but not the YAML of a manifest.
    #[error("is not a valid `MLmodel` file: {0}")]
    Yaml(YamlError),
    /// Nothing says how to load the model.
    #[error(
        "names no flavors; expected `flavors.onnx`: log the model with `mlflow.onnx.log_model`"
    )]
    NoFlavors,
    /// A model of another kind.
    #[error("has no `onnx` flavor, only {0}")]
    NoOnnxFlavor(FlavorNames),
    /// A model that only Python can load.
    #[error(
        "names the loader `{loader}`, which is Python code, and no Python runs here; expected `mlflow.onnx`"
    )]
    Loader {
        /// The Python module.
        loader: String,
        /// All flavors of the package.
        flavors: FlavorNames,
    },
    /// A value that does not fit its key.
    #[error("has {found} for `{key}`; expected {expected}")]
    Value {
        /// The key, with the keys above it.
        key: String,
        /// What is there.
        found: String,
        /// What would fit.
        expected: &'static str,
    },
}

/// Flavors in the manifest's order, for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlavorNames(pub Vec<String>);

impl fmt::Display for FlavorNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = self
            .0
            .iter()
            .map(|name| format!("`{}`", name.escape_debug()));
        f.write_str(&quoted.collect::<Vec<_>>().join(", "))
    }
}

impl ManifestProblem {
    /// The flavors of a model that is whole, and of another kind.
    fn foreign_flavors(&self) -> Option<&FlavorNames> {
        match self {
            Self::NoOnnxFlavor(flavors) | Self::Loader { flavors, .. } => Some(flavors),
            _ => None,
        }
    }
}

impl Kinded for ManifestError {
    fn kind(&self) -> ErrorKind {
        match self.problem.foreign_flavors() {
            Some(_) => ErrorKind::Unsupported,
            None => ErrorKind::InvalidArgument,
        }
    }
}

/// The keys of the file that matter here; all others are ignored.
#[derive(Deserialize)]
struct Document {
    flavors: Option<Tree>,
    signature: Option<Tree>,
    saved_input_example_info: Option<ExampleDocument>,
    mlflow_version: Option<String>,
    run_id: Option<String>,
    model_id: Option<String>,
    utc_time_created: Option<String>,
    metadata: Option<Tree>,
}

#[derive(Deserialize)]
struct ExampleDocument {
    artifact_path: PathBuf,
    serving_input_path: Option<PathBuf>,
    r#type: Option<String>,
    /// The text `true`.
    params: Option<Tree>,
}

impl Manifest {
    /// Reads the `MLmodel` file at `path`.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let read = || {
            let file = small_file::open(path).map_err(ManifestProblem::Io)?;
            let mut bytes = Vec::new();
            let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
            read.map_err(ManifestProblem::Io)?;
            Self::parse(&bytes)
        };
        read().map_err(|problem| ManifestError::new(path, problem))
    }

    /// The manifest of a bare graph in the file `data`, relative to its directory.
    pub fn of_graph(data: PathBuf) -> Self {
        Self {
            onnx: OnnxFlavor {
                data,
                providers: Vec::new(),
                session: SessionOptions::default(),
            },
            signature: None,
            example: None,
            mlflow_version: None,
            run_id: None,
            model_id: None,
            created: None,
            metadata: serde_json::Map::new(),
            hints: Hints::default(),
        }
    }

    /// Reads the bytes of an `MLmodel` file.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestProblem> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(ManifestProblem::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let valid = &bytes[..error.valid_up_to()];
            let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
            ManifestProblem::NotUtf8 { line }
        })?;
        let document: Document = parse_yaml(text).map_err(ManifestProblem::Yaml)?;
        let onnx = flavors::onnx_flavor(document.flavors.map(|tree| tree.0))?;
        let signature = document.signature.map(|tree| signature::parse(tree.0));
        let signature = signature.transpose()?;
        let metadata = match document.metadata {
            Some(Tree(Value::Object(metadata))) => metadata,
            _ => serde_json::Map::new(),
        };
        Ok(Self {
            onnx,
            signature: signature.flatten(),
            example: document.saved_input_example_info.map(ExampleInfo::from),
            mlflow_version: document.mlflow_version,
            run_id: document.run_id,
            model_id: document.model_id,
            created: document.utc_time_created,
            hints: hints::parse(metadata.get("onstage"))?,
            metadata,
        })
    }
}

impl From<ExampleDocument> for ExampleInfo {
    fn from(document: ExampleDocument) -> Self {
        let has_params = match document.params {
            Some(Tree(Value::String(text))) => text.eq_ignore_ascii_case("true"),
            Some(Tree(Value::Bool(flag))) => flag,
            _ => false,
        };
        Self {
            artifact_path: document.artifact_path,
            serving_input_path: document.serving_input_path,
            kind: document.r#type.unwrap_or_default(),
            has_params,
        }
    }
}

/// Why a text is not the YAML that was expected, in the parser's words on one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct YamlError(String);

/// Parses one YAML document within bounds that no manifest reaches; the error is one line.
pub(crate) fn parse_yaml<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, YamlError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 64,
            max_events: 1_000_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
        },
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
        ignore_binary_tag_for_string: true,
        // A NaN in `metadata` is no reason to refuse a model.
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::PassThrough,
    };
    let formatter = serde_saphyr::UserMessageFormatter;
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        // Without the snippet, which is several lines, and without the crate's words for programmers.
        let error = error.without_snippet().render_with_formatter(&formatter);
        let line: Vec<&str> = error.split_whitespace().collect();
        YamlError(line.join(" ").trim_end_matches('.').to_owned())
    })
}

/// What a value is, in a few words, for a message.
pub(crate) fn brief(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        scalar => {
            let text = scalar.to_string();
            let short: String = text.chars().take(60).collect();
            let rest = if short.len() < text.len() { "…" } else { "" };
            format!("`{short}{rest}`")
        }
    }
}

#[cfg(test)]
mod tests;
