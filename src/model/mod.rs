//! What a package is on disk: manifest, signature, graph, digest. Nothing here runs a model.

mod batch;
mod compatibility;
mod graph;
mod id;
mod manifest;
mod package;
mod pattern;
mod pointer;
pub(crate) mod real_path;
mod reshape;
mod response;
mod samples;
mod schema;
mod signature;
pub(crate) mod small_file;

pub use batch::Batch;
pub use compatibility::{
    Aspect, Change, Comparison, ContractError, Label, Part, PolicyError, SignaturePolicy, Verdict,
    compare,
};
pub(crate) use graph::onnx;
pub use graph::{
    Extent, ExternalData, Graph, GraphError, GraphProblem, MlNode, Needs, Origin, RowProof, Work,
};
pub use id::{IdError, ModelId, ModelName, Version};
pub use manifest::{
    Conversion, EditError, ExampleInfo, FlavorNames, Hints, Manifest, ManifestError,
    ManifestProblem, OnnxFlavor, Provider, SessionOptions, with_baseline,
};
pub use package::{
    ClassLabels, Content, Draft, DraftError, Example, Misfit, Package, PackageError, Survey,
    discover, survey,
};
pub use pattern::fits_pattern;
pub use pointer::{Alias, Pointer, PointerError, Stage};
pub(crate) use real_path::real_path;
pub use reshape::{Reshape, Reshapes};
pub use response::{NoSuchOutput, ResponseForm, ResponseOutput};
pub use samples::Probe;
pub use schema::{
    ColSpec, ColType, DataType, ModelSignature, ParamSpec, ParamType, Property, Schema, TensorSpec,
    TensorType,
};
pub use signature::{
    Dim, Initializer, InputSpec, Names, OutputKind, OutputSpec, Signature, SignatureError,
};
