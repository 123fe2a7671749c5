//! Registries on a bad day. What is served is served on.

use std::fs;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Script, follow, one_model, partly, until_champion};
use crate::lifecycle::swap::scene;
use crate::lifecycle::swap::scene::{Files, Load, answering, counter, until, version};
use crate::support::imitation::with_status;
use crate::support::mlflow_server::{MlflowClient, MlflowServer};
use crate::support::server::Server;

/// The number of looks at the registry that ended so.
async fn looks(server: &Server, outcome: &str) -> u64 {
    let series = format!(r#"onstage_registry_syncs_total{{outcome="{outcome}"}}"#);
    counter(server, &series).await
}

#[tokio::test]
async fn bad_answers_of_a_registry_unload_nothing_and_good_ones_are_followed_again() {
    let (script, mlflow) = one_model().await;
    let server = follow(&mlflow, &[]).await;
    let body = json!({ "inputs": [[1.0, 1.0]] });
    let load = Load::with(&server, "/models/m/invocations", 2, &body);
    const JSON: &str = "application/json";
    let answers: [(u16, &str, &str); 9] = [
        (500, "text/html", "<h1>Internal Server Error</h1>"),
        (502, "text/html", ""),
        (
            401,
            JSON,
            r#"{"error_code": "UNAUTHENTICATED", "message": "who are you?"}"#,
        ),
        (
            403,
            JSON,
            r#"{"error_code": "PERMISSION_DENIED", "message": "no"}"#,
        ),
        (404, "text/html", "<h1>Not Found</h1>"),
        (200, "text/html", "<h1>Please log in</h1>"),
        (200, JSON, r#"{"registered_models": [{"name": "m""#),
        (200, JSON, r#"{"registered_models": "none"}"#),
        // Nothing at all where there was something: a database that was restored, or another one.
        (200, JSON, r#"{"registered_models": []}"#),
    ];
    for (index, (status, kind, text)) in answers.into_iter().enumerate() {
        let failures = looks(&server, "failure").await;
        script.instead(move || with_status(status, kind, text));
        until(text, &server, async || {
            looks(&server, "failure").await > failures
        })
        .await;
        assert_eq!(
            answering(&server, "/models/m/invocations").await,
            Some(1),
            "{text}"
        );
        assert_eq!(server.get("/v2/health/ready").await.status(), 200, "{text}");
        script.champion(2 + u64::try_from(index).unwrap() % 2);
        script.truth();
        let expected = 2 + u64::try_from(index).unwrap() % 2;
        until_champion(&server, expected).await;
        script.champion(1);
        until_champion(&server, 1).await;
    }
    let (sent, failed) = load.end().await;
    assert!(sent > 100 && failed.is_empty(), "{sent}: {failed:?}");
}

#[tokio::test]
async fn a_model_that_is_deleted_in_the_registry_is_unloaded_and_the_others_are_not() {
    let script = Script::default();
    script.change(|answers| answers.champions = vec![("m", 1), ("n", 1)]);
    let mlflow = script.serve().await;
    let server = follow(&mlflow, &[]).await;
    assert_eq!(answering(&server, "/models/n/invocations").await, Some(1));
    script.champion(1);
    until("n is never unloaded", &server, async || {
        answering(&server, "/models/n/invocations").await.is_none()
    })
    .await;
    assert_eq!(answering(&server, "/models/m/invocations").await, Some(1));
}

#[tokio::test]
async fn half_an_artifact_is_never_served() {
    let (script, mlflow) = one_model().await;
    let server = follow(&mlflow, &[]).await;
    // The server ignores ranges: every attempt begins anew and ends in the middle.
    script.change(|answers| {
        answers.graph = Some(Box::new(|_, graph| {
            partly(&graph[..20], graph.len(), false)
        }));
    });
    script.champion(2);
    until("it is never noticed", &server, async || {
        let failed = r#"onstage_candidate_failures_total{model="m",reason="fetch"}"#;
        counter(&server, failed).await > 0
    })
    .await;
    assert_eq!(answering(&server, "/models/m/invocations").await, Some(1));
    script.change(|answers| answers.graph = None);
    until_champion(&server, 2).await;
}

#[tokio::test]
async fn a_registry_that_falls_silent_is_as_good_as_gone_and_is_found_again() {
    let (script, mlflow) = one_model().await;
    let server = follow(&mlflow, &[]).await;
    let body = json!({ "inputs": [[1.0, 1.0]] });
    let load = Load::with(&server, "/models/m/invocations", 2, &body);
    let failures = looks(&server, "failure").await;
    script.instead(|| partly(b"{", 1000, true));
    let silent = Instant::now();
    while looks(&server, "failure").await == failures {
        assert!(
            silent.elapsed() < Duration::from_secs(150),
            "{}",
            server.stderr()
        );
        assert_eq!(server.get("/v2/health/ready").await.status(), 200);
        sleep(Duration::from_millis(500)).await;
    }
    script.truth();
    script.champion(2);
    // It is asked again after at most a minute.
    let back = Instant::now();
    while answering(&server, "/models/m/invocations").await != Some(2) {
        assert!(
            back.elapsed() < Duration::from_secs(100),
            "{}",
            server.stderr()
        );
        sleep(Duration::from_millis(500)).await;
    }
    let (sent, failed) = load.end().await;
    assert!(sent > 1000 && failed.is_empty(), "{sent}: {failed:?}");
}

#[tokio::test]
async fn an_mlflow_server_that_is_away_for_a_minute_costs_no_request() {
    let mlflow = MlflowServer::start("", &[], &[]).await;
    let mut python = MlflowClient::start(&mlflow, &[]);
    python.eval("register('scale', times(1))").await;
    python
        .eval("client.set_registered_model_alias('scale', 'champion', '1')")
        .await;
    let server = scene::follow(&mlflow.url, &["--poll-interval", "500ms"]).await;
    let load = Load::start(&server, "/invocations", 4);
    drop(mlflow);
    let gone = Instant::now();
    while gone.elapsed() < Duration::from_secs(60) {
        assert_eq!(server.get("/v2/health/ready").await.status(), 200);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(version(&server, "/invocations").await, 1);
    assert!(looks(&server, "failure").await > 1);
    let (sent, failed) = load.end().await;
    assert!(sent > 1000 && failed.is_empty(), "{sent}: {failed:?}");
}

#[tokio::test]
async fn a_pointer_that_moves_faster_than_versions_load_ends_where_it_ends() {
    let files = Files::of(&[1.0, 2.0, 3.0]).await;
    let server = files.serve("keep_previous = 0", &[]).await;
    let body = json!({ "inputs": [[1.0, 1.0]] });
    let load = Load::with(&server, "/invocations", 4, &body);
    let pointer = format!("{}/scale/aliases/champion", files.models);
    let next = files.directory.path().join("next");
    for step in 0..300_u64 {
        fs::write(&next, (step % 3 + 1).to_string()).unwrap();
        fs::rename(&next, &pointer).unwrap();
        sleep(Duration::from_millis(3)).await;
    }
    fs::write(&next, "2").unwrap();
    fs::rename(&next, &pointer).unwrap();
    until("version 2 is never served", &server, async || {
        answering(&server, "/invocations").await == Some(2)
    })
    .await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(
        answering(&server, "/invocations").await,
        Some(2),
        "it stays"
    );
    let (sent, failed) = load.end().await;
    assert!(sent > 100 && failed.is_empty(), "{sent}: {failed:?}");
}
