//! `onstage inspect`: what it says of real packages. Times are measured, so that only their form is looked at.

use serde_json::{Value, json};

use crate::support::server::Starter;

async fn inspect(arguments: &[&str]) -> Value {
    let arguments = [&["inspect", "--json"], arguments].concat();
    let ended = Starter::command(&arguments).with_onnxruntime().run().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

/// The verdict on one engine.
fn engine<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut engines = report["engines"].as_array().unwrap().iter();
    engines.find(|engine| engine["engine"] == name).unwrap()
}

fn costs(report: &Value) -> Vec<&str> {
    let costs = report["costs"].as_array().unwrap().iter();
    costs.map(|cost| cost["engine"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_call_is_timed_for_each_batch_size_on_each_engine() {
    let report = inspect(&["model-examples/iris"]).await;
    assert_eq!(costs(&report), ["classic", "onnxruntime", "tract"]);
    for cost in report["costs"].as_array().unwrap() {
        assert_eq!(cost["rows_from"], "input example");
        assert!(
            cost["compile_milliseconds"].as_f64().unwrap() > 0.0,
            "{cost}"
        );
        let batches = cost["batches"].as_array().unwrap();
        let rows = batches.iter().map(|batch| batch["rows"].as_u64().unwrap());
        // On a machine that is very busy the largest may be left out, and then it says so.
        let complete = rows.eq([1, 2, 4, 8, 16, 32]);
        assert!(complete || cost["stopped"].is_string(), "{cost}");
        for batch in batches {
            let call = &batch["milliseconds_per_call"];
            let row = &batch["microseconds_per_row"];
            assert!(
                call.as_f64().unwrap() > 0.0 && row.as_f64().unwrap() > 0.0,
                "{batch}"
            );
        }
        let best = batches.iter().filter(|batch| batch["best"] == true);
        assert_eq!(best.count(), 1, "{cost}");
    }
    for name in ["classic", "onnxruntime", "tract"] {
        assert_eq!(engine(&report, name)["tried"], "ran");
    }
}

#[tokio::test]
async fn an_operator_that_an_engine_lacks_is_marked() {
    let report = inspect(&["model-examples/penguins"]).await;
    let operators = report["graph"]["operators"].as_array().unwrap().iter();
    let missing: Vec<&Value> = operators
        .map(|operator| &operator["missing_in"])
        .filter(|engines| **engines != json!([]))
        .collect();
    assert!(!missing.is_empty());
    assert!(missing.iter().all(|engines| **engines == json!(["tract"])));
    assert_eq!(engine(&report, "tract")["supported"], false);
    assert_eq!(costs(&report), ["classic", "onnxruntime"]);
}

#[tokio::test]
async fn what_only_compiling_shows_speaks_against_an_engine() {
    let model = "tests/models/lstm_reverse.onnx";
    let measured = inspect(&[model]).await;
    let tract = engine(&measured, "tract");
    assert_eq!(tract["supported"], false);
    let reason = tract["reasons"][0].as_str().unwrap();
    assert!(reason.contains("`direction`"), "{reason}");
    let unmeasured = inspect(&[model, "--no-measure"]).await;
    assert_eq!(engine(&unmeasured, "tract")["tried"], "not");
    assert_eq!(unmeasured["costs"], Value::Null);
}

#[tokio::test]
async fn external_data_is_listed_with_its_size() {
    let package = "tests/conformance/mlflow/models/mlp10";
    let report = inspect(&[package, "--no-measure"]).await;
    let files = report["external_data"].as_array().unwrap();
    assert_eq!(files.len(), 1);
    assert!(files[0]["bytes"].as_u64().unwrap() > 0);
    assert!(files[0]["tensors"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn the_text_for_people_has_the_table_of_costs() {
    let arguments = ["inspect", "model-examples/iris"];
    let ended = Starter::command(&arguments).run().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let table = "\n  rows  ms per call  µs per row\n";
    assert!(ended.stdout.contains(table), "{}", ended.stdout);
    assert!(ended.stdout.contains("best"), "{}", ended.stdout);
    assert_eq!(ended.stderr, "", "no progress where there is no terminal");
}
