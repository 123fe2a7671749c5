//! The JSON body of a scoring request, read in one pass into typed data.

use axum::body::Bytes;

use super::error::ScoringError;
use super::inputs::{Inputs, Instances, inputs_data, instances_data, objects_data};
use crate::model::Schema;
use crate::protocol::client_id;
use crate::protocol::json::{Json, JsonError, Reader};
use crate::protocol::meter::Meter;
use crate::protocol::mlflow::schema::cast;
use crate::protocol::mlflow::schema::data::Data;
use crate::protocol::pandas::frame::{Frame, Rows};
use crate::protocol::pandas::python;
use crate::protocol::pandas::python::PyError;
use crate::serving::RequestId;

const REQUIRED: &str = "The input must be a JSON dictionary with exactly one of the input fields \
                        {'dataframe_split', 'dataframe_records', 'instances', 'inputs'}";

/// Keys that MLflow takes for a chat or completion request.
const LLM_KEYS: [&str; 3] = ["messages", "prompt", "input"];

/// A parsed body.
#[derive(Debug)]
pub(crate) struct ScoringRequest {
    pub(crate) data: Data,
    pub(crate) params: Option<Json>,
    /// The id that the client gave it, as Databricks has it.
    pub(crate) id: Option<RequestId>,
}

/// What stands under the input fields.
#[derive(Debug, Default)]
struct Envelope {
    split: Option<Split>,
    records: Option<Rows>,
    instances: Option<Instances>,
    inputs: Option<Inputs>,
    params: Option<Json>,
    id: Option<RequestId>,
    keys: Keys,
}

/// The keys of an object, for a message: the first ones, each once.
#[derive(Debug, Default)]
struct Keys {
    shown: Vec<String>,
    /// Whether one of them is not of the format.
    unknown: bool,
    /// Whether one of them asks for a chat or completion.
    llm: bool,
}

impl Keys {
    fn push(&mut self, key: &str, known: &[&str]) {
        self.unknown |= !known.contains(&key);
        self.llm |= LLM_KEYS.contains(&key);
        if self.shown.len() < 20 && !self.shown.contains(&python::shown(key)) {
            self.shown.push(python::shown(key));
        }
    }
}

impl std::fmt::Display for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown.join(", "))
    }
}

/// The value of `dataframe_split`.
#[derive(Debug)]
enum Split {
    Table {
        data: Option<Rows>,
        columns: Option<Json>,
        index: Option<Json>,
        keys: Keys,
    },
    Other(Json),
}

impl From<JsonError> for ScoringError {
    fn from(error: JsonError) -> Self {
        if let JsonError::OverBudget(over) = error {
            return over.into();
        }
        Self::Invalid(format!(
            "Ensure that input is a valid JSON formatted string. Error: '{error}'"
        ))
    }
}

/// Reads a body, and frees it, and converts the data to the types of `schema`.
///
/// # Errors
/// [`ScoringError`], with MLflow's codes.
pub(crate) fn parse(
    body: Bytes,
    schema: Option<&Schema>,
    meter: &Meter,
) -> Result<ScoringRequest, ScoringError> {
    let envelope = read(&body, meter)?;
    meter.free(body);
    let fields = [
        envelope.split.is_some(),
        envelope.records.is_some(),
        envelope.instances.is_some(),
        envelope.inputs.is_some(),
    ];
    let given = fields.into_iter().filter(|given| *given).count();
    if given == 0 && envelope.keys.llm {
        return Err(llm_error(schema.is_some()));
    }
    if given != 1 {
        let received = format!("Received dictionary with input fields: [{}]", envelope.keys);
        let hint = "See https://mlflow.org/docs/latest/models.html#deploy-mlflow-models for the request formats.";
        return Err(ScoringError::Envelope(format!(
            "{REQUIRED}. {received}. {hint}"
        )));
    }
    let data = if let Some(split) = envelope.split {
        Data::Frame(split_frame(split, schema, meter)?)
    } else if let Some(records) = envelope.records {
        Data::Frame(records_frame(records, schema, meter)?)
    } else if let Some(instances) = envelope.instances {
        instances_data(instances, schema, meter)?
    } else {
        match envelope.inputs {
            Some(Inputs::Objects(columns)) => objects_data(columns, schema, meter)?,
            Some(Inputs::Value(value)) => inputs_data(value, schema, meter)?,
            None => inputs_data(Json::Null, schema, meter)?,
        }
    };
    Ok(ScoringRequest {
        data,
        params: envelope.params,
        id: envelope.id,
    })
}

/// MLflow hands the whole object to the model, which an ONNX model cannot take.
fn llm_error(has_schema: bool) -> ScoringError {
    let reason =
        "an ONNX model takes no chat or completion request (`messages`, `prompt`, `input`)"
            .to_owned();
    if has_schema {
        let error = crate::protocol::mlflow::schema::data::SchemaError::Contradicts(reason);
        return ScoringError::Schema {
            data: "an object".to_owned(),
            error,
        };
    }
    ScoringError::Evaluate(reason)
}

fn read(body: &[u8], meter: &Meter) -> Result<Envelope, ScoringError> {
    let mut reader = Reader::metered(body, meter)?;
    if !reader.next_is_object()? {
        let other = reader.value()?;
        reader.finish()?;
        let received = match other {
            Json::Array(_) | Json::List(_) => "Received a list.".to_owned(),
            scalar => format!(
                "Received unexpected input type '<class '{}'>.",
                python::type_name(&scalar)
            ),
        };
        return Err(ScoringError::Invalid(format!("{REQUIRED}. {received}")));
    }
    let mut envelope = Envelope::default();
    reader.object(|reader, key| {
        envelope.keys.push(key, &[]);
        match key {
            "dataframe_split" => envelope.split = Some(read_split(reader)?),
            "dataframe_records" => envelope.records = Some(Rows::read(reader)?),
            "instances" => envelope.instances = Some(Instances::read(reader)?),
            "inputs" => envelope.inputs = Some(Inputs::read(reader)?),
            "params" => envelope.params = Some(reader.value()?),
            client_id::KEY => envelope.id = client_id::read(reader, meter)?,
            _ => reader.skip()?,
        }
        Ok::<(), ScoringError>(())
    })?;
    reader.finish()?;
    Ok(envelope)
}

fn read_split(reader: &mut Reader<'_>) -> Result<Split, JsonError> {
    if !reader.next_is_object()? {
        return Ok(Split::Other(reader.value()?));
    }
    let (mut data, mut columns, mut index, mut keys) = (None, None, None, Keys::default());
    reader.object(|reader, key| {
        keys.push(key, &["data", "columns", "index"]);
        match key {
            "data" => data = Some(Rows::read(reader)?),
            "columns" => columns = Some(reader.value()?),
            "index" => index = Some(reader.value()?),
            _ => reader.skip()?,
        }
        Ok::<(), JsonError>(())
    })?;
    Ok(Split::Table {
        data,
        columns,
        index,
        keys,
    })
}

fn split_frame(
    split: Split,
    schema: Option<&Schema>,
    meter: &Meter,
) -> Result<Frame, ScoringError> {
    let (data, columns, index, keys) = match split {
        Split::Table {
            data,
            columns,
            index,
            keys,
        } => (data, columns, index, keys),
        Split::Other(other) => {
            let got = got(&other);
            return Err(ScoringError::Invalid(format!(
                "Dataframe split format must be a dictionary. Got {got}."
            )));
        }
    };
    let Some(data) = data.filter(|_| !keys.unknown) else {
        return Err(ScoringError::Invalid(format!(
            "Dataframe split format must have 'data' field and optionally 'columns' and 'index' fields. Got {{{keys}}}.'"
        )));
    };
    let frame = Frame::new(data, columns, index.as_ref(), meter);
    cast_frame(
        frame.map_err(|error| no_frame("split", error))?,
        schema,
        meter,
    )
}

fn records_frame(
    rows: Rows,
    schema: Option<&Schema>,
    meter: &Meter,
) -> Result<Frame, ScoringError> {
    if let Rows::Other(other) = &rows
        && !matches!(other, Json::Array(_) | Json::List(_))
    {
        let got = got(other);
        return Err(ScoringError::Invalid(format!(
            "Dataframe records format must be a list of records. Got {got}."
        )));
    }
    let frame = Frame::new(rows, None, None, meter);
    cast_frame(
        frame.map_err(|error| no_frame("records", error))?,
        schema,
        meter,
    )
}

fn no_frame(format: &str, error: PyError) -> ScoringError {
    match error {
        PyError::OverBudget(over) => over.into(),
        error @ PyError::Raised { .. } => ScoringError::Invalid(format!(
            "Provided dataframe_{format} field is not a valid dataframe representation in '{format}' format. \
             Error: '{error}'"
        )),
    }
}

fn cast_frame(
    mut frame: Frame,
    schema: Option<&Schema>,
    meter: &Meter,
) -> Result<Frame, ScoringError> {
    if let Some(schema) = schema {
        cast::cast_frame(&mut frame, schema, meter)?;
    }
    Ok(frame)
}

fn got(value: &Json) -> String {
    match value {
        Json::Array(_) | Json::List(_) => "list".to_owned(),
        Json::Object(_) => "dictionary".to_owned(),
        other => format!("type <class '{}'>", python::type_name(other)),
    }
}
