//! The values of `inputs` and `instances`: MLflow's `_cast_schema_type` and `parse_instances_data`.

use std::collections::HashMap;

use super::array::{Array, ragged};
use super::cast;
use super::datetime;
use super::enforce::Data;
use super::error::ScoringError;
use super::nested::{self, Stage};
use super::python::{self, PyError};
use crate::model::{ColSpec, ColType, DataType, Schema, TensorSpec, TensorType};
use crate::protocol::json::Json;
use crate::tensor::DType;

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
pub(super) fn inputs_data(value: Json, schema: Option<&Schema>) -> Result<Data, ScoringError> {
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
pub(super) fn instances_data(value: Json, schema: Option<&Schema>) -> Result<Data, ScoringError> {
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
