//! The commands that talk to a server with authentication, and the one that makes keys.

use serde_json::Value;

use super::scene::{Authority, Scene, flags};
use crate::support::server::{Ended, Starter};

async fn run(arguments: &[&str]) -> Ended {
    Starter::command(arguments).run().await
}

#[tokio::test]
async fn a_key_is_made_added_and_taken_without_a_restart() {
    let scene = Scene::new();
    scene.write("callers", "# callers\n");
    let callers = scene.path("callers");
    let server = scene.serve(&["--callers-file", &callers]).await;
    let made = run(&[
        "key", "shop", "--scope", "predict", "--model", "ir*", "--add-to", &callers,
    ])
    .await;
    assert_eq!(made.status.code(), Some(0), "{}", made.stderr);
    let secret = made.stdout.trim();
    let file = std::fs::read_to_string(&callers).unwrap();
    assert!(
        file.starts_with("# callers\n{") && !file.contains(secret),
        "{file}"
    );
    let body = std::fs::read("model-examples/iris/serving_input_example.json");
    let body = body.unwrap_or_else(|_| br#"{"inputs": [[5.1, 3.5, 1.4, 0.2]]}"#.to_vec());
    let mut status = 0;
    for _ in 0..600 {
        let request = server.request(reqwest::Method::POST, "/invocations");
        let request = request
            .bearer_auth(secret)
            .header("content-type", "application/json");
        status = request
            .body(body.clone())
            .send()
            .await
            .unwrap()
            .status()
            .as_u16();
        if status != 401 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_ne!((status, status == 403), (401, true), "{}", server.stderr());
    assert!(status == 200 || status == 400, "{status}");
}

#[tokio::test]
async fn a_key_is_shown_with_its_line() {
    let made = run(&["key", "ci", "--json"]).await;
    let told: Value = serde_json::from_str(&made.stdout).unwrap();
    let line: Value = serde_json::from_str(told["line"].as_str().unwrap()).unwrap();
    assert_eq!(line["name"], "ci");
    assert_eq!(line["scopes"], serde_json::json!(["read", "predict"]));
    assert_eq!(line["models"], serde_json::json!(["*"]));
    let text = run(&["key", "ci"]).await;
    assert!(text.stdout.starts_with("key   onstage_") && text.stdout.contains("\nline  {"));
    for wrong in [
        &["key", ""][..],
        &["key", "a", "--model", ""],
        &["key", "a", "--scope", "all"],
        &["key", "a", "--expires", "soon"],
    ] {
        assert_eq!(run(wrong).await.status.code(), Some(2), "{wrong:?}");
    }
}

#[tokio::test]
async fn a_health_check_needs_no_key_and_no_authority() {
    let scene = Scene::new();
    scene.write("callers", "");
    let mut serve = scene.tls();
    serve.extend(["--callers-file".to_owned(), scene.path("callers")]);
    let server = scene.serve(&flags(&serve)).await;
    let port = server.address().port().to_string();
    let own = |arguments: &[&str]| {
        Starter::command(arguments)
            .env("ONSTAGE_SERVER__PORT", &port)
            .env("ONSTAGE_SERVER__TLS__CERT_FILE", scene.path("pair/tls.crt"))
            .env("ONSTAGE_SERVER__TLS__KEY_FILE", scene.path("pair/tls.key"))
    };
    let ready = own(&["health"]).run().await;
    assert_eq!(
        (ready.status.code(), ready.stdout.as_str()),
        (Some(0), "ready\n"),
        "{}",
        ready.stderr
    );
    // What is said to another server is a secret, and that server has to prove itself.
    let url = format!("https://{}", server.address());
    assert_eq!(run(&["health", "--url", &url]).await.status.code(), Some(1));
    let authority = scene.path("ca.pem");
    let ready = run(&["health", "--url", &url, "--ca-file", &authority]).await;
    assert_eq!(ready.status.code(), Some(0), "{}", ready.stderr);
}

#[tokio::test]
async fn the_state_is_told_to_whoever_may_read_it() {
    let scene = Scene::new();
    let clients = Authority::new("clients");
    scene.write("clients.pem", &clients.pem);
    let (secret, line) = super::scene::key("ops", &["read"], &["*"]);
    scene.write("callers", &line);
    scene.write("key", &secret);
    let (certificate, key) = clients.client("spiffe://test/ops");
    scene.write("client.crt", &certificate);
    scene.write("client.key", &key);
    let mut serve = scene.tls();
    let more = [
        "--callers-file",
        &scene.path("callers"),
        "--tls-client-auth",
        "required",
        "--tls-client-ca-file",
        &scene.path("clients.pem"),
    ];
    serve.extend(more.map(str::to_owned));
    let server = scene.serve(&flags(&serve)).await;
    let url = format!("https://{}", server.address());
    let way = [
        "status",
        "--url",
        &url,
        "--ca-file",
        &scene.path("ca.pem"),
        "--cert",
        &scene.path("client.crt"),
        "--key",
        &scene.path("client.key"),
    ];
    let refused = run(&way).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.stderr.contains("--api-key-file"),
        "{}",
        refused.stderr
    );
    let told = run(&[&way[..], &["--api-key-file", &scene.path("key")]].concat()).await;
    assert_eq!(told.status.code(), Some(0), "{}", told.stderr);
    assert!(told.stdout.contains("iris"), "{}", told.stdout);
}

#[tokio::test]
async fn the_description_of_the_paths_says_what_needs_a_key() {
    let scene = Scene::new();
    let (secret, line) = super::scene::key("ops", &["read"], &["*"]);
    scene.write("callers", &line);
    let server = scene
        .serve(&["--callers-file", &scene.path("callers")])
        .await;
    let request = server.request(reqwest::Method::GET, "/openapi.json");
    let document = request.header("x-api-key", &secret).send().await.unwrap();
    let document: Value = document.json().await.unwrap();
    assert_eq!(
        document["components"]["securitySchemes"]["bearer"]["scheme"],
        "bearer"
    );
    assert_eq!(document["security"][1]["key"], serde_json::json!([]));
    let paths = &document["paths"];
    assert_eq!(paths["/health"]["get"]["security"], serde_json::json!([]));
    assert!(paths["/invocations"]["post"].get("security").is_none());
}
