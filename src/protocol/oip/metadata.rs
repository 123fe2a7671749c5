//! Metadata of the server and of models.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{Dim, OutputKind, OutputSpec, Signature};
use crate::serving::{CatalogSnapshot, Servable};
use crate::tensor::DType;

/// The extensions of the protocol that work; tools switch their behaviour on these. One row for each. Loading and
/// unloading is not on these listeners.
const EXTENSIONS: &[&str] = &[
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "parameters",
    "schedule_policy",
    "statistics",
];

/// A server.
#[derive(Debug, Serialize)]
pub(crate) struct ServerMetadata {
    /// The program.
    pub(crate) name: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
    /// What it can do beyond the protocol.
    pub(crate) extensions: &'static [&'static str],
}

/// A model, or one version of it.
#[derive(Debug, Serialize)]
pub(crate) struct ModelMetadata {
    /// Its name.
    pub(crate) name: String,
    /// The versions that answer, ascending.
    pub(crate) versions: Vec<String>,
    /// What runs it.
    pub(crate) platform: &'static str,
    /// In the graph's order.
    pub(crate) inputs: Vec<TensorMetadata>,
    /// In the graph's order.
    pub(crate) outputs: Vec<TensorMetadata>,
    /// Where it comes from.
    pub(crate) properties: BTreeMap<String, String>,
}

/// An input or output.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TensorMetadata {
    /// Its name.
    pub(crate) name: String,
    /// Its datatype in the protocol's words.
    pub(crate) datatype: &'static str,
    /// Its dimensions; -1 is any size.
    pub(crate) shape: Vec<i64>,
    /// Whether a request may leave it out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) optional: bool,
}

/// This server.
pub(crate) fn server() -> ServerMetadata {
    ServerMetadata {
        name: "onstage",
        version: env!("CARGO_PKG_VERSION"),
        extensions: EXTENSIONS,
    }
}

/// One version, with the others of its model.
pub(crate) fn model(snapshot: &CatalogSnapshot, servable: &Servable) -> ModelMetadata {
    let id = servable.id();
    let (inputs, outputs) = tensors(servable.signature());
    ModelMetadata {
        name: id.name.as_str().to_owned(),
        versions: ready_versions(snapshot, servable)
            .map(|version| version.to_string())
            .collect(),
        platform: platform(servable.engine()),
        inputs,
        outputs,
        properties: properties(servable),
    }
}

/// The versions of the servable's model that answer, ascending.
pub(crate) fn ready_versions<'s>(
    snapshot: &'s CatalogSnapshot,
    servable: &Servable,
) -> impl Iterator<Item = u64> + use<'s> {
    let model = snapshot.models.get(&servable.id().name);
    let versions = model.into_iter().flat_map(|model| &model.versions);
    versions
        .filter(|(_, entry)| entry.servable.is_some())
        .map(|(version, _)| version.0)
}

/// The inputs and the outputs.
pub(crate) fn tensors(signature: &Signature) -> (Vec<TensorMetadata>, Vec<TensorMetadata>) {
    let inputs = signature.inputs.iter();
    let inputs = inputs.map(|input| TensorMetadata {
        optional: input.is_optional(),
        ..tensor(&input.name, input.dtype, input.shape.as_deref())
    });
    let outputs = signature.outputs.iter();
    (inputs.collect(), outputs.map(output).collect())
}

fn output(output: &OutputSpec) -> TensorMetadata {
    match &output.kind {
        OutputKind::Tensor { dtype, shape } => tensor(&output.name, *dtype, shape.as_deref()),
        // Maps travel as one matrix of scores.
        OutputKind::Maps { .. } => {
            let matrix = [Dim::Any(None), Dim::Any(None)];
            tensor(&output.name, DType::F32, Some(&matrix))
        }
        OutputKind::Sequence { dtype, .. } => {
            tensor(&output.name, *dtype, output.kind.stacked().as_deref())
        }
    }
}

fn tensor(name: &str, dtype: DType, shape: Option<&[Dim]>) -> TensorMetadata {
    TensorMetadata {
        name: name.to_owned(),
        datatype: dtype.oip_name(),
        shape: shape.unwrap_or_default().iter().map(Dim::to_i64).collect(),
        optional: false,
    }
}

/// Triton's name where there is one: clients switch on it.
pub(crate) fn platform(engine: &str) -> &'static str {
    if engine == "onnxruntime" {
        "onnxruntime_onnx"
    } else {
        "onnx_onnxv1"
    }
}

fn properties(servable: &Servable) -> BTreeMap<String, String> {
    let package = servable.package();
    let manifest = &package.manifest;
    let optional = [
        ("mlflow_version", &manifest.mlflow_version),
        ("run_id", &manifest.run_id),
        ("model_id", &manifest.model_id),
    ];
    let optional = optional
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
    let always = [
        ("engine".to_owned(), servable.engine().to_owned()),
        ("digest".to_owned(), package.digest.clone()),
    ];
    // As in the parameter of the output that has them.
    let labels = package.graph.labels.iter().map(|(output, labels)| {
        let labels = serde_json::Value::from(labels.clone()).to_string();
        (format!("labels.{output}"), labels)
    });
    always.into_iter().chain(optional).chain(labels).collect()
}
