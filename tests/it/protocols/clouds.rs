//! The contracts of SageMaker, Vertex AI, Azure ML and KServe: where the model is, how to listen, and models that come
//! and go. Runs what docs/guides/clouds.md shows.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::onnx;
use crate::support::server::{Ended, Server, Starter, project};

const ROWS: &str = r#"{"instances": [[3.0, 1.0]], "parameters": {"confidence": 0.5}}"#;

/// A package that multiplies by `factor`.
fn times(factor: f32, directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    onnx::save(&onnx::times(factor), &directory.join("model.onnx"));
}

async fn invoke(server: &Server, path: &str) -> (u16, Value) {
    server.post_json(path, r#"{"inputs": [[3.0, 1.0]]}"#).await
}

async fn refused_to_start(starter: Starter) -> Ended {
    match starter.try_start().await {
        Ok(_) => panic!("the server started"),
        Err(ended) => ended,
    }
}

#[tokio::test]
async fn vertex_chooses_port_routes_and_model() {
    let directory = TempDir::new().unwrap();
    let model = directory.path().join("scaled");
    times(2.0, &model);
    let server = Starter::serve(&["--host", "127.0.0.1"])
        .env("AIP_HTTP_PORT", "9")
        .env("AIP_HEALTH_ROUTE", "/v1/endpoints/1/deployedModels/2")
        .env(
            "AIP_PREDICT_ROUTE",
            "/v1/endpoints/1/deployedModels/2:predict",
        )
        .env("AIP_STORAGE_URI", format!("file://{}", model.display()))
        .env("AIP_MODE", "PREDICTION")
        .start()
        .await;
    let health = server.get("/v1/endpoints/1/deployedModels/2").await;
    assert_eq!(health.status(), 200);
    let path = "/v1/endpoints/1/deployedModels/2:predict";
    let (status, answer) = server.post_json(path, ROWS).await;
    assert_eq!(
        (status, answer),
        (200, json!({ "predictions": [[6.0, 2.0]] }))
    );
    server.logged(&["Vertex AI", "AIP_STORAGE_URI"]).await;
}

#[tokio::test]
async fn routes_that_exist_already_keep_their_meaning() {
    let server = Starter::serve(&[
        "model-examples/iris",
        "--engine",
        "tract",
        "--host",
        "127.0.0.1",
    ])
    .env("AIP_HEALTH_ROUTE", "/ping")
    .env("AIP_PREDICT_ROUTE", "/invocations")
    .start()
    .await;
    assert_eq!(server.get("/ping").await.status(), 200);
    let body = r#"{"instances": [[5.1, 3.5, 1.4, 0.2]]}"#;
    let (status, answer) = server.post_json("/invocations", body).await;
    assert_eq!(
        (status, &answer["predictions"]["label"]),
        (200, &json!([0]))
    );
}

#[tokio::test]
async fn invocations_take_bodies_of_the_open_inference_protocol() {
    let server = Server::start(&["model-examples/iris", "--engine", "tract"]).await;
    let tensor = r#"{"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}"#;
    let (status, answer) = server
        .post_json("/invocations", format!(r#"{{"inputs": [{tensor}]}}"#))
        .await;
    assert_eq!((status, &answer["outputs"][0]["data"]), (200, &json!([0])));
    let (status, answer) = server
        .post_json("/invocations", r#"{"inputs": [[5.1, 3.5, 1.4, 0.2]]}"#)
        .await;
    assert_eq!(
        (status, &answer["predictions"]["label"]),
        (200, &json!([0]))
    );
    let header = r#"{"inputs":[{"name":"features","datatype":"FP32","shape":[1,4],"parameters":{"binary_data_size":16}}],"parameters":{"binary_data_output":true}}"#;
    let values = [5.1_f32, 3.5, 1.4, 0.2].map(f32::to_le_bytes).concat();
    let body = [header.as_bytes(), &values].concat();
    let alias = "application/vnd.sagemaker-triton.binary+json";
    let content_type = format!("{alias};json-header-size={}", header.len());
    let answer = server.post("/invocations", &content_type, body).await;
    assert_eq!(answer.status(), 200);
    let told = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        told.starts_with(alias) && told.contains("json-header-size="),
        "{told}"
    );
    // JSON that asks for bytes: InvokeEndpoint hands on the type of the answer, and no header of the protocol.
    let binary = r#"{"name": "label", "parameters": {"binary_data": true}}"#;
    let body = format!(r#"{{"inputs": [{tensor}], "outputs": [{binary}]}}"#);
    let answer = server.post("/invocations", "application/json", body).await;
    let told = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    let size = told.strip_prefix(&format!("{alias};json-header-size="));
    let size: usize = size.unwrap_or_else(|| panic!("{told}")).parse().unwrap();
    let bytes = answer.bytes().await.unwrap();
    let json: Value = serde_json::from_slice(&bytes[..size]).unwrap();
    assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 8);
    assert_eq!(bytes[size..], 0_i64.to_le_bytes());
    let answer = server.post("/invocations", alias, values).await;
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("json-header-size"));
}

#[tokio::test]
async fn azure_names_the_directory_of_the_model() {
    let directory = TempDir::new().unwrap();
    let model = directory.path().join("azureml-models/scaled/3");
    times(2.0, &model);
    let server = Starter::serve(&[])
        .env("AZUREML_MODEL_DIR", model.as_os_str())
        .start()
        .await;
    let (status, answer) = server.post_json("/v1/models/scaled:predict", ROWS).await;
    assert_eq!(
        (status, answer),
        (200, json!({ "predictions": [[6.0, 2.0]] }))
    );
    server.logged(&["Azure ML"]).await;
}

#[tokio::test]
async fn kserve_names_model_directory_and_ports_and_the_last_flag_wins() {
    let directory = TempDir::new().unwrap();
    let models = directory.path().join("models");
    for (version, factor) in [("1", 2.0), ("2", 5.0)] {
        times(factor, &models.join(version));
    }
    let at = format!("--model-dir={}", models.display());
    let arguments = [
        "--model-name=first",
        &at,
        "--http-port=1",
        "--grpc-port=9000",
        "--model-name=scaled",
        "--http-port=0",
        "--grpc-port=0",
    ];
    let server = Server::start(&arguments).await;
    let predict = async |path: &str| server.post_json(path, ROWS).await.1["predictions"].clone();
    assert_eq!(
        predict("/v1/models/scaled:predict").await,
        json!([[15.0, 5.0]])
    );
    assert_eq!(
        predict("/v1/models/scaled/versions/1:predict").await,
        json!([[6.0, 2.0]])
    );
    assert_eq!(server.get("/v2/models/scaled/ready").await.status(), 200);
}

#[tokio::test]
async fn a_tree_of_one_model_takes_the_name_that_is_given() {
    let directory = TempDir::new().unwrap();
    times(2.0, &directory.path().join("inner/1"));
    let at = directory.path().to_str().unwrap();
    let server = Server::start(&["--model-dir", at, "--model-name", "outer"]).await;
    let (status, answer) = server.post_json("/v1/models/outer:predict", ROWS).await;
    assert_eq!(
        (status, answer),
        (200, json!({ "predictions": [[6.0, 2.0]] }))
    );
}

#[tokio::test]
async fn without_a_model_every_place_that_was_looked_at_is_told() {
    let ended = refused_to_start(Starter::serve(&[])).await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    for place in [
        "AIP_STORAGE_URI",
        "AZUREML_MODEL_DIR",
        "/opt/ml/model",
        "/mnt/models",
    ] {
        assert!(ended.stderr.contains(place), "{}", ended.stderr);
    }
    let both = Starter::serve(&["model-examples/iris", "--model-dir", "model-examples/iris"]);
    let ended = refused_to_start(both).await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    // Without the flags of the tests, which would be stronger.
    let port =
        Starter::command(&["serve", "model-examples/iris"]).env("SAGEMAKER_BIND_TO_PORT", "http");
    let ended = refused_to_start(port).await;
    assert_eq!(ended.status.code(), Some(78), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("SAGEMAKER_BIND_TO_PORT"),
        "{}",
        ended.stderr
    );
}

/// A server to which models come by request.
async fn multi_model(root: &Path, more: &[&str]) -> Server {
    let root = root.to_str().unwrap();
    Starter::serve(&[&["--model-dir", root], more].concat())
        .env("SAGEMAKER_MULTI_MODEL", "true")
        .start()
        .await
}

async fn load(server: &Server, name: &str, url: &Path) -> (u16, Value) {
    let body = json!({ "model_name": name, "url": url.to_str().unwrap() });
    server.post_json("/models", body.to_string()).await
}

async fn unload(server: &Server, name: &str) -> u16 {
    let request = server.request(Method::DELETE, &format!("/models/{name}"));
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn sagemaker_loads_lists_asks_and_unloads_models() {
    let root = TempDir::new().unwrap();
    let place = |name: &str| root.path().join(name).join("model");
    times(2.0, &place("two"));
    times(5.0, &place("five"));
    let server = multi_model(root.path(), &[]).await;
    assert_eq!(server.get("/ping").await.status(), 200);
    assert_eq!(server.get("/models/two").await.status(), 404);
    assert_eq!(load(&server, "two", &place("two")).await.0, 200);
    assert_eq!(load(&server, "five", &place("five")).await.0, 200);
    let (status, answer) = load(&server, "two", &place("two")).await;
    assert_eq!(status, 409, "{answer}");
    let (status, answer) = invoke(&server, "/models/two/invoke").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["predictions"]["y"], json!([[6.0, 2.0]]));
    let listed = server.get("/models").await.text().await.unwrap();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let model = |name: &str| json!({ "modelName": name, "modelUrl": place(name) });
    assert_eq!(listed, json!({ "models": [model("five"), model("two")] }));
    let described = server.get("/models/two").await.text().await.unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&described).unwrap(),
        model("two")
    );
    assert_eq!(unload(&server, "two").await, 200);
    assert_eq!(unload(&server, "two").await, 404);
    assert_eq!(invoke(&server, "/models/two/invoke").await.0, 404);
    assert_eq!(invoke(&server, "/models/five/invoke").await.0, 200);
    assert_eq!(load(&server, "two", &place("two")).await.0, 200);
    assert_eq!(invoke(&server, "/models/two/invoke").await.0, 200);
}

#[tokio::test]
async fn a_model_that_does_not_fit_is_507_and_what_is_none_400() {
    let root = TempDir::new().unwrap();
    let place = |name: &str| root.path().join(name).join("model");
    times(2.0, &place("scaled"));
    std::fs::create_dir_all(place("empty")).unwrap();
    let server = multi_model(root.path(), &["--memory-budget", "1B"]).await;
    let (status, answer) = load(&server, "scaled", &place("scaled")).await;
    assert_eq!(status, 507, "{answer}");
    let message = answer["error"].as_str().unwrap();
    assert!(message.contains("memory_budget"), "{message}");
    assert_eq!(server.get("/models/scaled").await.status(), 404);
    assert_eq!(load(&server, "empty", &place("empty")).await.0, 400);
    let outside = project().join("model-examples/iris");
    assert_eq!(load(&server, "iris", &outside).await.0, 400);
    assert_eq!(
        load(&server, "iris", &root.path().join("../..")).await.0,
        400
    );
    assert_eq!(load(&server, "a/b", &place("scaled")).await.0, 400);
    let (status, answer) = server.post_json("/models", r#"{"model_name": "x"}"#).await;
    assert_eq!(status, 400, "{answer}");
    assert_eq!(server.get("/ping").await.status(), 200);
}

#[tokio::test]
async fn models_come_and_go_only_where_that_is_wanted() {
    let server = Server::start(&["model-examples/iris", "--engine", "tract"]).await;
    assert_eq!(server.get("/models").await.status(), 404);
    let (status, _) = server.post_json("/models", "{}").await;
    assert_eq!(status, 404);
    let both = Starter::serve(&["model-examples/iris"]).env("SAGEMAKER_MULTI_MODEL", "true");
    assert_eq!(refused_to_start(both).await.status.code(), Some(2));
}
