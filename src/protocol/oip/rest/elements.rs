//! The elements of one tensor, out of JSON.

use crate::protocol::json::{self, Cells, ElementError, Json};
use crate::protocol::meter::Meter;
use crate::protocol::oip::error::OipError;
use crate::tensor::{DType, Tensor};

/// The tensor of an input out of its `data`, flat or nested to its shape.
///
/// # Errors
/// When the data does not fill the shape, or holds what the type cannot.
pub(crate) fn tensor(
    name: &str,
    dtype: DType,
    shape: Vec<usize>,
    data: Json,
    meter: &Meter,
) -> Result<Tensor, OipError> {
    let Json::Array(flat) = data else {
        return Err(OipError::Invalid(format!(
            "the data of input `{name}` is no rectangular list of values"
        )));
    };
    if flat.shape.len() > 1 && flat.shape != shape {
        return Err(OipError::Invalid(format!(
            "the data of input `{name}` is nested to shape {:?}, expected {shape:?} or a flat list",
            flat.shape
        )));
    }
    tensor_of((name, dtype), shape, flat.cells, meter)
}

fn tensor_of(
    (name, dtype): (&str, DType),
    shape: Vec<usize>,
    cells: Cells,
    meter: &Meter,
) -> Result<Tensor, OipError> {
    if matches!(dtype, DType::F16 | DType::Bf16) {
        return Err(OipError::Invalid(format!(
            "input `{name}` is {dtype}, which has no JSON form; send it as binary data"
        )));
    }
    json::tensor_of(dtype, shape, cells, meter).map_err(|error| match error {
        ElementError::Value { given, dtype } => OipError::Invalid(format!(
            "the data of input `{name}` holds {given}, expected values of {dtype}"
        )),
        ElementError::Shape(error) => OipError::Tensor {
            name: name.to_owned(),
            error,
        },
        ElementError::OverBudget(over) => over.into(),
    })
}
