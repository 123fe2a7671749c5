//! What a person decides against the registry, through the management API: the commands of `docs/guides/registry.md`, section
//! "Manual swaps".

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::scene::{Files, answering, loaded, metrics, until};
use crate::support::server::{Ended, Server, Starter};

const TOKEN: &str = "correct horse battery staple";

struct Managed {
    files: Files,
    server: Server,
    admin: String,
    token_file: String,
}

impl Managed {
    /// A server that follows the champion among versions that multiply by these.
    async fn of(factors: &[f32]) -> Self {
        let files = Files::of(factors).await;
        let token_file = files.directory.path().join("token");
        std::fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
        let token_file = token_file.to_str().unwrap().to_owned();
        let flags = [
            "--poll-interval",
            "100ms",
            "--admin-port",
            "0",
            "--admin-token-file",
            &token_file,
        ];
        let server = files.serve("", &flags).await;
        let admin = server.admin_url();
        Self {
            files,
            server,
            admin,
            token_file,
        }
    }

    async fn ask(&self, method: Method, path: &str, body: &str) -> (u16, Value) {
        ask(&self.admin, method, path, body).await
    }

    async fn act(&self, action: &str, body: &str) -> (u16, Value) {
        let path = format!("/admin/models/scale/{action}");
        self.ask(Method::POST, &path, body).await
    }

    async fn serves(&self) -> Option<u64> {
        answering(&self.server, "/invocations").await
    }

    /// Long enough for several polls to undo what they should not.
    async fn polls(&self) {
        sleep(Duration::from_millis(500)).await;
    }
}

/// Status and answer of the management API.
async fn ask(admin: &str, method: Method, path: &str, body: &str) -> (u16, Value) {
    let request = reqwest::Client::new()
        .request(method, format!("{admin}{path}"))
        .bearer_auth(TOKEN)
        .body(body.to_owned());
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

#[tokio::test]
async fn nobody_manages_without_the_token_and_not_on_the_main_port() {
    let managed = Managed::of(&[1.0]).await;
    let client = reqwest::Client::new();
    let url = format!("{}/admin/models", managed.admin);
    for request in [
        client.get(&url),
        client.get(&url).bearer_auth("wrong"),
        client.get(&url).bearer_auth(""),
        client.get(&url).basic_auth("x", Some(TOKEN)),
        client.get(format!("{}/nowhere", managed.admin)),
        client.post(format!(
            "{}/v2/repository/models/scale/unload",
            managed.admin
        )),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401);
        let challenge = response.headers()["www-authenticate"].to_str().unwrap();
        assert!(challenge.starts_with("Bearer"), "{challenge}");
    }
    for (path, status) in [
        ("/admin/models", 404),
        ("/v2/repository/models/scale/unload", 403),
    ] {
        let request = managed
            .server
            .request(Method::POST, path)
            .bearer_auth(TOKEN);
        assert_eq!(request.send().await.unwrap().status(), status, "{path}");
    }
    let (status, answer) = managed.ask(Method::GET, "/admin/models", "").await;
    assert_eq!(status, 200);
    let model = &answer["models"][0];
    assert_eq!(
        (&model["name"], &model["serving"]),
        (&json!("scale"), &json!("1"))
    );
    assert_eq!(model["aliases"], json!({ "champion": "1" }));
    assert_eq!(model["versions"][0]["state"], "ready");
    assert!(
        model["versions"][0]["digest"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    assert_eq!(managed.ask(Method::PUT, "/admin/models", "").await.0, 405);
    assert_eq!(managed.ask(Method::GET, "/nowhere", "").await.0, 404);
}

#[tokio::test]
async fn without_a_token_there_is_no_management_api() {
    let serve = ["model-examples/iris", "--admin-port", "0"];
    let Ended { status, stderr, .. } = Starter::serve(&serve).try_start().await.err().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("needs a token"), "{stderr}");
}

#[tokio::test]
async fn a_swap_by_hand_stands_until_it_is_resumed_or_the_registry_changes() {
    let managed = Managed::of(&[1.0, 2.0, 3.0]).await;
    let (status, answer) = managed.act("swap", r#"{"version": "2"}"#).await;
    assert_eq!((status, &answer["serving"]), (200, &json!("2")), "{answer}");
    assert_eq!(answer["hold"]["version"], "2");
    assert_eq!(managed.serves().await, Some(2));
    managed.polls().await;
    assert_eq!(managed.serves().await, Some(2), "the registry says 1");
    let text = metrics(&managed.server).await;
    assert!(
        text.contains(r#"onstage_model_held{model="scale"} 1"#),
        "{text}"
    );

    let (status, answer) = managed.act("resume", "").await;
    assert_eq!((status, &answer["hold"]), (200, &Value::Null));
    until("version 1 never came back", &managed.server, async || {
        managed.serves().await == Some(1)
    })
    .await;

    assert_eq!(managed.act("swap", r#"{"version": 2}"#).await.0, 200);
    managed.files.promote(3).await;
    until("the registry changed", &managed.server, async || {
        managed.serves().await == Some(3)
    })
    .await;
    let text = metrics(&managed.server).await;
    assert!(
        text.contains(r#"onstage_model_held{model="scale"} 0"#),
        "{text}"
    );

    // A hold on what serves: here the registry says the same already, so nothing is undone but a later change.
    let (status, answer) = managed.act("hold", "").await;
    assert_eq!((status, &answer["hold"]["version"]), (200, &json!("3")));

    let (_, history) = managed
        .ask(Method::GET, "/admin/history?model=scale", "")
        .await;
    let swaps = history["swaps"].as_array().unwrap();
    let told: Vec<(&Value, &Value)> = swaps
        .iter()
        .map(|swap| (&swap["to"], &swap["cause"]))
        .collect();
    let expected = [
        ("3", "registry"),
        ("2", "manual"),
        ("1", "manual"),
        ("2", "manual"),
        ("1", "start"),
    ];
    let expected = expected.map(|(to, cause)| (json!(to), json!(cause)));
    let expected: Vec<(&Value, &Value)> = expected.iter().map(|(to, cause)| (to, cause)).collect();
    assert_eq!(told, expected, "{history}");
    assert!(swaps[0]["phases"]["compile"].as_f64().unwrap() > 0.0);
    let (_, history) = managed.ask(Method::GET, "/admin/history?limit=1", "").await;
    assert_eq!(history["swaps"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn unload_and_load_by_hand_also_as_the_protocol_has_them() {
    let managed = Managed::of(&[1.0]).await;
    for (unload, load) in [
        ("/admin/models/scale/unload", "/admin/models/scale/load"),
        (
            "/v2/repository/models/scale/unload",
            "/v2/repository/models/scale/load",
        ),
    ] {
        let body = r#"{"parameters": {"unload_dependents": false}}"#;
        assert_eq!(managed.ask(Method::POST, unload, body).await.0, 200);
        until("it is not unloaded", &managed.server, async || {
            loaded(&managed.server).await.is_empty()
        })
        .await;
        managed.polls().await;
        assert_eq!(managed.serves().await, None, "the registry wants it");
        assert_eq!(managed.ask(Method::POST, load, "").await.0, 200);
        assert_eq!(managed.serves().await, Some(1));
    }
    let (status, index) = managed.ask(Method::POST, "/v2/repository/index", "").await;
    assert_eq!((status, &index[0]["state"]), (200, &json!("READY")));
}

#[tokio::test]
async fn a_model_that_still_drains_is_loaded_again_and_by_no_other_files() {
    let directory = tempfile::TempDir::new().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    // A path on the command line: no poll of a registry comes to the manager's help.
    let token = token.to_str().unwrap();
    let flags = ["--admin-port", "0", "--admin-token-file", token];
    let arguments = [&["model-examples/iris", "--engine", "tract"], &flags[..]].concat();
    let server = Server::start(&arguments).await;
    let admin = server.admin_url();
    let act = |action: &str, body: &'static str| {
        let path = format!("/v2/repository/models/iris/{action}");
        let admin = &admin;
        async move { ask(admin, Method::POST, &path, body).await }
    };
    // Often, as what is told before it is true is mostly true by the time it is looked at.
    for _ in 0..100 {
        assert_eq!(act("unload", "").await.0, 200);
        assert_ne!(server.get("/v2/models/iris/ready").await.status(), 200);
        assert_eq!(act("load", r#"{"parameters": {}}"#).await.0, 200);
        assert_eq!(server.get("/v2/models/iris/ready").await.status(), 200);
    }
    for (body, expected) in [
        (r#"{"parameters": {"config": "{}"}}"#, 501),
        (r#"{"parameters": {"file:1/model.onnx": "AAAA"}}"#, 501),
        ("[", 400),
    ] {
        let (status, answer) = act("load", body).await;
        assert_eq!(status, expected, "{body} {answer}");
        assert!(answer["error"].is_string(), "{answer}");
    }
}

#[tokio::test]
async fn what_cannot_be_done_by_hand_changes_nothing_and_says_why() {
    let managed = Managed::of(&[1.0, 2.0]).await;
    let graph = format!("{}/scale/versions/2/model.onnx", managed.files.models);
    std::fs::write(graph, "damaged").unwrap();
    for (action, body, status, words) in [
        ("swap", r#"{"version": "2"}"#, 400, "cannot be served"),
        ("swap", r#"{"version": "9"}"#, 404, "no version 9"),
        ("swap", "", 400, "which version"),
        ("swap", r#"{"version": "two"}"#, 400, "expected"),
        ("swap", r#"{"versions": "2"}"#, 400, "expected"),
        ("promote", "", 404, "`swap`"),
    ] {
        let (got, answer) = managed.act(action, body).await;
        let message = answer["error"].as_str().unwrap();
        assert_eq!(got, status, "{action} {body}: {message}");
        assert!(message.contains(words), "{action} {body}: {message}");
        assert_eq!(managed.serves().await, Some(1));
    }
    let (status, answer) = managed
        .ask(Method::POST, "/admin/models/nobody/unload", "")
        .await;
    assert_eq!(status, 404, "{answer}");
    let (status, answer) = managed.ask(Method::GET, "/admin/history?limit=x", "").await;
    assert_eq!(status, 400, "{answer}");
}

#[tokio::test]
async fn status_shows_holds_and_history() {
    let managed = Managed::of(&[1.0, 2.0]).await;
    managed.act("swap", r#"{"version": "2"}"#).await;
    let url = managed.server.url("");
    let mut arguments = vec![
        "status",
        "--url",
        &url,
        "--admin-url",
        &managed.admin,
        "--token-file",
        &managed.token_file,
    ];
    let shown = Starter::command(&arguments).run().await;
    assert_eq!(shown.status.code(), Some(0), "{}", shown.stderr);
    for words in ["held by hand", "1 -> 2", "manual", "published"] {
        assert!(shown.stdout.contains(words), "{words}: {}", shown.stdout);
    }
    let other = managed.files.directory.path().join("other");
    std::fs::write(&other, "x").unwrap();
    *arguments.last_mut().unwrap() = other.to_str().unwrap();
    let shown = Starter::command(&arguments).run().await;
    assert_eq!(shown.status.code(), Some(1));
    assert!(
        shown.stderr.contains("does not know the token"),
        "{}",
        shown.stderr
    );
}
