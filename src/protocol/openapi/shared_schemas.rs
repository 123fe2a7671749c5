//! The schemas that do not depend on a model.

use serde_json::{Value, json};

use super::reference::reference;

/// All of them, by name.
pub(crate) fn all() -> Value {
    let mut all = errors();
    for group in [scoring(), open_inference(), v1(), feedback(), multi_model()] {
        if let (Value::Object(all), Value::Object(group)) = (&mut all, group) {
            all.extend(group);
        }
    }
    all
}

fn object(required: &[&str], properties: &Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

fn errors() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "Any": {},
        "Error": object(&["error"], &json!({ "error": text })),
        "Detail": object(&["detail"], &json!({ "detail": text })),
        "ScoringError": { "anyOf": [
            object(&["error_code", "message"], &json!({
                "error_code": text, "message": text, "sqlstate": text, "error_class": text,
            })),
            reference("Detail"),
            reference("Error"),
        ]},
    })
}

fn scoring() -> Value {
    let any = json!({});
    let one_of = [
        "inputs",
        "instances",
        "dataframe_split",
        "dataframe_records",
    ];
    let one_of = one_of.map(|key| json!({ "required": [key] }));
    json!({
        "ScoringRequest": {
            "type": "object",
            "properties": {
                "inputs": any,
                "instances": any,
                "dataframe_split": { "type": "object" },
                "dataframe_records": { "type": "array", "items": { "type": "object" } },
                "params": any,
            },
            "oneOf": one_of,
        },
        "ScoringAnswer": {
            "anyOf": [
                object(&["predictions"], &json!({ "predictions": any })),
                // A request of the Open Inference Protocol gets the answer of that.
                reference("InferAnswer"),
            ],
        },
    })
}

fn open_inference() -> Value {
    let text = json!({ "type": "string" });
    let truth = json!({ "type": "boolean" });
    let shape = json!({ "type": "array", "items": { "type": "integer" } });
    let tensor = json!({
        "name": text, "datatype": text, "shape": shape, "data": {}, "parameters": { "type": "object" },
    });
    let list = |items: &Value| json!({ "type": "array", "items": items });
    // As clients write a member that is absent.
    let parameters = json!({ "type": ["object", "null"] });
    let requested = object(
        &["name"],
        &json!({ "name": text, "parameters": parameters }),
    );
    let described = object(&["name", "datatype", "shape"], &tensor);
    json!({
        "InferRequest": object(&["inputs"], &json!({
            "id": { "type": ["string", "null"] },
            "inputs": list(&described),
            "outputs": { "type": ["array", "null"], "items": requested },
            "parameters": parameters,
        })),
        "InferAnswer": object(&["model_name", "model_version", "outputs"], &json!({
            "model_name": text, "model_version": text, "id": text, "outputs": list(&described),
        })),
        "Live": object(&["live"], &json!({ "live": truth })),
        "Ready": object(&["ready"], &json!({ "ready": truth, "name": text })),
        "ServerMetadata": object(&["name", "version", "extensions"], &json!({
            "name": text, "version": text, "extensions": list(&text),
        })),
        "ModelNames": object(&["models"], &json!({ "models": list(&text) })),
        "ModelMetadata": object(&["name", "platform", "inputs", "outputs"], &json!({
            "name": text, "versions": list(&text), "platform": text,
            "inputs": list(&described), "outputs": list(&described), "properties": { "type": "object" },
        })),
        "ModelConfig": object(&["name", "platform", "max_batch_size"], &json!({
            "name": text, "platform": text, "max_batch_size": { "type": "integer" },
        })),
        "Statistics": object(&["model_stats"], &json!({ "model_stats": list(&json!({ "type": "object" })) })),
        "RepositoryFilter": object(&[], &json!({ "ready": truth })),
        "RepositoryIndex": list(&object(&["name", "version", "state", "reason"], &json!({
            "name": text, "version": text, "state": text, "reason": text,
        }))),
        "Settings": { "type": "object" },
        "Regions": list(&json!({ "type": "object" })),
    })
}

fn v1() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "Alive": object(&["status"], &json!({ "status": text })),
        "PredictRequest": {
            "type": "object",
            "properties": { "instances": { "type": "array" }, "inputs": {}, "signature_name": { "type": ["string", "null"] } },
            "oneOf": [{ "required": ["instances"] }, { "required": ["inputs"] }],
        },
        "PredictAnswer": { "anyOf": [
            object(&["predictions"], &json!({ "predictions": { "type": "array" } })),
            object(&["outputs"], &json!({ "outputs": {} })),
        ]},
        "ModelStatus": object(&["model_version_status"], &json!({
            "name": text,
            "ready": { "type": "boolean" },
            "model_version_status": { "type": "array", "items": { "type": "object" } },
        })),
        "SignatureDef": object(&["model_spec", "metadata"], &json!({
            "model_spec": { "type": "object" }, "metadata": { "type": "object" },
        })),
    })
}

fn feedback() -> Value {
    let text = json!({ "type": "string" });
    let scalar = json!({ "type": ["string", "number", "boolean"] });
    json!({
        "FeedbackLine": object(&["request_id", "label"], &json!({
            "request_id": text,
            "row": { "type": "integer", "minimum": 0 },
            "label": scalar,
            "time": { "type": ["string", "number"] },
            "prediction": scalar,
        })),
        "FeedbackTaken": object(&["accepted"], &json!({ "accepted": { "type": "integer" } })),
    })
}

fn multi_model() -> Value {
    let text = json!({ "type": "string" });
    let model = object(
        &["modelName", "modelUrl"],
        &json!({ "modelName": text, "modelUrl": text }),
    );
    json!({
        "HostedModel": model,
        "HostedModels": object(&["models"], &json!({
            "models": { "type": "array", "items": reference("HostedModel") },
            "nextPageToken": text,
        })),
        "ModelToLoad": object(&["model_name", "url"], &json!({ "model_name": text, "url": text })),
    })
}
