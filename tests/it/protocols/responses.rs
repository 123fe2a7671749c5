//! The `response` setting: which outputs answer a scoring request.

use serde_json::json;

use crate::support::server::{Server, Starter, project};

fn starter(model: &str, response: &str) -> Starter {
    let package = project()
        .join("tests/conformance/mlflow/models")
        .join(model);
    let key = format!("ONSTAGE_MODELS__{}__RESPONSE", model.to_uppercase());
    Starter::serve(&[package.to_str().unwrap(), "--engine", "onnxruntime"])
        .with_onnxruntime()
        .env(&key, response)
}

async fn answer(server: &Server, path: &str, body: &serde_json::Value) -> serde_json::Value {
    let (status, answer) = server.post_json(path, body.to_string()).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

#[tokio::test]
async fn the_setting_is_about_scoring_only() {
    let server = starter("sk_logreg", "predict").start().await;
    let body = json!({"inputs": {"sepal_length": [5.1], "sepal_width": [3.5], "petal_length": [1.4], "petal_width": [0.2]}});
    let versions = "/models/sk_logreg/versions/1/invocations";
    for path in ["/invocations", "/models/sk_logreg/invocations", versions] {
        assert_eq!(
            answer(&server, path, &body).await,
            json!({"predictions": [0]})
        );
    }
    let tensor =
        json!({"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]});
    let path = "/v2/models/sk_logreg/infer";
    let answer = answer(&server, path, &json!({"inputs": [tensor]})).await;
    assert_eq!(answer["outputs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_model_without_the_output_is_refused_when_it_is_loaded() {
    let Err(ended) = starter("sk_forest", "predict_proba").try_start().await else {
        panic!("it serves");
    };
    assert_eq!(ended.status.code(), Some(1));
    for part in [
        "sk_forest",
        "`response = \"predict_proba\"`",
        "`variable` (FP32 [-1, 1])",
        "remove the setting",
    ] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    let Err(ended) = starter("sk_forest", "probabilities").try_start().await else {
        panic!("it serves");
    };
    assert_eq!(ended.status.code(), Some(78));
    assert!(ended.stderr.contains("predict_proba"), "{}", ended.stderr);
}
