//! The commands that ask a running server, and the repository's index that they read.

use serde_json::{Value, json};

use crate::support::server::{Ended, Server, Starter};

async fn iris() -> Server {
    Server::start(&["model-examples/iris", "--engine", "tract"]).await
}

async fn run(arguments: &[&str], server: &Server) -> Ended {
    // A proxy that is not there: whoever asked it would fail.
    Starter::command(arguments)
        .env("ONSTAGE_SERVER__PORT", server.address().port().to_string())
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .env("http_proxy", "http://127.0.0.1:9")
        .run()
        .await
}

/// An address where nobody listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn the_index_lists_each_version_with_its_state() {
    let server = iris().await;
    let row = json!({ "name": "iris", "version": "1", "state": "READY", "reason": "" });
    for body in ["", "{}", r#"{"ready": true}"#] {
        let answer = server.post_json("/v2/repository/index", body).await;
        assert_eq!(answer, (200, json!([row])), "{body}");
    }
    let (status, answer) = server.post_json("/v2/repository/index", "[").await;
    assert_eq!(status, 400, "{answer}");
    assert_eq!(server.get("/v2/repository/index").await.status(), 405);
}

#[tokio::test]
async fn health_ends_with_0_when_the_server_is_ready_or_alive() {
    let server = iris().await;
    let ready = run(&["health"], &server).await;
    assert_eq!(ready.status.code(), Some(0), "{}", ready.stderr);
    assert_eq!(ready.stdout, "ready\n");
    let url = server.url("/");
    let live = run(&["health", "--live", "--url", &url], &server).await;
    assert_eq!(live.status.code(), Some(0), "{}", live.stderr);
    assert_eq!(live.stdout, "live\n");
}

#[tokio::test]
async fn health_ends_with_1_and_one_line_where_nobody_answers() {
    let url = nowhere();
    let ended = Starter::command(&["health", "--url", &url]).run().await;
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(ended.stdout, "");
    let expected = format!("error: no answer from `{url}`: ");
    assert!(ended.stderr.starts_with(&expected), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[tokio::test]
async fn health_gives_a_server_that_hangs_two_seconds() {
    // Connections are taken by the operating system, and nobody answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let started = tokio::time::Instant::now();
    let ended = Starter::command(&["health", "--url", &url]).run().await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.stderr.contains("no answer in time"),
        "{}",
        ended.stderr
    );
    assert!(started.elapsed().as_secs() >= 2);
}

#[tokio::test]
async fn health_follows_a_base_path() {
    let arguments = [
        "model-examples/iris",
        "--engine",
        "tract",
        "--base-path",
        "/ml",
    ];
    let server = Server::start(&arguments).await;
    let without = run(&["health"], &server).await;
    assert_eq!(without.status.code(), Some(1));
    assert!(without.stderr.contains("404"), "{}", without.stderr);
    let with = run(&["health", "--url", &server.url("/ml")], &server).await;
    assert_eq!(with.status.code(), Some(0), "{}", with.stderr);
}

#[tokio::test]
async fn status_shows_the_models_of_a_server() {
    let server = iris().await;
    let text = run(&["status"], &server).await;
    assert_eq!(text.status.code(), Some(0), "{}", text.stderr);
    let expected = format!(
        "onstage {} at {}: ready\n  model  version  state  reason\n  iris   1        READY\n",
        env!("CARGO_PKG_VERSION"),
        server.url("")
    );
    assert_eq!(text.stdout, expected);
    let json = run(&["status", "--json"], &server).await;
    let report: Value = serde_json::from_str(&json.stdout).unwrap();
    let expected = json!({
        "url": server.url(""),
        "server": "onstage",
        "version": env!("CARGO_PKG_VERSION"),
        "ready": true,
        "models": [{ "name": "iris", "version": "1", "state": "READY", "reason": "" }],
    });
    assert_eq!(report, expected);
}

#[tokio::test]
async fn status_says_what_does_not_answer_and_what_to_do() {
    let url = nowhere();
    let ended = Starter::command(&["status", "--url", &url]).run().await;
    assert_eq!(ended.status.code(), Some(1));
    let text = ended.stderr.replace(&url, "URL");
    assert!(text.starts_with("error: no answer from `URL`: "), "{text}");
    assert!(
        text.ends_with(
            "hint: is `onstage serve` running there? name another server with `--url`\n"
        ),
        "{text}"
    );
    let server = iris().await;
    let url = server.url("/invocations");
    let other = Starter::command(&["status", "--url", &url]).run().await;
    assert_eq!(other.status.code(), Some(1));
    assert!(other.stderr.contains("status 404"), "{}", other.stderr);
}

#[test]
fn bash_accepts_its_script() {
    let binary = env!("CARGO_BIN_EXE_onstage");
    let script = format!("'{binary}' completions bash | bash -n");
    let output = std::process::Command::new("bash")
        .args(["-o", "pipefail", "-c", &script])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}
