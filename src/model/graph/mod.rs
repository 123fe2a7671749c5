//! Our own reader of the ONNX protobuf: what a graph is, without an engine.

mod calls;
mod census;
mod file_buf;
pub(crate) mod onnx;
mod proto;
mod rows;
mod small_tensor;
mod values;
mod walk;
mod whole_tensor;
mod work;

pub use self::rows::RowProof;
pub use self::work::{Extent, Needs, Work};

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use prost::Message;

use self::file_buf::FileBuf;
use self::proto::{ModelProto, StringStringEntryProto};
use self::values::signature_of;
use self::walk::Survey;
use crate::error::{ErrorKind, Kinded};
use crate::model::{Signature, small_file};

/// A summary of an ONNX model.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// The version of the file format.
    pub ir_version: i64,
    /// The program that wrote the file and its version, as far as the file says.
    pub producer: String,
    /// Operator sets: domain (empty for `ai.onnx`) and version.
    pub opsets: Vec<(String, i64)>,
    /// How often each operator occurs, by domain (empty for `ai.onnx`) and name; subgraphs and model-local functions
    /// are counted, calls of such functions are not.
    pub operators: BTreeMap<(String, String), usize>,
    /// Functions that the model itself defines, by domain and name.
    pub functions: BTreeSet<(String, String)>,
    /// What it takes and gives.
    pub signature: Signature,
    /// The exporter's notes.
    pub metadata: BTreeMap<String, String>,
    /// Tensors whose contents are in other files.
    pub external_data: Vec<ExternalData>,
    /// The nodes of domain `ai.onnx.ml`.
    pub ml_nodes: Vec<MlNode>,
    /// Which operator makes an output, by the output's name; operators that only convert or reshape are looked through.
    pub origins: BTreeMap<String, Origin>,
    /// The class labels of outputs that are maps from label to score, by the output's name.
    pub labels: BTreeMap<String, Vec<String>>,
    /// Whether requests may share a run.
    pub rows: RowProof,
    /// How much a run takes.
    pub work: Work,
}

/// The operator behind an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The operator.
    pub op_type: String,
    /// Which of its outputs it is.
    pub index: usize,
}

/// A tensor whose contents are in another file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalData {
    /// The tensor; empty when it has no name.
    pub tensor: String,
    /// The file as written, relative to the model file.
    pub location: String,
    /// The first byte.
    pub offset: u64,
    /// The number of bytes: as written, else from the tensor's shape and type where they tell.
    pub length: Option<u64>,
}

/// A node of a classic machine-learning operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MlNode {
    /// The operator.
    pub op_type: String,
    /// How many class labels it names.
    pub class_labels: usize,
    /// Whether they are texts.
    pub has_text_labels: bool,
    /// How many `base_values` it has.
    pub base_values: usize,
}

/// Why a file is no ONNX model that can be served.
#[derive(Debug, thiserror::Error)]
#[error("model file `{}` {problem}", file.display())]
pub struct GraphError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: GraphProblem,
}

/// What is wrong with an ONNX file.
#[derive(Debug, thiserror::Error)]
pub enum GraphProblem {
    /// The operating system refused.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// No bytes at all.
    #[error("is empty; expected an ONNX model")]
    Empty,
    /// Larger than a protobuf message can be.
    #[error(
        "has {0} bytes, but an ONNX file holds less than 2 GiB; save its weights as external data \
         (`save_as_external_data=True`)"
    )]
    TooLarge(u64),
    /// Text instead of a protobuf message.
    #[error("is a text file; expected an ONNX model")]
    Text,
    /// What Git leaves in place of a large file.
    #[error("is a Git LFS pointer, not the model itself; fetch the model with `git lfs pull`")]
    LfsPointer,
    /// The beginning of a model.
    #[error("is cut off: it begins like an ONNX model but ends too early; copy or export it again")]
    Truncated,
    /// Not a protobuf message, or another one.
    #[error("is not an ONNX model: {0}")]
    NotOnnx(String),
    /// A model without a graph.
    #[error("holds no graph; export the model again")]
    NoGraph,
    /// Nothing can be sent to it.
    #[error("has a graph without inputs; there is nothing that a request could bring")]
    NoInputs,
    /// Nothing comes back from it.
    #[error("has a graph without outputs; there is nothing that an answer could hold")]
    NoOutputs,
    /// Operators without a meaning.
    #[error("names no operator set (`opset_import`); export the model again")]
    NoOpset,
    /// An input or output that cannot be addressed.
    #[error("has {0} without a name; export the model again")]
    Unnamed(&'static str),
    /// Two values that a request or an answer could not tell apart.
    #[error("has two inputs of the name `{0}`; export the model again")]
    DuplicateInput(String),
    /// A type that no request or answer has.
    #[error(
        "has {direction} `{name}` of type {found}; expected {expected}: export the model with other {direction}s"
    )]
    Type {
        /// `input` or `output`.
        direction: &'static str,
        /// The name.
        name: String,
        /// Its type in ONNX's notation.
        found: String,
        /// What can be served.
        expected: &'static str,
    },
    /// More of something than any exporter writes.
    #[error("has more than {limit} {what}, which is more than a graph may have")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: u64,
    },
    /// A function that is never done.
    #[error("has a function `{0}` that calls itself; export the model again")]
    Recursive(String),
    /// A reference to external data that makes no sense.
    #[error("has a tensor `{tensor}` whose external data {reason}")]
    ExternalData {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
}

impl Kinded for GraphError {
    fn kind(&self) -> ErrorKind {
        match &self.problem {
            GraphProblem::Type { .. } => ErrorKind::Unsupported,
            GraphProblem::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            _ => ErrorKind::InvalidArgument,
        }
    }
}

impl Graph {
    /// Reads the model file at `path`. The contents of tensors are skipped, not read.
    ///
    /// # Errors
    /// [`GraphError`].
    pub fn read(path: &Path) -> Result<Self, GraphError> {
        let read = || {
            let file = small_file::open(path).map_err(GraphProblem::Io)?;
            let metadata = file.metadata().map_err(GraphProblem::Io)?;
            Self::decode(file, metadata.len())
        };
        read().map_err(|problem| GraphError {
            file: path.to_owned(),
            problem,
        })
    }

    /// Reads a model of `length` bytes, as [`Self::read`] does with a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(mut file: impl Read + Seek, length: u64) -> Result<Self, GraphProblem> {
        if length == 0 {
            return Err(GraphProblem::Empty);
        }
        if i32::try_from(length).is_err() {
            return Err(GraphProblem::TooLarge(length));
        }
        let mut head = Vec::new();
        let read = file.by_ref().take(512).read_to_end(&mut head);
        read.and_then(|_| file.rewind()).map_err(GraphProblem::Io)?;

        let mut buf = FileBuf::new(&mut file, length);
        census::count(&mut buf, length).map_err(|problem| text(&head).unwrap_or(problem))?;
        if let Some(error) = buf.take_error() {
            return Err(GraphProblem::Io(error));
        }
        file.rewind().map_err(GraphProblem::Io)?;
        let mut buf = FileBuf::new(file, length);
        let mut model = ModelProto::default();
        let outcome = model.merge(&mut buf);
        if let Some(error) = buf.take_error() {
            return Err(GraphProblem::Io(error));
        }
        let summary = match outcome {
            Ok(()) => Self::summarise(model),
            Err(error) => Err(undecodable(&model, &error)),
        };
        summary.map_err(|problem| text(&head).unwrap_or(problem))
    }

    fn summarise(model: ModelProto) -> Result<Self, GraphProblem> {
        let Some(graph) = &model.graph else {
            return Err(if model.ir_version.is_some() {
                GraphProblem::NoGraph
            } else {
                GraphProblem::NotOnnx("it holds neither a version nor a graph".to_owned())
            });
        };
        let opsets: Vec<(String, i64)> = model
            .opset_import
            .iter()
            .map(|set| (domain(&set.domain), set.version.unwrap_or_default()))
            .collect();
        // Nothing of it can have been decoded on purpose when all three are missing.
        if opsets.is_empty() && model.ir_version.is_none() && graph.node.is_empty() {
            return Err(GraphProblem::NotOnnx(
                "it holds neither a version nor operators".to_owned(),
            ));
        }
        if opsets.is_empty() {
            return Err(GraphProblem::NoOpset);
        }
        let signature = signature_of(graph, model.ir_version.unwrap_or_default())?;
        let survey = Survey::new(graph, &model.functions)?;
        calls::check(graph, &model.functions)?;
        let rows = contained(|| rows::analyse(&model, &signature))
            .unwrap_or_else(|| RowProof::Unproven("the graph could not be followed".to_owned()));
        let work = contained(|| Work::new(&model, &signature)).unwrap_or_else(Work::unknown);
        Ok(Self {
            rows,
            work,
            ir_version: model.ir_version.unwrap_or_default(),
            producer: producer(&model),
            opsets,
            operators: survey.operators,
            functions: survey.functions,
            signature,
            metadata: pairs(model.metadata_props),
            external_data: survey.external_data,
            ml_nodes: survey.ml_nodes,
            origins: walk::origins(graph),
            labels: walk::labels(graph),
        })
    }
}

/// What `analysis` finds; `None` when it panics, so that a mistake of ours keeps no server from starting.
fn contained<T>(analysis: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(analysis)).ok()
}

/// A domain with `ai.onnx` in its short form.
pub(crate) fn domain(written: &Option<String>) -> String {
    match written.as_deref() {
        None | Some("ai.onnx") => String::new(),
        Some(domain) => domain.to_owned(),
    }
}

fn producer(model: &ModelProto) -> String {
    let parts = [&model.producer_name, &model.producer_version];
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    parts.join(" ").trim().to_owned()
}

fn pairs(entries: Vec<StringStringEntryProto>) -> BTreeMap<String, String> {
    entries
        .into_iter()
        .map(|entry| {
            (
                entry.key.unwrap_or_default(),
                entry.value.unwrap_or_default(),
            )
        })
        .collect()
}

/// What a failed decoding means, from what was decoded before it failed.
fn undecodable(model: &ModelProto, error: &prost::DecodeError) -> GraphProblem {
    let error = error.to_string();
    // Exporters write the version first; it is small in every version of ONNX.
    let begins_well = matches!(model.ir_version, Some(1..=1000));
    // prost has no public error kinds; a missed match only makes the message less precise.
    if begins_well && (error.contains("underflow") || error.contains("varint")) {
        return GraphProblem::Truncated;
    }
    let error = error.strip_prefix("failed to decode Protobuf message: ");
    GraphProblem::NotOnnx(
        error
            .unwrap_or("it is not a protobuf message")
            .escape_debug()
            .to_string(),
    )
}

/// The problem of a file that is text, judged by its first bytes.
fn text(head: &[u8]) -> Option<GraphProblem> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A character that the end of `head` cut in two.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let is_text =
        |character: char| matches!(character, '\t' | '\n' | '\r') || !character.is_control();
    if !text.chars().all(is_text) {
        return None;
    }
    Some(if text.starts_with("version https://git-lfs") {
        GraphProblem::LfsPointer
    } else {
        GraphProblem::Text
    })
}

#[cfg(test)]
mod tests;
