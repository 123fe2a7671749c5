//! Clients that behave, and check every answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::Dice;
use crate::lifecycle::faults::fails_at_run_time;
use crate::support::server::Server;

const CLIENTS: u64 = 4;

/// How the requests of all clients ended.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: u64,
    /// With a status that says to come again.
    pub(crate) refused: u64,
    /// By a version that fails at run time, with nobody to stand in.
    pub(crate) failed: u64,
    /// What must never be.
    pub(crate) wrong: Vec<String>,
}

pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Tally>>,
}

impl Clients {
    pub(crate) fn start(server: &Server, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..CLIENTS).map(|number| {
            let (stop, url) = (Arc::clone(&stop), server.url(""));
            tokio::spawn(async move {
                let (client, mut dice) = (Client::new(), Dice(seed ^ (number + 1) << 32));
                let mut tally = Tally::default();
                while !stop.load(Ordering::Relaxed) {
                    one(&client, &url, &mut dice, &mut tally).await;
                    sleep(Duration::from_millis(2)).await;
                }
                tally
            })
        });
        let tasks = tasks.collect();
        Self { stop, tasks }
    }

    pub(crate) async fn end(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for task in self.tasks {
            let Tally {
                answered,
                refused,
                failed,
                wrong,
            } = task.await.unwrap();
            all.answered += answered;
            all.refused += refused;
            all.failed += failed;
            all.wrong.extend(wrong);
        }
        all
    }
}

/// One request over one of the protocols, with numbers of its own, so that another's answer is noticed.
async fn one(client: &Client, url: &str, dice: &mut Dice, tally: &mut Tally) {
    let rows = 1 + dice.below(4);
    let sent: Vec<f64> = (0..2 * rows).map(|_| dice.below(1000) as f64).collect();
    let table: Vec<&[f64]> = sent.chunks(2).collect();
    let (path, body) = match dice.below(3) {
        0 => ("/models/m/invocations", json!({ "inputs": table })),
        1 => (
            "/v2/models/m/infer",
            json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 2], "data": sent}]}),
        ),
        _ => ("/v1/models/m:predict", json!({ "instances": table })),
    };
    let response = match client.post(format!("{url}{path}")).json(&body).send().await {
        Ok(response) => response,
        Err(error) => return tally.wrong.push(format!("{path}: no answer: {error:?}")),
    };
    let status = response.status().as_u16();
    let header = response.headers().get("x-model-version");
    let version = header.and_then(|version| version.to_str().ok()?.parse::<f64>().ok());
    let text = match response.text().await {
        Ok(text) => text,
        Err(error) => {
            return tally
                .wrong
                .push(format!("{path}: half an answer: {error:?}"));
        }
    };
    match status {
        200 => {
            let expected: Option<Vec<f64>> =
                version.map(|version| sent.iter().map(|number| number * version).collect());
            if expected.is_some() && numbers(path, &text) == expected {
                tally.answered += 1;
            } else {
                tally.wrong.push(format!(
                    "{path}: version {version:?} answered {text} to {sent:?}"
                ));
            }
        }
        // Unloaded by hand, loading, or too many.
        404 | 429 | 503 => tally.refused += 1,
        400 | 500 if version.is_some_and(fails_at_run_time) => {
            tally.failed += 1;
        }
        _ => tally.wrong.push(format!("{path}: {status} {text}")),
    }
}

/// The numbers in an answer, in order.
fn numbers(path: &str, text: &str) -> Option<Vec<f64>> {
    let answer: Value = serde_json::from_str(text).ok()?;
    let place = match path {
        path if path.starts_with("/v2") => &answer["outputs"][0]["data"],
        path if path.starts_with("/v1") => &answer["predictions"],
        _ => &answer["predictions"]["y"],
    };
    let mut numbers = Vec::new();
    flatten(place, &mut numbers);
    Some(numbers)
}

fn flatten(value: &Value, numbers: &mut Vec<f64>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, numbers)),
        Value::Object(fields) => fields.values().for_each(|item| flatten(item, numbers)),
        other => numbers.extend(other.as_f64()),
    }
}
