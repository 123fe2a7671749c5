//! Schema enforcement: MLflow's `_enforce_schema`, after the casts.

use std::collections::HashSet;

use super::astype::astype;
use super::data::{Data, Result, SchemaError, check_names};
use super::nested::{self, Stage};
use super::tensors;
use crate::budget::OverBudget;
use crate::model::{ColSpec, ColType, DataType, Schema};
use crate::protocol::json::{Cells, Json};
use crate::protocol::meter::{Meter, block_of};
use crate::protocol::pandas::array::{Array, Opaque, filled};
use crate::protocol::pandas::datetime;
use crate::protocol::pandas::frame::{Column, Frame, Names, cells_of, infer_column};
use crate::protocol::pandas::python;
use crate::protocol::pandas::python::PyError;
use crate::tensor::{Absent, DType};

/// Checks names, shapes and types, drops what the schema does not name and puts columns into its order.
pub(crate) fn enforce(data: Data, schema: &Schema, meter: &Meter) -> Result<Data> {
    match schema {
        Schema::Columns(specs) => {
            columns(to_frame(data, specs, meter)?, specs, meter).map(Data::Frame)
        }
        Schema::Tensors(specs) if specs.iter().all(|spec| spec.name.is_some()) => {
            tensors::named_tensors(data, specs, meter)
        }
        Schema::Tensors(specs) => match specs.first() {
            Some(spec) => tensors::unnamed_tensor(data, spec, meter).map(Data::Array),
            None => Ok(data),
        },
    }
}

fn to_frame(data: Data, specs: &[ColSpec], meter: &Meter) -> Result<Frame> {
    let built = match data {
        Data::Frame(frame) | Data::Objects(frame) => return Ok(frame),
        Data::Array(array) => Frame::from_array(array, meter),
        Data::Mapping(mapping) if is_one_row(&mapping, specs) => {
            return one_row(mapping, meter);
        }
        Data::Mapping(mapping) => {
            let names: HashSet<Option<&str>> =
                specs.iter().map(|spec| spec.name.as_deref()).collect();
            // Columns without names are taken by their places.
            let wanted = |name: &str| names.contains(&Some(name)) || names.contains(&None);
            Frame::from_mapping(mapping, wanted, meter)
        }
    };
    built.map_err(|error| match error {
        PyError::OverBudget(over) => over.into(),
        error @ PyError::Raised { .. } => SchemaError::Contradicts(format!(
            "This model contains a column-based signature, which suggests a DataFrame input. There was an error \
             casting the input data to a DataFrame: {error}"
        )),
    })
}

/// Whether named values are the cells of one row: always where a column may hold lists or objects, else when none of them
/// is an array.
fn is_one_row(mapping: &[(String, Array)], specs: &[ColSpec]) -> bool {
    let is_nested = |spec: &ColSpec| matches!(spec.kind, ColType::Array(_) | ColType::Object(_));
    let any = specs.iter().filter(|spec| spec.kind == ColType::Any);
    let any: HashSet<&str> = any.filter_map(|spec| spec.name.as_deref()).collect();
    // Lists for `any` columns stay lists, and a list of texts alone is taken for a cell.
    let is_cell = |(name, array): &(String, Array)| {
        let is_text = |cell: std::borrow::Cow<'_, Json>| matches!(*cell, Json::Text(_));
        array.shape().is_empty() || any.contains(name.as_str()) && cells_of(array).all(is_text)
    };
    specs.iter().any(is_nested) || mapping.iter().all(is_cell)
}

/// A table of one row: its cells may be lists.
fn one_row(mapping: Vec<(String, Array)>, meter: &Meter) -> Result<Frame> {
    let mut columns = meter.vec(mapping.len())?;
    for (name, array) in mapping {
        let mut cells = Scalars::default();
        let held = meter.held().saturating_sub(array.heap());
        cells.push(array, held, meter)?;
        columns.push(Column {
            data: cells.column(meter)?,
            name: Json::Text(name),
        });
    }
    Ok(Frame { columns, rows: 1 })
}

/// `pd.DataFrame(list of dicts of numpy scalars)`, one column of it: it keeps the scalars' type when all rows have it,
/// else the type is inferred.
#[derive(Debug, Default)]
pub(crate) struct Scalars {
    cells: Cells,
    dtype: Common<DType>,
    /// What all are that no tensor holds; missing ones count for nothing.
    opaque: Common<Opaque>,
}

/// What values have in common.
#[derive(Debug, Default)]
enum Common<T> {
    /// There are none yet.
    #[default]
    Open,
    All(T),
    Nothing,
}

impl<T: PartialEq> Common<T> {
    fn see(&mut self, value: Option<T>) {
        let is_common = match (&*self, &value) {
            (Self::Open, Some(_)) => true,
            (Self::All(common), Some(value)) => common == value,
            _ => false,
        };
        *self = match value {
            Some(value) if is_common => Self::All(value),
            _ => Self::Nothing,
        };
    }
}

fn scalar_of(array: Array) -> Json {
    match array {
        Array::Object(mut data) => data.cells.pop().unwrap_or(Json::Null),
        other => {
            let cell = cells_of(&other).next();
            cell.map_or(Json::Null, std::borrow::Cow::into_owned)
        }
    }
}

impl Scalars {
    /// The next row lacks the column.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(crate) fn push_missing(&mut self, meter: &Meter) -> std::result::Result<(), OverBudget> {
        self.dtype.see(None);
        self.cells.push(Json::Float(Absent::F64), meter)
    }

    /// The value of the next row. What the meter held before it was made is `held`.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(crate) fn push(
        &mut self,
        array: Array,
        held: usize,
        meter: &Meter,
    ) -> std::result::Result<(), OverBudget> {
        let is_scalar = array.shape().is_empty();
        let opaque = match &array {
            Array::Opaque(opaque, _) if is_scalar => Some(*opaque),
            _ => None,
        };
        // Dates and bytes stay what they are beside missing ones.
        self.opaque.see(opaque);
        self.dtype.see(array.dtype().filter(|_| is_scalar));
        // A cell that is a list keeps the column from having a type.
        let cell = if is_scalar {
            scalar_of(array)
        } else {
            let shape = array.shape().to_vec();
            let cells = crate::protocol::pandas::frame::into_cells(array, meter)?;
            Json::array(shape, Cells::new(cells, meter)?, meter)?
        };
        meter.hold(held + cell.heap())?;
        self.cells.push(cell, meter)
    }

    /// The column.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(crate) fn column(self, meter: &Meter) -> std::result::Result<Array, OverBudget> {
        let rows = self.cells.len();
        if let Common::All(opaque) = self.opaque {
            meter.release(self.cells.heap());
            return Ok(Array::Opaque(opaque, vec![rows]));
        }
        let inferred = infer_column(self.cells, meter)?;
        let Common::All(dtype) = self.dtype else {
            return Ok(inferred);
        };
        // What was a scalar of the type is one again.
        match astype(inferred.clone(), dtype, meter) {
            Ok(typed) => Ok(typed),
            Err(PyError::OverBudget(over)) => Err(over),
            Err(PyError::Raised { .. }) => Ok(inferred),
        }
    }
}

fn columns(frame: Frame, specs: &[ColSpec], meter: &Meter) -> Result<Frame> {
    if specs.iter().any(|spec| spec.name.is_none()) {
        return unnamed_columns(frame, specs, meter);
    }
    let named = specs
        .iter()
        .filter_map(|spec| spec.name.as_deref().map(|name| (name, spec)));
    let given = frame
        .columns
        .iter()
        .map(|column| python::name(&column.name));
    check_names(
        named.clone().map(|(name, spec)| (name, spec.required)),
        given,
        meter,
    )?;
    let names = Names::new(&frame.columns, meter)?;
    let mut wanted = meter.vec(specs.len())?;
    wanted.extend(named.map(|(name, spec)| (name, spec, names.find(name))));
    drop(names);
    let Frame { mut columns, rows } = frame;
    let mut kept = meter.vec(specs.len())?;
    for (name, spec, found) in wanted {
        let Some(found) = found else {
            continue;
        };
        let column = &mut columns[found.index];
        let data = std::mem::replace(&mut column.data, Array::Opaque(Opaque::Binary, vec![]));
        // No two inputs of a signature have one name.
        let name_of = std::mem::replace(&mut column.name, Json::Null);
        let data = column_of_type(name, data, (&spec.kind, spec.required), meter)?;
        kept.push(Column {
            name: name_of,
            data,
        });
    }
    Ok(Frame {
        columns: kept,
        rows,
    })
}

fn unnamed_columns(frame: Frame, specs: &[ColSpec], meter: &Meter) -> Result<Frame> {
    let given = frame.columns.len();
    if given < specs.len() {
        return Err(SchemaError::Contradicts(format!(
            "Model inference is missing inputs. The model signature declares {} inputs  but the provided value only \
             has {given} inputs. Note: the inputs were not named in the signature so we can only verify their count.",
            specs.len()
        )));
    }
    let mut kept = meter.vec(specs.len())?;
    for (column, spec) in frame.columns.into_iter().zip(specs) {
        let Column { name, data } = column;
        let data = column_of_type(&python::name(&name), data, (&spec.kind, true), meter)?;
        kept.push(Column { name, data });
    }
    Ok(Frame {
        columns: kept,
        rows: frame.rows,
    })
}

fn column_of_type(
    name: &str,
    data: Array,
    (kind, required): (&ColType, bool),
    meter: &Meter,
) -> Result<Array> {
    if let ColType::Scalar(wanted) = kind {
        return enforce_type(name, data, *wanted, meter);
    }
    cells_of(&data)
        .try_for_each(|cell| nested::check(&cell, kind, required, (Stage::Enforce, meter)))?;
    Ok(data)
}

/// MLflow's `_enforce_mlflow_datatype`: only conversions that keep each value.
pub(crate) fn enforce_type(
    name: &str,
    data: Array,
    wanted: DataType,
    meter: &Meter,
) -> Result<Array> {
    let inferred = match data {
        Array::Object(found) if !matches!(wanted, DataType::Binary | DataType::String) => {
            let slots = block_of::<Json>(found.cells.capacity());
            let cells = Cells::new(found.cells, meter)?;
            meter.release(slots);
            infer_column(cells, meter)?
        }
        other => other,
    };
    let is_object = matches!(inferred, Array::Object(_)) || inferred.dtype() == Some(DType::String);
    let found = inferred.dtype_name();
    let incompatible = || {
        SchemaError::Contradicts(format!(
            "Incompatible input types for column {name}. Can not safely convert {found} to {}.",
            wanted.numpy_name()
        ))
    };
    let target = match wanted {
        DataType::String if is_object => return Ok(inferred),
        DataType::Binary if is_object || matches!(inferred, Array::Opaque(Opaque::Binary, _)) => {
            return Ok(inferred);
        }
        DataType::Boolean if is_object => return Ok(inferred),
        DataType::Double if is_object => return to_numeric(name, inferred, meter),
        DataType::Datetime => return enforce_datetime(inferred, incompatible, meter),
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
    let zeros_and_ones = || cells_of(&inferred).all(|cell| matches!(*cell, Json::Int(0 | 1)));
    let is_from_long = source == DType::I64 && matches!(target, DType::F32 | DType::F64);
    let safe = is_upcast(source, target) || (is_from_long && zeros_and_ones());
    if !safe {
        return Err(incompatible());
    }
    astype(inferred, target, meter).map_err(|error| match error {
        PyError::OverBudget(over) => over.into(),
        PyError::Raised { .. } => incompatible(),
    })
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
fn to_numeric(name: &str, data: Array, meter: &Meter) -> Result<Array> {
    // What is empty is missing, lists and objects too.
    let is_empty = |cell: &Json| match cell {
        Json::Text(_) | Json::Array(_) | Json::List(_) | Json::Object(_) => !python::truthy(cell),
        other => *other == Json::Null,
    };
    let is_odd = |cell: &Json| !python::is_scalar(cell) && !is_empty(cell);
    if let Some(place) = cells_of(&data).position(|cell| is_odd(&cell)) {
        return Err(SchemaError::Contradicts(format!(
            "Invalid object type at position {place}"
        )));
    }
    let number = |cell: &Json| match cell {
        cell if is_empty(cell) => Ok(Absent::F64),
        // pandas' own reader of numbers: no underscores, digits of ASCII only.
        Json::Text(text) if text.contains('_') || !text.is_ascii() => {
            Err(PyError::value("no number"))
        }
        cell => python::float(cell),
    };
    let shape = data.shape().to_vec();
    let mut numbers = meter.vec(shape.iter().product())?;
    for cell in cells_of(&data) {
        let number = number(&cell).map_err(|_| {
            SchemaError::Contradicts(format!(
                "Failed to convert column {name} from type object to DataType.double."
            ))
        })?;
        numbers.push(number);
    }
    meter.release(data.heap());
    Ok(Array::Tensor(filled(shape, numbers)))
}

fn enforce_datetime(
    data: Array,
    incompatible: impl Fn() -> SchemaError,
    meter: &Meter,
) -> Result<Array> {
    let naive = match data {
        Array::Opaque(Opaque::Datetime, _) => return Ok(data),
        Array::Opaque(Opaque::Zoned, _) => return Err(zoned()),
        Array::Object(_) => datetime::each(data, meter),
        Array::Tensor(ref tensor) if tensor.dtype() == DType::String => datetime::each(data, meter),
        Array::Tensor(_) | Array::Opaque(..) => return Err(incompatible()),
    };
    match naive? {
        array @ Array::Opaque(..) => Ok(array),
        Array::Tensor(_) | Array::Object(_) => Err(zoned()),
    }
}

fn zoned() -> SchemaError {
    SchemaError::Contradicts(
        "Please ensure that the input data of datetime column only contains timezone-naive datetime objects."
            .to_owned(),
    )
}
