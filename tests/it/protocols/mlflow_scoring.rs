//! MLflow's own scoring client, and the bodies that pandas writes.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, GzipLevel};
use parquet::file::properties::WriterProperties;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::mlflow_server::command;
use crate::support::server::{Server, project};

#[tokio::test]
async fn mlflows_client_and_every_form_of_a_frame_get_the_same_answer() {
    let server = Server::start(&["model-examples/diabetes", "--engine", "onnxruntime"]).await;
    let home = TempDir::new().unwrap();
    let output = command(home.path())
        .arg(project().join("tests/it/protocols/mlflow_scoring.py"))
        .arg(server.address().to_string())
        .output()
        .await
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}\n{}", server.stderr());
    let answers: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut answers = answers.as_object().unwrap().clone();
    assert_eq!(answers.remove("version").unwrap(), "3.17.2");
    let expected = answers["client"].clone();
    assert_eq!(expected.as_array().unwrap().len(), 3);
    assert!(answers.len() > 10, "{answers:?}");
    for (form, answer) in answers {
        assert_eq!(answer, expected, "{form}");
    }
}

/// A file with a column of so many zeros.
fn zeros(rows: usize) -> Vec<u8> {
    let column: ArrayRef = Arc::new(Float64Array::from(vec![0.0; rows]));
    let batch = RecordBatch::try_from_iter([("age", column)]).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(Compression::GZIP(GzipLevel::default()))
        .set_dictionary_enabled(false);
    let mut body = Vec::new();
    let properties = Some(properties.build());
    let mut writer = ArrowWriter::try_new(&mut body, batch.schema(), properties).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    body
}

#[tokio::test]
async fn a_small_file_that_inflates_beyond_the_limit_is_413_and_a_broken_one_400() {
    let arguments = [
        "model-examples/diabetes",
        "--engine",
        "onnxruntime",
        "--max-body",
        "1MiB",
    ];
    let server = Server::start(&arguments).await;
    let bomb = zeros(2_000_000);
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let broken = bomb[..bomb.len() - 9].to_vec();
    for (body, status) in [(bomb, 413), (broken, 400), (zeros(10), 400)] {
        let answer = server
            .post("/invocations", "application/vnd.apache.parquet", body)
            .await;
        assert_eq!(answer.status(), status);
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert!(answer["error_code"].is_string(), "{answer}");
    }
    assert_eq!(server.get("/ping").await.status(), 200);
}
