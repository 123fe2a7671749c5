//! The real server: what it counts of requests over every protocol, and where it says so. The page is `docs/guides/drift.md`.

use std::path::PathBuf;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::server::{Server, Starter, project};

const TOKEN: &str = "correct horse battery staple";

/// A copy of the iris example whose baseline is made of these rows.
fn package(directory: &TempDir, rows: &str) -> PathBuf {
    let package = directory.path().join("iris");
    std::fs::create_dir(&package).unwrap();
    for entry in std::fs::read_dir(project().join("model-examples/iris")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, package.join(path.file_name().unwrap())).unwrap();
        }
    }
    let table = directory.path().join("rows.csv");
    std::fs::write(&table, rows).unwrap();
    let arguments = [
        "baseline",
        table.to_str().unwrap(),
        package.to_str().unwrap(),
        "--follow-up",
    ];
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_onstage"))
        .args(arguments)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{stderr}");
    package
}

/// Two hundred flowers.
fn rows() -> String {
    let row = |number: u32| {
        let step = f64::from(number % 20) / 10.0;
        format!("{},{},{},{}\n", 5.0 + step, 3.0 + step, 1.0 + step, step)
    };
    let rows: String = (0..200).map(row).collect();
    format!("a,b,c,d\n{rows}")
}

struct Scene {
    server: Server,
    client: Client,
    token: PathBuf,
    _directory: TempDir,
}

impl Scene {
    async fn new(with_baseline: bool, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let token = directory.path().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
        let package = match with_baseline {
            true => package(&directory, &rows()),
            false => project().join("model-examples/iris"),
        };
        let own = [
            package.to_str().unwrap(),
            "--admin-port",
            "0",
            "--admin-token-file",
            token.to_str().unwrap(),
        ];
        let server = Starter::serve(&[&own, flags].concat()).start().await;
        Self {
            server,
            client: Client::new(),
            token,
            _directory: directory,
        }
    }

    async fn post(&self, path: &str, body: &Value) {
        let url = self.server.url(path);
        let sent = self.client.post(url).json(body).send().await.unwrap();
        let status = sent.status();
        assert!(
            status.is_success(),
            "{status}: {}",
            sent.text().await.unwrap()
        );
    }

    async fn drift(&self) -> Value {
        let url = format!("{}/admin/models/iris/drift", self.server.admin_url());
        let asked = self.client.request(Method::GET, url).bearer_auth(TOKEN);
        asked.send().await.unwrap().json().await.unwrap()
    }

    /// Waits until so many rows were counted, which is after their answers.
    async fn counted(&self, rows: u64) -> Value {
        for _ in 0..100 {
            let drift = self.drift().await;
            if drift["versions"][0]["rows"] == rows {
                return drift;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("{}", self.drift().await);
    }

    async fn metrics(&self) -> String {
        let url = self.server.url("/metrics");
        self.client
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    }
}

fn bin<'d>(drift: &'d Value, feature: &str, bin: &str) -> &'d Value {
    let features = drift["versions"][0]["windows"]["24h"]["features"].as_array();
    let is_it = |value: &&Value| value["feature"] == feature;
    let found = features.unwrap().iter().find(is_it).unwrap();
    let bins = found["bins"].as_array().unwrap();
    bins.iter().find(|value| value["bin"] == bin).unwrap()
}

#[tokio::test]
async fn requests_of_every_protocol_are_counted() {
    let scene = Scene::new(true, &["--monitor-export", "bins", "--grpc-on-http"]).await;
    let row = json!([[5.0, 3.0, 1.0, 0.0]]);
    scene.post("/invocations", &json!({"inputs": row})).await;
    scene
        .post("/v1/models/iris:predict", &json!({"instances": row}))
        .await;
    let tensor = json!({"name": "features", "shape": [1, 4], "datatype": "FP32", "data": [99.0, 3.0, 1.0, 0.0]});
    scene
        .post("/v2/models/iris/infer", &json!({"inputs": [tensor]}))
        .await;
    let drift = scene.counted(3).await;
    assert_eq!(drift["versions"][0]["reference"], "package");
    let above = bin(&drift, "features[0]", "above")["current"]
        .as_f64()
        .unwrap();
    assert!((above - 1.0 / 3.0).abs() < 1e-9, "{above}");
    let metrics = scene.metrics().await;
    for series in [
        r#"onstage_monitored_rows_total{model="iris",version="1"} 3"#,
        r#"onstage_feature_values_total{bin="above",feature="features[0]",model="iris",version="1"} 1"#,
        r#"onstage_feature_values_total{bin="missing",feature="features[0]",model="iris",version="1"} 0"#,
        r#"onstage_drifted_features{model="iris",version="1",window="24h"} 0"#,
    ] {
        assert!(
            metrics.lines().any(|line| line == series),
            "{series}: {metrics}"
        );
    }
    assert!(
        !metrics.contains("onstage_feature_psi{"),
        "three rows say nothing"
    );
}

#[tokio::test]
async fn what_is_missing_is_told_from_what_is_no_number() {
    let scene = Scene::new(true, &[]).await;
    // Null is a missing cell; a number that is none is sent as one.
    let rows = json!([[null, 3.0, 1.0, 0.0], [5.0, 3.0, 1.0, 0.0]]);
    scene.post("/invocations", &json!({"inputs": rows})).await;
    let url = scene.server.url("/invocations");
    let body = r#"{"inputs": [[NaN, 3.0, 1.0, 0.0]]}"#;
    let sent = scene
        .client
        .post(url)
        .header("content-type", "application/json")
        .body(body);
    assert!(sent.send().await.unwrap().status().is_success());
    let drift = scene.counted(3).await;
    for (name, share) in [("missing", 1.0 / 3.0), ("nan", 1.0 / 3.0)] {
        let found = bin(&drift, "features[0]", name)["current"]
            .as_f64()
            .unwrap();
        assert!((found - share).abs() < 1e-9, "{name}: {found}");
    }
}

#[tokio::test]
async fn without_a_baseline_a_version_learns_from_its_first_rows_and_raises_no_alert() {
    let scene = Scene::new(false, &["--monitor-max-rows", "0"]).await;
    let rows: Vec<Vec<f64>> = (0..1000)
        .map(|row| vec![f64::from(row % 40), 3.0, 1.0, 0.5])
        .collect();
    for _ in 0..5 {
        scene.post("/invocations", &json!({"inputs": rows})).await;
    }
    for _ in 0..100 {
        if scene.drift().await["versions"][0]["reference"] == "self" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    scene.post("/invocations", &json!({"inputs": rows})).await;
    let drift = scene.counted(1000).await;
    assert_eq!(drift["versions"][0]["reference"], "self");
    let first = &drift["versions"][0]["windows"]["24h"]["features"][0];
    assert!(first["psi"].as_f64().unwrap() < 0.05, "{first}");
    assert!(!scene.metrics().await.contains("onstage_drifted_features{"));
}

#[tokio::test]
async fn monitoring_can_be_switched_off_and_status_shows_it_when_it_is_on() {
    let scene = Scene::new(true, &[]).await;
    scene
        .post("/invocations", &json!({"inputs": [[99.0, 3.0, 1.0, 0.0]]}))
        .await;
    scene.counted(1).await;
    let (url, admin) = (scene.server.url(""), scene.server.admin_url());
    let arguments = [
        "status",
        "--url",
        &url,
        "--admin-url",
        &admin,
        "--token-file",
        scene.token.to_str().unwrap(),
    ];
    let told = Starter::command(&arguments).run().await;
    assert!(
        told.stdout.contains("drift of iris version 1, 24 h"),
        "{}",
        told.stdout
    );
    assert!(
        told.stdout.contains("bin above: 0.5 % -> 100.0 %"),
        "{}",
        told.stdout
    );
    let off = Scene::new(true, &["--config", &config("[monitor]\nenabled = false\n")]).await;
    off.post("/invocations", &json!({"inputs": [[99.0, 3.0, 1.0, 0.0]]}))
        .await;
    let message = off.drift().await["error"].to_string();
    assert!(message.contains("`monitor.enabled` is false"), "{message}");
    assert!(
        !off.metrics()
            .await
            .contains("onstage_monitored_rows_total{")
    );
}

/// A configuration file that stays until the test process ends.
fn config(text: &str) -> String {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file.into_temp_path()
        .keep()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_baseline_that_cannot_be_used_is_a_warning_and_the_model_serves() {
    let directory = tempfile::tempdir().unwrap();
    for (text, reason) in [
        ("", "EOF while parsing"),
        (r#"{"features": []}"#, "`features` is empty"),
        (
            r#"{"features": [{"name": "x", "numerical_statistics": {"distribution": {"kll": {"buckets": [{"lower_bound": 2, "upper_bound": 1, "count": 1}]}}}}]}"#,
            "whose bounds do not ascend",
        ),
    ] {
        let file = directory.path().join("baseline.json");
        std::fs::write(&file, text).unwrap();
        let config = config(&format!(
            "[models.iris]\nbaseline = {:?}\n",
            file.to_str().unwrap()
        ));
        let scene = Scene::new(false, &["--config", &config]).await;
        scene
            .post("/invocations", &json!({"inputs": [[5.0, 3.0, 1.0, 0.0]]}))
            .await;
        let log = scene.server.terminate().await.stderr;
        assert!(
            log.contains("the baseline is not used") && log.contains(reason),
            "{log}"
        );
    }
}
