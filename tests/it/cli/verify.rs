//! `onstage predict`, `onstage verify` and `onstage diff` on real packages and engines.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rstest::rstest;
use serde_json::Value;

use crate::support::server::{Ended, Server, Starter, project};

async fn onstage(arguments: &[&str]) -> Ended {
    Starter::command(arguments).with_onnxruntime().run().await
}

async fn json(arguments: &[&str]) -> (Option<i32>, Value) {
    let ended = onstage(&[arguments, &["--json"]].concat()).await;
    let report = serde_json::from_str(&ended.stdout);
    (ended.status.code(), report.expect(&ended.stderr))
}

/// A package like one of the examples, to be changed.
fn copy(example: &str, to: &Path) {
    for entry in fs::read_dir(project().join("model-examples").join(example)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[rstest]
#[case::json_on_tract("iris", "tract", "request.json", "application/json")]
#[case::json_on_onnxruntime("penguins", "onnxruntime", "request.json", "application/json")]
#[case::tensors("penguins", "onnxruntime", "request-inputs.json", "application/json")]
#[tokio::test]
async fn predict_answers_byte_by_byte_as_the_server(
    #[case] example: &str,
    #[case] engine: &str,
    #[case] request: &str,
    #[case] content_type: &str,
) {
    let package = format!("model-examples/{example}");
    let file = format!("{package}/{request}");
    let server = Server::start(&[&package, "--engine", engine]).await;
    let body = fs::read_to_string(project().join(&file)).unwrap();
    let served = server.post("/invocations", content_type, body).await;
    let served = served.text().await.unwrap();
    let predicted = onstage(&["predict", &package, "-i", &file, "--engine", engine]).await;
    assert_eq!(predicted.status.code(), Some(0), "{}", predicted.stderr);
    assert_eq!(predicted.stdout, served);
    assert_eq!(predicted.stderr, "");
}

#[tokio::test]
async fn a_locale_that_the_system_lacks_is_told_with_what_to_do() {
    let model = "tests/models/other_locale.onnx";
    let request = "model-examples/iris/request.json";
    let ended = onstage(&["predict", model, "-i", request, "--engine", "onnxruntime"]).await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stdout);
    let told = &ended.stderr;
    assert!(
        told.contains("no locale `xx_YY.UTF-8`, which `StringNormalizer` needs"),
        "{told}"
    );
    assert!(
        told.contains("export the model with the attribute"),
        "{told}"
    );
}

#[tokio::test]
async fn predict_reads_csv_by_extension_and_writes_the_whole_file() {
    let directory = tempfile::tempdir().unwrap();
    let (body, answer) = (
        directory.path().join("body.csv"),
        directory.path().join("answer.json"),
    );
    fs::write(&body, "a,b\n1.5,2.5\n3.5,4.5\n").unwrap();
    fs::write(&answer, "an older and much longer answer that must be gone").unwrap();
    let arguments = [
        "predict",
        "tests/models/twice_float64.onnx",
        "-i",
        body.to_str().unwrap(),
        "-o",
        answer.to_str().unwrap(),
        "--engine",
        "tract",
    ];
    let ended = onstage(&arguments).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    let written: Value = serde_json::from_str(&fs::read_to_string(&answer).unwrap()).unwrap();
    let rows = written["predictions"].as_array().unwrap();
    assert!(rows.len() > 1 && rows[0]["y"].is_f64(), "{written}");
    let left = fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 2, "no temporary file is left");
}

#[test]
fn predict_reads_stdin() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_onstage"))
        .args([
            "predict",
            "model-examples/iris",
            "-i",
            "-",
            "--engine",
            "tract",
        ])
        .current_dir(project())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin
        .write_all(br#"{"inputs": [[5.1, 3.5, 1.4, 0.2]]}"#)
        .unwrap();
    drop(stdin);
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success());
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["predictions"]["label"], serde_json::json!([0]));
}

#[tokio::test]
async fn what_the_server_refuses_predict_refuses_in_the_same_words() {
    let body = "{\"inputs\": [[1.0]]}";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("body.json");
    fs::write(&file, body).unwrap();
    let package = "model-examples/iris";
    let server = Server::start(&[package, "--engine", "tract"]).await;
    let (status, served) = server.post_json("/invocations", body.to_owned()).await;
    assert_eq!(status, 400);
    let file = file.to_str().unwrap();
    let refused = onstage(&["predict", package, "-i", file, "--engine", "tract"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(refused.stdout, "");
    let message = served["message"].as_str().unwrap();
    assert_eq!(refused.stderr, format!("error: {message}\n"));
}

#[tokio::test]
async fn verify_holds_both_engines_against_each_other_and_the_recorded_answer() {
    let (code, report) = json(&["verify", "model-examples/iris"]).await;
    assert_eq!(code, Some(0), "{report}");
    let requests = report["requests"].as_array().unwrap();
    let compared: Vec<String> = requests
        .iter()
        .flat_map(|request| request["comparisons"].as_array().unwrap())
        .map(|one| format!("{} {}", one["engine"], one["with"]).replace('"', ""))
        .collect();
    let expected = [
        "classic onnxruntime",
        "tract onnxruntime",
        "onnxruntime expected.json",
        "classic onnxruntime",
        "classic expected.json",
        "tract onnxruntime",
        "tract expected.json",
        // Random, large and missing values.
        "classic onnxruntime",
        "tract onnxruntime",
        "classic onnxruntime",
        "tract onnxruntime",
        "classic onnxruntime",
        "tract onnxruntime",
    ];
    assert_eq!(compared, expected);
}

#[tokio::test]
async fn every_example_passes() {
    let mut passed = Vec::new();
    for entry in fs::read_dir(project().join("model-examples")).unwrap() {
        let package = entry.unwrap().path();
        if package.join("MLmodel").exists() {
            let ended = onstage(&["verify", package.to_str().unwrap()]).await;
            assert_eq!(
                ended.status.code(),
                Some(0),
                "{}{}",
                ended.stdout,
                ended.stderr
            );
            passed.push(package);
        }
    }
    assert!(passed.len() > 1, "{passed:?}");
}

#[tokio::test]
async fn numbers_that_json_lacks_do_not_hide_an_answer() {
    let directory = tempfile::tempdir().unwrap();
    copy("iris", directory.path());
    let (request, expected) = ("request.json", "expected.json");
    fs::write(
        directory.path().join(request),
        r#"{"inputs": [[null, 1.0, 1.0, 1.0]]}"#,
    )
    .unwrap();
    fs::remove_file(directory.path().join(expected)).unwrap();
    let package = directory.path().to_str().unwrap();
    let file = directory.path().join(request);
    let bare = |arguments: &[&str]| {
        let command = Starter::command(arguments).env("ONSTAGE_SERVER__NONFINITE", "bare");
        command.with_onnxruntime().run()
    };
    let answer = bare(&["predict", package, "-i", file.to_str().unwrap()]).await;
    assert!(answer.stdout.contains("NaN"), "{}", answer.stdout);
    let ended = bare(&["verify", package, "--json"]).await;
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let engines = report["requests"][1]["engines"].as_array().unwrap();
    assert_eq!(engines.len(), 3, "{report}");
}

#[tokio::test]
async fn verify_passes_with_one_engine_unless_the_other_one_is_required() {
    let package = "model-examples/penguins";
    let (code, report) = json(&["verify", package]).await;
    assert_eq!(code, Some(0), "{report}");
    let engines = report["engines"].as_array().unwrap();
    let tract = { engines.iter() }
        .find(|engine| engine["engine"] == "tract")
        .unwrap();
    assert_eq!(tract["outcome"], "unsupported");
    assert!(
        tract["reason"].as_str().unwrap().contains("Imputer"),
        "{tract}"
    );
    let (code, report) = json(&["verify", package, "--engine", "tract"]).await;
    assert_eq!((code, &report["passed"]), (Some(1), &Value::Bool(false)));
}

#[tokio::test]
async fn verify_fails_when_the_recorded_answer_is_another() {
    let directory = tempfile::tempdir().unwrap();
    copy("iris", directory.path());
    let expected = directory.path().join("expected.json");
    let text = fs::read_to_string(&expected).unwrap();
    fs::write(&expected, text.replacen("0.9784", "0.9794", 1)).unwrap();
    let package = directory.path().to_str().unwrap();
    let ended = onstage(&["verify", package]).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.stderr.contains(
            "onnxruntime differs from expected.json on request.json: probabilities[0][0] is"
        ),
        "{}",
        ended.stderr
    );
    let wide = onstage(&["verify", package, "--tolerance", "0.01"]).await;
    assert_eq!(wide.status.code(), Some(0), "{}", wide.stderr);
}

#[tokio::test]
async fn verify_asks_with_zeros_where_there_is_no_example() {
    let (code, report) = json(&["verify", "model-examples/iris/model.onnx"]).await;
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["requests"][0]["request"], "zeros");
    assert!(report["notes"][0].as_str().unwrap().contains("zeros"));
}

#[tokio::test]
async fn diff_tells_how_far_each_column_moved() {
    let data = "model-examples/iris/request.json";
    let arguments = [
        "diff",
        "model-examples/iris",
        "model-examples/iris/model.onnx",
        "--data",
        data,
    ];
    let (code, report) = json(&arguments).await;
    assert_eq!(code, Some(0), "{report}");
    let outputs = report["answers"]["outputs"].as_array().unwrap();
    let names: Vec<&str> = outputs
        .iter()
        .map(|one| one["output"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "label",
            "probabilities[0]",
            "probabilities[1]",
            "probabilities[2]"
        ]
    );
    assert!(
        report["changes"][0]["message"]
            .as_str()
            .unwrap()
            .contains("the graphs were compared")
    );
}

#[tokio::test]
async fn diff_fails_when_the_new_version_refuses_what_the_old_one_answers() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("body.json");
    fs::write(&data, "{\"inputs\": [[\"a\", \"b\"]]}").unwrap();
    let arguments = [
        "diff",
        "tests/models/twice_str.onnx",
        "tests/models/twice_float32.onnx",
        "--data",
        data.to_str().unwrap(),
    ];
    let ended = onstage(&arguments).await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stdout);
    assert!(
        ended.stderr.contains("it does not answer the data"),
        "{}",
        ended.stderr
    );
}
