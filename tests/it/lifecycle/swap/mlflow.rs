//! The served version follows a real MLflow server: MLflow's own client moves stages and aliases.

use std::time::Duration;

use tokio::time::sleep;

use super::scene::{Load, ask, counter, follow, metrics, until, until_version, version};
use crate::support::mlflow_server::{MlflowClient, MlflowServer, WEBHOOKS};
use crate::support::server::{Server, Starter};

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
async fn a_version_that_fails_on_every_row_is_kept_off_by_its_example_or_taken_back() {
    let (mlflow, mut python) = scene(1).await;
    python
        .eval("register('scale', gather(), input_example=numpy.ones((1, 1), numpy.float32))")
        .await;
    python.eval("register('scale', gather())").await;
    let champion = "client.set_registered_model_alias('scale', 'champion', '1')";
    python.eval(champion).await;
    let flags = ["--poll-interval", "200ms", "--engine", "onnxruntime"];
    let server = follow(&mlflow.url, &flags).await;
    let load = Load::start(&server, "/models/scale/invocations", 8);
    for (version, reason) in [("2", "example"), ("3", "probation")] {
        python
            .eval(&champion.replace("'1'", &format!("'{version}'")))
            .await;
        let line =
            format!(r#"onstage_candidate_failures_total{{model="scale",reason="{reason}"}} 1"#);
        until(&line, &server, async || {
            metrics(&server).await.contains(&line)
        })
        .await;
        assert_eq!(version_of_answer(&server).await, 1);
    }
    let (sent, failures) = load.end().await;
    assert!(sent > 100 && failures.is_empty(), "{sent}: {failures:?}");
    server.terminate().await;
}

async fn version_of_answer(server: &Server) -> u64 {
    version(server, "/models/scale/invocations").await
}

#[tokio::test]
async fn stages_and_aliases_that_mlflows_client_moves_swap_the_served_version() {
    let (mlflow, mut python) = scene(3).await;
    python
        .eval("client.transition_model_version_stage('scale', '1', 'Production')")
        .await;
    let flags = ["--follow", "Production", "--poll-interval", "200ms"];
    let server = follow(&mlflow.url, &flags).await;
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
    let server = follow(&mlflow.url, &["--poll-interval", "200ms"]).await;
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
            counter(&server, &failed).await > 0
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
    until("no look at the registry failed", &server, async || {
        let failures = r#"onstage_registry_syncs_total{outcome="failure"}"#;
        metrics(&server).await.contains(failures)
    })
    .await;
    assert_eq!(version(&server, "/invocations").await, 1);
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
    let mlflow = MlflowServer::start("", &[], &WEBHOOKS).await;
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

#[tokio::test]
async fn a_scikit_learn_model_behind_the_alias_is_unsupported_and_in_nobodys_way() {
    let (mlflow, mut python) = scene(1).await;
    python
        .eval("client.set_registered_model_alias('scale', 'champion', '1')")
        .await;
    let sklearn = |name: &str| {
        format!(
            "[__import__('mlflow.sklearn').sklearn.log_model(__import__('sklearn.linear_model').linear_model.\
             LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), name='model', registered_model_name='{name}', \
             pip_requirements=['scikit-learn']), client.set_registered_model_alias('{name}', 'champion', \
             client.get_registered_model('{name}').latest_versions[-1].version)]"
        )
    };
    python.eval(&sklearn("forest")).await;
    let server = follow(&mlflow.url, &["--poll-interval", "200ms"]).await;
    assert_eq!(server.get("/v2/health/ready").await.status(), 200);
    assert_eq!(version(&server, "/models/scale/invocations").await, 1);
    let reason = async |name: &str, version: &str| {
        let (_, index) = server.post_json("/v2/repository/index", "{}").await;
        let rows = index.as_array().unwrap().iter();
        let mut rows = rows.filter(|row| row["name"] == name && row["version"] == version);
        let row = rows.next().cloned().unwrap_or_default();
        row["reason"].as_str().unwrap_or_default().to_owned()
    };
    let told = reason("forest", "1").await;
    for part in [
        "unsupported",
        "`mlflow.sklearn`",
        "`onstage-convert models:/forest/1 --register forest`",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let paged = async |model: &str| {
        let text = metrics(&server).await;
        let failed = format!(r#"onstage_model_state{{model="{model}",state="failed""#);
        let in_sync = format!("onstage_model_out_of_sync_seconds{{model=\"{model}\"}} 0\n");
        let mut lines = text.lines();
        lines.any(|line| line.starts_with(&failed) && !line.ends_with(" 0"))
            || !text.contains(&in_sync)
    };
    assert!(!paged("forest").await);

    // The last good version serves on.
    let load = Load::start(&server, "/models/scale/invocations", 2);
    python.eval(&sklearn("scale")).await;
    until("it is never seen", &server, async || {
        reason("scale", "2").await.contains("unsupported")
    })
    .await;
    assert_eq!(version(&server, "/models/scale/invocations").await, 1);
    assert_eq!(server.get("/v2/health/ready").await.status(), 200);
    assert!(!paged("scale").await);

    python.eval("register('scale', times(3))").await;
    python
        .eval("client.set_registered_model_alias('scale', 'champion', '3')")
        .await;
    until_version(&server, "/models/scale/invocations", 3).await;
    python.eval("register('forest', times(2))").await;
    python
        .eval("client.set_registered_model_alias('forest', 'champion', '2')")
        .await;
    until("it never serves", &server, async || {
        ask(&server, "/models/forest/invocations").await.0 == 200
    })
    .await;
    assert!(!paged("scale").await && !paged("forest").await);
    let (sent, failures) = load.end().await;
    assert!(sent > 100 && failures.is_empty(), "{sent}: {failures:?}");
    server.terminate().await;
}
