//! Between a scoring body and tensors, and between outputs and a scoring answer.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, header};

use super::answer;
use super::direct;
use super::error::ScoringError;
use super::feed::{self, FeedError, Form};
use super::params::{self, ParamsError};
use crate::batching::BatchError;
use crate::budget::{Allowance, BODY_MULTIPLE, Budget};
use crate::engine::{EngineError, Outputs};
use crate::error::{ErrorKind, Kinded};
use crate::model::{Batch, ModelSignature, ResponseOutput, Schema, Signature};
use crate::protocol::json::{self, Json, NonFinite};
use crate::protocol::meter::{Meter, tensor_heap};
use crate::protocol::mlflow::envelope;
use crate::protocol::mlflow::schema::data::{Data, SchemaError};
use crate::protocol::mlflow::schema::enforce;
use crate::protocol::pandas::csv;
use crate::protocol::pandas::csv::CsvError;
use crate::protocol::pandas::frame;
use crate::protocol::pandas::parquet;
use crate::protocol::pandas::parquet::ParquetError;
use crate::protocol::pandas::python;
use crate::protocol::size;
use crate::serving::{Codec, RequestId, RequestOptions, Servable, ServeError};
use crate::tensor::Tensor;

/// The kinds of body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Json,
    Csv,
    Parquet,
}

/// Media types ignore case, a charset may be quoted, and a missing header means JSON; otherwise as in MLflow.
pub(crate) fn content_type(headers: &HeaderMap) -> Result<Content, ScoringError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(Content::Json);
    };
    let value = value
        .to_str()
        .map_err(|_| ScoringError::ContentType("Content-Type is not ASCII".to_owned()))?;
    parse_content_type(value)
}

pub(crate) fn parse_content_type(value: &str) -> Result<Content, ScoringError> {
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
pub(crate) struct ScoringCodec {
    /// Taken by `decode`; an error of the headers or of reading the body is reported there, where it is counted.
    pub(crate) input: Option<Result<(Content, Bytes), ScoringError>>,
    /// What the request may hold, until it is answered.
    pub(crate) allowance: Allowance,
    pub(crate) non_finite: NonFinite,
    pub(crate) form: Form,
    /// What the body says.
    pub(crate) id: Option<RequestId>,
    /// How large the body may be, and what it inflates to.
    pub(crate) max_body: usize,
    /// How long the client waits.
    pub(crate) timeout: Option<Duration>,
}

impl ScoringCodec {
    pub(crate) fn new(
        content: Result<Content, ScoringError>,
        body: Vec<u8>,
        non_finite: NonFinite,
    ) -> Self {
        let allowance = Budget::unlimited().allowance(LOCAL_BODY * BODY_MULTIPLE);
        Self {
            allowance,
            input: Some(content.map(|content| (content, Bytes::from(body)))),
            non_finite,
            form: Form::Lists,
            id: None,
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

    fn request_id(&self) -> Option<RequestId> {
        self.id.clone()
    }

    fn request_options(&self) -> RequestOptions {
        RequestOptions {
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
        let Fed { named, form, id } = match table {
            Some((table, form)) => {
                meter.free(body);
                Fed {
                    named: vec![table],
                    form,
                    id: None,
                }
            }
            None => {
                let signatures = Signatures {
                    declared,
                    graph: signature,
                };
                tensors_of(content, body, signatures, self.max_body, &meter)?
            }
        };
        self.form = form;
        self.id = id;
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
                    .map_err(|error| ScoringError::Evaluate(error.to_string()))
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

/// What a model takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signatures<'s> {
    /// The package's own, in MLflow's words.
    pub(crate) declared: Option<&'s ModelSignature>,
    /// The graph's.
    pub(crate) graph: &'s Signature,
}

/// What comes of a body.
#[derive(Debug)]
pub(crate) struct Fed {
    pub(crate) named: Vec<(String, Tensor)>,
    pub(crate) form: Form,
    pub(crate) id: Option<RequestId>,
}

/// The tensors of a body, by the way of pandas and MLflow.
pub(crate) fn tensors_of(
    content: Content,
    body: Bytes,
    signatures: Signatures<'_>,
    max_body: usize,
    meter: &Meter,
) -> Result<Fed, ScoringError> {
    let Signatures {
        declared,
        graph: signature,
    } = signatures;
    let schema = declared.and_then(|declared| declared.inputs.as_ref());
    let (data, params, id) = match content {
        Content::Json => {
            let request = envelope::parse(body, schema, meter)?;
            (request.data, request.params, request.id)
        }
        Content::Csv => (Data::Frame(parse_csv(body, schema, meter)?), None, None),
        Content::Parquet => {
            let frame = parse_parquet(body, max_body, meter)?;
            (Data::Frame(frame), None, None)
        }
    };
    let data = enforced(data, schema, meter)?;
    let specs = declared.and_then(|declared| declared.params.as_deref());
    params::check(params.as_ref(), specs, meter).map_err(|error| match error {
        ParamsError::OverBudget(over) => over.into(),
        ParamsError::Invalid(message) => ScoringError::Params(message),
    })?;
    let (named, form) = fed(data, signature, meter)?;
    Ok(Fed { named, form, id })
}

fn enforced(data: Data, schema: Option<&Schema>, meter: &Meter) -> Result<Data, ScoringError> {
    let Some(schema) = schema else {
        return Ok(data);
    };
    let described = describe(&data);
    enforce::enforce(data, schema, meter).map_err(|error| match error {
        SchemaError::OverBudget(over) => over.into(),
        error @ SchemaError::Contradicts(_) => ScoringError::Schema {
            data: described,
            error,
        },
    })
}

fn fed(
    data: Data,
    signature: &Signature,
    meter: &Meter,
) -> Result<(Vec<(String, Tensor)>, Form), ScoringError> {
    feed::feed(data, signature, meter).map_err(|error| match error {
        FeedError::OverBudget(over) => over.into(),
        FeedError::Unfit(message) => ScoringError::Evaluate(message),
    })
}

/// A table as a model takes it, and the column that says what it should answer.
#[derive(Debug)]
pub struct Labelled {
    /// The inputs.
    pub batch: Batch,
    /// The cells of the column as text, none where they are missing.
    pub labels: Option<Vec<Option<String>>>,
}

/// The tensors of a table in CSV or Parquet, by the way that a request takes; the column `label` is no input.
pub(super) fn labelled(
    servable: &Servable,
    (content, body): (Content, Bytes),
    label: Option<&str>,
) -> Result<Labelled, ScoringError> {
    let allowance = Budget::unlimited().allowance(LOCAL_BODY * BODY_MULTIPLE);
    let meter = Meter::new(&allowance);
    let declared = servable.package().manifest.signature.as_ref();
    let schema = declared.and_then(|declared| declared.inputs.as_ref());
    // A request for tensors cannot be a table of doubles, as MLflow has it; data can.
    let columns = schema.filter(|schema| matches!(schema, Schema::Columns(_)));
    let mut frame = match content {
        Content::Csv => parse_csv(body, columns, &meter)?,
        Content::Parquet => parse_parquet(body, LOCAL_BODY, &meter)?,
        Content::Json => return Err(ScoringError::Invalid("the data is no table".to_owned())),
    };
    let labels = label.map(|label| take_labels(&mut frame, label));
    let data = enforced(Data::Frame(frame), columns, &meter)?;
    let (named, _) = fed(data, servable.signature(), &meter)?;
    let bound = servable.signature().bind(named);
    Ok(Labelled {
        batch: bound.map_err(|error| ScoringError::Evaluate(error.to_string()))?,
        labels: labels.transpose()?,
    })
}

fn take_labels(frame: &mut frame::Frame, label: &str) -> Result<Vec<Option<String>>, ScoringError> {
    let is_it = |column: &frame::Column| matches!(&column.name, Json::Text(name) if name == label);
    let place = frame.columns.iter().position(is_it).ok_or_else(|| {
        ScoringError::Invalid(format!("the data has no column `{label}` for `--label`"))
    })?;
    let column = frame.columns.remove(place);
    let text = |cell: &Json| match cell {
        Json::Null => None,
        Json::Float(float) if float.is_nan() => None,
        Json::Float(float) => Some(float.to_string()),
        Json::Int(int) => Some(int.to_string()),
        Json::Bool(bool) => Some(u8::from(*bool).to_string()),
        Json::Text(text) => Some(text.clone()),
        other => Some(python::repr(other)),
    };
    Ok(frame::cells_of(&column.data)
        .map(|cell| text(&cell))
        .collect())
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
pub(crate) fn codec(body: Vec<u8>) -> impl Codec {
    ScoringCodec::new(Ok(Content::Json), body, NonFinite::Null)
}
