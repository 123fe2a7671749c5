//! The proof that rows are independent, held against ONNX Runtime: `tests/rows` makes the graphs and tries to refute it.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use onstage::model::{Graph, RowProof};
use serde_json::Value;
use tokio::process::Command;

use crate::support::mlflow_server::python;
use crate::support::server::project;

/// The share of onnx's really independent node models that must be proven.
const NODE_MODELS: f64 = 0.6;

async fn run(script: &str, arguments: &[&str]) -> String {
    let output = Command::new(python())
        .arg("-B")
        .arg(project().join("tests/rows").join(script))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{script} {arguments:?}\n{text}\n{errors}"
    );
    text
}

/// What the analysis says of each graph of the corpus, one JSON object in each line.
fn verdicts(corpus: &Path) -> String {
    let index: Value =
        serde_json::from_slice(&std::fs::read(corpus.join("corpus.json")).unwrap()).unwrap();
    let mut lines = String::new();
    for graph in index["graphs"].as_array().unwrap() {
        let file = graph["file"].as_str().unwrap();
        let (independent, reason) = match Graph::read(&corpus.join(file)).map(|graph| graph.rows) {
            Ok(RowProof::Independent) => (true, String::new()),
            Ok(RowProof::Unproven(reason)) => (false, reason),
            Err(error) => (false, error.to_string()),
        };
        let line = serde_json::json!({"file": file, "independent": independent, "reason": reason});
        let _ = writeln!(lines, "{line}");
    }
    lines
}

/// No graph that is called independent answers a row otherwise when others are there; and few are not proven that could be.
#[tokio::test]
async fn what_is_proven_holds_on_onnx_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let corpus = directory.path().join("corpus");
    let census = project().join("tests/models/census");
    let examples = project().join("model-examples");
    let [corpus_text, census, examples] =
        [&corpus, &census, &examples].map(|path| path.to_str().unwrap().to_owned());
    run(
        "generate.py",
        &[
            "--out",
            &corpus_text,
            "--census",
            &census,
            "--packages",
            &examples,
        ],
    )
    .await;
    let file = directory.path().join("verdicts.jsonl");
    std::fs::write(&file, verdicts(&corpus)).unwrap();
    let figures = directory.path().join("figures.json");
    let files = [&file, &figures].map(|path| path.to_str().unwrap().to_owned());
    run(
        "check.py",
        &[
            "--corpus",
            &corpus_text,
            "--verdicts",
            &files[0],
            "--json",
            &files[1],
        ],
    )
    .await;
    let figures: Value = serde_json::from_slice(&std::fs::read(&figures).unwrap()).unwrap();
    let share = |origin: &str| figures["shares"][origin]["share"].as_f64().unwrap();
    assert!(share("node") >= NODE_MODELS, "{figures}");
    assert_eq!([share("census"), share("example")], [1.0; 2], "{figures}");
}

/// The nets that the benches measure, which stand for what people serve.
#[tokio::test]
async fn nets_of_the_benches_are_proven() {
    let directory = tempfile::tempdir().unwrap();
    let script = project().join("benches/harness/models.py");
    for net in ["minilm", "mobilenet", "resnet"] {
        let mut command = Command::new(python());
        let status = command
            .arg("-B")
            .arg(&script)
            .arg(net)
            .arg(directory.path())
            .status()
            .await
            .unwrap();
        assert!(status.success());
        let graph = Graph::read(&directory.path().join(format!("{net}-1.onnx"))).unwrap();
        assert_eq!(graph.rows, RowProof::Independent, "{net}");
    }
}
