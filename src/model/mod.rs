//! What a package is on disk: manifest, signature, graph, digest. Nothing here runs a model.

mod graph;
mod id;
mod manifest;
mod package;
mod schema;
mod signature;

pub use graph::{ExternalData, Graph, GraphError, GraphProblem, MlNode};
pub use id::{IdError, ModelId, ModelName, Version};
pub use manifest::{
    ExampleInfo, FlavorNames, Manifest, ManifestError, ManifestProblem, OnnxFlavor, Provider,
    SessionOptions,
};
pub use package::{Draft, DraftError, Example, Misfit, Package, PackageError, discover};
pub use schema::{
    ColSpec, ColType, DataType, ModelSignature, ParamSpec, ParamType, Property, Schema, TensorSpec,
    TensorType,
};
pub use signature::{
    Batch, Dim, InputSpec, Names, OutputKind, OutputSpec, Signature, SignatureError,
};
