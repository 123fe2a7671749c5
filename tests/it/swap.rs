//! The served version follows a real MLflow server: MLflow's own client moves stages and aliases.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::mlflow_server::{MlflowClient, MlflowServer};
use crate::server::{Server, Starter};

/// Long enough for a poll of half a second and a load on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request whose answer tells the version: version N multiplies by N.
async fn ask(server: &Server, path: &str) -> (u16, Option<String>, Value) {
    let request = server.request(reqwest::Method::POST, path);
    let response = request
        .json(&json!({ "inputs": [[1.0]] }))
        .send()
        .await
        .unwrap();
    let version = response.headers().get("x-model-version");
    let version = version.map(|version| version.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    (status, version, response.json().await.unwrap())
}

/// The version that answers on `path`; the header and the prediction must agree.
async fn version(server: &Server, path: &str) -> u64 {
    let (status, header, answer) = ask(server, path).await;
    assert_eq!(status, 200, "{answer}");
    let predicted = answer["predictions"]["y"][0][0].as_f64().unwrap();
    assert_eq!(
        header.unwrap(),
        format!("{predicted}"),
        "one version answers, not two"
    );
    format!("{predicted}").parse().unwrap()
}

async fn until_version(server: &Server, path: &str, expected: u64) -> Duration {
    let started = Instant::now();
    let wait = async {
        while version(server, path).await != expected {
            sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(PATIENCE, wait).await.is_err() {
        panic!(
            "version {expected} never came on stage: {}",
            server.stderr()
        );
    }
    started.elapsed()
}

async fn until(what: &str, server: &Server, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(PATIENCE, wait).await.is_err() {
        panic!("{what}: {}", server.stderr());
    }
}

async fn metrics(server: &Server) -> String {
    server.get("/metrics").await.text().await.unwrap()
}

/// Requests without a pause, and how many of them failed.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(server: &Server, path: &str, clients: usize) -> Self {
        Self::with(server, path, clients, &json!({ "inputs": [[1.0]] }))
    }

    fn with(server: &Server, path: &str, clients: usize, body: &Value) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let tasks = (0..clients).map(|_| {
            let body = body.clone();
            let (stop, sent, url) = (Arc::clone(&stop), Arc::clone(&sent), server.url(path));
            tokio::spawn(async move {
                let client = reqwest::Client::new();
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match client.post(&url).json(&body).send().await {
                        Ok(response) if response.status() == 200 => {
                            let header = response.headers()["x-model-version"]
                                .to_str()
                                .unwrap()
                                .to_owned();
                            let answer: Value = response.json().await.unwrap();
                            let predicted = answer["predictions"]["y"][0][0].as_f64().unwrap();
                            if header != format!("{predicted}") {
                                failures.push(format!("version {header} answered {predicted}"));
                            }
                        }
                        Ok(response) => failures.push(format!("{}", response.status())),
                        Err(error) => failures.push(format!("{error:?}")),
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(1)).await;
                }
                failures
            })
        });
        let tasks = tasks.collect();
        Self { stop, sent, tasks }
    }

    async fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for task in self.tasks {
            failures.extend(task.await.unwrap());
        }
        (self.sent.load(Ordering::Relaxed), failures)
    }
}

/// A server of MLflow with `versions` of model `scale`, of which version N multiplies by N.
async fn scene(versions: u64) -> (MlflowServer, MlflowClient) {
    let mlflow = MlflowServer::start("", &[], &[]).await;
    let mut python = MlflowClient::start(&mlflow, &[]);
    for factor in 1..=versions {
        python
            .eval(&format!("register('scale', times({factor}))"))
            .await;
    }
    (mlflow, python)
}

#[tokio::test]
async fn stages_and_aliases_that_mlflows_client_moves_swap_the_served_version() {
    let (mlflow, mut python) = scene(3).await;
    python
        .eval("client.transition_model_version_stage('scale', '1', 'Production')")
        .await;
    let follow = [
        "--registry",
        &mlflow.url,
        "--follow",
        "@champion",
        "--follow",
        "Production",
        "--poll-interval",
        "200ms",
    ];
    let server = Server::start(&follow).await;
    assert_eq!(version(&server, "/invocations").await, 1);
    assert_eq!(
        version(&server, "/models/scale/stages/production/invocations").await,
        1
    );
    let load = Load::start(&server, "/models/scale/invocations", 4);

    python
        .eval("client.transition_model_version_stage('scale', '2', 'Production')")
        .await;
    until_version(&server, "/invocations", 2).await;
    python
        .eval("client.set_registered_model_alias('scale', 'champion', '3')")
        .await;
    until_version(&server, "/invocations", 3).await;
    assert_eq!(
        version(&server, "/models/scale/stages/Production/invocations").await,
        2
    );
    assert_eq!(
        version(&server, "/models/scale/aliases/champion/invocations").await,
        3
    );
    assert_eq!(
        version(&server, "/models/scale/versions/2/invocations").await,
        2
    );
    let (status, _, answer) = ask(&server, "/models/scale/aliases/nobody/invocations").await;
    assert_eq!(status, 404, "{answer}");
    python
        .eval("client.set_registered_model_alias('scale', 'champion', '1')")
        .await;
    until_version(&server, "/invocations", 1).await;

    let (sent, failures) = load.end().await;
    assert!(sent > 100 && failures.is_empty(), "{sent}: {failures:?}");
    let text = metrics(&server).await;
    for line in [
        r#"onstage_model_alias_info{alias="@champion",model="scale",version="1"} 1"#,
        r#"onstage_model_alias_info{alias="Production",model="scale",version="2"} 1"#,
        r#"onstage_swaps_total{model="scale",outcome="published"} 4"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    server.terminate().await;
}

#[tokio::test]
async fn whatever_is_wrong_with_a_new_version_the_last_good_one_serves() {
    let (mlflow, mut python) = scene(2).await;
    python
        .eval("client.set_registered_model_alias('scale', 'champion', '2')")
        .await;
    let follow = [
        "--registry",
        &mlflow.url,
        "--follow",
        "@champion",
        "--poll-interval",
        "200ms",
    ];
    let server = Server::start(&follow).await;
    let load = Load::start(&server, "/invocations", 2);
    python
        .eval("register('scale', times(3, input='other'))")
        .await;
    let broken = "[register('scale', times(4)), open(next(pathlib.Path(home).rglob(f\"{client.get_model_version('scale', '4').source.split('/')[-1]}/artifacts/model.onnx\")), 'wb').write(b'no graph')]";
    python
        .eval(
            &broken
                .replace("pathlib", "__import__('pathlib')")
                .replace("home", &format!("{:?}", mlflow.home().to_str().unwrap())),
        )
        .await;
    for (candidate, reason) in [(3, "contract_changed"), (4, "invalid_package")] {
        let alias =
            format!("client.set_registered_model_alias('scale', 'champion', '{candidate}')");
        python.eval(&alias).await;
        let failed =
            format!(r#"onstage_candidate_failures_total{{model="scale",reason="{reason}"}}"#);
        until(&failed, &server, async || {
            metrics(&server).await.contains(&failed)
        })
        .await;
        assert_eq!(version(&server, "/invocations").await, 2);
        let ready = server.get("/v2/health/ready").await;
        assert_eq!(
            ready.status(),
            200,
            "a failing successor does not flip readiness"
        );
    }
    let out_of_sync = r#"onstage_model_out_of_sync_seconds{model="scale"} 0"#;
    until("out of sync", &server, async || {
        !metrics(&server).await.contains(&format!("{out_of_sync}\n"))
    })
    .await;
    python
        .eval("client.set_registered_model_alias('scale', 'champion', '1')")
        .await;
    until_version(&server, "/invocations", 1).await;

    drop(mlflow);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(
        version(&server, "/invocations").await,
        1,
        "an outage unloads nothing"
    );
    assert!(
        metrics(&server)
            .await
            .contains(r#"onstage_registry_syncs_total{outcome="failure"}"#)
    );
    let (sent, failures) = load.end().await;
    assert!(sent > 100 && failures.is_empty(), "{sent}: {failures:?}");
    server.terminate().await;
}

#[tokio::test]
async fn a_target_of_the_registry_is_required() {
    let (mlflow, _python) = scene(2).await;
    let serve = |target: &'static str| {
        let registry = mlflow.url.clone();
        async move {
            Starter::serve(&["--registry", &registry, target])
                .try_start()
                .await
        }
    };
    let server = serve("models:/scale/1").await.ok().unwrap();
    assert_eq!(version(&server, "/invocations").await, 1);
    server.terminate().await;
    let server = serve("models:/scale/latest").await.ok().unwrap();
    assert_eq!(version(&server, "/invocations").await, 2);
    server.terminate().await;
    let ended = serve("models:/scale@nobody").await.err().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended
            .stderr
            .contains("the registry does not have `models:/scale@nobody`"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn a_webhook_makes_the_server_look_at_once() {
    let allowed = [
        ("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http"),
        ("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true"),
        (
            "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY",
            "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        ),
    ];
    let mlflow = MlflowServer::start("", &[], &allowed).await;
    let mut python = MlflowClient::start(&mlflow, &[]);
    let secret = mlflow.home().join("secret");
    std::fs::write(&secret, "s3cr3t\n").unwrap();
    let secret = secret.to_str().unwrap();
    let follow = [
        "--registry",
        &mlflow.url,
        "--follow",
        "@champion",
        "--poll-interval",
        "1h",
        "--webhook-secret-file",
        secret,
    ];
    let server = Server::start(&follow).await;
    let unsigned = server
        .request(reqwest::Method::POST, "/webhooks/mlflow")
        .body("{}");
    assert_eq!(unsigned.send().await.unwrap().status(), 401);
    // Before the first event: MLflow remembers for a minute which webhooks there are.
    let register = [
        "registry",
        "webhook",
        "--registry",
        &mlflow.url,
        "--url",
        &server.url(""),
        "--webhook-secret-file",
        secret,
        "--register",
    ];
    let registered = Starter::command(&register).run().await;
    assert_eq!(registered.status.code(), Some(0), "{}", registered.stderr);
    for factor in [1, 2] {
        python
            .eval(&format!("register('scale', times({factor}))"))
            .await;
        let alias = format!("client.set_registered_model_alias('scale', 'champion', '{factor}')");
        python.eval(&alias).await;
        let path = "/models/scale/invocations";
        let serves = async || ask(&server, path).await.1.as_deref() == Some(&factor.to_string());
        until("the version never came on stage", &server, serves).await;
    }
    server.terminate().await;
}

async fn registry(arguments: &[&str]) {
    let command = [&["registry"], arguments].concat();
    let ended = Starter::command(&command).run().await;
    assert_eq!(
        ended.status.code(),
        Some(0),
        "{arguments:?}: {}",
        ended.stderr
    );
}

/// A registry of files in which version N of model `scale` multiplies by the N-th factor; version 1 is the champion.
struct Files {
    directory: tempfile::TempDir,
    models: String,
}

impl Files {
    async fn of(factors: &[f32]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let models = directory.path().join("models").to_str().unwrap().to_owned();
        let files = Self { directory, models };
        for (index, factor) in factors.iter().enumerate() {
            let graph = files.directory.path().join(format!("{index}.onnx"));
            crate::onnx::save(&crate::onnx::times(*factor), &graph);
            let package = files.directory.path().join(format!("package-{index}"));
            let (graph, package) = (graph.to_str().unwrap(), package.to_str().unwrap());
            let made = Starter::command(&["package", graph, "-o", package])
                .run()
                .await;
            assert_eq!(made.status.code(), Some(0), "{}", made.stderr);
            registry(&["register", "scale", package, "--registry", &files.models]).await;
        }
        files.promote(1).await;
        files
    }

    async fn promote(&self, version: u64) {
        let version = version.to_string();
        registry(&[
            "alias",
            "scale",
            "champion",
            &version,
            "--registry",
            &self.models,
        ])
        .await;
    }

    /// A server that follows the champion, with these settings for the model.
    async fn serve(&self, settings: &str, flags: &[&str]) -> Server {
        let config = self.directory.path().join("onstage.toml");
        std::fs::write(&config, format!("[models.scale]\n{settings}\n")).unwrap();
        let config = config.to_str().unwrap();
        let follow = [
            "--registry",
            &self.models,
            "--follow",
            "@champion",
            "--config",
            config,
        ];
        Server::start(&[&follow, flags].concat()).await
    }
}

/// The version that answers; the prediction is not looked at.
async fn answering(server: &Server, path: &str) -> Option<u64> {
    let body = json!({ "inputs": [[1.0, 1.0]] });
    let request = server.request(reqwest::Method::POST, path).json(&body);
    let response = request.send().await.unwrap();
    let version = response.headers().get("x-model-version")?;
    version.to_str().unwrap().parse().ok()
}

/// The loaded versions, by the repository index.
async fn loaded(server: &Server) -> Vec<u64> {
    let (_, index) = server.post_json("/v2/repository/index", "{}").await;
    let ready = index
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["state"] == "READY");
    ready
        .map(|entry| entry["version"].as_str().unwrap().parse().unwrap())
        .collect()
}

#[tokio::test]
async fn a_version_that_gives_nan_is_taken_back_and_stays_off_stage() {
    let files = Files::of(&[1.0, f32::NAN, 3.0]).await;
    let server = files.serve("", &[]).await;
    files.promote(2).await;
    until("version 2 never came", &server, async || {
        answering(&server, "/invocations").await == Some(2)
    })
    .await;
    let mut requests = 0;
    until("version 2 was never taken back", &server, async || {
        requests += 1;
        answering(&server, "/invocations").await == Some(1)
    })
    .await;
    assert!(requests >= 49, "it had its 50 requests: {requests}");
    let text = metrics(&server).await;
    for line in [
        r#"onstage_candidate_failures_total{model="scale",reason="probation"} 1"#,
        r#"onstage_swaps_total{model="scale",outcome="rolled_back"} 1"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(
        answering(&server, "/invocations").await,
        Some(1),
        "not tried again by itself"
    );
    files.promote(3).await;
    until("version 3 never came", &server, async || {
        answering(&server, "/invocations").await == Some(3)
    })
    .await;
    server.terminate().await;
}

#[tokio::test]
async fn previous_versions_are_kept_as_long_as_they_should_be() {
    let files = Files::of(&[1.0, 2.0, 3.0]).await;
    let server = files
        .serve("keep_previous = 0\nprobation = '1s'", &[])
        .await;
    files.promote(2).await;
    until("version 2 never came", &server, async || {
        answering(&server, "/invocations").await == Some(2)
    })
    .await;
    assert_eq!(
        loaded(&server).await,
        [1, 2],
        "the way back stays open through probation"
    );
    until("version 1 never left", &server, async || {
        loaded(&server).await == [2]
    })
    .await;
    server.terminate().await;

    let files = Files::of(&[1.0, 2.0, 3.0]).await;
    let server = files
        .serve("keep_previous = 1\nprobation = '0s'", &[])
        .await;
    for version in [2, 3] {
        files.promote(version).await;
        until("it never came", &server, async || {
            answering(&server, "/invocations").await == Some(version)
        })
        .await;
    }
    until("version 1 never left", &server, async || {
        loaded(&server).await == [2, 3]
    })
    .await;
    assert_eq!(
        answering(&server, "/models/scale/versions/2/invocations").await,
        Some(2)
    );
    server.terminate().await;
}

#[tokio::test]
async fn break_before_make_has_one_version_at_a_time() {
    let files = Files::of(&[1.0, 2.0]).await;
    let server = files.serve("swap = 'break-before-make'", &[]).await;
    files.promote(2).await;
    until("version 2 never came", &server, async || {
        answering(&server, "/invocations").await == Some(2)
    })
    .await;
    assert_eq!(loaded(&server).await, [2]);
    server.terminate().await;
}

#[tokio::test]
async fn what_does_not_fit_the_memory_budget_is_refused_with_figures() {
    let files = Files::of(&[1.0, 2.0]).await;
    let server = files.serve("", &["--memory-budget", "1KiB"]).await;
    let reason = r#"onstage_candidate_failures_total{model="scale",reason="memory"} 1"#;
    until(reason, &server, async || {
        metrics(&server).await.contains(reason)
    })
    .await;
    let (_, index) = server.post_json("/v2/repository/index", "{}").await;
    let told = index[0]["reason"].as_str().unwrap();
    assert!(
        told.contains("of the budget of 1.0 KiB (`engine.memory_budget`)"),
        "{told}"
    );
    assert_eq!(
        server.get("/v2/health/ready").await.status(),
        200,
        "what is followed may fail"
    );
    server.terminate().await;
}

/// Four versions of which each really has to be loaded, moved to and fro under load. `benches/` has the figures.
#[tokio::test]
async fn a_storm_of_swaps_drops_no_request_and_mixes_no_answer() {
    let files = Files::of(&[1.0, 2.0, 3.0, 4.0]).await;
    let server = files.serve("", &[]).await;
    let body = json!({ "inputs": [[1.0, 1.0]] });
    let load = Load::with(&server, "/invocations", 8, &body);
    for swap in 1..=24u64 {
        let version = swap % 4 + 1;
        files.promote(version).await;
        let serves = async || answering(&server, "/invocations").await == Some(version);
        until("the version never came on stage", &server, serves).await;
        // Once it was seen, no later request gets another one.
        for _ in 0..5 {
            assert!(serves().await, "{}", server.stderr());
        }
    }
    let (sent, failures) = load.end().await;
    assert!(sent > 500 && failures.is_empty(), "{sent}: {failures:?}");
    let text = metrics(&server).await;
    assert!(
        text.contains(r#"onstage_swaps_total{model="scale",outcome="published"} 25"#),
        "{text}"
    );
    assert!(
        !text.contains("onstage_candidate_failures_total{"),
        "{text}"
    );
    server.terminate().await;
}
