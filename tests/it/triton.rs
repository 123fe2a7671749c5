//! Repositories of Triton: trees of versions with a `config.pbtxt`.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::server::{Server, Starter, project};

fn tree(root: &Path, versions: &[&str], config: &str) {
    for version in versions {
        let version = root.join("iris").join(version);
        fs::create_dir_all(&version).unwrap();
        let graph = project().join("model-examples/iris/model.onnx");
        fs::copy(graph, version.join("model.onnx")).unwrap();
    }
    fs::write(root.join("iris/config.pbtxt"), config).unwrap();
}

async fn serve(root: &Path) -> Server {
    let root = root.to_str().unwrap();
    Starter::serve(&[root, "--engine", "tract"]).start().await
}

async fn versions(server: &Server) -> Vec<(String, String)> {
    let index = server.post("/v2/repository/index", "application/json", "{}");
    let index: serde_json::Value = index.await.json().await.unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let entries = index.as_array().unwrap().iter();
    let entries = entries.map(|entry| (text(&entry["version"]), text(&entry["state"])));
    entries.collect()
}

#[tokio::test]
async fn versions_labels_and_one_notice() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let config = "name: 'iris' backend: 'onnxruntime'\n\
        version_policy { latest { num_versions: 2 } }\n\
        output { name: 'probabilities' label_filename: 'labels.txt' }\n\
        instance_group { count: 2 }";
    tree(root, &["1", "2", "3"], config);
    fs::write(
        root.join("iris/labels.txt"),
        "setosa\nversicolor\nvirginica\n",
    )
    .unwrap();
    let server = serve(root).await;
    let ready = |version: &str| (version.to_owned(), "READY".to_owned());
    assert_eq!(versions(&server).await, [ready("2"), ready("3")]);
    let request = json!({
        "inputs": [{ "name": "features", "datatype": "FP32", "shape": [1, 4], "data": [6.3, 3.3, 6.0, 2.5] }],
        "outputs": [{ "name": "probabilities", "parameters": { "classification": 1 } }],
    });
    let answer = server.post(
        "/v2/models/iris/infer",
        "application/json",
        request.to_string(),
    );
    let answer: serde_json::Value = answer.await.json().await.unwrap();
    let class = answer["outputs"][0]["data"][0].as_str().unwrap();
    assert!(class.ends_with(":2:virginica"), "{answer}");
    let log = server.stderr();
    let notices = log
        .lines()
        .filter(|line| line.contains("onstage does not read"));
    let notices: Vec<&str> = notices.collect();
    assert_eq!(notices.len(), 1, "{log}");
    assert!(notices[0].contains("instance_group"), "{log}");
    assert!(!notices[0].contains("version_policy"), "{log}");
}

#[tokio::test]
async fn a_broken_configuration_costs_no_model_and_a_missing_version_is_listed() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    tree(
        root,
        &["1", "2"],
        "version_policy { specific { versions: [2, 9] } }",
    );
    let server = serve(root).await;
    let listed = versions(&server).await;
    assert_eq!(listed[0], ("2".to_owned(), "READY".to_owned()));
    assert_eq!((listed.len(), listed[1].0.as_str()), (2, "9"), "{listed:?}");
    assert_ne!(listed[1].1, "READY");
    tree(root, &["1", "2"], "version_policy {");
    let server = serve(root).await;
    assert_eq!(versions(&server).await.len(), 2);
    let log = server.stderr();
    assert!(log.contains("the model serves without it: line 1"), "{log}");
}
