//! Models that are loaded by their first request, and unloaded when others need the memory.

use serde_json::json;

use super::scene::{Files, loaded, metrics, registry, until};
use crate::support::server::Server;

const MODELS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A registry whose models all multiply by 2, each under its name.
async fn models() -> Files {
    let files = Files::of(&[2.0]).await;
    let package = files.directory.path().join("package-0");
    for name in MODELS {
        let at = ["--registry", files.models.as_str()];
        let register = ["register", name, package.to_str().unwrap()];
        registry(&[register.as_slice(), &at].concat()).await;
        registry(&[["alias", name, "champion", "1"].as_slice(), &at].concat()).await;
    }
    files
}

async fn ask(server: &Server, model: &str) -> (u16, String) {
    let body = json!({ "inputs": [[1.0, 1.0]] }).to_string();
    let path = format!("/models/{model}/invocations");
    let (status, answer) = server.post_json(&path, body).await;
    (status, answer.to_string())
}

#[tokio::test]
async fn a_lazy_model_is_loaded_by_its_first_request_and_others_wait_for_it() {
    let files = models().await;
    let server = files.serve("", &["--lazy"]).await;
    assert!(loaded(&server).await.is_empty());
    assert_eq!(server.get("/v2/health/ready").await.status(), 200);
    assert_eq!(server.get("/v2/models/a/ready").await.status(), 200);
    let text = metrics(&server).await;
    let asleep = r#"onstage_model_state{model="a",state="unloaded",version="1"} 1"#;
    assert!(text.contains(asleep), "{text}");
    assert!(text.contains(r#"onstage_model_out_of_sync_seconds{model="a"} 0"#));

    let asked = (0..8).map(|_| ask(&server, "a"));
    for (status, answer) in futures_util::future::join_all(asked).await {
        assert_eq!(status, 200, "{answer}");
    }
    assert_eq!(loaded(&server).await.len(), 1);
    // Who wants to know what a model takes is told, too.
    assert_eq!(server.get("/v2/models/b").await.status(), 200);
    assert_eq!(loaded(&server).await.len(), 2);
    let (status, answer) = ask(&server, "nobody").await;
    assert_eq!(status, 404, "{answer}");

    // A new version is not loaded before someone wants it; then it is the new one.
    let package = files.directory.path().join("package-0");
    let at = ["--registry", files.models.as_str()];
    let register = ["register", "c", package.to_str().unwrap()];
    registry(&[register.as_slice(), &at].concat()).await;
    registry(&[["alias", "c", "champion", "2"].as_slice(), &at].concat()).await;
    until("version 2 is not wanted", &server, async || {
        let (_, index) = server.post_json("/v2/repository/index", "{}").await;
        index
            .to_string()
            .contains(r#"{"name":"c","version":"2","state":"UNAVAILABLE","reason":"unloaded"}"#)
    })
    .await;
    let (status, answer) = ask(&server, "c").await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn the_model_used_longest_ago_makes_room_and_no_request_fails() {
    let files = models().await;
    // Loading one of them is estimated at a little more than 4 MiB.
    let server = files
        .serve(
            "",
            &["--lazy", "--memory-budget", "4.5MiB", "--engine", "tract"],
        )
        .await;
    for round in 0..3 {
        for model in MODELS {
            let (status, answer) = ask(&server, model).await;
            assert_eq!(status, 200, "round {round}, {model}: {answer}");
        }
    }
    let asked = MODELS
        .iter()
        .chain(&MODELS)
        .map(|model| ask(&server, model));
    for (status, answer) in futures_util::future::join_all(asked).await {
        assert_eq!(status, 200, "{answer}");
    }
    let text = metrics(&server).await;
    assert!(text.contains(r#"outcome="unloaded""#), "{text}");
    server.logged(&["its next request loads it again"]).await;
}

#[tokio::test]
async fn what_never_fits_is_refused_with_figures_and_what_may_not_go_stays() {
    let files = models().await;
    let settings = "evictable = false\n[models.a]\nevictable = true\n[models.b]\nevictable = true";
    let server = files
        .serve(settings, &["--lazy", "--memory-budget", "1MiB"])
        .await;
    let (status, answer) = ask(&server, "a").await;
    assert_eq!(status, 503);
    assert!(answer.contains("of the budget of 1.0 MiB"), "{answer}");
}
