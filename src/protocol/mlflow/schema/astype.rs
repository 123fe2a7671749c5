//! Arrays of one type as those of another, as NumPy converts them.

use crate::budget::OverBudget;
use crate::model::{DataType, TensorType};
use crate::protocol::json::Json;
use crate::protocol::meter::{Meter, block_of, tensor_heap};
use crate::protocol::pandas::array::{
    Array, Opaque, convert_each, filled, metered_bools, narrow, objects,
};
use crate::protocol::pandas::datetime;
use crate::protocol::pandas::frame::{cells_of, into_cells, to_f64, to_i64};
use crate::protocol::pandas::python;
use crate::protocol::pandas::python::PyError;
use crate::tensor::{DType, Element, Tensor, dispatch};

pub(super) fn cast_data(data: Array, wanted: DataType, meter: &Meter) -> Result<Array, PyError> {
    let dtype = match wanted {
        DataType::Boolean => DType::Bool,
        DataType::Integer => DType::I32,
        DataType::Long => DType::I64,
        DataType::Float => DType::F32,
        DataType::Double => DType::F64,
        DataType::String if data.dtype() == Some(DType::String) => return Ok(data),
        DataType::String => {
            let shape = data.shape().to_vec();
            return Ok(objects(shape, into_cells(data, meter)?));
        }
        DataType::Binary => {
            cells_of(&data).try_for_each(|cell| check_base64(&cell))?;
            return Ok(Array::Opaque(Opaque::Binary, data.shape().to_vec()));
        }
        DataType::Datetime => return datetime::column(data, meter),
    };
    astype(data, dtype, meter)
}

pub(super) fn cast_tensor(
    data: Array,
    wanted: &TensorType,
    meter: &Meter,
) -> Result<Array, PyError> {
    let first = cells_of(&data).next();
    let has_lists = match first.as_deref() {
        None => return Err(PyError::value("single positional indexer is out-of-bounds")),
        Some(first) => matches!(first, Json::Array(_) | Json::List(_)),
    };
    drop(first);
    if has_lists {
        // Lists are converted when the tensor is put together.
        return Ok(data);
    }
    match wanted {
        TensorType::Plain(dtype) => astype(data, *dtype, meter),
        TensorType::Object | TensorType::Bytes => Ok(data),
        TensorType::Other(name) if name.starts_with("datetime") => datetime::column(data, meter),
        TensorType::Other(name) => Err(PyError::kind(format!(
            "an ONNX model takes no tensor of type {name}"
        ))),
    }
}

/// numpy's name of a tensor's element type.
pub(crate) fn tensor_type_name(dtype: &TensorType) -> &str {
    match dtype {
        TensorType::Plain(dtype) => dtype.numpy_name(),
        TensorType::Object => "object",
        TensorType::Bytes => "bytes",
        TensorType::Other(name) => name,
    }
}

/// `series.astype(dtype)`: numbers are cast as in C, objects as by Python's `int()`, `float()`, `bool()`, `str()`.
pub(crate) fn astype(data: Array, dtype: DType, meter: &Meter) -> Result<Array, PyError> {
    let tensor = match &data {
        Array::Tensor(tensor) if tensor.dtype() == dtype => return Ok(data),
        Array::Tensor(tensor) => tensor,
        Array::Object(_) | Array::Opaque(..) => return convert_cells(data, dtype, meter),
    };
    let cast = match tensor.dtype() {
        DType::String => return convert_cells(data, dtype, meter),
        _ if dtype == DType::String => return convert_cells(data, dtype, meter),
        source => {
            // As numbers of eight bytes first, which some targets are.
            let wide = block_of::<u64>(tensor.len());
            meter.charge(wide)?;
            let cast = if source.is_float() {
                cast_floats(tensor, dtype, meter)?
            } else {
                cast_ints(tensor, dtype, meter)?
            };
            if !matches!(dtype, DType::F64 | DType::I64) {
                meter.release(wide);
            }
            cast
        }
    };
    meter.release(tensor_heap(tensor));
    Ok(Array::Tensor(cast))
}

fn convert_cells(data: Array, dtype: DType, meter: &Meter) -> Result<Array, PyError> {
    let shape = data.shape().to_vec();
    let converted = convert_each(shape, cells_of(&data), dtype, meter)?;
    meter.release(data.heap());
    Ok(Array::Tensor(converted))
}

fn cast_floats(tensor: &Tensor, dtype: DType, meter: &Meter) -> Result<Tensor, PyError> {
    let shape = tensor.shape().to_vec();
    let values = to_f64(tensor);
    let name = dtype.numpy_name();
    match dtype {
        DType::Bool => {
            let bools = values.iter().map(|&value| value != 0.0).collect();
            return Ok(metered_bools(shape, bools, meter)?);
        }
        DType::F32 => return Ok(filled(shape, narrow(&values, meter)?)),
        DType::F16 => return Ok(filled(shape, halves(&values, meter)?)),
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
    Ok(wrapped(shape, ints, dtype, meter)?)
}

fn halves(values: &[f64], meter: &Meter) -> Result<Vec<half::f16>, OverBudget> {
    let mut halves = meter.vec(values.len())?;
    halves.extend(values.iter().map(|&value| half::f16::from_f64(value)));
    Ok(halves)
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

fn cast_ints(tensor: &Tensor, dtype: DType, meter: &Meter) -> Result<Tensor, OverBudget> {
    let shape = tensor.shape().to_vec();
    Ok(match dtype {
        DType::Bool => {
            let bools = to_f64(tensor).iter().map(|&value| value != 0.0).collect();
            metered_bools(shape, bools, meter)?
        }
        DType::F64 => filled(shape, to_f64(tensor)),
        DType::F32 => filled(shape, narrow(&to_f64(tensor), meter)?),
        DType::F16 => filled(shape, halves(&to_f64(tensor), meter)?),
        _ => wrapped(shape, to_i64(tensor), dtype, meter)?,
    })
}

/// Integers cut to the width of `dtype`.
fn wrapped(
    shape: Vec<usize>,
    ints: Vec<i64>,
    dtype: DType,
    meter: &Meter,
) -> Result<Tensor, OverBudget> {
    fn cut<T: Element>(ints: &[i64], meter: &Meter) -> Result<Vec<T>, OverBudget> {
        let mut out = meter.vec(ints.len())?;
        let cut =
            |int: &i64| bytemuck::pod_read_unaligned::<T>(&int.to_le_bytes()[..size_of::<T>()]);
        out.extend(ints.iter().map(cut));
        Ok(out)
    }
    Ok(dispatch!(
        dtype,
        integer T => filled(shape, cut::<T>(&ints, meter)?),
        DType::I64
        | DType::Bool
        | DType::F16
        | DType::Bf16
        | DType::F32
        | DType::F64
        | DType::String => filled(shape, ints),
    ))
}

/// `np.array(data, dtype=bytes)`: anything, but text must be ASCII.
pub(crate) fn bytes(data: &Json) -> Result<Array, PyError> {
    let shape = python::length(data).map_or(vec![], |count| vec![count]);
    let is_ascii = |cell: &Json| !matches!(cell, Json::Text(text) if !text.is_ascii());
    let fits = match data {
        Json::List(items) => items.iter().all(is_ascii),
        Json::Array(flat) if flat.shape.len() == 1 => {
            let mut cells = (0..flat.cells.len()).filter_map(|index| flat.cells.get(index));
            cells.all(|cell| is_ascii(&cell))
        }
        Json::Array(_) => true,
        scalar => is_ascii(scalar),
    };
    if fits {
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
    use crate::protocol::json::Cells;
    use crate::protocol::pandas::frame::infer_column;

    fn column(values: Vec<Json>) -> Array {
        let meter = Meter::unlimited();
        infer_column(Cells::new(values, &meter).unwrap(), &meter).unwrap()
    }

    fn to_i32(value: Json) -> Result<i32, PyError> {
        match astype(column(vec![value]), DType::I32, &Meter::unlimited()) {
            Ok(Array::Tensor(tensor)) => Ok(tensor.as_slice::<i32>().unwrap()[0]),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
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
        let refusal = |value| to_i32(value).unwrap_err().to_string();
        assert_eq!(
            refusal(Json::Text("3000000000".to_owned())),
            "Python integer 3000000000 out of bounds for int32"
        );
        assert_eq!(
            refusal(Json::Float(f64::NAN)),
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
