//! A request to paste into a shell, which the model was seen to answer: its own example, else one that is made up.

use serde_json::{Map, Value, json};

use super::mlflow;
use super::openapi::example;
use crate::engine::CancelToken;
use crate::model::{Batch, ColSpec, Dim, Schema, Signature};
use crate::protocol::oip::rest;
use crate::serving::{Codec, Servable};
use crate::tensor::Tensor;

/// The package's own example is shown up to this length; more is not for pasting.
const LONGEST_EXAMPLE: usize = 600;

/// What is made up may be longer, as there is nothing else to show.
const LONGEST_MADE_UP: usize = 4_000;

/// Zeros that a shell makes, when there would be too many to write.
const MOST_ZEROS: usize = 32 << 20;

/// Ranks that are tried where the graph leaves one open.
const RANKS: [usize; 4] = [1, 2, 3, 4];

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleRequest {
    /// Which protocol takes it.
    pub protocol: SampleProtocol,
    /// The JSON of its body.
    pub json: String,
    /// Zero bytes after the JSON, the elements of tensors.
    pub zeros: usize,
    /// Whether the answer is bytes, which are not for a terminal.
    pub binary_answer: bool,
}

/// Which protocol takes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleProtocol {
    /// MLflow's scoring.
    Scoring,
    /// The Open Inference Protocol.
    Infer,
}

impl SampleRequest {
    fn new(protocol: SampleProtocol, json: &Value) -> Self {
        Self {
            protocol,
            json: json.to_string(),
            zeros: 0,
            binary_answer: false,
        }
    }
}

/// The first request that this model answers, of no more than `max_body` bytes: `None` when it answers nothing of what
/// can be made up. Blocking; runs the model, past its queue and its statistics, until `cancel` fires.
pub fn sample_request(
    servable: &Servable,
    max_body: usize,
    cancel: &CancelToken,
) -> Option<SampleRequest> {
    let own = own(servable).into_iter();
    let zeros = [false, true]
        .into_iter()
        .filter_map(|binary_answer| zeros(servable, binary_answer));
    let mut all = own.chain(made_up(servable)).chain(zeros);
    all.find(|request| {
        let length = request.json.len() + request.zeros;
        !cancel.is_cancelled() && length <= max_body && is_answered(request, servable, cancel)
    })
}

fn is_answered(request: &SampleRequest, servable: &Servable, cancel: &CancelToken) -> bool {
    let json = request.json.clone().into_bytes();
    match request.protocol {
        SampleProtocol::Scoring => answers(mlflow::codec(json), servable, cancel),
        SampleProtocol::Infer => {
            let length = json.len();
            let mut body = json;
            body.resize(length + request.zeros, 0);
            answers(rest::codec(body, length), servable, cancel)
        }
    }
}

fn answers(mut codec: impl Codec, servable: &Servable, cancel: &CancelToken) -> bool {
    let Ok(batch) = codec.decode(servable) else {
        return false;
    };
    let run = servable
        .batcher()
        .with_session(|session| session.run(&batch, cancel));
    match run {
        Ok(Ok(outputs)) => {
            let outputs = servable.signature().for_clients(outputs);
            codec.encode(servable, outputs).is_ok()
        }
        Ok(Err(_)) | Err(_) => false,
    }
}

/// The package's own example on one line.
fn own(servable: &Servable) -> Option<SampleRequest> {
    let body = servable.package().serving_input().ok().flatten()?;
    let body: Value = serde_json::from_slice(&body).ok()?;
    let request = SampleRequest::new(SampleProtocol::Scoring, &body);
    (request.json.len() <= LONGEST_EXAMPLE).then_some(request)
}

/// Zeros, ones and numbers that look random, for scoring first.
fn made_up(servable: &Servable) -> impl Iterator<Item = SampleRequest> {
    let declared = servable.package().manifest.signature.as_ref();
    let columns = match declared.and_then(|declared| declared.inputs.as_ref()) {
        Some(Schema::Columns(columns)) => columns.as_slice(),
        Some(Schema::Tensors(_)) | None => &[],
    };
    let rows = rows(columns);
    let graphs = ranked(servable.signature());
    let graphs = graphs.into_iter().filter(example::is_small);
    let tensors: Vec<(Signature, Batch)> = graphs
        .flat_map(|graph| {
            let batches: Vec<Batch> = graph.samples().map(|(_, batch)| batch).collect();
            batches.into_iter().map(move |batch| (graph.clone(), batch))
        })
        .collect();
    let scoring = tensors
        .iter()
        .filter_map(|(graph, batch)| example::inputs(graph, batch));
    let scoring = rows.into_iter().chain(scoring);
    let scoring = scoring.map(|body| SampleRequest::new(SampleProtocol::Scoring, &body));
    let infer = tensors
        .iter()
        .filter_map(|(graph, batch)| example::infer(graph, batch));
    let infer = infer.map(|body| SampleRequest::new(SampleProtocol::Infer, &body));
    let all: Vec<SampleRequest> = scoring
        .chain(infer)
        .filter(|request| request.json.len() <= LONGEST_MADE_UP)
        .collect();
    all.into_iter()
}

fn rows(columns: &[ColSpec]) -> Vec<Value> {
    if columns.is_empty() {
        return Vec::new();
    }
    let filled = (0..=3).filter_map(|number| example::row(columns, number));
    filled.collect()
}

/// The signature, once for each rank that it may have.
fn ranked(signature: &Signature) -> Vec<Signature> {
    if signature.inputs.iter().all(|input| input.shape.is_some()) {
        return vec![signature.clone()];
    }
    let with_rank = |rank: &usize| {
        let mut signature = signature.clone();
        for input in &mut signature.inputs {
            let open = || vec![Dim::Any(None); *rank];
            input.shape.get_or_insert_with(open);
        }
        signature
    };
    RANKS.iter().map(with_rank).collect()
}

/// Tensors of zeros as bytes, for shapes and types that no JSON has room or words for.
fn zeros(servable: &Servable, binary_answer: bool) -> Option<SampleRequest> {
    let batch = servable.signature().zeros_within(MOST_ZEROS)?;
    let inputs = servable.signature().as_sent(&batch);
    let inputs = inputs.map(|(input, tensor)| {
        json!({
            "name": input.name,
            "datatype": tensor.dtype().oip_name(),
            "shape": tensor.shape(),
            "parameters": { "binary_data_size": bytes(&tensor) },
        })
    });
    let mut body = Map::new();
    body.insert("inputs".to_owned(), inputs.collect());
    if binary_answer {
        let parameters = json!({ "binary_data_output": true });
        body.insert("parameters".to_owned(), parameters);
    }
    Some(SampleRequest {
        protocol: SampleProtocol::Infer,
        json: Value::from(body).to_string(),
        zeros: batch.inputs().iter().map(bytes).sum(),
        binary_answer,
    })
}

/// A text has its length before it, of four bytes.
fn bytes(tensor: &Tensor) -> usize {
    tensor.len() * tensor.dtype().width().unwrap_or(4)
}
