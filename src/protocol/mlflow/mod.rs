//! MLflow's scoring protocol: `/invocations`, `/ping`, `/health`, `/version`.
//!
//! Answers what `mlflow models serve` answers for the ONNX flavor; the differences are in
//! `docs/reference/mlflow-compatibility.md`.
//!
//! ```text
//! bytes ─► request (JSON) / csv / parquet ─► cast ─► enforce ─► feed ─► Signature::bind ─► engine ─► answer
//! ```

mod answer;
mod array;
mod cast;
mod csv;
mod datetime;
mod digits;
mod direct;
mod enforce;
mod error;
mod feed;
mod frame;
mod inputs;
mod nested;
mod params;
mod parquet;
mod python;
mod request;
mod tensors;

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use self::csv::CsvError;
use self::enforce::{Data, SchemaError};
use self::error::ScoringError;
use self::feed::{FeedError, Form};
use self::params::ParamsError;
use self::parquet::ParquetError;
use super::access::Access;
use super::body::{BodyError, Head, Received, held};
use super::json::{self, NonFinite};
use super::meter::{Meter, tensor_heap};
use super::openapi::{Answer, Operation};
use super::{Route, Shared, Surface, foreign, model_headers, size, timeout_header, v2_rest};
use crate::batching::BatchError;
use crate::budget::{Allowance, BODY_MULTIPLE, Budget};
use crate::engine::{EngineError, Outputs};
use crate::error::{ErrorKind, Kinded};
use crate::model::{
    Alias, Batch, IdError, ModelName, ModelSignature, Pointer, ResponseOutput, Schema, Signature,
};
use crate::serving::{
    Codec, ExampleError, Selector, Servable, ServeError, VersionSelector, Wishes,
};
use crate::telemetry::Protocol;
use crate::tensor::{Tensor, Value};

/// The version of MLflow whose behaviour `/version` claims.
const MLFLOW_VERSION: &str = "3.17.2";

pub(super) fn routes() -> Vec<Route> {
    let row = |path: &'static str, methods, operation| {
        Route::new(path, Surface::Mlflow, methods, vec![operation])
    };
    let told = |summary| Operation::get(Access::Public, summary, Answer::Empty);
    vec![
        row(
            "/ping",
            get(ping),
            told("whether the server wants requests").or_unready(),
        ),
        row(
            "/health",
            get(|| async { ok() }),
            told("whether the process lives"),
        ),
        row(
            "/version",
            get(|| async { ([(header::CONTENT_TYPE, JSON)], MLFLOW_VERSION) }),
            told("the version of MLflow whose answers these are"),
        ),
        row(
            "/invocations",
            post(invocations),
            Operation::scoring("the default model").of_default(),
        ),
        row(
            "/models/{name}/invocations",
            post(model_invocations),
            Operation::scoring("the version that serves"),
        ),
        row(
            "/models/{name}/versions/{version}/invocations",
            post(version_invocations),
            Operation::scoring("one version"),
        ),
        row(
            "/models/{name}/stages/{stage}/invocations",
            post(stage_invocations),
            Operation::scoring("the version in a stage"),
        ),
        row(
            "/models/{name}/aliases/{alias}/invocations",
            post(alias_invocations),
            Operation::scoring("the version of an alias"),
        ),
    ]
}

const JSON: &str = "application/json";

fn ok() -> Response {
    ([(header::CONTENT_TYPE, JSON)], "\n").into_response()
}

async fn ping(State(shared): State<Shared>) -> Response {
    if shared.is_ready() {
        ok()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, ok()).into_response()
    }
}

async fn invocations(State(shared): State<Shared>, received: Received) -> Response {
    let selector = Selector {
        model: None,
        version: VersionSelector::Default,
    };
    score(shared, &selector, received).await
}

pub(super) async fn model_invocations(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    received: Received,
) -> Response {
    let version: Result<_, IdError> = Ok(VersionSelector::Default);
    score_selected(shared, name, version, received).await
}

async fn version_invocations(
    State(shared): State<Shared>,
    Path((name, version)): Path<(String, String)>,
    received: Received,
) -> Response {
    let version = version.parse().map(VersionSelector::Exactly);
    score_selected(shared, name, version, received).await
}

async fn stage_invocations(
    State(shared): State<Shared>,
    Path((name, stage)): Path<(String, String)>,
    received: Received,
) -> Response {
    let stage = stage.parse().map(Pointer::Stage);
    score_selected(shared, name, stage.map(VersionSelector::Pointer), received).await
}

async fn alias_invocations(
    State(shared): State<Shared>,
    Path((name, alias)): Path<(String, String)>,
    received: Received,
) -> Response {
    let alias = Alias::new(alias).map(Pointer::Alias);
    score_selected(shared, name, alias.map(VersionSelector::Pointer), received).await
}

async fn score_selected(
    shared: Shared,
    name: String,
    version: Result<VersionSelector, impl std::fmt::Display>,
    received: Received,
) -> Response {
    let model = ModelName::new(name).map_err(|error| error.to_string());
    let version = version.map_err(|error| error.to_string());
    match model.and_then(|model| Ok((model, version?))) {
        Ok((model, version)) => {
            let selector = Selector {
                model: Some(model),
                version,
            };
            score(shared, &selector, received).await
        }
        Err(message) => ScoringError::NotFound(message).into_response(),
    }
}

async fn score(shared: Shared, selector: &Selector, received: Received) -> Response {
    let Received {
        headers,
        body,
        allowance,
    } = received;
    let body = match body {
        Ok(body) => {
            match foreign::framing(&shared, selector, &headers, &body, foreign::SAGEMAKER) {
                Some(framing) => {
                    let head = Head {
                        headers: &headers,
                        allowance: &allowance,
                    };
                    return v2_rest::infer_framed(&shared, selector, head, Ok(body), framing).await;
                }
                None => Ok(body),
            }
        }
        rejected => rejected,
    };
    let input = content_type(&headers).and_then(|content| {
        let body = body.map_err(|error| match error {
            BodyError::TooLarge(_) => ScoringError::TooLarge(error.to_string()),
            BodyError::Unreadable(_) => ScoringError::Invalid(error.to_string()),
            BodyError::OverBudget(over) => over.into(),
        })?;
        Ok((content, body))
    });
    let (timeout, input) = match timeout_header(&headers) {
        Ok(timeout) => (timeout, input),
        Err(reason) => (None, Err(ScoringError::Invalid(reason))),
    };
    let bytes = input.as_ref().map_or(0, |(_, body)| body.len());
    shared.service().metrics().request_size(bytes);
    let codec = ScoringCodec {
        input: Some(input),
        non_finite: shared.non_finite(),
        form: Form::Lists,
        max_body: shared.max_body(),
        timeout,
        allowance: allowance.clone(),
    };
    let answered = shared
        .service()
        .infer(Protocol::Mlflow, selector, codec)
        .await;
    let mut response = match answered.result {
        Ok(body) => ([(header::CONTENT_TYPE, JSON)], body).into_response(),
        Err(error) => error.into_response(),
    };
    model_headers(&mut response, answered.model.as_ref());
    held(response, allowance)
}

/// The kinds of body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Json,
    Csv,
    Parquet,
}

/// Media types ignore case, a charset may be quoted, and a missing header means JSON; otherwise as in MLflow.
fn content_type(headers: &HeaderMap) -> Result<Content, ScoringError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(Content::Json);
    };
    let value = value
        .to_str()
        .map_err(|_| ScoringError::ContentType("Content-Type is not ASCII".to_owned()))?;
    parse_content_type(value)
}

fn parse_content_type(value: &str) -> Result<Content, ScoringError> {
    let mut parts = value.split(';').map(str::trim);
    let mime = parts.next().unwrap_or_default().to_ascii_lowercase();
    for parameter in parts.filter(|parameter| !parameter.is_empty()) {
        let (key, charset) = parameter.split_once('=').unwrap_or((parameter, ""));
        let charset = charset.trim_matches('"');
        if key != "charset" {
            return Err(ScoringError::ContentType(format!(
                "Unrecognized content type parameters: {key}."
            )));
        }
        if !charset.eq_ignore_ascii_case("utf-8") {
            return Err(ScoringError::ContentType(
                "The scoring server only supports UTF-8".to_owned(),
            ));
        }
    }
    match mime.as_str() {
        "application/json" => Ok(Content::Json),
        "text/csv" => Ok(Content::Csv),
        "application/vnd.apache.parquet" => Ok(Content::Parquet),
        _ => Err(ScoringError::ContentType(format!(
            "This predictor only supports the following content types: Types: ['text/csv', 'application/json', \
             'application/vnd.apache.parquet']. Got '{value}'."
        ))),
    }
}

/// What a body of a file of this machine may inflate to.
const LOCAL_BODY: usize = 1 << 30;

/// One scoring request.
struct ScoringCodec {
    /// Taken by `decode`; an error of the headers or of reading the body is reported there, where it is counted.
    input: Option<Result<(Content, Bytes), ScoringError>>,
    /// What the request may hold, until it is answered.
    allowance: Allowance,
    non_finite: NonFinite,
    form: Form,
    /// How large the body may be, and what it inflates to.
    max_body: usize,
    /// How long the client waits.
    timeout: Option<Duration>,
}

impl ScoringCodec {
    fn new(content: Result<Content, ScoringError>, body: Vec<u8>, non_finite: NonFinite) -> Self {
        let allowance = Budget::unlimited().allowance(LOCAL_BODY * BODY_MULTIPLE);
        Self {
            allowance,
            input: Some(content.map(|content| (content, Bytes::from(body)))),
            non_finite,
            form: Form::Lists,
            max_body: LOCAL_BODY,
            timeout: None,
        }
    }
}

impl Codec for ScoringCodec {
    type Answer = Vec<u8>;
    type Error = ScoringError;

    fn bytes(&self) -> usize {
        match &self.input {
            Some(Ok((Content::Json, body))) => json::effort(body),
            Some(Ok((Content::Csv, body))) => body.len().saturating_mul(csv::EFFORT),
            // A small file may inflate to as much as a body may have.
            Some(Ok((Content::Parquet, _))) => self.max_body,
            Some(Err(_)) | None => 0,
        }
    }

    fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }

    fn wishes(&self) -> Wishes {
        Wishes {
            timeout: self.timeout,
            urgent: false,
        }
    }

    fn decode(&mut self, servable: &Servable) -> Result<Batch, ScoringError> {
        let (content, body) = self.input.take().expect("a request is decoded once")?;
        let declared = servable.package().manifest.signature.as_ref();
        let signature = servable.signature();
        let meter = Meter::new(&self.allowance);
        let table = match content {
            Content::Json => direct::table(&body, declared, signature, &meter),
            Content::Csv | Content::Parquet => None,
        };
        let (named, form) = match table {
            Some((table, form)) => {
                meter.free(body);
                (vec![table], form)
            }
            None => tensors_of(
                content,
                body,
                (declared, signature),
                (self.max_body, &meter),
            )?,
        };
        self.form = form;
        let bound = signature.bind(named);
        let batch = bound.map_err(|error| ScoringError::Evaluate(error.to_string()))?;
        meter.keep(batch.inputs().iter().map(tensor_heap).sum());
        Ok(batch)
    }

    fn encode(self, servable: &Servable, outputs: Outputs) -> Result<Vec<u8>, ScoringError> {
        self.allowance.charge(size::in_json(&outputs))?;
        match servable.response() {
            ResponseOutput::All => {
                answer::write_answer(self.form, servable.signature(), &outputs, self.non_finite)
                    .map_err(ScoringError::Evaluate)
            }
            ResponseOutput::Predictions(index) => {
                Ok(answer::write_predictions(&outputs[index], self.non_finite))
            }
            ResponseOutput::Probabilities(index) => {
                Ok(answer::write_one(&outputs[index], self.non_finite))
            }
        }
    }
}

/// The tensors of a body, by the way of pandas and MLflow.
fn tensors_of(
    content: Content,
    body: Bytes,
    (declared, signature): (Option<&ModelSignature>, &Signature),
    (max_body, meter): (usize, &Meter),
) -> Result<(Vec<(String, Tensor)>, Form), ScoringError> {
    let schema = declared.and_then(|declared| declared.inputs.as_ref());
    let (data, params) = match content {
        Content::Json => {
            let request = request::parse(body, schema, meter)?;
            (request.data, request.params)
        }
        Content::Csv => (Data::Frame(parse_csv(body, schema, meter)?), None),
        Content::Parquet => (Data::Frame(parse_parquet(body, max_body, meter)?), None),
    };
    let data = match schema {
        Some(schema) => {
            let described = describe(&data);
            enforce::enforce(data, schema, meter).map_err(|error| match error {
                SchemaError::OverBudget(over) => over.into(),
                error @ SchemaError::Contradicts(_) => ScoringError::Schema {
                    data: described,
                    error,
                },
            })?
        }
        None => data,
    };
    let specs = declared.and_then(|declared| declared.params.as_deref());
    params::check(params.as_ref(), specs, meter).map_err(|error| match error {
        ParamsError::OverBudget(over) => over.into(),
        ParamsError::Invalid(message) => ScoringError::Params(message),
    })?;
    feed::feed(data, signature, meter).map_err(|error| match error {
        FeedError::OverBudget(over) => over.into(),
        FeedError::Unfit(message) => ScoringError::Evaluate(message),
    })
}

fn parse_csv(
    body: Bytes,
    schema: Option<&Schema>,
    meter: &Meter,
) -> Result<frame::Frame, ScoringError> {
    let text = std::str::from_utf8(&body).map_err(|error| {
        ScoringError::Invalid(format!(
            "Ensure that input is a valid UTF-8 encoded string. Error: '{error}'"
        ))
    })?;
    let frame = csv::read(text, schema, meter).map_err(|error| match error {
        CsvError::OverBudget(over) => over.into(),
        CsvError::Malformed(reason) => ScoringError::Csv(reason),
    })?;
    meter.free(body);
    Ok(frame)
}

fn parse_parquet(
    body: Bytes,
    max_body: usize,
    meter: &Meter,
) -> Result<frame::Frame, ScoringError> {
    let frame = parquet::read(&body, max_body, meter).map_err(|error| match error {
        ParquetError::TooLarge(_) => ScoringError::TooLarge(error.to_string()),
        ParquetError::OverBudget(over) => over.into(),
        ParquetError::Malformed(reason) => ScoringError::Parquet(reason),
    })?;
    meter.free(body);
    Ok(frame)
}

/// What the data is, for a message: not the data itself, which may be large or private.
fn describe(data: &Data) -> String {
    match data {
        Data::Frame(frame) => format!(
            "data frame of {} rows and {} columns",
            frame.rows,
            frame.columns.len()
        ),
        Data::Array(array) => format!("array of shape {:?}", array.shape()),
        Data::Mapping(mapping) => format!("{} named arrays", mapping.len()),
        Data::Objects(frame) => format!("list of {} objects", frame.rows),
    }
}

/// As MLflow does, what the engine refuses while running is the client's error: the data did not fit the graph.
impl ScoringError {
    fn from_engine(error: ServeError) -> Self {
        match error {
            ServeError::Batch(BatchError::Engine(EngineError::Run { reason, .. })) => {
                Self::Evaluate(reason)
            }
            other => Self::Serve(other),
        }
    }
}

impl From<ServeError> for ScoringError {
    fn from(error: ServeError) -> Self {
        if error.kind() == ErrorKind::InvalidArgument
            || matches!(error, ServeError::Batch(BatchError::Engine(_)))
        {
            return Self::from_engine(error);
        }
        Self::Serve(error)
    }
}

/// What reads this JSON scoring body and writes its answer.
pub(super) fn codec(body: Vec<u8>) -> impl Codec {
    ScoringCodec::new(Ok(Content::Json), body, NonFinite::Null)
}

/// Runs a scoring body of this content type through the model as `/invocations` would, without HTTP.
///
/// # Errors
/// The kind of failure and its message.
pub(super) async fn score_once(
    servable: &Servable,
    content_type: &str,
    body: Vec<u8>,
    non_finite: NonFinite,
) -> Result<Vec<u8>, (ErrorKind, String)> {
    let codec = ScoringCodec::new(parse_content_type(content_type), body, non_finite);
    let outcome = async {
        let mut codec = codec;
        let batch = codec.decode(servable)?;
        run(servable, codec, batch).await
    };
    outcome
        .await
        .map_err(|error: ScoringError| (error.kind(), error.to_string()))
}

/// Runs a JSON scoring body as [`score_once`] does, for the sake of its outputs: how many numbers in them are NaN or
/// infinite.
///
/// # Errors
/// [`ExampleError`]: whether it reached the engine.
pub(super) async fn check(
    servable: &Servable,
    body: Vec<u8>,
) -> Result<(usize, Batch), ExampleError> {
    let mut codec = ScoringCodec::new(Ok(Content::Json), body, NonFinite::Null);
    let batch = codec.decode(servable);
    let batch = batch.map_err(|error| ExampleError::Refused(error.to_string()))?;
    let outputs = servable.submit(batch.clone(), None).await;
    let outputs = outputs.map_err(|error| ExampleError::Failed(error.to_string()))?;
    let non_finite = outputs.iter().map(Value::count_non_finite).sum();
    let answer = codec.encode(servable, outputs);
    answer.map_err(|error| match error.kind() {
        ErrorKind::Internal => ExampleError::Failed(error.to_string()),
        _ => ExampleError::Refused(error.to_string()),
    })?;
    Ok((non_finite, batch))
}

/// The scoring answer to tensors that no request brought.
///
/// # Errors
/// The kind of failure and its message.
pub(super) async fn score_batch(
    servable: &Servable,
    batch: Batch,
) -> Result<Vec<u8>, (ErrorKind, String)> {
    let codec = ScoringCodec::new(Ok(Content::Json), Vec::new(), NonFinite::Null);
    let answer = run(servable, codec, batch).await;
    answer.map_err(|error| (error.kind(), error.to_string()))
}

async fn run(
    servable: &Servable,
    codec: ScoringCodec,
    batch: Batch,
) -> Result<Vec<u8>, ScoringError> {
    let outputs = servable.submit(batch, None).await;
    codec.encode(servable, outputs.map_err(ServeError::from)?)
}

/// The tensors of a scoring body, as [`score_once`] sends them to the model.
///
/// # Errors
/// The kind of failure and its message.
pub(super) fn batch_of(servable: &Servable, body: Vec<u8>) -> Result<Batch, (ErrorKind, String)> {
    let mut codec = ScoringCodec::new(Ok(Content::Json), body, NonFinite::Null);
    let batch = codec.decode(servable);
    batch.map_err(|error: ScoringError| (error.kind(), error.to_string()))
}
