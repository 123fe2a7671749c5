//! The packages in `model-examples/` give the answers that stand beside them.

use rstest::rstest;
use serde_json::Value;

use crate::protocols::json;
use crate::protocols::json::Tolerance;
use crate::support::server::{Server, Starter, project};

fn read(path: &str) -> String {
    std::fs::read_to_string(project().join("model-examples").join(path)).unwrap()
}

fn expected(example: &str) -> Value {
    serde_json::from_str(&read(&format!("{example}/expected.json"))).unwrap()
}

/// Where the package of an example lies; none if it is too large to be committed and was not made yet.
fn package(example: &str) -> Option<String> {
    let committed = format!("model-examples/{example}");
    let made = format!("{committed}/package");
    [committed, made]
        .into_iter()
        .find(|directory| project().join(directory).join("MLmodel").exists())
}

/// The scoring request that the package of an example brings.
pub(crate) fn input_example(example: &str) -> Value {
    let directory = package(example).unwrap();
    let body = project().join(directory).join("serving_input_example.json");
    serde_json::from_str(&std::fs::read_to_string(body).unwrap()).unwrap()
}

/// Serves an example on one engine; none if its package was not made yet.
#[expect(
    clippy::print_stderr,
    reason = "whoever runs the tests learns what was left out"
)]
pub(crate) async fn serving(example: &str, engine: &str) -> Option<Server> {
    let Some(package) = package(example) else {
        // `make test` makes it first: only a quick run by hand may do without.
        assert!(
            std::env::var_os("CI").is_none(),
            "{example} has no package: `make examples` makes it"
        );
        eprintln!("{example} was not tested: `make examples` makes its package");
        return None;
    };
    Some(Server::start(&[&package, "--engine", engine, "--name", example]).await)
}

#[rstest]
#[case::iris_on_tract("iris", "tract", "request.json")]
#[case::iris_on_onnxruntime("iris", "onnxruntime", "request.json")]
#[case::penguins_as_table("penguins", "onnxruntime", "request.json")]
#[case::penguins_as_tensors("penguins", "onnxruntime", "request-inputs.json")]
#[case::diabetes("diabetes", "onnxruntime", "request.json")]
#[case::wine("wine", "onnxruntime", "request.json")]
#[case::spam("spam", "onnxruntime", "request.json")]
#[case::digits_on_tract("digits", "tract", "request.json")]
#[case::digits_on_onnxruntime("digits", "onnxruntime", "request.json")]
#[case::magika_on_tract("magika", "tract", "request.json")]
#[case::magika_on_onnxruntime("magika", "onnxruntime", "request.json")]
#[tokio::test]
async fn answers_as_expected(#[case] example: &str, #[case] engine: &str, #[case] request: &str) {
    let Some(server) = serving(example, engine).await else {
        return;
    };
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
#[case::iris("iris", "tract", 3)]
#[case::penguins("penguins", "onnxruntime", 3)]
#[case::diabetes("diabetes", "onnxruntime", 5)]
#[case::wine("wine", "onnxruntime", 5)]
#[case::spam("spam", "onnxruntime", 3)]
#[case::digits("digits", "tract", 3)]
#[case::magika("magika", "onnxruntime", 2)]
#[tokio::test]
async fn own_input_example_gets_an_answer(
    #[case] example: &str,
    #[case] engine: &str,
    #[case] rows: usize,
) {
    let Some(server) = serving(example, engine).await else {
        return;
    };
    let body = input_example(example).to_string();
    let (status, answer) = server.post_json("/invocations", body).await;
    assert_eq!(status, 200, "{answer}");
    let outputs = match &answer["predictions"] {
        Value::Object(outputs) => outputs.values().collect(),
        rows => vec![rows],
    };
    for output in outputs {
        assert_eq!(output.as_array().unwrap().len(), rows, "{answer}");
    }
}

#[rstest]
#[case::penguins("penguins", &["OneHotEncoder", "Imputer", "Scaler"])]
#[case::diabetes("diabetes", &["TreeEnsembleRegressor"])]
#[case::wine("wine", &["ZipMap"])]
#[case::spam("spam", &["com.microsoft.Tokenizer", "StringNormalizer", "TfIdfVectorizer"])]
#[tokio::test]
async fn tract_names_the_operators_that_it_lacks(
    #[case] example: &str,
    #[case] operators: &[&str],
) {
    let directory = format!("model-examples/{example}");
    let starter = Starter::serve(&[&directory, "--engine", "tract"]);
    let Err(ended) = starter.try_start().await else {
        panic!("tract lacks {operators:?}, but the server serves");
    };
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    for operator in operators {
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
