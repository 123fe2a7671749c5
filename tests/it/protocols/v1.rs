//! The V1 protocol, as clients of KServe and TensorFlow Serving use it, and CloudEvents around it.

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::protocols::answers::{get, refused};
use crate::support::onnx;
use crate::support::server::{Server, Starter};

const MODELS: &str = "tests/conformance/mlflow/models";
const PREDICT: &str = "/v1/models/iris:predict";
const ROWS: &str = r#"{"instances": [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]}"#;
const COLUMNS: &str = r#"{"inputs": {"features": [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]}}"#;

async fn iris() -> Server {
    Server::start(&["model-examples/iris", "--engine", "tract"]).await
}

async fn predict(server: &Server, path: &str, body: impl ToString) -> Value {
    let body = body.to_string();
    let (status, answer) = server.post_json(path, body.clone()).await;
    assert_eq!(status, 200, "{path} {body}: {answer}");
    answer
}

#[tokio::test]
async fn rows_are_answered_by_rows_and_columns_by_columns() {
    let server = iris().await;
    let rows = predict(&server, PREDICT, ROWS).await;
    let rows = rows["predictions"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (&rows[0]["label"], &rows[1]["label"]),
        (&json!(0), &json!(2))
    );
    assert_eq!(rows[0]["probabilities"].as_array().unwrap().len(), 3);
    let columns = predict(&server, PREDICT, COLUMNS).await;
    let outputs = &columns["outputs"];
    assert_eq!(outputs["label"], json!([0, 2]));
    assert_eq!(outputs["probabilities"][0], rows[0]["probabilities"]);
    let scored = predict(
        &server,
        "/invocations",
        r#"{"inputs": [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]}"#,
    )
    .await;
    assert_eq!(&scored["predictions"], outputs);
}

#[tokio::test]
async fn null_stands_for_what_is_not_there() {
    let server = iris().await;
    let mut body: Value = serde_json::from_str(ROWS).unwrap();
    let without = predict(&server, PREDICT, &body).await;
    body["inputs"] = Value::Null;
    body["signature_name"] = Value::Null;
    assert_eq!(predict(&server, PREDICT, &body).await, without);
}

#[rstest]
#[case::default("/v1/models/iris:predict")]
#[case::version("/v1/models/iris/versions/1:predict")]
#[case::capitals("/V1/Models/iris/VERSIONS/1:Predict")]
#[case::encoded_colon("/v1/models/iris%3Apredict")]
#[case::encoded_name("/v1/models/%69ris/versions/1:predict")]
#[tokio::test]
async fn a_path_is_read_in_any_case_and_encoding(#[case] path: &str) {
    let server = iris().await;
    let response = server.post(path, "application/json", ROWS).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-model-name"], "iris");
    assert_eq!(response.headers()["x-model-version"], "1");
    assert!(response.headers().contains_key("x-request-id"));
}

#[tokio::test]
async fn several_inputs_are_objects_with_their_names() {
    let server = Server::start(&["model-examples/penguins", "--engine", "onnxruntime"]).await;
    let path = "/v1/models/penguins:predict";
    let row = |island: Value| {
        json!({
            "island": island, "sex": "male", "bill_length_mm": 39.1, "bill_depth_mm": 18.7,
            "flipper_length_mm": 181, "body_mass_g": [3750.0],
        })
    };
    let bytes = json!({ "b64": "VG9yZ2Vyc2Vu" });
    let answer = predict(
        &server,
        path,
        json!({ "instances": [row("Torgersen".into()), row(bytes)] }),
    )
    .await;
    let rows = answer["predictions"].as_array().unwrap();
    assert_eq!(rows[0], rows[1]);
    assert_eq!(rows[0]["label"], "Adelie");
    let mut lacking = row("Dream".into());
    lacking.as_object_mut().unwrap().remove("sex");
    for (body, part) in [
        (
            json!({ "instances": [row("Dream".into()), lacking] }),
            "`instances[1]` lacks input `sex`",
        ),
        (json!({ "instances": [row(5.into())] }), "input `island`"),
        (json!({ "instances": [[1.0]] }), "`island`"),
        (
            json!({ "inputs": { "island": [["a"], ["b", "c"]] } }),
            "input `island`",
        ),
        (
            json!({ "inputs": { "island": [["Dream"]] } }),
            "missing inputs `sex`",
        ),
        (
            json!({ "inputs": {}, "instances": [] }),
            "exclude each other",
        ),
    ] {
        let message = refused(&server, path, body, 400).await;
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn zip_maps_are_objects() {
    let path = format!("{MODELS}/iris_zipmap");
    let server = Server::start(&[&path, "--engine", "onnxruntime"]).await;
    let (_, models) = get(&server, "/v1/models").await;
    let name = models["models"][0].as_str().unwrap().to_owned();
    let (_, metadata) = get(&server, &format!("/v1/models/{name}/metadata")).await;
    let inputs =
        &metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"];
    let input = inputs.as_object().unwrap().keys().next().unwrap().clone();
    let body = json!({ "instances": [{ input: [5.1, 3.5, 1.4, 0.2] }] });
    let answer = predict(&server, &format!("/v1/models/{name}:predict"), body).await;
    let row = &answer["predictions"][0];
    assert_eq!(row["output_label"], 0);
    let scores = row["output_probability"].as_object().unwrap();
    assert_eq!(scores.keys().collect::<Vec<_>>(), ["0", "1", "2"]);
}

#[tokio::test]
async fn status_speaks_to_clients_of_kserve_and_of_tensorflow_serving() {
    let server = iris().await;
    assert_eq!(get(&server, "/").await, (200, json!({ "status": "alive" })));
    assert_eq!(
        get(&server, "/v1/models").await,
        (200, json!({ "models": ["iris"] }))
    );
    let ok = json!({ "error_code": "OK", "error_message": "" });
    let expected = json!({
        "name": "iris",
        "ready": true,
        "model_version_status": [{ "version": "1", "state": "AVAILABLE", "status": ok }],
    });
    for path in [
        "/v1/models/iris",
        "/v1/models/iris/versions/1",
        "/v1/Models/iris",
    ] {
        assert_eq!(get(&server, path).await, (200, expected.clone()), "{path}");
    }
    let (status, metadata) = get(&server, "/v1/models/iris/versions/1/metadata").await;
    assert_eq!(status, 200);
    assert_eq!(metadata["model_spec"]["version"], "1");
    let definition = &metadata["metadata"]["signature_def"]["signature_def"]["serving_default"];
    let features = &definition["inputs"]["features"];
    assert_eq!(features["dtype"], "DT_FLOAT");
    let dims = json!([{ "size": "-1", "name": "" }, { "size": "4", "name": "" }]);
    assert_eq!(features["tensor_shape"]["dim"], dims);
    assert_eq!(definition["outputs"]["label"]["dtype"], "DT_INT64");
}

#[tokio::test]
async fn labels_are_aliases_and_stages() {
    let directory = TempDir::new().unwrap();
    let registry = directory.path().join("registry");
    let graph = directory.path().join("scaled.onnx");
    let package = directory.path().join("scaled");
    onnx::save(&onnx::times(2.0), &graph);
    let at = registry.to_str().unwrap();
    let (graph, package) = (graph.to_str().unwrap(), package.to_str().unwrap());
    for arguments in [
        &["package", graph, "-o", package][..],
        &["registry", "register", "scaled", package, "--registry", at],
        &[
            "registry",
            "alias",
            "scaled",
            "champion",
            "1",
            "--registry",
            at,
        ],
        &[
            "registry",
            "transition",
            "scaled",
            "1",
            "Production",
            "--registry",
            at,
        ],
    ] {
        let ended = Starter::command(arguments).run().await;
        assert!(ended.status.success(), "{arguments:?}: {}", ended.stderr);
    }
    let cache = directory.path().join("cache");
    let cache = cache.to_str().unwrap();
    let follow = [
        "--registry",
        at,
        "--follow",
        "@champion",
        "--follow",
        "Production",
        "--cache-dir",
        cache,
    ];
    let server = Server::start(&follow).await;
    for label in ["champion", "Production", "production"] {
        let path = format!("/v1/models/scaled/labels/{label}:predict");
        let answer = predict(&server, &path, r#"{"instances": [[3.0, 1.0]]}"#).await;
        assert_eq!(answer, json!({ "predictions": [[6.0, 2.0]] }), "{label}");
        let (status, body) = get(&server, &format!("/v1/models/scaled/labels/{label}")).await;
        assert_eq!((status, &body["ready"]), (200, &json!(true)), "{label}");
    }
    let message = refused(
        &server,
        "/v1/models/scaled/labels/nobody:predict",
        "{}",
        404,
    )
    .await;
    assert!(message.contains("nobody"), "{message}");
}

#[rstest]
#[case::model("/v1/models/rose:predict", 404, "rose")]
#[case::version("/v1/models/iris/versions/7:predict", 404, "7")]
#[case::no_number("/v1/models/iris/versions/x:predict", 404, "x")]
#[case::separator("/v1/models/a%2Fb:predict", 404, "a/b")]
#[case::classify("/v1/models/iris:classify", 501, "`:classify`")]
#[case::regress("/v1/models/iris/versions/1:regress", 501, "`:regress`")]
#[case::explain("/v1/models/iris:explain", 501, "`:explain`")]
#[case::verb("/v1/models/iris:guess", 400, "malformed request")]
#[case::no_verb("/v1/models/iris", 400, "malformed request")]
#[case::path("/v1/rubbish", 404, "Not Found")]
#[tokio::test]
async fn what_is_not_there_is_told(#[case] path: &str, #[case] status: u16, #[case] part: &str) {
    let message = refused(&iris().await, path, ROWS, status).await;
    assert!(message.contains(part), "{message}");
}

#[tokio::test]
async fn bodies_deadlines_and_methods_are_checked() {
    let server = iris().await;
    let message = refused(&server, PREDICT, r#"{"instances": [[1.0, 2.0]]}"#, 400).await;
    assert!(
        message.contains("`features`") && message.contains("[1, 2]"),
        "{message}"
    );
    assert_eq!(server.get(PREDICT).await.status(), 405);
    let post = |name: &'static str, value: &'static str| {
        let request = server.request(Method::POST, PREDICT).body(ROWS);
        request.header(name, value).send()
    };
    assert_eq!(
        post("x-request-timeout", "soon").await.unwrap().status(),
        400
    );
    assert_eq!(
        post("x-request-timeout", "10s").await.unwrap().status(),
        200
    );
    let answer = post("x-request-id", "abc-1").await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "abc-1");
    let metrics = server.get("/metrics").await.text().await.unwrap();
    let counted = metrics.lines().any(|line| {
        line.starts_with("onstage_requests_total{")
            && line.contains("protocol=\"v1\"")
            && line.contains("success")
    });
    assert!(counted, "{metrics}");
}

#[rstest]
#[case::v1(PREDICT, ROWS)]
#[case::v2(
    "/v2/models/iris/infer",
    r#"{"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}"#
)]
#[tokio::test]
async fn events_are_answered_by_events(#[case] path: &str, #[case] body: &str) {
    let server = iris().await;
    let plain: Value = predict(&server, path, body).await;
    let binary = server
        .request(Method::POST, path)
        .header("content-type", "application/json")
        .header("ce-specversion", "1.0")
        .header("ce-id", "7")
        .header("ce-source", "test")
        .header("ce-type", "ask")
        .body(body.to_owned());
    let answer = binary.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["ce-specversion"], "1.0");
    assert_eq!(answer.headers()["ce-source"], "io.kserve.inference.iris");
    assert_eq!(answer.headers()["ce-type"], "io.kserve.inference.response");
    assert!(answer.headers().contains_key("ce-id"));
    let data: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(data, plain);

    let event = format!(
        r#"{{"specversion": "1.0", "id": "7", "source": "test", "type": "ask", "data": {body}}}"#
    );
    let answer = server
        .post(path, "application/cloudevents+json", event)
        .await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.headers()["content-type"],
        "application/cloudevents+json"
    );
    let event: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(
        (&event["specversion"], &event["data"]),
        (&json!("1.0"), &plain)
    );

    let broken = r#"{"specversion": "1.0", "data": {}}"#;
    let answer = server
        .post(path, "application/cloudevents+json", broken)
        .await;
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("`id`"));
    let failed = r#"{"specversion": "1.0", "id": "7", "source": "s", "type": "t", "data": {}}"#;
    let answer = server
        .post(path, "application/cloudevents+json", failed)
        .await;
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.headers()["content-type"], "application/json");
}
