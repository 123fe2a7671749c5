//! What a model is and where its versions stand, for the clients of TensorFlow Serving and of KServe.

use serde_json::{Map, Value, json};

use crate::model::{Dim, ModelName, OutputKind, Version};
use crate::serving::{CatalogSnapshot, Servable, VersionEntry, VersionState};
use crate::tensor::DType;

/// The only signature that a graph has, in TensorFlow's words.
const SIGNATURE: &str = "serving_default";

/// `GET /v1/models`.
pub(crate) fn models(snapshot: &CatalogSnapshot) -> Vec<u8> {
    let names: Vec<&str> = snapshot.models.keys().map(ModelName::as_str).collect();
    bytes(&json!({ "models": names }))
}

/// The status of a model, or of one version: TensorFlow Serving's `model_version_status` beside KServe's `name` and
/// `ready`. A client of the one passes over what is for the other.
pub(crate) fn status(
    snapshot: &CatalogSnapshot,
    name: &ModelName,
    version: Option<Version>,
    ready: bool,
) -> Vec<u8> {
    let model = snapshot.models.get(name);
    let versions = model.into_iter().flat_map(|model| &model.versions);
    let wanted = versions.filter(|(known, _)| version.is_none_or(|version| version == **known));
    // The newest first, as TensorFlow Serving lists them.
    let mut statuses: Vec<Value> = wanted
        .map(|(version, entry)| one(*version, entry))
        .collect();
    statuses.reverse();
    bytes(&json!({ "name": name.as_str(), "ready": ready, "model_version_status": statuses }))
}

fn one(version: Version, entry: &VersionEntry) -> Value {
    let (state, code, message) = match &entry.state {
        VersionState::New => ("START", "OK", ""),
        VersionState::Fetching
        | VersionState::Verifying
        | VersionState::Compiling
        | VersionState::WarmingUp => ("LOADING", "OK", ""),
        VersionState::Ready => ("AVAILABLE", "OK", ""),
        VersionState::Draining => ("UNLOADING", "OK", ""),
        VersionState::Unloaded => ("END", "OK", ""),
        VersionState::Failed(reason) => ("END", "INTERNAL", reason.message.as_str()),
        VersionState::Unsupported(reason) => ("END", "UNIMPLEMENTED", reason.message.as_str()),
    };
    json!({
        "version": version.to_string(),
        "state": state,
        "status": { "error_code": code, "error_message": message },
    })
}

/// `GET …/metadata`: TensorFlow Serving's `signature_def`.
pub(crate) fn signature(servable: &Servable) -> Vec<u8> {
    let signature = servable.signature();
    let inputs = signature.inputs.iter();
    let inputs = inputs.map(|input| tensor(&input.name, input.dtype, input.shape.as_deref()));
    let any = [Dim::Any(None), Dim::Any(None)];
    let outputs = signature.outputs.iter().map(|output| match &output.kind {
        OutputKind::Tensor { dtype, shape } => tensor(&output.name, *dtype, shape.as_deref()),
        OutputKind::Maps { .. } => tensor(&output.name, DType::F32, Some(&any)),
        OutputKind::Sequence { dtype, .. } => {
            tensor(&output.name, *dtype, output.kind.stacked().as_deref())
        }
    });
    let definition = json!({
        "inputs": inputs.collect::<Map<_, _>>(),
        "outputs": outputs.collect::<Map<_, _>>(),
        "method_name": "tensorflow/serving/predict",
    });
    let id = servable.id();
    bytes(&json!({
        "model_spec": {
            "name": id.name.as_str(),
            "signature_name": "",
            "version": id.version.to_string(),
        },
        "metadata": { "signature_def": { "signature_def": { SIGNATURE: definition } } },
    }))
}

fn tensor(name: &str, dtype: DType, shape: Option<&[Dim]>) -> (String, Value) {
    let dims = shape.unwrap_or_default().iter();
    let dims = dims.map(|dim| json!({ "size": dim.to_i64().to_string(), "name": "" }));
    let described = json!({
        "dtype": tensorflow_name(dtype),
        "tensor_shape": {
            "dim": dims.collect::<Vec<_>>(),
            "unknown_rank": shape.is_none(),
        },
        "name": name,
    });
    (name.to_owned(), described)
}

fn tensorflow_name(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "DT_BOOL",
        DType::U8 => "DT_UINT8",
        DType::U16 => "DT_UINT16",
        DType::U32 => "DT_UINT32",
        DType::U64 => "DT_UINT64",
        DType::I8 => "DT_INT8",
        DType::I16 => "DT_INT16",
        DType::I32 => "DT_INT32",
        DType::I64 => "DT_INT64",
        DType::F16 => "DT_HALF",
        DType::Bf16 => "DT_BFLOAT16",
        DType::F32 => "DT_FLOAT",
        DType::F64 => "DT_DOUBLE",
        DType::String => "DT_STRING",
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::FailureReason;

    #[test]
    fn every_version_has_a_state_in_tensorflows_words() {
        let failed = FailureReason {
            label: "compile",
            message: "the engine refuses it".to_owned(),
            detail: String::new(),
            attempt: 1,
            retry_at: None,
        };
        let states = [
            (VersionState::Ready, "AVAILABLE"),
            (VersionState::Compiling, "LOADING"),
            (VersionState::Draining, "UNLOADING"),
            (VersionState::Failed(failed), "END"),
        ];
        let mut snapshot = CatalogSnapshot::default();
        let name = ModelName::new("fraud").unwrap();
        let model = snapshot.models.entry(name.clone()).or_default();
        for (version, (state, _)) in (1..).zip(&states) {
            let (state, servable) = (state.clone(), None);
            let entry = VersionEntry { state, servable };
            model.versions.insert(Version(version), entry);
        }
        let read = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
        let all = read(status(&snapshot, &name, None, true));
        assert_eq!(
            (&all["name"], &all["ready"]),
            (&json!("fraud"), &json!(true))
        );
        let listed = all["model_version_status"].as_array().unwrap();
        for ((_, state), status) in states.iter().rev().zip(listed) {
            assert_eq!(&status["state"], state, "{all}");
        }
        assert_eq!(
            listed[0]["status"]["error_message"],
            "the engine refuses it"
        );
        let one = read(status(&snapshot, &name, Some(Version(2)), false));
        let ok = json!({ "error_code": "OK", "error_message": "" });
        let loading = json!([{ "version": "2", "state": "LOADING", "status": ok }]);
        assert_eq!(one["model_version_status"], loading);
    }
}
