//! MLflow's scoring protocol: `/invocations`, `/ping`, `/health`, `/version`.
//!
//! Answers what `mlflow models serve` answers for the ONNX flavor; the differences are in
//! `docs/mlflow-compatibility.md`.
//!
//! ```text
//! bytes ─► request (JSON) / csv ─► cast ─► enforce ─► feed ─► Signature::bind ─► engine ─► answer
//! ```

mod answer;
mod array;
mod cast;
mod csv;
mod datetime;
mod enforce;
mod error;
mod feed;
mod frame;
mod params;
mod python;
mod request;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use self::enforce::Data;
use self::error::ScoringError;
use self::feed::Form;
use super::json::NonFinite;
use super::{Route, Shared, Surface, model_headers};
use crate::batching::BatchError;
use crate::engine::{EngineError, Outputs};
use crate::error::{ErrorKind, Kinded};
use crate::model::{Batch, ModelName, Schema};
use crate::serving::{Codec, Selector, Servable, ServeError, VersionSelector};
use crate::telemetry::Protocol;

/// The version of MLflow whose behaviour `/version` claims.
const MLFLOW_VERSION: &str = "3.17.2";

pub(super) fn routes() -> Vec<Route> {
    let row = |path, methods| Route {
        path,
        surface: Surface::Mlflow,
        methods,
    };
    vec![
        row("/ping", get(ping)),
        row("/health", get(|| async { ok() })),
        row(
            "/version",
            get(|| async { ([(header::CONTENT_TYPE, JSON)], MLFLOW_VERSION) }),
        ),
        row("/invocations", post(invocations)),
        row("/models/{name}/invocations", post(model_invocations)),
        row(
            "/models/{name}/versions/{version}/invocations",
            post(version_invocations),
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

async fn invocations(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let selector = Selector {
        model: None,
        version: VersionSelector::Default,
    };
    score(shared, &selector, &headers, body).await
}

async fn model_invocations(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match select(name, None) {
        Ok(selector) => score(shared, &selector, &headers, body).await,
        Err(error) => error.into_response(),
    }
}

async fn version_invocations(
    State(shared): State<Shared>,
    Path((name, version)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match select(name, Some(&version)) {
        Ok(selector) => score(shared, &selector, &headers, body).await,
        Err(error) => error.into_response(),
    }
}

fn select(name: String, version: Option<&str>) -> Result<Selector, ScoringError> {
    let not_found = |error: crate::model::IdError| ScoringError::NotFound(error.to_string());
    let model = ModelName::new(name).map_err(not_found)?;
    let version = match version {
        Some(version) => VersionSelector::Exactly(version.parse().map_err(not_found)?),
        None => VersionSelector::Default,
    };
    Ok(Selector {
        model: Some(model),
        version,
    })
}

async fn score(
    shared: Shared,
    selector: &Selector,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let input = content_type(headers).and_then(|content| match body {
        Ok(body) => Ok((content, body)),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let limit = shared.max_body();
            Err(ScoringError::TooLarge(format!(
                "the body is larger than {limit} bytes (`server.max_body`)"
            )))
        }
        Err(rejection) => Err(ScoringError::Invalid(format!(
            "the body could not be read: {rejection}"
        ))),
    });
    let bytes = input.as_ref().map_or(0, |(_, body)| body.len());
    shared.service().metrics().request_size(bytes);
    let codec = ScoringCodec {
        input: Some(input),
        bytes,
        non_finite: shared.non_finite(),
        form: Form::Lists,
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
    response
}

/// The two kinds of body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Json,
    Csv,
}

/// Media types ignore case, a charset may be quoted, and a missing header means JSON; otherwise as in MLflow.
fn content_type(headers: &HeaderMap) -> Result<Content, ScoringError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(Content::Json);
    };
    let value = value
        .to_str()
        .map_err(|_| ScoringError::ContentType("Content-Type is not ASCII".to_owned()))?;
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
        "application/vnd.apache.parquet" => Err(ScoringError::ContentType(
            "Parquet bodies are not supported yet; send application/json or text/csv".to_owned(),
        )),
        _ => Err(ScoringError::ContentType(format!(
            "This predictor only supports the following content types: Types: ['text/csv', 'application/json']. Got \
             '{value}'."
        ))),
    }
}

/// One scoring request.
struct ScoringCodec {
    /// Taken by `decode`; an error of the headers or of reading the body is reported there, where it is counted.
    input: Option<Result<(Content, Bytes), ScoringError>>,
    bytes: usize,
    non_finite: NonFinite,
    form: Form,
}

impl Codec for ScoringCodec {
    type Answer = Vec<u8>;
    type Error = ScoringError;

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn decode(&mut self, servable: &Servable) -> Result<Batch, ScoringError> {
        let (content, body) = self.input.take().expect("a request is decoded once")?;
        let declared = servable.package().manifest.signature.as_ref();
        let schema = declared.and_then(|signature| signature.inputs.as_ref());
        let (data, params) = match content {
            Content::Json => {
                let request = request::parse(&body, schema)?;
                (request.data, request.params)
            }
            Content::Csv => (Data::Frame(parse_csv(&body, schema)?), None),
        };
        let data = match schema {
            Some(schema) => {
                let described = describe(&data);
                enforce::enforce(data, schema).map_err(|error| ScoringError::Schema {
                    data: described,
                    error,
                })?
            }
            None => data,
        };
        let specs = declared.and_then(|signature| signature.params.as_deref());
        params::check(params.as_ref(), specs).map_err(ScoringError::Params)?;
        let (named, form) =
            feed::feed(data, servable.signature()).map_err(ScoringError::Evaluate)?;
        self.form = form;
        servable
            .signature()
            .bind(named)
            .map_err(|error| ScoringError::Evaluate(error.to_string()))
    }

    fn encode(self, servable: &Servable, outputs: Outputs) -> Result<Vec<u8>, ScoringError> {
        answer::write_answer(self.form, servable.signature(), &outputs, self.non_finite)
            .map_err(ScoringError::Evaluate)
    }
}

fn parse_csv(body: &[u8], schema: Option<&Schema>) -> Result<frame::Frame, ScoringError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        ScoringError::Invalid(format!(
            "Ensure that input is a valid UTF-8 encoded string. Error: '{error}'"
        ))
    })?;
    csv::read(text, schema).map_err(ScoringError::Csv)
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
        Data::Objects(rows) => format!("list of {} objects", rows.len()),
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

/// Runs a scoring body through the model as `/invocations` would, without HTTP; for warm-up.
///
/// # Errors
/// The kind of failure and its message.
pub(super) async fn score_once(
    servable: &Servable,
    body: Vec<u8>,
) -> Result<Vec<u8>, (ErrorKind, String)> {
    let mut codec = json_codec(body);
    let outcome = async {
        let batch = codec.decode(servable)?;
        let outputs = servable
            .batcher()
            .submit(batch, None)
            .await
            .map_err(ServeError::from)?;
        codec.encode(servable, outputs)
    };
    outcome
        .await
        .map_err(|error: ScoringError| (error.kind(), error.to_string()))
}

/// The tensors of a scoring body, as [`score_once`] sends them to the model.
///
/// # Errors
/// The kind of failure and its message.
pub(super) fn batch_of(servable: &Servable, body: Vec<u8>) -> Result<Batch, (ErrorKind, String)> {
    let batch = json_codec(body).decode(servable);
    batch.map_err(|error: ScoringError| (error.kind(), error.to_string()))
}

fn json_codec(body: Vec<u8>) -> ScoringCodec {
    ScoringCodec {
        bytes: body.len(),
        input: Some(Ok((Content::Json, Bytes::from(body)))),
        non_finite: NonFinite::Null,
        form: Form::Lists,
    }
}
