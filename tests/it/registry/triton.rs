//! Repositories of Triton: trees of versions with a `config.pbtxt`.

use std::fs;
use std::path::Path;

use rstest::rstest;
use serde_json::json;

use crate::support::server::{Server, Starter, project};

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

/// Rows of iris, as flat lists.
const FLOWERS: [[f64; 4]; 3] = [
    [5.1, 3.5, 1.4, 0.2],
    [6.3, 3.3, 6.0, 2.5],
    [5.8, 2.7, 4.1, 1.0],
];

#[rstest]
#[case::tract("tract", "none")]
#[case::onnx_runtime("onnxruntime", "none")]
#[case::in_a_process_of_its_own("tract", "process")]
#[tokio::test]
async fn every_protocol_speaks_in_the_shapes_of_dims(
    #[case] engine: &str,
    #[case] isolation: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let config = "max_batch_size: 16\n\
        input { name: 'features' data_type: TYPE_FP32 dims: [ 2, 2 ] reshape { shape: [ 4 ] } }\n\
        output { name: 'probabilities' data_type: TYPE_FP32 dims: [ 3, 1 ] reshape { shape: [ 3 ] } }";
    tree(root, &["1", "2"], config);
    let plain = tempfile::tempdir().unwrap();
    tree(plain.path(), &["1"], "max_batch_size: 16");
    let settings = root.join("onstage.toml");
    fs::write(
        &settings,
        format!("[models.iris]\nisolation = '{isolation}'\n"),
    )
    .unwrap();
    let start = async |root: &Path| {
        let (root, settings) = (root.to_str().unwrap(), settings.to_str().unwrap());
        let arguments = [root, "--engine", engine, "--config", settings];
        Starter::serve(&arguments).with_onnxruntime().start().await
    };
    let (reshaped, plain) = (start(root).await, start(plain.path()).await);
    assert!(!reshaped.stderr().contains("does not read"));
    let ask = |path: &'static str, body: serde_json::Value| {
        let (reshaped, plain) = (&reshaped, &plain);
        async move {
            let mut answers = Vec::new();
            for server in [reshaped, plain] {
                let answer = server.post(path, "application/json", body.to_string());
                answers.push(answer.await.json::<serde_json::Value>().await.unwrap());
            }
            (answers[0].clone(), answers[1].clone())
        }
    };
    let squares = FLOWERS.map(|[a, b, c, d]| [[a, b], [c, d]]);
    let flat: Vec<f64> = FLOWERS.concat();

    let infer = |shape: &[usize]| json!({ "inputs": [{ "name": "features", "datatype": "FP32", "shape": shape, "data": flat }] });
    let path = "/v2/models/iris/infer";
    let (answer, refused) = ask(path, infer(&[3, 2, 2])).await;
    assert!(
        refused["error"]
            .as_str()
            .unwrap()
            .contains("expected [-1, 4]"),
        "{refused}"
    );
    let (refused, expected) = ask(path, infer(&[3, 4])).await;
    assert!(
        refused["error"]
            .as_str()
            .unwrap()
            .contains("expected [-1, 2, 2]"),
        "{refused}"
    );
    let output = |answer: &serde_json::Value| {
        let mut outputs = answer["outputs"].as_array().unwrap().iter();
        outputs
            .find(|output| output["name"] == "probabilities")
            .unwrap()
            .clone()
    };
    assert_eq!(output(&answer)["data"], output(&expected)["data"]);
    assert_eq!(output(&answer)["shape"], json!([3, 3, 1]));
    assert_eq!(output(&expected)["shape"], json!([3, 3]));

    let (answer, _) = ask("/invocations", json!({ "inputs": squares })).await;
    let (_, expected) = ask("/invocations", json!({ "inputs": FLOWERS })).await;
    let column = |answer: &serde_json::Value| answer["predictions"]["probabilities"].clone();
    let nested = column(&expected)
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let row = row.as_array().unwrap().iter();
            row.map(|number| json!([number]))
                .collect::<serde_json::Value>()
        })
        .collect::<serde_json::Value>();
    assert_eq!(column(&answer), nested);

    let (answer, _) = ask("/v1/models/iris:predict", json!({ "instances": squares })).await;
    assert_eq!(
        answer["predictions"][2]["probabilities"], nested[2],
        "{answer}"
    );
    let metadata = reshaped.get("/v2/models/iris").await;
    let metadata: serde_json::Value = metadata.json().await.unwrap();
    assert_eq!(metadata["inputs"][0]["shape"], json!([-1, 2, 2]));
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
