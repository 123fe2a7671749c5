//! Logged requests, run again.

use serde_json::{Value, json};

use super::{Place, example};
use crate::support::server::Starter;

/// What the server answered, and what `predict` answers to its log.
async fn replayed(model: &str, bodies: &[String]) -> (Vec<Value>, Value) {
    let place = Place::new();
    let package = format!("model-examples/{model}");
    let server = place
        .starter(&package, &["--engine", "classic"])
        .start()
        .await;
    let (mut answers, mut rows) = (Vec::new(), 0);
    for body in bodies {
        let (status, answer) = server.post_json("/invocations", body.clone()).await;
        assert_eq!(status, 200, "{answer}");
        let first = answer["predictions"]
            .as_object()
            .unwrap()
            .values()
            .next()
            .unwrap();
        rows += first.as_array().unwrap().len();
        answers.push(answer);
    }
    // One that fails has no answer to repeat.
    assert_eq!(server.post_json("/invocations", "{}").await.0, 400);
    place.rows(rows + 1).await;
    drop(server);
    let log = place.log().display().to_string();
    let arguments = ["predict", &package, "-i", &log, "--engine", "classic"];
    let ended = Starter::command(&arguments).run().await;
    assert!(ended.status.success(), "{}", ended.stderr);
    (answers, serde_json::from_str(&ended.stdout).unwrap())
}

/// Asserts that the answers one after the other are the one of the replay. Numbers are written so that they are read back to
/// the bit.
fn assert_same(answers: &[Value], replayed: &Value) {
    let outputs = replayed["predictions"].as_object().unwrap();
    for (output, values) in outputs {
        let served = answers
            .iter()
            .flat_map(|answer| answer["predictions"][output].as_array().unwrap());
        assert_eq!(&served.cloned().collect::<Value>(), values, "{output}");
    }
}

#[tokio::test]
async fn a_table_of_text_and_numbers_gives_the_same_answers_to_the_bit() {
    let request: Value = serde_json::from_str(&example("penguins/request.json")).unwrap();
    let (columns, data) = (
        &request["dataframe_split"]["columns"],
        request["dataframe_split"]["data"].as_array().unwrap(),
    );
    let lists = |rows: &[Value]| {
        let column = |(index, name): (usize, &Value)| {
            let cells = rows.iter().map(|row| json!([row[index]]));
            (name.as_str().unwrap().to_owned(), cells.collect::<Value>())
        };
        let inputs: Value = columns
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
            .map(column)
            .collect::<serde_json::Map<_, _>>()
            .into();
        json!({ "inputs": inputs }).to_string()
    };
    let (answers, again) = replayed("penguins", &[lists(&data[..3]), lists(&data[1..2])]).await;
    assert_same(&answers, &again);
}

#[tokio::test]
async fn a_matrix_gives_the_same_answers_to_the_bit() {
    let mut state = 1_u64;
    let mut number = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / 1e6
    };
    let mut bodies = Vec::new();
    for request in 1..40 {
        let rows: Vec<Vec<f64>> = (0..request % 5 + 1)
            .map(|_| (0..4).map(|_| number()).collect())
            .collect();
        bodies.push(json!({ "inputs": rows }).to_string());
    }
    let (answers, again) = replayed("iris", &bodies).await;
    assert_same(&answers, &again);
}

#[tokio::test]
async fn the_log_compares_two_packages_and_goes_to_other_platforms() {
    let place = Place::new();
    let server = place.serve("model-examples/iris", &[]).await;
    for row in 0..20 {
        let body = json!({ "inputs": [[4.0 + f64::from(row) / 10.0, 3.0, 1.0 + f64::from(row) / 4.0, 0.2]] });
        assert_eq!(
            server.post_json("/invocations", body.to_string()).await.0,
            200
        );
    }
    assert_eq!(server.post_json("/invocations", "{}").await.0, 400);
    place.rows(21).await;
    drop(server);
    let log = place.log().display().to_string();
    let onstage = async |arguments: &[&str]| {
        let ended = Starter::command(arguments).run().await;
        assert!(ended.status.success(), "{arguments:?}: {}", ended.stderr);
        ended
    };
    let iris = "model-examples/iris";
    let ended = onstage(&["diff", iris, iris, "--data", &log, "--json"]).await;
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let compared = &report["answers"]["log"];
    assert_eq!(
        (&compared["requests"], &compared["rows"]),
        (&json!(20), &json!(20))
    );
    assert_eq!(
        (&compared["disagreement"], &compared["score_psi"]),
        (&json!(0.0), &json!(0.0))
    );
    assert!(compared["slowdown"].as_f64().unwrap() > 0.0);

    let lines = async |form: &str| {
        let ended = onstage(&["log", "export", &log, "--as", form]).await;
        let lines = ended
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        (lines.collect::<Vec<Value>>(), ended.stderr)
    };
    let (databricks, _) = lines("databricks").await;
    assert_eq!(databricks.len(), 21);
    let request: Value = serde_json::from_str(databricks[3]["request"].as_str().unwrap()).unwrap();
    assert_eq!(
        request["dataframe_split"]["data"].as_array().unwrap().len(),
        1
    );
    assert_eq!(
        (&databricks[20]["status_code"], &databricks[20]["request"]),
        (&json!(400), &Value::Null)
    );
    let (sagemaker, said) = lines("sagemaker").await;
    assert_eq!(sagemaker.len(), 20);
    assert!(said.contains("1 failed requests are left out"), "{said}");
    assert_eq!(
        sagemaker[0]["captureData"]["endpointInput"]["mode"],
        "INPUT"
    );
    let (events, _) = lines("cloudevents").await;
    assert_eq!(events.len(), 40);
    assert_eq!(events[1]["type"], "org.kubeflow.serving.inference.response");
    assert_eq!(events[0]["id"], events[1]["id"]);
}
