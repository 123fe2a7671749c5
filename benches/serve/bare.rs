//! The limit of what a server on axum and ONNX Runtime can do: a typed body of serde, the session run where the connection is
//! read, the answer written by hand. Nothing is validated, counted, logged, batched or ever replaced.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Json, State};
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::post;
use ort::session::Session;
use ort::value::TensorRef;
use serde::Deserialize;

use crate::{constant, raw};

/// What MLflow's clients send.
#[derive(Deserialize)]
struct Body {
    inputs: Vec<Vec<f32>>,
}

/// One for each core; who finds both busy waits for the first.
type Sessions = Arc<[Mutex<Session>; 2]>;

/// Serves `model` (iris) until it is killed.
pub(crate) async fn serve(model: &str) {
    let environment = raw::environment();
    let session = || Mutex::new(raw::session(&environment, Path::new(model)));
    let sessions: Sessions = Arc::new([session(), session()]);
    let router = Router::new().fallback(post(predict));
    constant::run(router.with_state(sessions)).await;
}

async fn predict(State(sessions): State<Sessions>, Json(body): Json<Body>) -> impl IntoResponse {
    let rows = body.inputs.len();
    let numbers: Vec<f32> = body.inputs.into_iter().flatten().collect();
    let mut session = sessions
        .iter()
        .find_map(|session| session.try_lock().ok())
        .unwrap_or_else(|| sessions[0].lock().expect("no run panics"));
    let tensor = TensorRef::from_array_view(([rows, numbers.len() / rows], &*numbers));
    let outputs = session
        .run(ort::inputs![tensor.expect("whole rows")])
        .expect("four numbers a row");
    let (_, label) = outputs[0].try_extract_tensor::<i64>().expect("integers");
    let (shape, probabilities) = outputs[1].try_extract_tensor::<f32>().expect("floats");
    let rows: Vec<&[f32]> = probabilities.chunks(shape[1] as usize).collect();
    let mut text = String::with_capacity(256);
    write!(
        text,
        r#"{{"predictions": {{"label": {label:?}, "probabilities": {rows:?}}}}}"#
    )
    .expect("memory");
    ([(header::CONTENT_TYPE, "application/json")], text)
}
