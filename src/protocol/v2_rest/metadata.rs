//! Server and model metadata.

use serde_json::{Map, Value, json};

use crate::model::{Dim, OutputKind};
use crate::serving::{CatalogSnapshot, Servable};
use crate::tensor::DType;

/// The extensions that work: clients switch on them. Loading and unloading is not on this listener.
const EXTENSIONS: [&str; 4] = [
    "binary_tensor_data",
    "classification",
    "parameters",
    "schedule_policy",
];

/// `GET /v2`.
pub(super) fn server() -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    bytes(&json!({ "name": "onstage", "version": version, "extensions": EXTENSIONS }))
}

/// `GET /v2/models`, as KServe's server has it.
pub(super) fn models(snapshot: &CatalogSnapshot) -> Vec<u8> {
    let names: Vec<&str> = snapshot.models.keys().map(|name| name.as_str()).collect();
    bytes(&json!({ "models": names }))
}

/// `GET /v2/models/{model}`.
pub(super) fn model(snapshot: &CatalogSnapshot, servable: &Servable) -> Vec<u8> {
    let id = servable.id();
    let versions: Vec<String> = snapshot
        .models
        .get(&id.name)
        .map(|model| {
            let ready = model
                .versions
                .iter()
                .filter(|(_, version)| version.servable.is_some());
            ready.map(|(version, _)| version.to_string()).collect()
        })
        .unwrap_or_default();
    let signature = servable.signature();
    let inputs: Vec<Value> = signature
        .inputs
        .iter()
        .map(|input| tensor(&input.name, input.dtype, input.shape.as_deref()))
        .collect();
    let outputs: Vec<Value> = signature
        .outputs
        .iter()
        .map(|output| match &output.kind {
            OutputKind::Tensor { dtype, shape } => tensor(&output.name, *dtype, shape.as_deref()),
            OutputKind::Maps { .. } => tensor(
                &output.name,
                DType::F32,
                Some(&[Dim::Any(None), Dim::Any(None)]),
            ),
        })
        .collect();
    bytes(&json!({
        "name": id.name.as_str(),
        "versions": versions,
        "platform": platform(servable.engine()),
        "inputs": inputs,
        "outputs": outputs,
        "properties": properties(servable),
    }))
}

/// Triton's name where there is one: clients switch on it.
fn platform(engine: &str) -> &'static str {
    if engine == "onnxruntime" {
        "onnxruntime_onnx"
    } else {
        "onnx_onnxv1"
    }
}

fn tensor(name: &str, dtype: DType, shape: Option<&[Dim]>) -> Value {
    let shape: Vec<i64> = shape.unwrap_or_default().iter().map(Dim::to_i64).collect();
    json!({ "name": name, "datatype": dtype.oip_name(), "shape": shape })
}

fn properties(servable: &Servable) -> Value {
    let package = servable.package();
    let mut properties = Map::new();
    properties.insert("engine".to_owned(), servable.engine().into());
    properties.insert("digest".to_owned(), package.digest.as_str().into());
    let manifest = &package.manifest;
    let optional = [
        ("mlflow_version", &manifest.mlflow_version),
        ("run_id", &manifest.run_id),
        ("model_id", &manifest.model_id),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            properties.insert(key.to_owned(), value.as_str().into());
        }
    }
    Value::Object(properties)
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
