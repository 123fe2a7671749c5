//! A path in front of every other: each protocol is below it and nowhere else, and gRPC is where it was.

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::protocols::grpc;
use crate::support::onnx;
use crate::support::server::{Server, Starter};

const PREFIX: &str = "/team-a/ml";

const INPUTS: &str = r#"{"inputs": [[5.1, 3.5, 1.4, 0.2]]}"#;
const ROWS: &str = r#"{"instances": [[5.1, 3.5, 1.4, 0.2]]}"#;
const TENSOR: &str = r#"{"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}"#;

/// Paths that answer 200, with what is sent to them.
const PATHS: [(&str, Option<&str>); 29] = [
    ("/ping", None),
    ("/health", None),
    ("/version", None),
    ("/metrics", None),
    ("/openapi.json", None),
    ("/docs", None),
    ("/docs/index.css", None),
    ("/v2", None),
    ("/v2/health/live", None),
    ("/v2/health/ready", None),
    ("/v2/models/iris", None),
    ("/v2/models/iris/config", None),
    ("/v2/models/iris/stats", None),
    ("/v2/models/iris/ready", None),
    ("/v2/models/iris/versions/1/ready", None),
    ("/v1/models", None),
    ("/v1/models/iris", None),
    ("/v1/models/iris/metadata", None),
    ("/V1/Models/iris/Versions/1", None),
    ("/own/health", None),
    ("/invocations", Some(INPUTS)),
    ("/models/iris/invocations", Some(INPUTS)),
    ("/models/iris/versions/1/invocations", Some(INPUTS)),
    ("/v2/repository/index", Some("{}")),
    ("/v2/models/iris/infer", Some(TENSOR)),
    ("/v1/models/iris:predict", Some(ROWS)),
    ("/V1/models/iris:PREDICT", Some(ROWS)),
    ("/v1/models/iris/versions/1:predict", Some(ROWS)),
    ("/own/predict", Some(ROWS)),
];

async fn iris(arguments: &[&str]) -> Server {
    let fixed = ["model-examples/iris", "--engine", "tract"];
    Starter::serve(&[&fixed, arguments].concat())
        .env("AIP_HEALTH_ROUTE", "/own/health")
        .env("AIP_PREDICT_ROUTE", "/own/predict")
        .start()
        .await
}

/// Status, kind and body of an answer.
async fn ask(server: &Server, path: &str, body: Option<&str>) -> (u16, String, String) {
    let request = match body {
        Some(body) => server
            .request(Method::POST, path)
            .header("content-type", "application/json")
            .body(body.to_owned()),
        None => server.request(Method::GET, path),
    };
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let kind = response.headers().get("content-type");
    let kind = kind.map_or("", |kind| kind.to_str().unwrap()).to_owned();
    (status, kind, response.text().await.unwrap())
}

#[tokio::test]
async fn every_protocol_is_below_the_base_path_and_nowhere_else() {
    let server = iris(&["--base-path", PREFIX]).await;
    for (path, body) in PATHS {
        let (status, _, answer) = ask(&server, &format!("{PREFIX}{path}"), body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        for elsewhere in [
            path.to_owned(),
            format!("/team-a{path}"),
            format!("/TEAM-A/ml{path}"),
            format!("/team-a/%6Dl{path}"),
            format!("/team-a%2Fml{path}"),
            format!("/team-a//ml{path}"),
            format!("{PREFIX}/{path}"),
            format!("{PREFIX}{PREFIX}{path}"),
        ] {
            let (status, _, answer) = ask(&server, &elsewhere, body).await;
            assert_eq!(status, 404, "{elsewhere}: {answer}");
        }
    }
    let (status, _, answer) = ask(&server, PREFIX, None).await;
    assert_eq!((status, &*answer), (200, r#"{"status": "alive"}"#));
    assert_eq!(server.get("/").await.status(), 404);
    let mut client = grpc::client(&server).await;
    let answer = client.model_infer(grpc::flowers()).await.unwrap();
    assert_eq!(answer.get_ref().model_name, "iris");
}

/// What is refused, by its path.
#[rstest]
#[case::no_path("/nothing")]
#[case::no_path_of_v1("/v1/nothing")]
#[case::no_path_of_v2("/v2/nothing")]
#[case::doubled("/v2//models/iris")]
#[case::doubled_v1("/v1//models/iris")]
#[case::no_text("/v2/models/%ff/ready")]
#[case::no_name("/v2/models/%2e%2e/ready")]
#[case::encoded_slash("/v2/models/a%2Fb/ready")]
#[case::encoded_word("/v2/%6Dodels/iris")]
#[case::case("/V2/models/iris")]
#[case::unknown_model("/v2/models/rose")]
#[case::unknown_model_of_v1("/v1/models/rose")]
#[case::method("/v2/models/iris/infer")]
#[case::method_of_v1("/v1/models/iris:predict")]
#[case::method_of_mlflow("/invocations")]
#[tokio::test]
async fn refusals_have_the_same_form_below_a_base_path(#[case] path: &str) {
    let (plain, based) = (iris(&[]).await, iris(&["--base-path", PREFIX]).await);
    let told = ask(&plain, path, None).await;
    assert!((400..500).contains(&told.0), "{path}: {told:?}");
    assert_eq!(told, ask(&based, &format!("{PREFIX}{path}"), None).await);
    let coded = |server: &Server, path: &str| {
        let request = server.request(Method::POST, path);
        request.header("content-encoding", "br").body("x")
    };
    let mut bodies = Vec::new();
    for request in [
        coded(&plain, path),
        coded(&based, &format!("{PREFIX}{path}")),
    ] {
        bodies.push(request.send().await.unwrap().text().await.unwrap());
    }
    assert_eq!(bodies[0], bodies[1], "{path}");
}

#[tokio::test]
async fn models_of_a_platform_come_and_go_below_the_base_path() {
    let directory = TempDir::new().unwrap();
    let root = directory.path().to_str().unwrap();
    let package = directory.path().join("scaled");
    std::fs::create_dir(&package).unwrap();
    onnx::save(&onnx::times(2.0), &package.join("model.onnx"));
    let server = Starter::serve(&["--model-dir", root, "--base-path", PREFIX])
        .env("SAGEMAKER_MULTI_MODEL", "true")
        .start()
        .await;
    let at = |path: &str| format!("{PREFIX}{path}");
    let model = json!({ "model_name": "scaled", "url": package }).to_string();
    let (status, answer) = server.post_json(&at("/models"), model.clone()).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(server.post_json("/models", model).await.0, 404);
    let rows = r#"{"inputs": [[3.0, 1.0]]}"#;
    let (status, answer) = server.post_json(&at("/models/scaled/invoke"), rows).await;
    assert_eq!(
        (status, answer),
        (200, json!({ "predictions": { "y": [[6.0, 2.0]] } }))
    );
    let (_, _, listed) = ask(&server, &at("/models"), None).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["models"][0]["modelName"], "scaled");
    let unloaded = server.request(Method::DELETE, &at("/models/scaled"));
    assert_eq!(unloaded.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_webhook_is_below_the_base_path() {
    let directory = TempDir::new().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "s3cr3t").unwrap();
    let server = Starter::serve(&["model-examples/iris", "--engine", "tract"])
        .env("ONSTAGE_REGISTRY__WEBHOOK_SECRET_FILE", secret)
        .env("ONSTAGE_SERVER__BASE_PATH", PREFIX)
        .start()
        .await;
    // Unsigned, so it is refused by whoever reads it.
    let path = format!("{PREFIX}/webhooks/mlflow");
    assert_eq!(server.post_json(&path, "{}").await.0, 401);
    let (status, answer) = server.post_json(&path, "x".repeat((1 << 20) + 1)).await;
    assert_eq!(status, 413, "{answer}");
    assert!(
        answer["error"].as_str().unwrap().contains("1048576 bytes"),
        "{answer}"
    );
    let get = server.get(&path).await;
    assert_eq!(
        (get.status().as_u16(), &get.headers()["allow"]),
        (405, &"POST".parse().unwrap())
    );
    let answer: serde_json::Value = get.json().await.unwrap();
    assert!(
        answer["error"].as_str().unwrap().contains("POST"),
        "{answer}"
    );
    for elsewhere in [
        "/webhooks/mlflow".to_owned(),
        format!("{PREFIX}/Webhooks/mlflow"),
        format!("{PREFIX}/webhooks%2Fmlflow"),
        format!("{PREFIX}//webhooks/mlflow"),
    ] {
        assert_eq!(
            server.post_json(&elsewhere, "{}").await.0,
            404,
            "{elsewhere}"
        );
    }
}
