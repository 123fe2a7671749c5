//! Enforcement of tensor signatures: MLflow's `_enforce_tensor_schema`.

use std::borrow::Cow;
use std::collections::HashMap;

use super::astype::{astype, tensor_type_name};
use super::data::{Data, Result, SchemaError, check_names, name_list};
use crate::budget::OverBudget;
use crate::model::{TensorSpec, TensorType};
use crate::protocol::json::{Cells, Json};
use crate::protocol::meter::{Meter, block_of};
use crate::protocol::pandas::array::{Array, Opaque, objects};
use crate::protocol::pandas::frame::{Names, infer_column};
use crate::protocol::pandas::python;
use crate::protocol::pandas::python::PyError;
use crate::tensor::{DType, Tensor};

pub(crate) fn named_tensors(data: Data, specs: &[TensorSpec], meter: &Meter) -> Result<Data> {
    let names: Vec<&str> = specs
        .iter()
        .filter_map(|spec| spec.name.as_deref())
        .collect();
    let data = match data {
        Data::Array(array) if names.len() == 1 => Data::Mapping(vec![(names[0].to_owned(), array)]),
        other => other,
    };
    let given: Box<dyn Iterator<Item = Cow<'_, str>>> = match &data {
        Data::Frame(frame) => Box::new(
            frame
                .columns
                .iter()
                .map(|column| python::name(&column.name)),
        ),
        Data::Mapping(mapping) => {
            Box::new(mapping.iter().map(|(name, _)| Cow::Borrowed(name.as_str())))
        }
        Data::Array(_) | Data::Objects(_) => Box::new(std::iter::empty()),
    };
    check_names(names.iter().map(|name| (*name, true)), given, meter)?;
    let mut arrays = Given::new(&data, meter)?;
    let mut bound = meter.vec(specs.len())?;
    for (name, spec) in names.into_iter().zip(specs) {
        let array = arrays.tensor(name, spec, meter)?;
        bound.push((name.to_owned(), array));
    }
    Ok(Data::Mapping(bound))
}

/// What a request gives, by name.
enum Given<'d> {
    Columns(&'d crate::protocol::pandas::frame::Frame, Names<'d>),
    Arrays(HashMap<&'d str, &'d Array>),
}

impl<'d> Given<'d> {
    fn new(data: &'d Data, meter: &Meter) -> Result<Self> {
        let mapping = match data {
            Data::Frame(frame) => {
                return Ok(Self::Columns(frame, Names::new(&frame.columns, meter)?));
            }
            Data::Mapping(mapping) => mapping.as_slice(),
            Data::Array(_) | Data::Objects(_) => &[],
        };
        // A map doubles.
        meter.charge(block_of::<(u8, &str, &Array)>(3 * mapping.len()))?;
        let arrays = mapping.iter().map(|(name, array)| (name.as_str(), array));
        Ok(Self::Arrays(arrays.collect()))
    }

    fn tensor(&mut self, name: &str, spec: &TensorSpec, meter: &Meter) -> Result<Array> {
        let missing = || {
            let names = name_list(&[name]);
            SchemaError::Contradicts(format!("Model is missing inputs {names}."))
        };
        match self {
            Self::Columns(frame, names) => {
                let found = names.find(name).ok_or_else(missing)?;
                let data = &frame.columns[found.index].data;
                tensor_of_column(Some(name), data, spec, meter)
            }
            Self::Arrays(arrays) => {
                let array = *arrays.get(name).ok_or_else(missing)?;
                check_tensor(shared(array, meter)?, spec)
            }
        }
    }
}

/// The same array: a tensor is shared, objects are copied.
fn shared(array: &Array, meter: &Meter) -> std::result::Result<Array, OverBudget> {
    if matches!(array, Array::Object(_)) {
        meter.charge(array.heap())?;
    }
    Ok(array.clone())
}

pub(crate) fn unnamed_tensor(data: Data, spec: &TensorSpec, meter: &Meter) -> Result<Array> {
    match data {
        Data::Array(array) => check_tensor(array, spec),
        Data::Frame(frame) if frame.rows == 0 || frame.columns.is_empty() => {
            Err(SchemaError::Contradicts("Input DataFrame is empty.".to_owned()))
        }
        Data::Frame(frame) if frame.columns.len() == 1 => {
            tensor_of_column(None, &frame.columns[0].data, spec, meter)
        }
        Data::Frame(frame) => {
            let width = frame.columns.len();
            if spec.shape != [-1, i64::try_from(width).unwrap_or(i64::MAX)] {
                return Err(SchemaError::Contradicts(format!(
                    "This model contains a model signature with an unnamed input. Since the input data is a pandas \
                     DataFrame containing multiple columns, the input shape must be of the structure \
                     (-1, number_of_dataframe_columns). Instead, the input DataFrame passed had {width} columns and \
                     an input shape of {}",
                    tuple(&spec.shape)
                )));
            }
            check_tensor(frame.values(None, meter)?, spec)
        }
        Data::Mapping(_) | Data::Objects(_) => Err(SchemaError::Contradicts(
            "This model contains a tensor-based model signature with no input names, which suggests a numpy array \
             input or a pandas dataframe input with proper column values"
                .to_owned(),
        )),
    }
}

/// MLflow's `_enforce_tensor_spec`: rank, fixed dimensions and type must be equal.
fn check_tensor(array: Array, spec: &TensorSpec) -> Result<Array> {
    if spec.dtype == TensorType::Object && spec.shape == [-1] {
        return Ok(array);
    }
    let actual: Vec<i64> = array
        .shape()
        .iter()
        .map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX))
        .collect();
    let fits = actual.len() == spec.shape.len()
        && spec
            .shape
            .iter()
            .zip(&actual)
            .all(|(&wanted, &dim)| wanted == -1 || wanted == dim);
    if !fits {
        return Err(SchemaError::Contradicts(format!(
            "Shape of input {} does not match expected shape {}.",
            tuple(&actual),
            tuple(&spec.shape)
        )));
    }
    let wanted = tensor_type_name(&spec.dtype);
    let same = match &spec.dtype {
        TensorType::Plain(dtype) => array.dtype() == Some(*dtype),
        TensorType::Object => {
            matches!(array, Array::Object(_)) || array.dtype() == Some(DType::String)
        }
        TensorType::Bytes => matches!(array, Array::Opaque(Opaque::Binary, _)),
        TensorType::Other(name) => name.starts_with(array.dtype_name().trim_end_matches("[ns]")),
    };
    if same {
        return Ok(array);
    }
    let actual = array.dtype_name();
    Err(SchemaError::Contradicts(format!(
        "dtype of input {actual} does not match expected dtype {wanted}"
    )))
}

/// A data-frame column as the tensor of this name: scalars, or lists of a fixed shape.
fn tensor_of_column(
    name: Option<&str>,
    data: &Array,
    spec: &TensorSpec,
    meter: &Meter,
) -> Result<Array> {
    let shape = &spec.shape;
    let variable_rows = shape.first() == Some(&-1) && !shape[1..].contains(&-1);
    if !variable_rows {
        let input = name.map_or_else(
            || "the unnamed input".to_owned(),
            |name| format!("input {name}"),
        );
        return Err(SchemaError::Contradicts(format!(
            "For pandas dataframe input, the first dimension of shape must be a variable dimension and other \
             dimensions must be fixed, but in model signature the shape of {input} is {}.",
            tuple(shape)
        )));
    }
    let rows = data.shape().first().copied().unwrap_or(0);
    let fixed: Vec<usize> = shape[1..]
        .iter()
        .map(|&dim| usize::try_from(dim).unwrap_or(0))
        .collect();
    let full = [&[rows], fixed.as_slice()].concat();
    let cells = match data {
        Array::Object(found) => &found.cells,
        Array::Tensor(_) | Array::Opaque(..) => return scalars(name, data, (&full, spec), meter),
    };
    match cells.first() {
        Some(Json::Array(first)) if first.shape.len() == 1 && !first.cells.is_empty() => {
            let stacked = stack(cells, &full, spec, meter)?;
            stacked.ok_or_else(|| reshape_error(name, spec))
        }
        Some(Json::Array(_) | Json::List(_) | Json::Object(_)) => Err(SchemaError::Contradicts(
            "Because the model signature requires tensor spec input, the input pandas dataframe values should be \
             either scalar value, python list containing scalar values or numpy array containing scalar values, \
             other types are not supported."
                .to_owned(),
        )),
        _ => scalars(name, data, (&full, spec), meter),
    }
}

fn scalars(
    name: Option<&str>,
    data: &Array,
    (full, spec): (&[usize], &TensorSpec),
    meter: &Meter,
) -> Result<Array> {
    if !matches!(*full, [_] | [_, 1]) {
        return Err(SchemaError::Contradicts(format!(
            "The input pandas dataframe column '{}' contains scalar values, which requires the shape to be (-1,) or \
             (-1, 1), but got tensor spec shape of {}.",
            name.unwrap_or("None"),
            tuple(&spec.shape)
        )));
    }
    let typed = shared(data, meter)?;
    let typed = match &spec.dtype {
        TensorType::Plain(dtype) => astype(typed, *dtype, meter)?,
        TensorType::Object | TensorType::Bytes | TensorType::Other(_) => typed,
    };
    let reshaped = match typed {
        Array::Tensor(tensor) => tensor.reshaped(full.to_vec()).ok().map(Array::Tensor),
        Array::Object(found) => Some(objects(full.to_vec(), found.cells)),
        Array::Opaque(opaque, _) => Some(Array::Opaque(opaque, full.to_vec())),
    };
    check_tensor(reshaped.ok_or_else(|| reshape_error(name, spec))?, spec)
}

/// Rows of equal length put one under the other, in the spec's shape and type.
fn stack(
    cells: &[Json],
    full: &[usize],
    spec: &TensorSpec,
    meter: &Meter,
) -> Result<Option<Array>> {
    let mut all = Cells::default();
    let mut width = None;
    for cell in cells {
        let length = match cell {
            Json::Array(flat) if flat.shape.len() == 1 => flat.cells.len(),
            scalar if python::is_scalar(scalar) => 1,
            _ => return Ok(None),
        };
        if *width.get_or_insert(length) != length {
            return Ok(None);
        }
        match cell {
            Json::Array(flat) => {
                for value in (0..length).filter_map(|index| flat.cells.get(index)) {
                    meter.charge(value.heap())?;
                    all.push(value, meter)?;
                }
            }
            scalar => {
                meter.charge(scalar.heap())?;
                all.push(scalar.clone(), meter)?;
            }
        }
    }
    let TensorType::Plain(dtype) = spec.dtype else {
        return Ok(None);
    };
    let flat = infer_column(all, meter)?;
    Ok(match astype(flat, dtype, meter) {
        Ok(Array::Tensor(tensor)) => Tensor::reshaped(tensor, full.to_vec())
            .ok()
            .map(Array::Tensor),
        Err(PyError::OverBudget(over)) => return Err(over.into()),
        Ok(Array::Object(_) | Array::Opaque(..)) | Err(PyError::Raised { .. }) => None,
    })
}

fn reshape_error(name: Option<&str>, spec: &TensorSpec) -> SchemaError {
    SchemaError::Contradicts(format!(
        "The value in the Input DataFrame column '{}' could not be converted to the expected shape of: '{}'. Ensure \
         that each of the input list elements are of uniform length and that the data can be coerced to the tensor \
         type '{}'",
        name.unwrap_or("None"),
        tuple(&spec.shape),
        tensor_type_name(&spec.dtype)
    ))
}

/// A shape as Python prints a tuple.
fn tuple(shape: &[i64]) -> String {
    let dims: Vec<String> = shape.iter().map(i64::to_string).collect();
    format!(
        "({}{})",
        dims.join(", "),
        if dims.len() == 1 { "," } else { "" }
    )
}
