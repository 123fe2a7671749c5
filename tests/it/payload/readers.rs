//! DuckDB, pandas and pyarrow read the log: the commands of `docs/guides/payload-log.md`.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Place, example};
use crate::support::mlflow_server::python;
use crate::support::server::project;

/// Runs a script of this folder and reads the JSON that it prints.
pub(super) fn script(name: &str, arguments: &[&Path]) -> Value {
    let output = Command::new(python())
        .arg(project().join("tests/it/payload").join(name))
        .args(arguments)
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{name}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{name}: {error}: {out}{err}"))
}

#[tokio::test]
async fn three_readers_see_the_same_rows_in_the_types_of_the_signature() {
    let place = Place::new();
    let server = place.serve("model-examples/penguins", &[]).await;
    let (status, answer) = server
        .post_json("/invocations", example("penguins/request.json"))
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(server.post_json("/invocations", "{}").await.0, 400);
    place.rows(5).await;
    let read = script("readers.py", &[&place.log()]);
    assert_eq!(read["partitions"], json!([["penguins", 1, 5]]));
    for reader in ["duckdb", "pandas", "pyarrow"] {
        let rows = read[reader].as_array().unwrap();
        assert_eq!(rows.len(), 5, "{reader}: {rows:?}");
        let answered: Vec<&Value> = rows
            .iter()
            .filter(|row| row["_error_code"].is_null())
            .collect();
        let labels: Value = answered
            .iter()
            .map(|row| row["prediction_label"].clone())
            .collect();
        assert_eq!(labels, answer["predictions"]["label"], "{reader}");
        assert_eq!(
            answered[0]["bill_length_mm"].as_f64().unwrap() as f32,
            39.1,
            "{reader}"
        );
        let probabilities: Vec<f32> =
            serde_json::from_value(answered[1]["prediction_probabilities"].clone()).unwrap();
        let served: Vec<f32> =
            serde_json::from_value(answer["predictions"]["probabilities"][1].clone()).unwrap();
        assert_eq!(probabilities.len(), 3, "{reader}");
        for (logged, served) in probabilities.iter().zip(&served) {
            // DuckDB's frame is printed with 15 digits of a double.
            assert!(
                (logged - served).abs() < 1e-6,
                "{reader}: {logged} {served}"
            );
        }
    }
    let types = &read["types"];
    assert_eq!(types["island"], "string");
    assert_eq!(types["bill_length_mm"], "float");
    let probabilities = types["prediction_probabilities"].as_str().unwrap();
    assert!(
        probabilities.starts_with("list<") && probabilities.ends_with(": float>"),
        "{probabilities}"
    );
    assert_eq!(types["_time"], "timestamp[us, tz=UTC]");
    assert_eq!(types["_row"], "int64");
}

#[tokio::test]
async fn the_hash_of_a_column_is_hmac_sha256_as_python_makes_it() {
    let place = Place::new();
    let key = place.path("key");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef\n").unwrap();
    let key = key.display().to_string();
    let flags = [
        "--payload-hash",
        "island",
        "--payload-hash",
        "body_mass_g",
        "--payload-hash-key-file",
        &key,
    ];
    let server = place.serve("model-examples/penguins", &flags).await;
    assert_eq!(
        server
            .post_json("/invocations", example("penguins/request.json"))
            .await
            .0,
        200
    );
    place.rows(4).await;
    let program = "import hmac; print([hmac.new(b'0123456789abcdef0123456789abcdef', text.encode(), 'sha256').hexdigest() for text in ('Torgersen', '3750.0')])";
    let output = Command::new(python())
        .args(["-c", program])
        .output()
        .unwrap();
    let hashes = String::from_utf8(output.stdout)
        .unwrap()
        .replace('\'', "\"");
    let hashes: Vec<String> = serde_json::from_str(&hashes).unwrap();
    let read = script("readers.py", &[&place.log()]);
    let first = &read["pandas"][0];
    assert_eq!(
        (&first["island"], &first["body_mass_g"]),
        (&json!(hashes[0]), &json!(hashes[1]))
    );
}
