//! The command that `serve` prints to be pasted: a shell runs it, and the model answers.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rstest::rstest;
use tokio::process::Command;

use crate::support::server::{Server, Starter, onnxruntime, project};

/// What is printed from here on; `None` where there is nothing to paste.
async fn printed(server: &Server) -> Option<String> {
    // It comes in one piece, and the pipe may cut it.
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let block = server.stdout();
        if let Some((_, command)) = block.split_once("Try it:\n")
            && command.ends_with("\n\n")
        {
            return Some(command.trim().to_owned());
        }
        if block.contains("Nothing to try") {
            return None;
        }
        assert!(tokio::time::Instant::now() < until, "{block}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The status that the command gets, and the answer.
async fn run(command: &str) -> (String, String) {
    let curl = "curl -s -w '\\n%{http_code}' ";
    let command = command.replacen("curl ", curl, 1);
    let directory = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    let shell = shell.args(["-c", &command]).current_dir(directory.path());
    let ran = shell.output().await.unwrap();
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    let (answer, status) = text.rsplit_once('\n').expect(&command);
    (status.to_owned(), answer.to_owned())
}

async fn is_answered(server: &Server) -> String {
    let command = printed(server)
        .await
        .unwrap_or_else(|| panic!("{}", server.stdout()));
    let (status, answer) = run(&command).await;
    assert_eq!(status, "200", "{command}\n{answer}");
    command
}

async fn serve(path: &Path, more: &[&str]) -> Server {
    let path = path.to_str().unwrap();
    let starter = Starter::serve(&[&[path], more].concat());
    starter.env("ORT_DYLIB_PATH", onnxruntime()).start().await
}

/// Scalars, several inputs, texts, booleans, every type of numbers, maps, fixed shapes, open ranks.
#[rstest]
#[case::one_input("add")]
#[case::open_rank("any_rank")]
#[case::numbers_of_rows("gather")]
#[case::bidirectional("lstm_bidirectional")]
#[case::no_batch("lstm_reverse")]
#[case::passthrough("passthrough")]
#[case::scalar("scalar")]
#[case::image("image")]
#[case::texts("twice_str")]
#[case::booleans("twice_bool")]
#[case::half("twice_float16")]
#[case::brain("twice_bfloat16")]
#[case::double("twice_float64")]
#[case::unsigned("twice_uint64")]
#[case::small("twice_int8")]
#[case::unnamed_dims("unnamed_dims")]
#[case::maps("zip_map_text")]
#[case::trees("trees_three_classes")]
#[case::branches("if_one_row")]
#[case::loops("loop")]
#[tokio::test]
async fn a_bare_graph_answers_what_was_made_up(#[case] model: &str) {
    let file = project().join(format!("tests/models/{model}.onnx"));
    let server = serve(&file, &[]).await;
    is_answered(&server).await;
    // The same as a package, whose only input has no name.
    let directory = tempfile::tempdir().unwrap();
    let package = directory.path().join("a_package");
    let (from, to) = (file.to_str().unwrap(), package.to_str().unwrap());
    let made = Starter::command(&["package", from, "-o", to]).run().await;
    assert!(made.status.success(), "{}", made.stderr);
    let server = serve(&package, &[]).await;
    is_answered(&server).await;
}

#[rstest]
#[case::tensor("iris")]
#[case::columns("penguins")]
#[tokio::test]
async fn a_package_answers_its_own_example_and_without_it_what_was_made_up(#[case] name: &str) {
    let example = project().join("model-examples").join(name);
    let server = serve(&example, &[]).await;
    let command = is_answered(&server).await;
    assert!(command.contains("/invocations -H"), "{command}");
    let directory = tempfile::tempdir().unwrap();
    let mut manifest = fs::read_to_string(example.join("MLmodel")).unwrap();
    let start = manifest.find("saved_input_example_info:").unwrap();
    let end = manifest.find("\nsignature:").unwrap();
    manifest.replace_range(start..=end, "");
    fs::write(directory.path().join("MLmodel"), manifest).unwrap();
    fs::copy(
        example.join("model.onnx"),
        directory.path().join("model.onnx"),
    )
    .unwrap();
    let server = serve(directory.path(), &["--name", "made_up"]).await;
    assert_ne!(is_answered(&server).await, command);
}

#[tokio::test]
async fn an_example_that_is_refused_is_not_printed() {
    let directory = tempfile::tempdir().unwrap();
    for file in ["MLmodel", "model.onnx", "input_example.json"] {
        let from = project().join("model-examples/iris").join(file);
        fs::copy(from, directory.path().join(file)).unwrap();
    }
    let refused = r#"{"inputs": [[1.5, 2.5]]}"#;
    fs::write(directory.path().join("serving_input_example.json"), refused).unwrap();
    let server = serve(directory.path(), &[]).await;
    let command = is_answered(&server).await;
    assert!(!command.contains("1.5"), "{command}");
}

#[tokio::test]
async fn names_stand_in_paths_as_they_are_where_they_can() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a_b-c.d", "it's 100%"] {
        let place = directory.path().join(name);
        fs::create_dir(&place).unwrap();
        let graph = project().join("model-examples/iris/model.onnx");
        fs::copy(graph, place.join("model.onnx")).unwrap();
    }
    let server = serve(directory.path(), &["--base-path", "/below"]).await;
    let command = is_answered(&server).await;
    assert!(
        command.contains("/below/models/a_b-c.d/invocations"),
        "{command}"
    );
    fs::remove_dir_all(directory.path().join("a_b-c.d")).unwrap();
    // One that does not serve has a name too, so that paths without one mean none of the two.
    fs::create_dir(directory.path().join("broken")).unwrap();
    let server = serve(directory.path(), &[]).await;
    let command = is_answered(&server).await;
    assert!(
        command.contains("/models/it%27s%20100%25/invocations"),
        "{command}"
    );
}

#[tokio::test]
async fn of_several_versions_the_default_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    for (version, model) in [
        ("1", "model-examples/iris/model"),
        ("2", "tests/models/twice_str"),
    ] {
        let place = directory.path().join("m").join(version);
        fs::create_dir_all(&place).unwrap();
        let graph = project().join(format!("{model}.onnx"));
        fs::copy(graph, place.join("model.onnx")).unwrap();
    }
    let server = serve(&directory.path().join("m"), &[]).await;
    let command = is_answered(&server).await;
    assert!(
        command.contains("/invocations") && !command.contains("/models/"),
        "{command}"
    );
}

#[tokio::test]
async fn where_nothing_is_answered_nothing_is_printed() {
    let server = serve(&project().join("tests/models/seven_rows.onnx"), &[]).await;
    assert_eq!(printed(&server).await, None);
}

/// The trial is no request of a client.
#[tokio::test]
async fn what_was_tried_is_not_counted() {
    let graph = project().join("model-examples/iris/model.onnx");
    let server = serve(&graph, &[]).await;
    printed(&server).await.unwrap();
    let statistics = server
        .get("/v2/models/model/stats")
        .await
        .text()
        .await
        .unwrap();
    let statistics: serde_json::Value = serde_json::from_str(&statistics).unwrap();
    assert_eq!(
        statistics["model_stats"][0]["inference_count"], 0,
        "{statistics}"
    );
}
