//! What is broken, missing or hostile gets one clear answer: at start on stderr, over HTTP as a 4xx.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use rstest::rstest;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::protocols::http::RawRequest;
use crate::support::onnx;
use crate::support::server::{Server, Starter, project};

/// More than any one request may make the server hold.
const MOST_MEMORY: u64 = 1500 << 20;

/// The tests run an unoptimised binary; what takes longer than this would also be too slow in an optimised one.
const QUICKLY: Duration = Duration::from_secs(30);

/// Where a recorded package is.
fn recorded(model: &str) -> PathBuf {
    let models = project().join("tests/conformance/mlflow/models");
    models.join(model)
}

/// A copy of a recorded package, to be broken.
fn copy(model: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    for entry in std::fs::read_dir(recorded(model)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
    }
    directory
}

/// Changes the manifest of a copied package.
fn edit(package: &Path, change: impl FnOnce(String) -> String) {
    let file = package.join("MLmodel");
    let before = std::fs::read_to_string(&file).unwrap();
    let after = change(before.clone());
    assert_ne!(before, after, "the change must change something");
    std::fs::write(file, after).unwrap();
}

/// Runs a command line that must fail with this exit code and one message, which is given back with its hint.
async fn refused(starter: Starter, code: i32) -> String {
    let ended = starter.run().await;
    let stderr = &ended.stderr;
    assert_eq!(ended.status.code(), Some(code), "{stderr}");
    assert_eq!(ended.stdout, "", "{stderr}");
    for word in ["panicked", "backtrace", "RUST_BACKTRACE"] {
        assert!(!stderr.contains(word), "`{word}` in:\n{stderr}");
    }
    let errors = stderr.lines().filter(|line| line.starts_with("error: "));
    assert_eq!(errors.count(), 1, "one `error:` line is wanted:\n{stderr}");
    let begin = stderr.find("error: ").unwrap();
    stderr[begin..].to_owned()
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in:\n{message}");
    }
}

/// Serves a package that must be refused.
async fn refused_package(package: &Path, engine: &str) -> String {
    let starter = Starter::serve(&[package.to_str().unwrap(), "--engine", engine]);
    refused(starter.with_onnxruntime(), 1).await
}

#[rstest]
#[case::text(b"this is no model".to_vec(), "is a text file")]
#[case::other_bytes(vec![0xff; 500], "is not an ONNX model")]
#[case::empty(Vec::new(), "is empty")]
#[tokio::test]
async fn a_model_file_that_is_none_is_refused(
    #[case] bytes: Vec<u8>,
    #[case] problem: &str,
    #[values("tract", "onnxruntime")] engine: &str,
) {
    let package = copy("iris_logreg");
    std::fs::write(package.path().join("model.onnx"), bytes).unwrap();
    let message = refused_package(package.path(), engine).await;
    assert_says(&message, &["model.onnx", problem]);
}

#[tokio::test]
async fn a_model_file_that_is_cut_off_is_refused() {
    let package = copy("iris_logreg");
    let file = package.path().join("model.onnx");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let message = refused_package(package.path(), "tract").await;
    assert_says(&message, &["model.onnx", "is cut off", "again"]);
}

#[tokio::test]
async fn external_data_that_is_cut_off_is_refused() {
    let package = copy("mlp10");
    let data = "7f3c1d52-6a1e-11ef-9b7c-0123456789ab.data";
    let whole = std::fs::read(package.path().join(data)).unwrap();
    std::fs::write(package.path().join(data), &whole[..whole.len() - 1]).unwrap();
    let message = refused_package(package.path(), "tract").await;
    assert_says(&message, &[data, "bytes", "copy it again"]);
}

#[tokio::test]
async fn external_data_that_is_missing_is_refused() {
    let package = copy("mlp10");
    let data = "7f3c1d52-6a1e-11ef-9b7c-0123456789ab.data";
    std::fs::remove_file(package.path().join(data)).unwrap();
    let message = refused_package(package.path(), "tract").await;
    assert_says(&message, &[data, "is missing"]);
}

#[rstest]
#[case::absolute("absolute")]
#[case::above("above")]
#[case::linked("linked")]
#[tokio::test]
async fn external_data_outside_of_the_package_is_refused(
    #[case] way: &str,
    #[values("tract", "onnxruntime")] engine: &str,
) {
    let directory = TempDir::new().unwrap();
    let package = directory.path().join("package");
    std::fs::create_dir(&package).unwrap();
    let secret = directory.path().join("secret.data");
    std::fs::write(&secret, [0; 8]).unwrap();
    let location = match way {
        "absolute" => secret.to_str().unwrap(),
        "above" => "../secret.data",
        _ => "bias.data",
    };
    if way == "linked" {
        symlink(&secret, package.join(location)).unwrap();
    }
    onnx::save(
        &onnx::with_external_data(location),
        &package.join("model.onnx"),
    );
    let message = refused_package(&package, engine).await;
    let wanted = "a package may use only files inside its own directory";
    assert_says(&message, &["external data", location, wanted]);
}

#[tokio::test]
async fn external_data_inside_of_the_package_is_served() {
    let package = TempDir::new().unwrap();
    let numbers = [1.5f32.to_le_bytes(), (-1f32).to_le_bytes()].concat();
    std::fs::write(package.path().join("bias.data"), numbers).unwrap();
    let file = package.path().join("sum.onnx");
    onnx::save(&onnx::with_external_data("bias.data"), &file);
    let server = Server::start(&[file.to_str().unwrap(), "--engine", "tract"]).await;
    let (status, answer) = server
        .post_json("/invocations", r#"{"inputs": [[1.0, 1.0]]}"#)
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        answer["predictions"]["y"],
        serde_json::json!([[2.5, 0.0]]),
        "{answer}"
    );
}

#[tokio::test]
async fn a_manifest_without_flavors_is_refused() {
    let package = copy("iris_logreg");
    edit(package.path(), |text| text.replace("flavors:", "flavours:"));
    let message = refused_package(package.path(), "tract").await;
    assert_says(&message, &["MLmodel", "names no flavors", "`flavors.onnx`"]);
}

#[tokio::test]
async fn a_manifest_that_is_no_yaml_is_refused() {
    let package = copy("iris_logreg");
    std::fs::write(package.path().join("MLmodel"), "flavors: [").unwrap();
    let message = refused_package(package.path(), "tract").await;
    assert_says(&message, &["MLmodel", "is not a valid `MLmodel` file"]);
}

#[tokio::test]
async fn a_model_that_only_python_can_load_is_refused() {
    let package = copy("iris_logreg");
    edit(package.path(), |text| {
        text.replace(
            "loader_module: mlflow.onnx",
            "loader_module: mlflow.sklearn",
        )
    });
    let message = refused_package(package.path(), "tract").await;
    assert_says(&message, &["mlflow.sklearn", "mlflow.onnx"]);
}

#[tokio::test]
async fn every_command_ends_with_the_one_that_converts_the_package() {
    let directory = TempDir::new().unwrap();
    let package = directory.path().join("my model");
    std::fs::create_dir(&package).unwrap();
    let manifest = "flavors: {sklearn: {}, python_function: {loader_module: mlflow.sklearn}}";
    std::fs::write(package.join("MLmodel"), manifest).unwrap();
    let path = package.to_str().unwrap();
    let registry = directory.path().to_str().unwrap();
    let wanted = format!("`onstage-convert '{path}' -o '{path}-onnx'`");
    let commands: [&[&str]; 6] = [
        &["serve", path],
        &["inspect", path],
        &["verify", path],
        &["predict", path, "-i", "/dev/null"],
        &["diff", path, path],
        &["registry", "register", "m", path, "--registry", registry],
    ];
    for arguments in commands {
        let ended = Starter::command(arguments).run().await;
        assert_eq!(
            ended.status.code(),
            Some(1),
            "{arguments:?}: {}",
            ended.stderr
        );
        let last = ended.stderr.trim_end();
        assert!(last.ends_with(&wanted), "{arguments:?}: {last}");
    }
}

#[rstest]
#[case::dtype("float32", "str", "dtype `str`")]
#[case::rank("[-1, 4]", "[-1, 4, 4]", "shape [-1, 4, 4]")]
#[case::size("[-1, 4]", "[-1, 5]", "shape [-1, 5]")]
#[tokio::test]
async fn a_signature_that_contradicts_the_graph_is_refused(
    #[case] from: &str,
    #[case] to: &str,
    #[case] found: &str,
) {
    let package = copy("iris_logreg");
    edit(package.path(), |text| text.replacen(from, to, 1));
    let message = refused_package(package.path(), "tract").await;
    let wanted = [
        "the signature contradicts the graph",
        found,
        "log the model again",
    ];
    assert_says(&message, &wanted);
}

#[tokio::test]
async fn a_path_that_is_not_there_is_named_with_the_one_beside_it() {
    let starter = Starter::serve(&["model-examples/irsi", "--engine", "tract"]);
    let message = refused(starter, 1).await;
    let wanted = [
        "`model-examples/irsi` does not exist",
        "did you mean `model-examples/iris`?",
    ];
    assert_says(&message, &wanted);
}

#[tokio::test]
async fn a_file_or_directory_that_is_no_model_is_refused() {
    let starter = Starter::serve(&["Cargo.toml"]);
    assert_says(
        &refused(starter, 1).await,
        &["`Cargo.toml` is no model", "MLmodel"],
    );
    let starter = Starter::serve(&["src"]);
    assert_says(
        &refused(starter, 1).await,
        &["`src` holds no model", "MLmodel"],
    );
}

#[rstest]
#[case::http("--port", "--grpc-port")]
#[case::grpc("--grpc-port", "--port")]
#[tokio::test]
async fn a_port_in_use_is_named(#[case] taken: &str, #[case] free: &str) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let arguments = [
        "serve",
        "model-examples/iris",
        "--engine",
        "tract",
        taken,
        &port,
        free,
        "0",
    ];
    let message = refused(Starter::command(&arguments), 1).await;
    let address = format!("`127.0.0.1:{port}`");
    assert_says(&message, &[&address, &format!("`{taken}`"), "in use"]);
}

#[tokio::test]
async fn an_unknown_engine_is_usage_as_flag_and_configuration_elsewhere() {
    let known = ["`onnx`", "tract", "onnxruntime"];
    let starter = Starter::serve(&["model-examples/iris", "--engine", "onnx"]);
    let message = refused(starter, 2).await;
    assert_says(&message, &known);
    assert_says(&message, &["--engine"]);
    let starter = Starter::serve(&["model-examples/iris"]).env("ONSTAGE_ENGINE__DEFAULT", "onnx");
    let message = refused(starter, 78).await;
    assert_says(&message, &known);
    assert_says(&message, &["ONSTAGE_ENGINE__DEFAULT"]);
}

#[rstest]
#[case::auto("auto")]
#[case::named("onnxruntime")]
#[tokio::test]
async fn a_library_that_is_not_there_is_not_passed_over(#[case] engine: &str) {
    // One that the classic engine does not take: then nobody needs the library.
    let arguments = [
        "model-examples/digits",
        "--engine",
        engine,
        "--libonnxruntime",
        "/nope/libonnxruntime.so",
    ];
    let message = refused(Starter::serve(&arguments), 1).await;
    assert_says(
        &message,
        &["there is no library at", "/nope/libonnxruntime.so"],
    );
}

#[tokio::test]
async fn tract_names_the_operators_that_it_lacks_and_what_to_install() {
    let package = recorded("churn_cols");
    let message = refused_package(&package, "tract").await;
    assert_says(
        &message,
        &["tract", "OneHotEncoder", "churn_cols", "onnxruntime"],
    );
}

/// A server with one tensor model, one column model and one of several inputs.
async fn server() -> Server {
    let models = ["iris_logreg", "iris_zipmap", "two_tower"].map(recorded);
    let mut arguments: Vec<&str> = models.iter().map(|path| path.to_str().unwrap()).collect();
    arguments.extend(["--engine", "onnxruntime"]);
    Server::start(&arguments).await
}

/// The most memory that the process ever had resident, in bytes.
pub(crate) fn peak_memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process_id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes: u64 = line
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap();
    kibibytes << 10
}

/// Sends a body that must be refused with a 4xx, quickly and within bounded memory, by a server that then goes on.
async fn assert_survives(path: &str, body: Vec<u8>) {
    let server = server().await;
    let started = Instant::now();
    let response = server.post(path, "application/json", body).await;
    let took = started.elapsed();
    let status = response.status();
    let text = response.text().await.unwrap();
    let beginning: String = text.chars().take(300).collect();
    assert!(
        status.is_client_error(),
        "{path} answered {status}: {beginning}"
    );
    assert!(took < QUICKLY, "{path} took {took:?}");
    let parsed: serde_json::Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{path} answered {status}, no JSON ({error}): {beginning}"));
    let key = if path.starts_with("/v2") {
        "error"
    } else {
        "message"
    };
    assert!(parsed[key].is_string(), "{beginning}");
    assert!(
        text.len() < 10_000,
        "an error of {} bytes: {beginning}",
        text.len()
    );
    let memory = peak_memory(&server);
    assert!(memory < MOST_MEMORY, "{path} took {} MiB", memory >> 20);
    assert_answers(&server).await;
}

async fn assert_answers(server: &Server) {
    let (status, answer) = server
        .post_json(
            "/models/iris_logreg/invocations",
            r#"{"inputs": [[5.1, 3.5, 1.4, 0.2]]}"#,
        )
        .await;
    assert_eq!(status, 200, "{answer}");
}

const TENSORS: &str = "/models/iris_logreg/invocations";
const COLUMNS: &str = "/models/iris_zipmap/invocations";
const SEVERAL: &str = "/models/two_tower/invocations";
const V2: &str = "/v2/models/iris_logreg/infer";

const MANY: usize = 60 << 20;

/// `part` again and again up to the size of [`MANY`].
fn many(head: &str, part: &str, tail: &str) -> Vec<u8> {
    format!("{head}{}{tail}", part.repeat(MANY / part.len())).into_bytes()
}

#[rstest]
#[tokio::test]
async fn malformed_utf8_is_refused(#[values(TENSORS, COLUMNS, SEVERAL, V2)] path: &str) {
    assert_survives(path, b"{\"inputs\": [\"\xff\xfe\xc3\x28\"]}".to_vec()).await;
}

#[rstest]
#[case::from_the_start("")]
#[case::inside_of_inputs("{\"inputs\": ")]
#[case::inside_of_an_input("{\"inputs\": [{\"name\": \"x\", \"data\": ")]
#[case::inside_of_what_is_skipped("{\"nothing\": ")]
#[case::inside_of_rows("{\"dataframe_split\": {\"columns\": [\"a\"], \"data\": ")]
#[case::inside_of_params("{\"params\": ")]
#[tokio::test]
async fn deep_lists_are_refused(#[case] head: &str, #[values(TENSORS, COLUMNS, V2)] path: &str) {
    assert_survives(path, many(head, "[", "")).await;
}

#[rstest]
#[case::tensors(TENSORS, "{\"inputs\": [", "]}")]
#[case::rows(
    COLUMNS,
    "{\"dataframe_split\": {\"columns\": [\"a\"], \"data\": [[",
    "]]}}"
)]
#[case::instances(COLUMNS, "{\"instances\": [", "]}")]
#[case::v2(
    V2,
    "{\"inputs\": [{\"name\": \"input\", \"datatype\": \"FP32\", \"shape\": [1, 4], \"data\": [",
    "]}]}"
)]
#[tokio::test]
async fn many_empty_strings_are_refused(
    #[case] path: &str,
    #[case] head: &str,
    #[case] tail: &str,
) {
    assert_survives(path, many(head, "\"\",", &format!("\"\"{tail}"))).await;
}

#[rstest]
#[case::empty_lists("[],", "[]")]
#[case::empty_objects("{},", "{}")]
#[case::nulls("null,", "null")]
#[case::single_numbers("[1],", "[1]")]
#[case::alternating("1,\"\",", "1")]
#[tokio::test]
async fn many_small_values_are_refused(
    #[case] part: &str,
    #[case] last: &str,
    #[values(TENSORS, COLUMNS)] path: &str,
) {
    assert_survives(path, many("{\"inputs\": [", part, &format!("{last}]}}"))).await;
}

#[tokio::test]
async fn millions_of_keys_are_refused() {
    let keys: Vec<String> = (0..4_000_000).map(|key| format!("\"{key}\":1")).collect();
    let body = format!("{{\"dataframe_records\": [{{{}}}]}}", keys.join(","));
    assert_survives(COLUMNS, body.into_bytes()).await;
}

#[rstest]
#[case::records(COLUMNS, "{\"dataframe_records\": [{", "}]}")]
#[case::object(SEVERAL, "{\"inputs\": {", "}}")]
#[case::top(TENSORS, "{", "}")]
#[case::v2(V2, "{\"inputs\": [{", "}]}")]
#[tokio::test]
async fn a_hundred_thousand_keys_are_refused(
    #[case] path: &str,
    #[case] head: &str,
    #[case] tail: &str,
) {
    let keys: Vec<String> = (0..100_000).map(|key| format!("\"k{key}\": 1")).collect();
    assert_survives(path, format!("{head}{}{tail}", keys.join(",")).into_bytes()).await;
}

#[rstest]
#[case::rows(
    "{\"dataframe_split\": {\"columns\": [\"a\"], \"data\": [[",
    "],",
    "[]",
    "]}}"
)]
#[case::inputs("{\"inputs\": [[", "],", "[]", "]}")]
#[tokio::test]
async fn one_wide_row_and_many_empty_ones_are_refused(
    #[case] head: &str,
    #[case] between: &str,
    #[case] empty: &str,
    #[case] tail: &str,
    #[values(TENSORS, COLUMNS)] path: &str,
) {
    let wide = vec!["0"; 1_000_000].join(",");
    let narrow = vec![empty; 1_000_000].join(",");
    assert_survives(
        path,
        format!("{head}{wide}{between}{narrow}{tail}").into_bytes(),
    )
    .await;
}

#[rstest]
#[case::ragged(TENSORS, "{\"inputs\": [[1, 2, 3, 4], [1, 2]]}")]
#[case::ragged_deep(TENSORS, "{\"inputs\": [[1, 2, 3, 4], [1, 2, 3, [4]]]}")]
#[case::ragged_rows(
    COLUMNS,
    "{\"dataframe_split\": {\"data\": [[1, 2, 3, 4], [1, 2, 3, 4, 5]]}}"
)]
#[case::ragged_input(
    SEVERAL,
    "{\"inputs\": {\"user\": [[1, 2, 3, 4]], \"item\": [[1], [1, 2]]}}"
)]
#[case::beyond_int64(
    COLUMNS,
    "{\"inputs\": [[123456789012345678901234567890, \"a\", 1, 1]]}"
)]
#[case::v2_ragged(
    V2,
    "{\"inputs\": [{\"name\": \"X\", \"datatype\": \"FP32\", \"shape\": [2, 4], \"data\": [[1, 2], [3]]}]}"
)]
#[case::v2_huge_shape(
    V2,
    "{\"inputs\": [{\"name\": \"X\", \"datatype\": \"FP32\", \"shape\": [4611686018427387904, 4], \"data\": [1]}]}"
)]
#[case::v2_overflowing_shape(
    V2,
    "{\"inputs\": [{\"name\": \"X\", \"datatype\": \"FP32\", \"shape\": [9223372036854775807, 9223372036854775807], \"data\": []}]}"
)]
#[case::v2_negative_shape(
    V2,
    "{\"inputs\": [{\"name\": \"X\", \"datatype\": \"FP32\", \"shape\": [-1, 4], \"data\": [1, 2, 3, 4]}]}"
)]
#[case::v2_beyond_int64(
    V2,
    "{\"inputs\": [{\"name\": \"X\", \"datatype\": \"INT64\", \"shape\": [1, 1], \"data\": [9223372036854775808]}]}"
)]
#[case::v2_beyond_uint8(
    V2,
    "{\"inputs\": [{\"name\": \"X\", \"datatype\": \"UINT8\", \"shape\": [1, 1], \"data\": [256]}]}"
)]
#[tokio::test]
async fn a_small_body_that_makes_no_sense_is_refused(#[case] path: &str, #[case] body: &str) {
    assert_survives(path, body.into()).await;
}

#[rstest]
#[case::many_digits("9".repeat(1 << 20))]
#[case::huge_exponent("1e999999999".to_owned())]
#[case::many_digits_after_the_point(format!("0.{}", "3".repeat(1 << 20)))]
#[tokio::test]
async fn a_number_beyond_every_type_never_ends_the_server(#[case] number: String) {
    let server = server().await;
    for path in [TENSORS, COLUMNS] {
        let body = format!("{{\"inputs\": [[{number}, 1, 1, 1]]}}");
        let (status, answer) = server.post_json(path, body).await;
        assert!(status < 500, "{path} answered {status}: {answer}");
    }
    assert_answers(&server).await;
}

#[rstest]
#[tokio::test]
async fn a_body_of_100_mb_is_refused(#[values(TENSORS, V2)] path: &str) {
    let server = server().await;
    let request = RawRequest {
        method: "POST",
        path,
        headers: vec![("Content-Type", "application/json")],
        body: Some(vec![b'['; 100 << 20]),
    };
    let response = request.send(server.address()).await.unwrap();
    assert_eq!(response.status, 413);
    let memory = peak_memory(&server);
    assert!(memory < 512 << 20, "{} MiB", memory >> 20);
    assert_answers(&server).await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_body_is_no_problem() {
    let server = server().await;
    for _ in 0..20 {
        let request = server
            .request(Method::POST, TENSORS)
            .header("content-type", "application/json")
            .timeout(Duration::from_millis(20));
        let endless = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok::<_, std::io::Error>("["), ()))
        });
        let sent = request.body(reqwest::Body::wrap_stream(endless)).send();
        assert!(sent.await.is_err(), "nothing can be answered yet");
    }
    assert_answers(&server).await;
}
