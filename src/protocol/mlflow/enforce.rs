//! Schema enforcement: MLflow's `_enforce_schema`, after the casts.

use std::collections::HashMap;

use super::array::{Array, Opaque, filled};
use super::cast::astype;
use super::datetime;
use super::frame::{Column, Frame, cells_of, infer_column};
use super::nested::{self, Stage};
use super::python;
use super::tensors;
use crate::model::{ColSpec, ColType, DataType, Schema};
use crate::protocol::json::{Cells, Flat, Json};
use crate::tensor::DType;

/// Request data after parsing.
#[derive(Debug, Clone)]
pub(super) enum Data {
    /// A data frame.
    Frame(Frame),
    /// One array.
    Array(Array),
    /// Arrays by name.
    Mapping(Vec<(String, Array)>),
    /// A list of objects.
    Objects(Vec<Vec<(String, Array)>>),
}

/// Data that contradicts the schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct SchemaError(pub(super) String);

pub(super) type Result<T> = std::result::Result<T, SchemaError>;

/// Cells of a table that is made of a list of objects, missing ones included.
const MAX_OBJECT_CELLS: usize = 8_000_000;

/// Checks names, shapes and types, drops what the schema does not name and puts columns into its order.
pub(super) fn enforce(data: Data, schema: &Schema) -> Result<Data> {
    match schema {
        Schema::Columns(specs) => columns(to_frame(data, specs)?, specs).map(Data::Frame),
        Schema::Tensors(specs) if specs.iter().all(|spec| spec.name.is_some()) => {
            tensors::named_tensors(data, specs)
        }
        Schema::Tensors(specs) => match specs.first() {
            Some(spec) => tensors::unnamed_tensor(data, spec).map(Data::Array),
            None => Ok(data),
        },
    }
}

fn to_frame(data: Data, specs: &[ColSpec]) -> Result<Frame> {
    let built = match data {
        Data::Frame(frame) => return Ok(frame),
        Data::Array(array) => Frame::from_array(array),
        Data::Mapping(mapping) if is_one_row(&mapping, specs) => {
            return frame_of_objects(vec![mapping]);
        }
        Data::Mapping(mapping) => Frame::from_mapping(mapping),
        Data::Objects(rows) => return frame_of_objects(rows),
    };
    built.map_err(|error| {
        SchemaError(format!(
            "This model contains a column-based signature, which suggests a DataFrame input. There was an error \
             casting the input data to a DataFrame: {error}"
        ))
    })
}

/// Whether named values are the cells of one row: always where a column may hold lists or objects, else when none of them
/// is an array.
fn is_one_row(mapping: &[(String, Array)], specs: &[ColSpec]) -> bool {
    let is_nested = |spec: &ColSpec| matches!(spec.kind, ColType::Array(_) | ColType::Object(_));
    // Lists for `any` columns stay lists, and a list of texts alone is taken for a cell.
    let is_cell = |(name, array): &(String, Array)| {
        let spec = specs
            .iter()
            .find(|spec| spec.name.as_deref() == Some(name.as_str()));
        let texts = |cell: &Json| matches!(cell, Json::Text(_));
        array.shape().is_empty()
            || spec.is_some_and(|spec| spec.kind == ColType::Any)
                && cells_of(array).iter().all(texts)
    };
    specs.iter().any(is_nested) || mapping.iter().all(is_cell)
}

/// `pd.DataFrame(list of dicts of numpy scalars)`: a column keeps the scalars' type when all rows have it, else the
/// type is inferred.
fn frame_of_objects(rows: Vec<Vec<(String, Array)>>) -> Result<Frame> {
    let mut place_of: HashMap<String, usize> = HashMap::new();
    let mut names: Vec<String> = Vec::new();
    for (name, _) in rows.iter().flatten() {
        if !place_of.contains_key(name) {
            place_of.insert(name.clone(), names.len());
            names.push(name.clone());
        }
    }
    let count = rows.len();
    if count.saturating_mul(names.len()) > MAX_OBJECT_CELLS {
        let message = format!(
            "{count} objects with {} different keys are no table",
            names.len()
        );
        return Err(SchemaError(message));
    }
    let mut cells: Vec<Vec<Option<Array>>> = vec![vec![None; count]; names.len()];
    for (row, entries) in rows.into_iter().enumerate() {
        for (name, array) in entries {
            cells[place_of[&name]][row] = Some(array);
        }
    }
    let column = |(name, arrays): (String, Vec<Option<Array>>)| Column {
        data: column_of_scalars(&arrays),
        name: Json::Text(name),
    };
    let columns = names.into_iter().zip(cells).map(column).collect();
    Ok(Frame {
        columns,
        rows: count,
    })
}

fn column_of_scalars(arrays: &[Option<Array>]) -> Array {
    let opaque = |array: &Array| match array {
        Array::Opaque(opaque, shape) if shape.is_empty() => Some(*opaque),
        _ => None,
    };
    // Dates and bytes stay what they are beside missing ones.
    let mut kinds = arrays.iter().flatten().map(opaque);
    if let Some(Some(first)) = kinds.next()
        && kinds.all(|kind| kind == Some(first))
    {
        return Array::Opaque(first, vec![arrays.len()]);
    }
    let mut cells = Cells::default();
    for array in arrays {
        cells.push(match array {
            None => Json::Float(f64::NAN),
            Some(array) if array.shape().is_empty() => {
                cells_of(array).into_iter().next().unwrap_or(Json::Null)
            }
            // A cell that is a list keeps the column from having a type.
            Some(array) => {
                let shape = array.shape().to_vec();
                let mut cells = Cells::default();
                cells_of(array)
                    .into_iter()
                    .for_each(|cell| cells.push(cell));
                Json::Array(Box::new(Flat { shape, cells }))
            }
        });
    }
    let inferred = infer_column(cells);
    let mut dtypes = arrays
        .iter()
        .map(|array| array.as_ref().filter(|array| array.shape().is_empty()))
        .map(|array| array.and_then(Array::dtype));
    let first = dtypes.next().flatten();
    match first {
        Some(dtype) if dtypes.all(|other| other == first) => {
            astype(&inferred, dtype).unwrap_or(inferred)
        }
        _ => inferred,
    }
}

fn columns(frame: Frame, specs: &[ColSpec]) -> Result<Frame> {
    if specs.iter().any(|spec| spec.name.is_none()) {
        return unnamed_columns(frame, specs);
    }
    let named = specs
        .iter()
        .filter_map(|spec| spec.name.as_deref().map(|name| (name, spec)));
    let given: Vec<String> = frame
        .columns
        .iter()
        .map(|column| python::text(&column.name))
        .collect();
    check_names(
        named.clone().map(|(name, spec)| (name, spec.required)),
        &given,
    )?;
    let mut kept = Vec::with_capacity(specs.len());
    for (name, spec) in named {
        let Some(column) = frame.column(name) else {
            continue;
        };
        let data = column_of_type(name, &column.data, (&spec.kind, spec.required))?;
        kept.push(Column {
            name: column.name.clone(),
            data,
        });
    }
    Ok(Frame {
        columns: kept,
        rows: frame.rows,
    })
}

fn unnamed_columns(frame: Frame, specs: &[ColSpec]) -> Result<Frame> {
    let given = frame.columns.len();
    if given < specs.len() {
        return Err(SchemaError(format!(
            "Model inference is missing inputs. The model signature declares {} inputs  but the provided value only \
             has {given} inputs. Note: the inputs were not named in the signature so we can only verify their count.",
            specs.len()
        )));
    }
    let mut kept = Vec::with_capacity(specs.len());
    for (column, spec) in frame.columns.into_iter().zip(specs) {
        let name = python::text(&column.name);
        let data = column_of_type(&name, &column.data, (&spec.kind, true))?;
        kept.push(Column { data, ..column });
    }
    Ok(Frame {
        columns: kept,
        rows: frame.rows,
    })
}

pub(super) fn check_names<'s>(
    specs: impl Iterator<Item = (&'s str, bool)>,
    given: &[String],
) -> Result<()> {
    let specs: Vec<(&str, bool)> = specs.collect();
    let missing = specs
        .iter()
        .filter(|(name, required)| *required && !given.iter().any(|given| given == name));
    let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let extra = given
        .iter()
        .map(String::as_str)
        .filter(|given| !specs.iter().any(|(name, _)| name == given));
    let extra: Vec<&str> = extra.collect();
    let mut message = format!("Model is missing inputs {}.", name_list(&missing));
    if !extra.is_empty() {
        message += &format!(" Note that there were extra inputs: {}.", name_list(&extra));
    }
    Err(SchemaError(message))
}

/// The names as Python prints a list of them; a client that sends a thousand wrong ones does not get them all back.
pub(super) fn name_list(names: &[&str]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(20)
        .map(|name| python::quoted(name))
        .collect();
    let more = if names.len() > 20 { ", …" } else { "" };
    format!("[{}{more}]", shown.join(", "))
}

fn column_of_type(name: &str, data: &Array, (kind, required): (&ColType, bool)) -> Result<Array> {
    if let ColType::Scalar(wanted) = kind {
        return enforce_type(name, data, *wanted);
    }
    cells_of(data)
        .iter()
        .try_for_each(|cell| nested::check(cell, kind, required, Stage::Enforce))
        .map_err(|error| SchemaError(error.to_string()))?;
    Ok(data.clone())
}

/// MLflow's `_enforce_mlflow_datatype`: only conversions that keep each value.
pub(super) fn enforce_type(name: &str, data: &Array, wanted: DataType) -> Result<Array> {
    let inferred = match data {
        Array::Object(found) if !matches!(wanted, DataType::Binary | DataType::String) => {
            let mut cells = Cells::default();
            found.cells.iter().for_each(|cell| cells.push(cell.clone()));
            infer_column(cells)
        }
        other => other.clone(),
    };
    let is_object = matches!(inferred, Array::Object(_)) || inferred.dtype() == Some(DType::String);
    let incompatible = || {
        SchemaError(format!(
            "Incompatible input types for column {name}. Can not safely convert {} to {}.",
            inferred.dtype_name(),
            wanted.numpy_name()
        ))
    };
    let target = match wanted {
        DataType::String if is_object => return Ok(inferred),
        DataType::Binary if is_object || matches!(inferred, Array::Opaque(Opaque::Binary, _)) => {
            return Ok(inferred);
        }
        DataType::Boolean if is_object => return Ok(inferred),
        DataType::Double if is_object => return to_numeric(name, &inferred),
        DataType::Datetime => return enforce_datetime(&inferred, incompatible),
        DataType::String | DataType::Binary => return Err(incompatible()),
        DataType::Boolean => DType::Bool,
        DataType::Integer => DType::I32,
        DataType::Long => DType::I64,
        DataType::Float => DType::F32,
        DataType::Double => DType::F64,
    };
    let source = inferred.dtype().ok_or_else(incompatible)?;
    if source == target {
        return Ok(inferred);
    }
    let zeros_and_ones = || {
        cells_of(&inferred)
            .iter()
            .all(|cell| matches!(cell, Json::Int(0 | 1)))
    };
    let is_from_long = source == DType::I64 && matches!(target, DType::F32 | DType::F64);
    let safe = is_upcast(source, target) || (is_from_long && zeros_and_ones());
    if !safe {
        return Err(incompatible());
    }
    astype(&inferred, target).map_err(|_| incompatible())
}

/// Whether every value of one type is one of the other: MLflow goes by their kind and width.
fn is_upcast(source: DType, target: DType) -> bool {
    let (Some(from), Some(to)) = (source.width(), target.width()) else {
        return false;
    };
    let is_unsigned = |dtype| matches!(dtype, DType::U8 | DType::U16 | DType::U32 | DType::U64);
    let is_signed = |dtype| matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
    let is_float = |dtype| matches!(dtype, DType::F16 | DType::F32 | DType::F64);
    match (is_signed(target), is_float(target)) {
        (true, _) => (is_signed(source) && from <= to) || (is_unsigned(source) && from < to),
        (_, true) if is_float(source) => from <= to,
        (_, true) => {
            target == DType::F64 && from <= 4 && (is_signed(source) || is_unsigned(source))
        }
        _ => false,
    }
}

/// `pd.to_numeric`, which MLflow means for decimal numbers and gives all objects to.
fn to_numeric(name: &str, data: &Array) -> Result<Array> {
    let cells = cells_of(data);
    // What is empty is missing, lists and objects too.
    let is_empty = |cell: &Json| match cell {
        Json::Text(_) | Json::Array(_) | Json::List(_) | Json::Object(_) => !python::truthy(cell),
        other => *other == Json::Null,
    };
    let is_odd = |cell: &Json| !python::is_scalar(cell) && !is_empty(cell);
    if let Some(place) = cells.iter().position(is_odd) {
        return Err(SchemaError(format!(
            "Invalid object type at position {place}"
        )));
    }
    let number = |cell: &Json| match cell {
        cell if is_empty(cell) => Ok(f64::NAN),
        // pandas' own reader of numbers: no underscores, digits of ASCII only.
        Json::Text(text) if text.contains('_') || !text.is_ascii() => {
            Err(python::PyError::value("no number"))
        }
        cell => python::float(cell),
    };
    let numbers: std::result::Result<Vec<f64>, _> = cells.iter().map(number).collect();
    let numbers = numbers.map_err(|_| {
        SchemaError(format!(
            "Failed to convert column {name} from type object to DataType.double."
        ))
    })?;
    Ok(Array::Tensor(filled(data.shape().to_vec(), numbers)))
}

fn enforce_datetime(data: &Array, incompatible: impl Fn() -> SchemaError) -> Result<Array> {
    let naive = match data {
        Array::Opaque(Opaque::Datetime, _) => return Ok(data.clone()),
        Array::Opaque(Opaque::Zoned, _) => return Err(zoned()),
        Array::Object(_) => datetime::each(data),
        Array::Tensor(tensor) if tensor.dtype() == DType::String => datetime::each(data),
        Array::Tensor(_) | Array::Opaque(..) => return Err(incompatible()),
    };
    match naive {
        Ok(array @ Array::Opaque(..)) => Ok(array),
        Ok(_) => Err(zoned()),
        Err(error) => Err(SchemaError(error.to_string())),
    }
}

fn zoned() -> SchemaError {
    SchemaError(
        "Please ensure that the input data of datetime column only contains timezone-naive datetime objects."
            .to_owned(),
    )
}
