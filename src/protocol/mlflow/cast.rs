//! Casts of data-frame columns to the types of a schema, before enforcement: `Series.astype`, `to_datetime`, base64.

use super::array::{Array, Opaque, bools, filled, narrow, objects};
use super::datetime;
use super::frame::{Frame, cells_of, position, to_f64, to_i64};
use super::nested::{self, Stage};
use super::python::{self, PyError};
use crate::model::{ColType, DataType, Schema, TensorType};
use crate::protocol::json::{Cells, Flat, Json};
use crate::tensor::{DType, Element, Tensor};

/// A column that cannot have the type that the schema asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Data is not compatible with model signature. Failed to convert column {column} to type '{wanted}'. Error: '{}'",
    error.repr()
)]
pub(super) struct CastError {
    column: String,
    wanted: String,
    error: PyError,
}

/// Casts each column that the schema names (or counts, when its columns have no names).
pub(super) fn cast_frame(frame: &mut Frame, schema: &Schema) -> Result<(), CastError> {
    match schema {
        Schema::Columns(specs) => {
            for (index, spec) in specs.iter().enumerate() {
                let name = spec.name.as_deref();
                match &spec.kind {
                    ColType::Any => {}
                    ColType::Scalar(wanted) => {
                        cast_column(frame, name, index, wanted.numpy_name(), |data| {
                            cast_data(data, *wanted)
                        })?;
                    }
                    kind => cast_column(frame, name, index, &kind.to_string(), |data| {
                        let mut cells = cells_of(data).into_iter();
                        cells
                            .try_for_each(|cell| {
                                nested::check(&cell, kind, spec.required, Stage::Cast)
                            })
                            .map(|()| data.clone())
                    })?,
                }
            }
        }
        Schema::Tensors(specs) => {
            for (index, spec) in specs.iter().enumerate() {
                let wanted = tensor_type_name(&spec.dtype);
                // A single unnamed tensor stands for all columns.
                let places = if spec.name.is_some() {
                    index..=index
                } else {
                    0..=frame.columns.len().max(1) - 1
                };
                for place in places {
                    let name = spec.name.as_deref();
                    cast_column(frame, name, place, wanted, |data| {
                        cast_tensor(data, &spec.dtype)
                    })?;
                }
            }
        }
    }
    Ok(())
}

fn cast_column(
    frame: &mut Frame,
    name: Option<&str>,
    index: usize,
    wanted: &str,
    cast: impl Fn(&Array) -> Result<Array, PyError>,
) -> Result<(), CastError> {
    let same_name = |name: &str| {
        frame
            .columns
            .iter()
            .filter(|column| column.is_named(name))
            .count()
    };
    let duplicate = name.is_some_and(|name| same_name(name) > 1);
    let found = match name {
        Some(name) => frame
            .columns
            .iter_mut()
            .find(|column| column.is_named(name)),
        None => frame.columns.get_mut(index),
    };
    let Some(column) = found else { return Ok(()) };
    let cast_result = if duplicate {
        Err(PyError::value("the column is there more than once"))
    } else {
        cast(&column.data)
    };
    match cast_result {
        Ok(data) => column.data = data,
        Err(error) => {
            let column = name.map_or_else(|| python::text(&position(index)), str::to_owned);
            return Err(CastError {
                column,
                wanted: wanted.to_owned(),
                error,
            });
        }
    }
    Ok(())
}

fn cast_data(data: &Array, wanted: DataType) -> Result<Array, PyError> {
    match wanted {
        DataType::Boolean => astype(data, DType::Bool),
        DataType::Integer => astype(data, DType::I32),
        DataType::Long => astype(data, DType::I64),
        DataType::Float => astype(data, DType::F32),
        DataType::Double => astype(data, DType::F64),
        DataType::String if data.dtype() == Some(DType::String) => Ok(data.clone()),
        DataType::String => Ok(objects(data.shape().to_vec(), cells_of(data))),
        DataType::Binary => {
            cells_of(data).iter().try_for_each(check_base64)?;
            Ok(Array::Opaque(Opaque::Binary, data.shape().to_vec()))
        }
        DataType::Datetime => datetime::column(data),
    }
}

fn cast_tensor(data: &Array, wanted: &TensorType) -> Result<Array, PyError> {
    let first = cells_of(data).into_iter().next();
    match first {
        None => return Err(PyError::value("single positional indexer is out-of-bounds")),
        // Lists are converted when the tensor is put together.
        Some(Json::Array(_) | Json::List(_)) => return Ok(data.clone()),
        Some(_) => {}
    }
    match wanted {
        TensorType::Plain(dtype) => astype(data, *dtype),
        TensorType::Object | TensorType::Bytes => Ok(data.clone()),
        TensorType::Other(name) if name.starts_with("datetime") => datetime::column(data),
        TensorType::Other(name) => Err(PyError::kind(format!(
            "an ONNX model takes no tensor of type {name}"
        ))),
    }
}

/// numpy's name of a tensor's element type.
pub(super) fn tensor_type_name(dtype: &TensorType) -> &str {
    match dtype {
        TensorType::Plain(dtype) => dtype.numpy_name(),
        TensorType::Object => "object",
        TensorType::Bytes => "bytes",
        TensorType::Other(name) => name,
    }
}

/// `series.astype(dtype)`: numbers are cast as in C, objects as by Python's `int()`, `float()`, `bool()`, `str()`.
pub(super) fn astype(data: &Array, dtype: DType) -> Result<Array, PyError> {
    let tensor = match data {
        Array::Tensor(tensor) if tensor.dtype() == dtype => return Ok(data.clone()),
        Array::Tensor(tensor) => tensor,
        Array::Object(_) | Array::Opaque(..) => return convert_cells(data, dtype),
    };
    match tensor.dtype() {
        DType::String => convert_cells(data, dtype),
        _ if dtype == DType::String => convert_cells(data, dtype),
        source if source.is_float() => cast_floats(tensor, dtype).map(Array::Tensor),
        _ => Ok(Array::Tensor(cast_ints(tensor, dtype))),
    }
}

fn convert_cells(data: &Array, dtype: DType) -> Result<Array, PyError> {
    let cells = Cells::Mixed(cells_of(data));
    super::array::convert(
        Flat {
            shape: data.shape().to_vec(),
            cells,
        },
        dtype,
    )
    .map(Array::Tensor)
}

fn cast_floats(tensor: &Tensor, dtype: DType) -> Result<Tensor, PyError> {
    let shape = tensor.shape().to_vec();
    let values = to_f64(tensor);
    let name = dtype.numpy_name();
    match dtype {
        DType::Bool => {
            return Ok(bools(
                shape,
                &values.iter().map(|&value| value != 0.0).collect::<Vec<_>>(),
            ));
        }
        DType::F32 => return Ok(filled(shape, narrow(&values))),
        DType::F16 => {
            return Ok(filled(
                shape,
                values.into_iter().map(half::f16::from_f64).collect(),
            ));
        }
        DType::F64 => return Ok(filled(shape, values)),
        _ => {}
    }
    if values.iter().any(|value| !value.is_finite()) {
        return Err(PyError::value(
            "Cannot convert non-finite values (NA or inf) to integer",
        ));
    }
    let unsigned = matches!(dtype, DType::U8 | DType::U16 | DType::U32 | DType::U64);
    if unsigned && values.iter().any(|&value| value < 0.0) {
        return Err(PyError::value(format!(
            "Cannot losslessly cast from float64 to {name}"
        )));
    }
    let narrow = dtype.width().is_some_and(|width| width <= 4);
    let ints: Vec<i64> = values
        .into_iter()
        .map(|value| truncated(value, narrow && !unsigned))
        .collect();
    Ok(wrapped(shape, &ints, dtype))
}

/// What the processor's conversion gives: the fraction is cut off, and what does not fit is the smallest integer.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn truncated(value: f64, to_32_bits: bool) -> i64 {
    let (limit, smallest) = if to_32_bits {
        (2_147_483_648.0, i64::from(i32::MIN))
    } else {
        (9.223_372_036_854_776e18, i64::MIN)
    };
    if (-limit - 1.0 < value || value == -limit) && value < limit {
        value as i64
    } else {
        smallest
    }
}

fn cast_ints(tensor: &Tensor, dtype: DType) -> Tensor {
    let shape = tensor.shape().to_vec();
    match dtype {
        DType::Bool => bools(
            shape,
            &to_f64(tensor)
                .iter()
                .map(|&value| value != 0.0)
                .collect::<Vec<_>>(),
        ),
        DType::F64 => filled(shape, to_f64(tensor)),
        DType::F32 => filled(shape, narrow(&to_f64(tensor))),
        DType::F16 => filled(
            shape,
            to_f64(tensor)
                .into_iter()
                .map(half::f16::from_f64)
                .collect(),
        ),
        _ => wrapped(shape, &to_i64(tensor), dtype),
    }
}

/// Integers cut to the width of `dtype`.
fn wrapped(shape: Vec<usize>, ints: &[i64], dtype: DType) -> Tensor {
    fn cut<T: Element>(ints: &[i64]) -> Vec<T> {
        ints.iter()
            .map(|int| bytemuck::pod_read_unaligned(&int.to_le_bytes()[..size_of::<T>()]))
            .collect()
    }
    match dtype {
        DType::I8 => filled(shape, cut::<i8>(ints)),
        DType::I16 => filled(shape, cut::<i16>(ints)),
        DType::I32 => filled(shape, cut::<i32>(ints)),
        DType::U8 => filled(shape, cut::<u8>(ints)),
        DType::U16 => filled(shape, cut::<u16>(ints)),
        DType::U32 => filled(shape, cut::<u32>(ints)),
        DType::U64 => filled(shape, cut::<u64>(ints)),
        _ => filled(shape, ints.to_vec()),
    }
}

/// `np.array(data, dtype=bytes)`: anything, but text must be ASCII.
pub(super) fn bytes(data: &Json) -> Result<Array, PyError> {
    let items = python::items(data);
    let shape = items.as_ref().map_or(vec![], |items| vec![items.len()]);
    let ascii = |cell: &Json| !matches!(cell, Json::Text(text) if !text.is_ascii());
    if items
        .unwrap_or_else(|| vec![data.clone()])
        .iter()
        .all(ascii)
    {
        return Ok(Array::Opaque(Opaque::Binary, shape));
    }
    Err(PyError::value(
        "'ascii' codec can't encode characters: ordinal not in range(128)",
    ))
}

/// `base64.decodebytes`: characters outside the alphabet are skipped, padding must be right.
fn check_base64(value: &Json) -> Result<(), PyError> {
    let Json::Text(text) = value else {
        return Err(PyError::kind("encoding without a string argument"));
    };
    let (mut data, mut padding) = (0usize, 0usize);
    for byte in text.bytes() {
        match byte {
            b'=' if data % 4 >= 2 => {
                padding += 1;
                if data % 4 + padding >= 4 {
                    return Ok(());
                }
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => {
                padding = 0;
                data += 1;
            }
            _ => {}
        }
    }
    match data % 4 {
        0 => Ok(()),
        1 => Err(PyError::value(format!(
            "Invalid base64-encoded string: number of data characters ({data}) cannot be 1 more than a multiple of 4"
        ))),
        _ => Err(PyError::value("Incorrect padding")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::mlflow::frame::infer_column;

    fn column(values: Vec<Json>) -> Array {
        let mut cells = Cells::default();
        values.into_iter().for_each(|value| cells.push(value));
        infer_column(cells)
    }

    fn to_i32(value: Json) -> Result<i32, String> {
        match astype(&column(vec![value]), DType::I32) {
            Ok(Array::Tensor(tensor)) => Ok(tensor.as_slice::<i32>().unwrap()[0]),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn numbers_are_cast_as_in_c_and_objects_as_in_python() {
        assert_eq!(to_i32(Json::Int(2_147_483_648)), Ok(i32::MIN));
        assert_eq!(to_i32(Json::Int(3_000_000_000)), Ok(-1_294_967_296));
        assert_eq!(to_i32(Json::Big("9223372036854775808".into())), Ok(0));
        assert_eq!(to_i32(Json::Float(1.9)), Ok(1));
        assert_eq!(to_i32(Json::Float(-1.9)), Ok(-1));
        assert_eq!(to_i32(Json::Float(3e9)), Ok(i32::MIN));
        assert_eq!(to_i32(Json::Float(-2_147_483_648.9)), Ok(i32::MIN));
        assert_eq!(to_i32(Json::Bool(true)), Ok(1));
        assert_eq!(to_i32(Json::Text("7".to_owned())), Ok(7));
        assert_eq!(
            to_i32(Json::Text("3000000000".to_owned())),
            Err("Python integer 3000000000 out of bounds for int32".to_owned())
        );
        let not_finite = to_i32(Json::Float(f64::NAN)).unwrap_err();
        assert_eq!(
            not_finite,
            "Cannot convert non-finite values (NA or inf) to integer"
        );
    }

    #[test]
    fn base64_is_checked_as_leniently_as_python_does() {
        let check = |text: &str| {
            check_base64(&Json::Text(text.to_owned())).map_err(|error| error.to_string())
        };
        for fine in ["aGVsbG8=", "aGVs*bG8=", "", "YQ==", "aGVsbG8=trailing"] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        assert_eq!(check("aGVsbG8"), Err("Incorrect padding".to_owned()));
        assert!(check("a").is_err());
        assert!(check_base64(&Json::Null).is_err());
    }
}
