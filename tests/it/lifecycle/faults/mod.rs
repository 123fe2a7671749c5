//! What goes wrong in production, done to the real binary: bad candidates, registries on a bad day, full disks, killed
//! processes. Slow, so `make test-faults` runs it, and `make check` does not.

mod candidates;
pub(crate) mod failing;
mod hostile;
pub(crate) mod machine;
mod registry;
mod restarts;

pub(crate) use candidates::example;

use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::lifecycle::swap::scene;
use crate::support::imitation::{Asked, Imitation, absent, json_answer};
use crate::support::onnx::times;
use crate::support::server::Server;

/// What an imitation of MLflow answers, which may change at any time.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Mutex<Answers>>);

/// The answer to a request for a graph of these bytes.
pub(crate) type GraphAnswer = Box<dyn Fn(&Asked, &[u8]) -> Response + Send>;

#[derive(Default)]
pub(crate) struct Answers {
    /// To every question about models; `None` is the truth.
    instead: Option<Box<dyn Fn() -> Response + Send>>,
    /// Where each model's champion is.
    champions: Vec<(&'static str, u64)>,
    /// To a request for a graph; `None` is the whole file.
    pub(crate) graph: Option<GraphAnswer>,
}

impl Script {
    pub(crate) fn change(&self, change: impl FnOnce(&mut Answers)) {
        change(&mut self.0.lock().unwrap());
    }

    /// The champion of model `m`.
    pub(crate) fn champion(&self, version: u64) {
        self.change(|answers| answers.champions = vec![("m", version)]);
    }

    pub(crate) fn instead(&self, answer: impl Fn() -> Response + Send + 'static) {
        self.change(|answers| answers.instead = Some(Box::new(answer)));
    }

    /// Downloads of graphs begin and do not go on.
    fn stall(&self) {
        self.change(|answers| {
            answers.graph = Some(Box::new(|_, graph| partly(&graph[..20], graph.len(), true)));
        });
    }

    pub(crate) fn truth(&self) {
        self.change(|answers| answers.instead = None);
    }

    /// A server of MLflow that answers so; version N of a model multiplies by N.
    pub(crate) async fn serve(&self) -> Imitation {
        let script = self.clone();
        Imitation::start(move |asked| script.answer(asked)).await
    }

    fn answer(&self, asked: &Asked) -> Response {
        let answers = self.0.lock().unwrap();
        let path = asked.path.as_str();
        let asks_for_models =
            path.contains("registered-models") || path.contains("model-versions/get?");
        if asks_for_models && let Some(instead) = &answers.instead {
            return instead();
        }
        let model = |(name, champion): &(&str, u64)| {
            json!({
                "name": name, "creation_timestamp": 1, "latest_versions": [],
                "aliases": [{"alias": "champion", "version": champion.to_string()}],
            })
        };
        if path.contains("registered-models/get?") {
            let name = query(path, "name");
            let found = answers.champions.iter().find(|(known, _)| *known == name);
            let answer = |found| json_answer(&json!({ "registered_model": model(found) }));
            return found.map_or_else(absent, answer);
        }
        if path.contains("registered-models/search") {
            let models: Vec<Value> = answers.champions.iter().map(model).collect();
            return json_answer(&json!({ "registered_models": models }));
        }
        if path.contains("model-versions/get?") {
            let version = query(path, "version");
            return json_answer(&json!({ "model_version": {
                "version": version, "status": "READY", "source": format!("mlflow-artifacts:/{version}"),
            }}));
        }
        if path.contains("get-download-uri") {
            let uri = format!("mlflow-artifacts:/{}", query(path, "version"));
            return json_answer(&json!({ "artifact_uri": uri }));
        }
        let Some(rest) = path.strip_prefix("/api/2.0/mlflow-artifacts/artifacts") else {
            return absent();
        };
        if let Some(version) = rest.strip_prefix("?path=") {
            let length = graph_of(version).len();
            return json_answer(&json!({"files": [
                {"path": "model.onnx", "is_dir": false, "file_size": length},
            ]}));
        }
        let version = rest.trim_start_matches('/').split('/').next().unwrap();
        let graph = graph_of(version);
        match &answers.graph {
            Some(answer) => answer(asked, &graph),
            None => graph.into_response(),
        }
    }
}

fn query<'a>(path: &'a str, name: &str) -> &'a str {
    let (_, query) = path.split_once('?').unwrap_or_default();
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(key, _)| *key == name)
        .map_or("", |(_, value)| value)
}

/// Version N multiplies by N. Of those from 100 on some load and fail: on each row, or on numbers from 500 on.
fn graph_of(version: &str) -> Vec<u8> {
    let number: u16 = version.parse().unwrap_or(0);
    match number {
        100..10_000 if number % 6 == 3 => failing::gather().model(),
        100..10_000 if number % 6 == 4 => failing::multiplies_below(500, number.into()).model(),
        // Of another kind.
        10_000..20_000 => b"no graph".to_vec(),
        _ => times(number.into()),
    }
}

/// Whether a version fails at run time; what another version does for it meanwhile, clients do not notice.
pub(crate) fn fails_at_run_time(version: f64) -> bool {
    version >= 100.0 && matches!(version as u64 % 6, 3 | 4)
}

/// The content that [`partly`] answers a part of: the rest of the same content is asked for under this tag.
pub(crate) const TAG: &str = "\"whole\"";

/// These bytes, then nothing more, although more was announced: silence, or a break of the connection.
pub(crate) fn partly(bytes: &[u8], announced: usize, then_silence: bool) -> Response {
    let first = Bytes::copy_from_slice(bytes);
    let last = stream::once(async move {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        if then_silence {
            std::future::pending::<()>().await;
        }
        Err("broken")
    });
    let parts = stream::once(async move { Ok(first) }).chain(last);
    let headers = [
        ("content-length", announced.to_string()),
        ("etag", TAG.to_owned()),
    ];
    (headers, Body::from_stream(parts)).into_response()
}

/// A server of MLflow whose only model has version 1 as its champion.
pub(crate) async fn one_model() -> (Script, Imitation) {
    let script = Script::default();
    script.champion(1);
    let mlflow = script.serve().await;
    (script, mlflow)
}

/// A server that follows the champions of `mlflow`, looking ten times a second.
async fn follow(mlflow: &Imitation, flags: &[&str]) -> Server {
    let often = ["--poll-interval", "100ms"];
    scene::follow(&mlflow.url, &[&often, flags].concat()).await
}

async fn until_champion(server: &Server, version: u64) {
    scene::until_answering(server, "/models/m/invocations", version).await;
}
