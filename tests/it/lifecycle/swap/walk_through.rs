//! The walk-through with MLflow of `docs/tutorials/follow-a-registry.md`, as it is written.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::scene::until;
use crate::support::mlflow_server::{MlflowServer, python};
use crate::support::server::{Server, Starter, project};

/// The lines that the section tells the reader to type.
fn typed() -> Vec<String> {
    let page =
        std::fs::read_to_string(project().join("docs/tutorials/follow-a-registry.md")).unwrap();
    let (_, section) = page.split_once("## A walk-through with MLflow").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let lines = section.lines().filter_map(|line| line.strip_prefix("$ "));
    lines.map(str::to_owned).collect()
}

/// Types a line into a shell in which `onstage` and `python` are those of the tests.
async fn type_in(line: &str, server: Option<&Server>, mlflow: &MlflowServer) -> String {
    let binary = env!("CARGO_BIN_EXE_onstage");
    let port = server.map_or(8080, |server| server.address().port());
    let line = line.replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"));
    let functions = format!(
        "onstage() {{ '{binary}' \"$@\"; }}; python() {{ '{}' \"$@\"; }}; {line}",
        python().display()
    );
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-ec", &functions])
        .current_dir(project())
        .env("MLFLOW_TRACKING_URI", &mlflow.url)
        .env("ONSTAGE_SERVER__PORT", port.to_string())
        .env("TMPDIR", directory.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(180), output);
    let output = output.await.expect("it ends").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test]
async fn the_walk_through_of_the_documentation_ends_with_the_new_version_on_stage() {
    let mlflow = MlflowServer::start("", &[], &[]).await;
    let mut server = None;
    let mut last = String::new();
    for line in typed() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            // What the tests have done already.
            ["pip", "install", ..] | ["mlflow", "server", ..] => {}
            ["export", variable] => {
                assert_eq!(*variable, "MLFLOW_TRACKING_URI=http://127.0.0.1:5000");
            }
            ["onstage", "serve", arguments @ ..] => {
                let serve = Starter::serve(arguments).env("MLFLOW_TRACKING_URI", &mlflow.url);
                server = Some(serve.start().await);
            }
            // A package is written where the reader is; here that is the project.
            ["python", script, rest @ ..] if script.ends_with("train.py") => {
                let output = tempfile::tempdir().unwrap();
                let output = output.path().join("package");
                let line = format!(
                    "python {script} --output '{}' {}",
                    output.display(),
                    rest.join(" ")
                );
                type_in(&line, server.as_ref(), &mlflow).await;
            }
            _ => last = type_in(&line, server.as_ref(), &mlflow).await,
        }
        if line.ends_with("champion 2") {
            let server = server.as_ref().unwrap();
            until("version 2 is never served", server, async || {
                super::scene::loaded(server).await.contains(&2)
            })
            .await;
        }
    }
    assert!(last.contains("x-model-version: 2"), "{last}");
}
