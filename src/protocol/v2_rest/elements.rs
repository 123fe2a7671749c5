//! The elements of one tensor, out of JSON.

use half::{bf16, f16};

use crate::protocol::json::{Cells, Json};
use crate::protocol::oip::error::OipError;
use crate::tensor::{DType, Element, Tensor};

/// The tensor of an input out of its `data`, flat or nested to its shape.
///
/// # Errors
/// When the data does not fill the shape, or holds what the type cannot.
pub(super) fn tensor(
    name: &str,
    dtype: DType,
    shape: Vec<usize>,
    data: Json,
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
    tensor_of(name, dtype, shape, flat.cells)
}

fn tensor_of(
    name: &str,
    dtype: DType,
    shape: Vec<usize>,
    cells: Cells,
) -> Result<Tensor, OipError> {
    let reader = Elements { name, dtype };
    let tensor = match dtype {
        DType::Bool => Tensor::from_bools(shape, &reader.bools(cells)?),
        DType::String => Tensor::from_strings(shape, reader.strings(cells)?),
        DType::F32 => Tensor::from_vec(shape, reader.floats(cells, narrow)?),
        DType::F64 => Tensor::from_vec(shape, reader.floats(cells, |value| value)?),
        DType::F16 => Tensor::from_vec(shape, reader.no_json::<f16>()?),
        DType::Bf16 => Tensor::from_vec(shape, reader.no_json::<bf16>()?),
        DType::U8 => Tensor::from_vec(shape, reader.ints::<u8>(cells)?),
        DType::U16 => Tensor::from_vec(shape, reader.ints::<u16>(cells)?),
        DType::U32 => Tensor::from_vec(shape, reader.ints::<u32>(cells)?),
        DType::U64 => Tensor::from_vec(shape, reader.ints::<u64>(cells)?),
        DType::I8 => Tensor::from_vec(shape, reader.ints::<i8>(cells)?),
        DType::I16 => Tensor::from_vec(shape, reader.ints::<i16>(cells)?),
        DType::I32 => Tensor::from_vec(shape, reader.ints::<i32>(cells)?),
        DType::I64 => Tensor::from_vec(shape, reader.ints::<i64>(cells)?),
    };
    tensor.map_err(|error| OipError::Tensor {
        name: name.to_owned(),
        error,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounds to the nearest single"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}

/// Reads elements of one type; whole numbers are fine for floats, nothing else is converted.
struct Elements<'n> {
    name: &'n str,
    dtype: DType,
}

impl Elements<'_> {
    fn refuse(&self, value: &Json) -> OipError {
        let given = match value {
            Json::Null => "null".to_owned(),
            Json::Bool(value) => value.to_string(),
            Json::Int(value) => value.to_string(),
            Json::Big(digits) => digits.to_string(),
            Json::Float(value) => value.to_string(),
            Json::Text(_) => "a string".to_owned(),
            Json::Array(_) | Json::List(_) => "a list".to_owned(),
            Json::Object(_) => "an object".to_owned(),
        };
        let Self { name, dtype } = self;
        OipError::Invalid(format!(
            "the data of input `{name}` holds {given}, expected values of {dtype}"
        ))
    }

    fn no_json<T>(&self) -> Result<Vec<T>, OipError> {
        let Self { name, dtype } = self;
        Err(OipError::Invalid(format!(
            "input `{name}` is {dtype}, which has no JSON form; send it as binary data"
        )))
    }

    fn bools(&self, cells: Cells) -> Result<Vec<bool>, OipError> {
        if let Cells::Bool(values) = cells {
            return Ok(values);
        }
        let bool = |cell| match cell {
            Json::Bool(value) => Ok(value),
            other => Err(self.refuse(&other)),
        };
        cells.into_iter().map(bool).collect()
    }

    fn strings(&self, cells: Cells) -> Result<Vec<String>, OipError> {
        if let Cells::Text(values) = cells {
            return Ok(values);
        }
        let text = |cell| match cell {
            Json::Text(value) => Ok(value),
            other => Err(self.refuse(&other)),
        };
        cells.into_iter().map(text).collect()
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a whole number for a float is rounded to it"
    )]
    fn floats<T>(&self, cells: Cells, narrow: impl Fn(f64) -> T) -> Result<Vec<T>, OipError> {
        match cells {
            Cells::Number(numbers) => Ok(numbers.values.into_iter().map(narrow).collect()),
            Cells::Int(values) => Ok(values
                .into_iter()
                .map(|value| narrow(value as f64))
                .collect()),
            other => {
                let float = |cell| match &cell {
                    Json::Int(value) => Ok(*value as f64),
                    Json::Float(value) => Ok(*value),
                    Json::Big(digits) => digits.parse().map_err(|_| self.refuse(&cell)),
                    // What this server writes for a NaN, it also reads.
                    Json::Null => Ok(f64::NAN),
                    _ => Err(self.refuse(&cell)),
                };
                other
                    .into_iter()
                    .map(|cell| float(cell).map(&narrow))
                    .collect()
            }
        }
    }

    fn ints<T: Element + TryFrom<i64> + std::str::FromStr>(
        &self,
        cells: Cells,
    ) -> Result<Vec<T>, OipError> {
        let int = |cell| match &cell {
            Json::Int(value) => T::try_from(*value).map_err(|_| self.refuse(&cell)),
            Json::Big(digits) => digits.parse().map_err(|_| self.refuse(&cell)),
            _ => Err(self.refuse(&cell)),
        };
        cells.into_iter().map(int).collect()
    }
}
