//! The values of `inputs` and `instances`: MLflow's `_cast_schema_type` and `parse_instances_data`.

use std::collections::HashMap;

use super::error::ScoringError;
use crate::model::{ColSpec, ColType, DataType, Schema, TensorSpec, TensorType};
use crate::protocol::json::{Cells, Columns, Json, JsonError, NoObject, Reader, Table};
use crate::protocol::meter::Meter;
use crate::protocol::mlflow::schema::astype;
use crate::protocol::mlflow::schema::data::Data;
use crate::protocol::mlflow::schema::enforce::Scalars;
use crate::protocol::mlflow::schema::nested;
use crate::protocol::mlflow::schema::nested::Stage;
use crate::protocol::pandas::array::{Array, ragged};
use crate::protocol::pandas::datetime;
use crate::protocol::pandas::frame::{Column, Frame, infer_column};
use crate::protocol::pandas::python;
use crate::protocol::pandas::python::PyError;
use crate::tensor::DType;

/// The value of `inputs`.
#[derive(Debug)]
pub(crate) enum Inputs {
    /// A list of objects, by their keys.
    Objects(Columns),
    /// Anything else.
    Value(Json),
}

/// The value of `instances`.
#[derive(Debug)]
pub(crate) enum Instances {
    /// A list that begins with an object, as one list for each key.
    Lists(Result<Vec<(String, Json)>, NoObject>),
    /// Anything else.
    Value(Json),
}

impl Inputs {
    /// Reads it.
    ///
    /// # Errors
    /// [`JsonError`].
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        if reader.next_is_list_of_objects_only()?
            && let Some(Table::Columns(columns)) = reader.records()?
        {
            return Ok(Self::Objects(columns));
        }
        reader.value().map(Self::Value)
    }
}

impl Instances {
    /// Reads it.
    ///
    /// # Errors
    /// [`JsonError`].
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        if reader.next_is_list_of_objects()? {
            return reader.transposed().map(Self::Lists);
        }
        reader.value().map(Self::Value)
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

    fn convert(self, value: Json, meter: &Meter) -> Result<Array, PyError> {
        match self {
            Self::Infer => Array::infer(value, meter),
            Self::Column(spec) => match spec.kind {
                ColType::Scalar(kind) => convert_scalar(value, kind, meter),
                ref kind => convert_nested(value, kind, spec.required, meter),
            },
            Self::Tensor(spec) => match &spec.dtype {
                TensorType::Plain(dtype) => Array::of_type(value, *dtype, meter),
                TensorType::Object | TensorType::Bytes => Ok(Array::of_objects(value, meter)?),
                TensorType::Other(name) if name.starts_with("datetime") => {
                    datetime::array(&value, meter)
                }
                TensorType::Other(name) => Err(PyError::kind(format!(
                    "an ONNX model takes no tensor of type {name}"
                ))),
            },
        }
    }

    /// The type that each of many scalars is converted to alone, when it is that of all of them together.
    fn of_each(self) -> Option<Option<DType>> {
        match self {
            Self::Infer => Some(None),
            Self::Column(spec) => match spec.kind {
                ColType::Scalar(kind) => numeric(kind).map(Some),
                _ => None,
            },
            Self::Tensor(spec) => match spec.dtype {
                TensorType::Plain(dtype) => Some(Some(dtype)),
                _ => None,
            },
        }
    }
}

/// The types of a schema by name, found in a time that does not depend on their number.
struct Specs<'s>(HashMap<&'s str, Spec<'s>>);

impl<'s> Specs<'s> {
    fn new(schema: Option<&'s Schema>) -> Self {
        let mut specs: HashMap<&str, Spec<'_>> = HashMap::new();
        let named: Vec<(Option<&str>, Spec<'_>)> = match schema {
            Some(Schema::Columns(specs)) => {
                let spec = |spec: &'s ColSpec| (spec.name.as_deref(), Spec::Column(spec));
                specs.iter().map(spec).collect()
            }
            Some(Schema::Tensors(specs)) => {
                let spec = |spec: &'s TensorSpec| (spec.name.as_deref(), Spec::Tensor(spec));
                specs.iter().map(spec).collect()
            }
            None => Vec::new(),
        };
        for (name, spec) in named {
            if let Some(name) = name {
                specs.entry(name).or_insert(spec);
            }
        }
        Self(specs)
    }

    fn named(&self, name: &str) -> Spec<'s> {
        self.0.get(name).copied().unwrap_or(Spec::Infer)
    }
}

/// A list, an object or anything, once it has the right type.
fn convert_nested(
    value: Json,
    kind: &ColType,
    required: bool,
    meter: &Meter,
) -> Result<Array, PyError> {
    nested::check(&value, kind, required, (Stage::Cast, meter))?;
    if matches!(kind, ColType::Array(_)) && nested::is_ragged(&value) {
        return Err(ragged());
    }
    Array::of_objects(value, meter)
}

fn convert_scalar(value: Json, kind: DataType, meter: &Meter) -> Result<Array, PyError> {
    match numeric(kind) {
        Some(dtype) => Array::of_type(value, dtype, meter),
        None if kind == DataType::Binary => astype::bytes(&value),
        None => datetime::array(&value, meter),
    }
}

/// The element type of a scalar type, where it has one.
fn numeric(kind: DataType) -> Option<DType> {
    Some(match kind {
        DataType::Boolean => DType::Bool,
        DataType::Integer => DType::I32,
        DataType::Long => DType::I64,
        DataType::Float => DType::F32,
        DataType::Double => DType::F64,
        DataType::String => DType::String,
        DataType::Binary | DataType::Datetime => return None,
    })
}

fn invalid(error: PyError) -> ScoringError {
    match error {
        PyError::OverBudget(over) => over.into(),
        error @ PyError::Raised { .. } => ScoringError::Invalid(error.to_string()),
    }
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
pub(crate) fn inputs_data(
    value: Json,
    schema: Option<&Schema>,
    meter: &Meter,
) -> Result<Data, ScoringError> {
    let names = names(schema);
    let is_list = matches!(value, Json::Array(_) | Json::List(_));
    let first = Spec::first(schema);
    if names.len() == 1 && is_list && !has_objects(&value) {
        let array = first.convert(value, meter).map_err(invalid)?;
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
        Json::Object(entries) => mapping(entries, schema, meter).map(Data::Mapping),
        // `[]` is a list of no objects as well.
        Json::Array(flat) if flat.shape == [0] => Ok(Data::Objects(Frame::default())),
        list @ (Json::Array(_) | Json::List(_)) => {
            first.convert(list, meter).map(Data::Array).map_err(invalid)
        }
        scalar => {
            let printed = python::brief(&scalar);
            let array = first.convert(scalar, meter);
            array.map(Data::Array).map_err(|error| match error {
                PyError::OverBudget(over) => over.into(),
                error @ PyError::Raised { .. } => ScoringError::Invalid(format!(
                    "Failed to convert data `{printed}` to the type defined in the model signature: {error}"
                )),
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
    meter: &Meter,
) -> Result<Vec<(String, Array)>, ScoringError> {
    let specs = Specs::new(schema);
    let mut arrays = meter.vec(entries.len())?;
    for (name, value) in entries {
        let array = specs.named(&name).convert(value, meter).map_err(invalid)?;
        arrays.push((name, array));
    }
    Ok(arrays)
}

/// A list of objects: each value is converted as what its key is, and a table made of them.
pub(crate) fn objects_data(
    columns: Columns,
    schema: Option<&Schema>,
    meter: &Meter,
) -> Result<Data, ScoringError> {
    let specs = Specs::new(schema);
    let Columns {
        names,
        cells,
        gaps,
        rows,
    } = columns;
    let mut columns = meter.vec(names.len())?;
    for ((name, cells), gaps) in names.into_iter().zip(cells).zip(gaps) {
        let spec = specs.named(&name);
        let data = match spec.of_each() {
            Some(dtype) if gaps.is_empty() && is_uniform(&cells) => together(cells, dtype, meter),
            _ => one_by_one(cells, &gaps, spec, meter),
        };
        let name = Json::Text(name);
        let data = data.map_err(invalid)?;
        columns.push(Column { name, data });
    }
    Ok(Data::Objects(Frame { columns, rows }))
}

/// Whether each of the cells alone has the type of all of them.
fn is_uniform(cells: &Cells) -> bool {
    match cells {
        Cells::Int(_) | Cells::Bool(_) | Cells::Text(_) => true,
        Cells::Number(numbers) => numbers.nulls == 0,
        Cells::Mixed(_) => false,
    }
}

fn together(cells: Cells, dtype: Option<DType>, meter: &Meter) -> Result<Array, PyError> {
    match dtype {
        None => Ok(infer_column(cells, meter)?),
        Some(dtype) => {
            let list = Json::array(vec![cells.len()], cells, meter)?;
            Array::of_type(list, dtype, meter)
        }
    }
}

fn one_by_one(
    cells: Cells,
    gaps: &[std::ops::Range<usize>],
    spec: Spec<'_>,
    meter: &Meter,
) -> Result<Array, PyError> {
    let mut gaps = gaps.iter().peekable();
    let mut column = Scalars::default();
    let slots = cells.heap();
    let mut values = 0;
    for (row, value) in cells.into_iter().enumerate() {
        while gaps.next_if(|gap| gap.end <= row).is_some() {}
        if gaps.peek().is_some_and(|gap| gap.contains(&row)) {
            column.push_missing(meter)?;
            continue;
        }
        let heap = value.heap();
        values += heap;
        let held = meter.held().saturating_sub(heap);
        column.push(spec.convert(value, meter)?, held, meter)?;
    }
    meter.release(slots.saturating_sub(values));
    Ok(column.column(meter)?)
}

/// As [`mapping`], of lists with one value per instance: nested values are checked one by one.
fn instances_mapping(
    entries: Vec<(String, Json)>,
    schema: Option<&Schema>,
    meter: &Meter,
) -> Result<Vec<(String, Array)>, ScoringError> {
    let specs = Specs::new(schema);
    let mut arrays = meter.vec(entries.len())?;
    for (name, value) in entries {
        let array = match specs.named(&name) {
            Spec::Column(spec) if !matches!(spec.kind, ColType::Scalar(_)) => {
                each_nested(value, spec, meter)
            }
            spec => spec.convert(value, meter),
        };
        arrays.push((name, array.map_err(invalid)?));
    }
    Ok(arrays)
}

fn each_nested(value: Json, spec: &ColSpec, meter: &Meter) -> Result<Array, PyError> {
    let checked = python::try_each_item(&value, meter, |item| {
        nested::check(item, &spec.kind, spec.required, (Stage::Cast, meter))
    });
    checked.unwrap_or(Ok(()))?;
    if nested::is_ragged(&value) {
        return Err(ragged());
    }
    Array::of_objects(value, meter)
}

/// MLflow's `parse_instances_data`: a list of objects is turned into one array per key.
pub(crate) fn instances_data(
    value: Instances,
    schema: Option<&Schema>,
    meter: &Meter,
) -> Result<Data, ScoringError> {
    let data = match value {
        Instances::Lists(Ok(lists)) => Data::Mapping(instances_mapping(lists, schema, meter)?),
        Instances::Lists(Err(NoObject)) => {
            let message = "Ensure that the input is a valid JSON-formatted string. Not all instances are objects";
            return Err(ScoringError::Invalid(message.to_owned()));
        }
        Instances::Value(value) => inputs_data(value, schema, meter)?,
    };
    if let Data::Mapping(arrays) = &data {
        check_lengths(arrays, schema)?;
    }
    Ok(data)
}

fn check_lengths(arrays: &[(String, Array)], schema: Option<&Schema>) -> Result<(), ScoringError> {
    let names: Option<std::collections::HashSet<&str>> = match schema {
        Some(Schema::Columns(specs)) if specs.iter().all(|spec| spec.name.is_some()) => {
            let checked =
                |spec: &&ColSpec| spec.required && !matches!(spec.kind, ColType::Array(_));
            let checked = specs.iter().filter(checked);
            Some(checked.filter_map(|spec| spec.name.as_deref()).collect())
        }
        Some(Schema::Tensors(specs)) if specs.iter().all(|spec| spec.name.is_some()) => Some(
            specs
                .iter()
                .filter_map(|spec| spec.name.as_deref())
                .collect(),
        ),
        _ => None,
    };
    let is_checked = |name: &str| names.as_ref().is_none_or(|names| names.contains(name));
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
