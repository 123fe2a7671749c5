//! Custom operators come from a library that the operator trusts by its SHA-256, and from nowhere else.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::server::{Starter, onnxruntime};

const MODEL: &str = "tests/models/string_upper.onnx";

/// The answer of a Python program in the environment that has ONNX Runtime.
fn python(program: &str) -> String {
    let library = PathBuf::from(onnxruntime());
    let environment = library.ancestors().nth(6).unwrap();
    let output = Command::new(environment.join("bin/python"))
        .args(["-c", program])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn extensions() -> PathBuf {
    python("import onnxruntime_extensions as e; print(e.get_library_path())").into()
}

/// The library of the Python package wants the symbols of libpython.
fn libpython() -> String {
    python(
        "import sysconfig as s; print(s.get_config_var('LIBDIR') + '/' + s.get_config_var('INSTSONAME'))",
    )
}

fn digest(path: &Path) -> String {
    let hash = Sha256::digest(std::fs::read(path).unwrap());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn serve(library: &str) -> Starter {
    let arguments = [
        MODEL,
        "--engine",
        "onnxruntime",
        "--custom-operators",
        library,
    ];
    Starter::serve(&arguments)
        .with_onnxruntime()
        .env("LD_PRELOAD", libpython())
}

#[tokio::test]
async fn a_trusted_library_answers_as_in_python() {
    let library = extensions();
    let server = serve(&format!(
        "{}@sha256:{}",
        library.display(),
        digest(&library)
    ))
    .start()
    .await;
    let texts = ["abc", "straße", "", "ÅÄÖ x1"];
    let body = json!({ "inputs": { "text": texts } }).to_string();
    let (status, answer) = server.post_json("/invocations", body).await;
    assert_eq!(status, 200, "{answer}");
    let program = format!(
        "import json, numpy, onnxruntime as o, onnxruntime_extensions as e\n\
         options = o.SessionOptions(); options.register_custom_ops_library(e.get_library_path())\n\
         session = o.InferenceSession('{MODEL}', options)\n\
         texts = numpy.array(json.loads('{}'), dtype=object)\n\
         print(json.dumps({{'predictions': {{'upper': session.run(None, {{'text': texts}})[0].tolist()}}}}))",
        json!(texts)
    );
    let expected: serde_json::Value = serde_json::from_str(&python(&program)).unwrap();
    assert_eq!(answer, expected);
    server.terminate().await;
}

#[tokio::test]
async fn without_a_library_or_with_another_file_the_model_is_refused() {
    let arguments = [MODEL, "--engine", "onnxruntime"];
    let ended = Starter::serve(&arguments)
        .with_onnxruntime()
        .try_start()
        .await
        .err()
        .unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let expected = "it needs the custom operators `ai.onnx.contrib.StringUpper`: name the library that has them";
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);

    let library = extensions();
    let other = "0".repeat(64);
    let ended = serve(&format!("{}@sha256:{other}", library.display()))
        .try_start()
        .await
        .err()
        .unwrap();
    assert_eq!(ended.status.code(), Some(1));
    for part in [
        other,
        digest(&library),
        "another file than the one that was trusted".to_owned(),
    ] {
        assert!(ended.stderr.contains(&part), "{}", ended.stderr);
    }

    // A library without operators: that of ONNX Runtime itself.
    let none = PathBuf::from(onnxruntime());
    let ended = serve(&format!("{}@sha256:{}", none.display(), digest(&none)))
        .try_start()
        .await
        .err()
        .unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.stderr.contains("RegisterCustomOps"),
        "{}",
        ended.stderr
    );
}
