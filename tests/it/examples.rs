//! The packages in `model-examples/` give the answers that stand beside them.

use rstest::rstest;
use serde_json::Value;

use crate::json::{self, Tolerance};
use crate::server::{Server, Starter, project};

fn read(path: &str) -> String {
    std::fs::read_to_string(project().join("model-examples").join(path)).unwrap()
}

fn expected(example: &str) -> Value {
    serde_json::from_str(&read(&format!("{example}/expected.json"))).unwrap()
}

#[rstest]
#[case::iris_on_tract("iris", "tract", "request.json")]
#[case::iris_on_onnxruntime("iris", "onnxruntime", "request.json")]
#[case::penguins_as_table("penguins", "onnxruntime", "request.json")]
#[case::penguins_as_tensors("penguins", "onnxruntime", "request-inputs.json")]
#[tokio::test]
async fn answers_as_expected(#[case] example: &str, #[case] engine: &str, #[case] request: &str) {
    let server = Server::start(&[&format!("model-examples/{example}"), "--engine", engine]).await;
    let (status, answer) = server
        .post_json("/invocations", read(&format!("{example}/{request}")))
        .await;
    assert_eq!(status, 200, "{answer}");
    let tolerance = Tolerance {
        relative: 1e-5,
        absolute: 1e-5,
    };
    assert_eq!(
        json::difference(&expected(example), &answer, tolerance),
        None,
        "{answer}"
    );
}

#[rstest]
#[case::iris("iris", "tract")]
#[case::penguins("penguins", "onnxruntime")]
#[tokio::test]
async fn own_input_example_gets_an_answer(#[case] example: &str, #[case] engine: &str) {
    let server = Server::start(&[&format!("model-examples/{example}"), "--engine", engine]).await;
    let body = read(&format!("{example}/serving_input_example.json"));
    let (status, answer) = server.post_json("/invocations", body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["predictions"]["label"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn tract_names_the_operators_of_penguins_that_it_lacks() {
    let starter = Starter::serve(&["model-examples/penguins", "--engine", "tract"]);
    let Err(ended) = starter.try_start().await else {
        panic!("tract has no `OneHotEncoder`, but the server serves");
    };
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    for operator in ["OneHotEncoder", "Imputer", "Scaler"] {
        assert!(
            ended.stderr.contains(operator),
            "{operator} is not named:\n{}",
            ended.stderr
        );
    }
}

#[tokio::test]
async fn sigterm_ends_the_server_in_good_order() {
    let server = Server::start(&["model-examples/iris", "--engine", "tract"]).await;
    let ended = server.terminate().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
}

#[tokio::test]
async fn the_printed_request_works_as_it_stands() {
    let server = Server::start(&["model-examples/iris", "--engine", "tract"]).await;
    let block = server.stdout();
    let body = block
        .split_once("-d '")
        .and_then(|(_, rest)| rest.split_once('\''))
        .map(|(body, _)| body.to_owned());
    let body = body.unwrap_or_else(|| panic!("no `-d '…'` in the block:\n{block}"));
    let (status, answer) = server.post_json("/invocations", body).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn a_relative_path_counts_from_the_working_directory() {
    let starter = Starter::serve(&["iris", "--engine", "tract"]);
    let server = starter
        .directory(&project().join("model-examples"))
        .start()
        .await;
    assert_eq!(server.get("/ping").await.status(), 200);
}

#[tokio::test]
async fn help_goes_to_stdout_and_is_no_failure() {
    let ended = Starter::command(&["serve", "--help"]).run().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("--engine"), "{}", ended.stdout);
}
