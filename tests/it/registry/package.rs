//! `onstage package`: what it makes is a package like any other.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::server::{Ended, Server, Starter, project};

const IRIS: &str = "model-examples/iris/model.onnx";
const MLP: &str = "tests/conformance/mlflow/models/mlp10/model.onnx";
const ROWS: &str = "[[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]";

struct Workplace(TempDir);

impl Workplace {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.0.path().join(name), text).unwrap();
        self.path(name)
    }

    /// What is in the directory, hidden files included.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

async fn package(arguments: &[&str]) -> Ended {
    let arguments = [&["package"], arguments].concat();
    Starter::command(&arguments)
        .env("ONSTAGE_ENGINE__DEFAULT", "tract")
        .run()
        .await
}

async fn made(arguments: &[&str]) -> Value {
    let ended = package(&[arguments, &["--json"]].concat()).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

#[tokio::test]
async fn the_package_answers_as_the_example_that_mlflow_made() {
    let place = Workplace::new();
    let (to, example) = (place.path("made"), place.file("rows.json", ROWS));
    let report = made(&[
        IRIS,
        "-o",
        &to,
        "--name",
        "iris",
        "--input-example",
        &example,
    ])
    .await;
    assert_eq!(report["model"], "iris");
    assert_eq!(report["example"]["engine"], "tract");
    let request = json!({ "inputs": serde_json::from_str::<Value>(ROWS).unwrap() }).to_string();
    let mut answers = Vec::new();
    for package in [to.as_str(), "model-examples/iris"] {
        let server = Server::start(&[package, "--engine", "tract"]).await;
        let answer = server
            .post_json("/models/iris/invocations", request.clone())
            .await;
        assert_eq!(answer.0, 200, "{package}: {}", answer.1);
        answers.push(answer.1);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(report["example"]["answer"], answers[0]);
    assert_eq!(place.names(), ["made", "rows.json"]);
}

#[tokio::test]
async fn weights_in_other_files_come_along() {
    let place = Workplace::new();
    let to = place.path("mlp");
    let report = made(&[
        MLP,
        "-o",
        &to,
        "--metadata",
        "owner=us",
        "--metadata",
        "note=a=b",
    ])
    .await;
    assert_eq!(report["model"], "mlp");
    let data = fs::read_dir(&to).unwrap().filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        path.extension()
            .is_some_and(|extension| extension == "data")
    });
    assert_eq!(data.count(), 1);
    let inspected = Starter::command(&["inspect", &to, "--json"]).run().await;
    let inspected: Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!(inspected["digest"], report["digest"]);
    assert_eq!(
        inspected["manifest"]["metadata"],
        json!({ "owner": "us", "note": "a=b" })
    );
}

#[tokio::test]
async fn an_example_that_the_graph_does_not_take_leaves_nothing_behind() {
    let place = Workplace::new();
    let (to, example) = (place.path("made"), place.file("rows.json", "[[1.0, 2.0]]"));
    let ended = package(&[IRIS, "-o", &to, "--input-example", &example]).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended
            .stderr
            .starts_with("error: the input example does not work: "),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("\nhint: "), "{}", ended.stderr);
    assert_eq!(place.names(), ["rows.json"]);
}

#[tokio::test]
async fn only_force_replaces_and_only_a_package() {
    let place = Workplace::new();
    let to = place.path("made");
    made(&[IRIS, "-o", &to]).await;
    let before = fs::read(Path::new(&to).join("MLmodel")).unwrap();
    let refused = package(&[MLP, "-o", &to]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.stderr.contains("exists and is not empty"),
        "{}",
        refused.stderr
    );
    assert_eq!(fs::read(Path::new(&to).join("MLmodel")).unwrap(), before);
    made(&[MLP, "-o", &to, "--force"]).await;
    assert_ne!(fs::read(Path::new(&to).join("MLmodel")).unwrap(), before);
    assert_eq!(place.names(), ["made"]);

    fs::create_dir(place.path("mine")).unwrap();
    place.file("mine/letter.txt", "dear");
    let refused = package(&[IRIS, "-o", &place.path("mine"), "--force"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(Path::new(&place.path("mine/letter.txt")).is_file());
}

#[tokio::test]
async fn an_empty_directory_and_a_missing_parent_are_filled() {
    let place = Workplace::new();
    fs::create_dir(place.path("empty")).unwrap();
    made(&[IRIS, "-o", &place.path("empty")]).await;
    made(&[IRIS, "-o", &place.path("a/b/c")]).await;
    assert!(Path::new(&place.path("a/b/c/MLmodel")).is_file());
    assert!(project().join(IRIS).is_file());
}
