//! Enforcement of tensor signatures: MLflow's `_enforce_tensor_schema`.

use super::array::{Array, Opaque, objects};
use super::cast::{astype, tensor_type_name};
use super::enforce::{Data, Result, SchemaError, check_names, name_list};
use super::frame::infer_column;
use super::python;
use crate::model::{TensorSpec, TensorType};
use crate::protocol::json::{Cells, Flat, Json};
use crate::tensor::{DType, Tensor};

pub(super) fn named_tensors(data: Data, specs: &[TensorSpec]) -> Result<Data> {
    let names: Vec<&str> = specs
        .iter()
        .filter_map(|spec| spec.name.as_deref())
        .collect();
    let data = match data {
        Data::Array(array) if names.len() == 1 => Data::Mapping(vec![(names[0].to_owned(), array)]),
        other => other,
    };
    let given = match &data {
        Data::Frame(frame) => frame
            .columns
            .iter()
            .map(|column| python::text(&column.name))
            .collect(),
        Data::Mapping(mapping) => mapping.iter().map(|(name, _)| name.clone()).collect(),
        Data::Array(_) | Data::Objects(_) => Vec::new(),
    };
    check_names(names.iter().map(|name| (*name, true)), &given)?;
    let mut bound = Vec::with_capacity(specs.len());
    for (name, spec) in names.into_iter().zip(specs) {
        let array = match &data {
            Data::Frame(frame) => frame
                .column(name)
                .map(|column| tensor_of_column(Some(name), &column.data, spec)),
            Data::Mapping(mapping) => {
                let found = mapping.iter().find(|(key, _)| key == name);
                found.map(|(_, array)| check_tensor(array.clone(), spec))
            }
            Data::Array(_) | Data::Objects(_) => None,
        };
        let array = array.ok_or_else(|| {
            SchemaError(format!("Model is missing inputs {}.", name_list(&[name])))
        })?;
        bound.push((name.to_owned(), array?));
    }
    Ok(Data::Mapping(bound))
}

pub(super) fn unnamed_tensor(data: Data, spec: &TensorSpec) -> Result<Array> {
    match data {
        Data::Array(array) => check_tensor(array, spec),
        Data::Frame(frame) if frame.rows == 0 || frame.columns.is_empty() => {
            Err(SchemaError("Input DataFrame is empty.".to_owned()))
        }
        Data::Frame(frame) if frame.columns.len() == 1 => tensor_of_column(None, &frame.columns[0].data, spec),
        Data::Frame(frame) => {
            let width = frame.columns.len();
            if spec.shape != [-1, i64::try_from(width).unwrap_or(i64::MAX)] {
                return Err(SchemaError(format!(
                    "This model contains a model signature with an unnamed input. Since the input data is a pandas \
                     DataFrame containing multiple columns, the input shape must be of the structure \
                     (-1, number_of_dataframe_columns). Instead, the input DataFrame passed had {width} columns and \
                     an input shape of {}",
                    tuple(&spec.shape)
                )));
            }
            check_tensor(frame.values(), spec)
        }
        Data::Mapping(_) | Data::Objects(_) => Err(SchemaError(
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
        return Err(SchemaError(format!(
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
    Err(SchemaError(format!(
        "dtype of input {actual} does not match expected dtype {wanted}"
    )))
}

/// A data-frame column as the tensor of this name: scalars, or lists of a fixed shape.
fn tensor_of_column(name: Option<&str>, data: &Array, spec: &TensorSpec) -> Result<Array> {
    let shape = &spec.shape;
    let variable_rows = shape.first() == Some(&-1) && !shape[1..].contains(&-1);
    if !variable_rows {
        let input = name.map_or_else(
            || "the unnamed input".to_owned(),
            |name| format!("input {name}"),
        );
        return Err(SchemaError(format!(
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
        Array::Object(found) => found.cells.clone(),
        Array::Tensor(_) | Array::Opaque(..) => return scalars(name, data, &full, spec),
    };
    match cells.first() {
        Some(Json::Array(first)) if first.shape.len() == 1 && !first.cells.is_empty() => {
            let stacked = stack(cells, &full, spec);
            stacked.ok_or_else(|| reshape_error(name, spec))
        }
        Some(Json::Array(_) | Json::List(_) | Json::Object(_)) => Err(SchemaError(
            "Because the model signature requires tensor spec input, the input pandas dataframe values should be \
             either scalar value, python list containing scalar values or numpy array containing scalar values, \
             other types are not supported."
                .to_owned(),
        )),
        _ => scalars(name, data, &full, spec),
    }
}

fn scalars(name: Option<&str>, data: &Array, full: &[usize], spec: &TensorSpec) -> Result<Array> {
    if !matches!(*full, [_] | [_, 1]) {
        return Err(SchemaError(format!(
            "The input pandas dataframe column '{}' contains scalar values, which requires the shape to be (-1,) or \
             (-1, 1), but got tensor spec shape of {}.",
            name.unwrap_or("None"),
            tuple(&spec.shape)
        )));
    }
    let typed = match &spec.dtype {
        TensorType::Plain(dtype) => {
            astype(data, *dtype).map_err(|error| SchemaError(error.to_string()))?
        }
        TensorType::Object | TensorType::Bytes | TensorType::Other(_) => data.clone(),
    };
    let reshaped = match typed {
        Array::Tensor(tensor) => tensor.reshaped(full.to_vec()).ok().map(Array::Tensor),
        Array::Object(found) => Some(objects(full.to_vec(), found.cells)),
        Array::Opaque(opaque, _) => Some(Array::Opaque(opaque, full.to_vec())),
    };
    check_tensor(reshaped.ok_or_else(|| reshape_error(name, spec))?, spec)
}

/// Rows of equal length put one under the other, in the spec's shape and type.
fn stack(cells: Vec<Json>, full: &[usize], spec: &TensorSpec) -> Option<Array> {
    let mut all = Cells::default();
    let mut width = None;
    for cell in cells {
        let flat = match cell {
            Json::Array(flat) => *flat,
            scalar if python::is_scalar(&scalar) => Flat {
                shape: vec![1],
                cells: Cells::one(scalar),
            },
            _ => return None,
        };
        if *width.get_or_insert(flat.cells.len()) != flat.cells.len() || flat.shape.len() != 1 {
            return None;
        }
        flat.cells.into_iter().for_each(|value| all.push(value));
    }
    let TensorType::Plain(dtype) = spec.dtype else {
        return None;
    };
    let flat = infer_column(all);
    match astype(&flat, dtype).ok()? {
        Array::Tensor(tensor) => Tensor::reshaped(tensor, full.to_vec())
            .ok()
            .map(Array::Tensor),
        Array::Object(_) | Array::Opaque(..) => None,
    }
}

fn reshape_error(name: Option<&str>, spec: &TensorSpec) -> SchemaError {
    SchemaError(format!(
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
