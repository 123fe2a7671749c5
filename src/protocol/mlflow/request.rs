//! The JSON body of a scoring request, read in one pass into typed data.

use std::collections::HashMap;

use super::array::{Array, ragged};
use super::cast;
use super::datetime;
use super::enforce::Data;
use super::error::ScoringError;
use super::frame::{Frame, Rows};
use super::nested::{self, Stage};
use super::python::{self, PyError};
use crate::model::{ColSpec, ColType, DataType, Schema, TensorSpec, TensorType};
use crate::protocol::json::{Json, JsonError, Reader};
use crate::tensor::DType;

const REQUIRED: &str = "The input must be a JSON dictionary with exactly one of the input fields \
                        {'dataframe_split', 'dataframe_records', 'instances', 'inputs'}";

/// Keys that MLflow takes for a chat or completion request.
const LLM_KEYS: [&str; 3] = ["messages", "prompt", "input"];

/// A parsed body.
#[derive(Debug)]
pub(super) struct ScoringRequest {
    pub(super) data: Data,
    pub(super) params: Option<Json>,
}

/// What stands under the input fields.
#[derive(Debug, Default)]
struct Envelope {
    split: Option<Split>,
    records: Option<Rows>,
    instances: Option<Json>,
    inputs: Option<Json>,
    params: Option<Json>,
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
        if self.shown.len() < 20 && !self.shown.iter().any(|shown| shown == key) {
            self.shown.push(key.to_owned());
        }
    }
}

impl std::fmt::Display for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let quoted: Vec<String> = self.shown.iter().map(|key| python::quoted(key)).collect();
        f.write_str(&quoted.join(", "))
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
        Self::Invalid(format!(
            "Ensure that input is a valid JSON formatted string. Error: '{error}'"
        ))
    }
}

/// Reads a body and converts the data to the types of `schema`.
///
/// # Errors
/// [`ScoringError`], with MLflow's codes.
pub(super) fn parse(body: &[u8], schema: Option<&Schema>) -> Result<ScoringRequest, ScoringError> {
    let envelope = read(body)?;
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
        Data::Frame(split_frame(split, schema)?)
    } else if let Some(records) = envelope.records {
        Data::Frame(records_frame(records, schema)?)
    } else if let Some(instances) = envelope.instances {
        instances_data(instances, schema)?
    } else {
        inputs_data(envelope.inputs.unwrap_or(Json::Null), schema)?
    };
    Ok(ScoringRequest {
        data,
        params: envelope.params,
    })
}

/// MLflow hands the whole object to the model, which an ONNX model cannot take.
fn llm_error(has_schema: bool) -> ScoringError {
    let reason =
        "an ONNX model takes no chat or completion request (`messages`, `prompt`, `input`)"
            .to_owned();
    if has_schema {
        let error = super::enforce::SchemaError(reason);
        return ScoringError::Schema {
            data: "an object".to_owned(),
            error,
        };
    }
    ScoringError::Evaluate(reason)
}

fn read(body: &[u8]) -> Result<Envelope, ScoringError> {
    let mut reader = Reader::new(body)?;
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
            "dataframe_records" => envelope.records = Some(read_rows(reader)?),
            "instances" => envelope.instances = Some(reader.value()?),
            "inputs" => envelope.inputs = Some(reader.value()?),
            "params" => envelope.params = Some(reader.value()?),
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
            "data" => data = Some(read_rows(reader)?),
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

fn read_rows(reader: &mut Reader<'_>) -> Result<Rows, JsonError> {
    if let Some(columns) = reader.rows()? {
        return Ok(Rows::Lists(columns));
    }
    Ok(match reader.records()? {
        Some(columns) => Rows::Records(columns),
        None => Rows::Other(reader.value()?),
    })
}

fn split_frame(split: Split, schema: Option<&Schema>) -> Result<Frame, ScoringError> {
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
    let frame = Frame::new(data, columns, index.as_ref()).map_err(|error| {
        ScoringError::Invalid(format!(
            "Provided dataframe_split field is not a valid dataframe representation in 'split' format. \
             Error: '{error}'"
        ))
    })?;
    cast_frame(frame, schema)
}

fn records_frame(rows: Rows, schema: Option<&Schema>) -> Result<Frame, ScoringError> {
    if let Rows::Other(other) = &rows
        && !matches!(other, Json::Array(_) | Json::List(_))
    {
        let got = got(other);
        return Err(ScoringError::Invalid(format!(
            "Dataframe records format must be a list of records. Got {got}."
        )));
    }
    let frame = Frame::new(rows, None, None).map_err(|error| {
        ScoringError::Invalid(format!(
            "Provided dataframe_records field is not a valid dataframe representation in 'records' format. \
             Error: '{error}'"
        ))
    })?;
    cast_frame(frame, schema)
}

fn cast_frame(mut frame: Frame, schema: Option<&Schema>) -> Result<Frame, ScoringError> {
    if let Some(schema) = schema {
        cast::cast_frame(&mut frame, schema)?;
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

/// The type that one input is converted to.
#[derive(Debug, Clone, Copy)]
enum Spec<'s> {
    Infer,
    Column(&'s ColSpec),
    Tensor(&'s TensorSpec),
}

impl<'s> Spec<'s> {
    fn first(schema: Option<&'s Schema>) -> Self {
        match schema {
            Some(Schema::Columns(specs)) => specs.first().map_or(Self::Infer, Self::Column),
            Some(Schema::Tensors(specs)) => specs.first().map_or(Self::Infer, Self::Tensor),
            None => Self::Infer,
        }
    }

    fn named(schema: Option<&'s Schema>, name: &str) -> Self {
        let is_it = |known: &Option<String>| known.as_deref() == Some(name);
        match schema {
            Some(Schema::Columns(specs)) => specs
                .iter()
                .find(|spec| is_it(&spec.name))
                .map_or(Self::Infer, Self::Column),
            Some(Schema::Tensors(specs)) => specs
                .iter()
                .find(|spec| is_it(&spec.name))
                .map_or(Self::Infer, Self::Tensor),
            None => Self::Infer,
        }
    }

    fn convert(self, value: Json) -> Result<Array, PyError> {
        match self {
            Self::Infer => Array::infer(value),
            Self::Column(spec) => match spec.kind {
                ColType::Scalar(kind) => convert_scalar(value, kind),
                ref kind => convert_nested(value, kind, spec.required),
            },
            Self::Tensor(spec) => match &spec.dtype {
                TensorType::Plain(dtype) => Array::of_type(value, *dtype),
                TensorType::Object | TensorType::Bytes => Ok(Array::of_objects(value)),
                TensorType::Other(name) if name.starts_with("datetime") => datetime::array(&value),
                TensorType::Other(name) => Err(PyError::kind(format!(
                    "an ONNX model takes no tensor of type {name}"
                ))),
            },
        }
    }
}

/// A list, an object or anything, once it has the right type.
fn convert_nested(value: Json, kind: &ColType, required: bool) -> Result<Array, PyError> {
    nested::check(&value, kind, required, Stage::Cast)?;
    if matches!(kind, ColType::Array(_)) && nested::is_ragged(&value) {
        return Err(ragged());
    }
    Ok(Array::of_objects(value))
}

fn convert_scalar(value: Json, kind: DataType) -> Result<Array, PyError> {
    let dtype = match kind {
        DataType::Boolean => DType::Bool,
        DataType::Integer => DType::I32,
        DataType::Long => DType::I64,
        DataType::Float => DType::F32,
        DataType::Double => DType::F64,
        DataType::String => DType::String,
        DataType::Binary => return cast::bytes(&value),
        DataType::Datetime => return datetime::array(&value),
    };
    Array::of_type(value, dtype)
}

fn invalid(error: PyError) -> ScoringError {
    ScoringError::Invalid(error.to_string())
}

/// Whether the schema's inputs have names, and how many there are.
fn names(schema: Option<&Schema>) -> Vec<&str> {
    match schema {
        Some(Schema::Columns(specs)) => specs
            .iter()
            .filter_map(|spec| spec.name.as_deref())
            .collect(),
        Some(Schema::Tensors(specs)) => specs
            .iter()
            .filter_map(|spec| spec.name.as_deref())
            .collect(),
        None => Vec::new(),
    }
}

/// MLflow's `_cast_schema_type`.
fn inputs_data(value: Json, schema: Option<&Schema>) -> Result<Data, ScoringError> {
    let names = names(schema);
    let is_list = matches!(value, Json::Array(_) | Json::List(_));
    if names.len() == 1 && is_list && !has_objects(&value) {
        let array = Spec::first(schema).convert(value).map_err(invalid)?;
        return Ok(Data::Mapping(vec![(names[0].to_owned(), array)]));
    }
    if schema.is_some() && names.is_empty() && matches!(value, Json::Object(_) | Json::Null) {
        return Err(ScoringError::Invalid(format!(
            "Failed to parse input data. This model contains an un-named  model signature which expects a single \
             n-dimensional array or a single value as input, however, an input of type <class '{}'> was found.",
            python::type_name(&value)
        )));
    }
    match value {
        Json::Object(entries) => mapping(entries, schema).map(Data::Mapping),
        Json::List(items) if items.iter().all(|item| matches!(item, Json::Object(_))) => {
            let rows = items.into_iter().map(|item| match item {
                Json::Object(entries) => mapping(entries, schema),
                _ => Ok(Vec::new()),
            });
            Ok(Data::Objects(rows.collect::<Result<_, _>>()?))
        }
        // `[]` is a list of no objects as well.
        Json::Array(flat) if flat.shape == [0] => Ok(Data::Objects(Vec::new())),
        list @ (Json::Array(_) | Json::List(_)) => Spec::first(schema)
            .convert(list)
            .map(Data::Array)
            .map_err(invalid),
        scalar => {
            let printed = python::text(&scalar);
            let array = Spec::first(schema).convert(scalar);
            array.map(Data::Array).map_err(|error| {
                ScoringError::Invalid(format!(
                    "Failed to convert data `{printed}` to the type defined in the model signature: {error}"
                ))
            })
        }
    }
}

fn has_objects(value: &Json) -> bool {
    matches!(value, Json::List(items) if items.iter().any(|item| matches!(item, Json::Object(_))))
}

fn mapping(
    entries: Vec<(String, Json)>,
    schema: Option<&Schema>,
) -> Result<Vec<(String, Array)>, ScoringError> {
    let convert = |(name, value): (String, Json)| {
        let array = Spec::named(schema, &name).convert(value).map_err(invalid)?;
        Ok((name, array))
    };
    entries.into_iter().map(convert).collect()
}

/// As [`mapping`], of lists with one value per instance: nested values are checked one by one.
fn instances_mapping(
    entries: Vec<(String, Json)>,
    schema: Option<&Schema>,
) -> Result<Vec<(String, Array)>, ScoringError> {
    let convert = |(name, value): (String, Json)| {
        let array = match Spec::named(schema, &name) {
            Spec::Column(spec) if !matches!(spec.kind, ColType::Scalar(_)) => {
                let is_ragged = nested::is_ragged(&value);
                let items = python::items(&value).unwrap_or_default();
                let mut items = items.iter();
                items
                    .try_for_each(|item| {
                        nested::check(item, &spec.kind, spec.required, Stage::Cast)
                    })
                    .and_then(|()| {
                        if is_ragged {
                            Err(ragged())
                        } else {
                            Ok(Array::of_objects(value))
                        }
                    })
            }
            spec => spec.convert(value),
        };
        Ok((name, array.map_err(invalid)?))
    };
    entries.into_iter().map(convert).collect()
}

/// MLflow's `parse_instances_data`: a list of objects is turned into one array per key.
fn instances_data(value: Json, schema: Option<&Schema>) -> Result<Data, ScoringError> {
    let data = match value {
        Json::List(items) if matches!(items.first(), Some(Json::Object(_))) => {
            let columns = transpose(items).ok_or_else(|| {
                ScoringError::Invalid("Ensure that the input is a valid JSON-formatted string. Not all instances are objects".to_owned())
            })?;
            Data::Mapping(instances_mapping(columns, schema)?)
        }
        other => inputs_data(other, schema)?,
    };
    if let Data::Mapping(arrays) = &data {
        check_lengths(arrays, schema)?;
    }
    Ok(data)
}

/// Objects to one list per key; `None` when an item is no object.
fn transpose(items: Vec<Json>) -> Option<Vec<(String, Json)>> {
    let mut columns: Vec<(String, Vec<Json>)> = Vec::new();
    let mut place_of: HashMap<String, usize> = HashMap::new();
    for item in items {
        let Json::Object(entries) = item else {
            return None;
        };
        for (key, value) in entries {
            match place_of.get(&key) {
                Some(&place) => columns[place].1.push(value),
                None => {
                    place_of.insert(key.clone(), columns.len());
                    columns.push((key, vec![value]));
                }
            }
        }
    }
    Some(
        columns
            .into_iter()
            .map(|(key, values)| (key, Json::stacked(values)))
            .collect(),
    )
}

fn check_lengths(arrays: &[(String, Array)], schema: Option<&Schema>) -> Result<(), ScoringError> {
    let is_checked = |name: &str| match schema {
        Some(Schema::Columns(specs)) if specs.iter().all(|spec| spec.name.is_some()) => {
            specs.iter().any(|spec| {
                spec.name.as_deref() == Some(name)
                    && spec.required
                    && !matches!(spec.kind, ColType::Array(_))
            })
        }
        Some(Schema::Tensors(specs)) if specs.iter().all(|spec| spec.name.is_some()) => {
            specs.iter().any(|spec| spec.name.as_deref() == Some(name))
        }
        _ => true,
    };
    // A scalar of a column has no length to compare; a scalar for a tensor has none where one is needed.
    let of_columns = matches!(schema, Some(Schema::Columns(_)));
    let checked = || {
        arrays
            .iter()
            .filter(|(name, _)| is_checked(name))
            .map(|(_, array)| array.shape())
    };
    if !of_columns && checked().any(<[usize]>::is_empty) {
        return Err(ScoringError::Invalid(
            "Ensure that the input is a valid JSON-formatted string. An instance's value is a scalar: expected a list"
                .to_owned(),
        ));
    }
    let mut lengths = checked().filter_map(<[usize]>::first);
    let first = lengths.next();
    if lengths.any(|length| Some(length) != first) {
        let message = "The length of values for each input/column name are not the same";
        return Err(ScoringError::Invalid(message.to_owned()));
    }
    Ok(())
}
