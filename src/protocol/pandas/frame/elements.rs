//! The elements of a column, as what other columns are made of.

use std::borrow::Cow;

use half::{bf16, f16};

use crate::budget::OverBudget;
use crate::protocol::json::Json;
use crate::protocol::meter::{Meter, block};
use crate::protocol::pandas::array::Array;
use crate::tensor::{DType, Tensor};

/// The elements of a boolean or integer column, those beyond `i64` wrapped around.
pub(crate) fn to_i64(tensor: &Tensor) -> Vec<i64> {
    macro_rules! ints {
        ($rust:ty) => {
            tensor
                .to_vec::<$rust>()
                .unwrap_or_default()
                .into_iter()
                .map(i64::from)
                .collect()
        };
    }
    match tensor.dtype() {
        DType::Bool => tensor.bytes().iter().map(|&byte| i64::from(byte)).collect(),
        DType::U8 => ints!(u8),
        DType::U16 => ints!(u16),
        DType::U32 => ints!(u32),
        DType::I8 => ints!(i8),
        DType::I16 => ints!(i16),
        DType::I32 => ints!(i32),
        DType::U64 => tensor
            .to_vec::<u64>()
            .unwrap_or_default()
            .into_iter()
            .map(u64::cast_signed)
            .collect(),
        _ => tensor.to_vec::<i64>().unwrap_or_default(),
    }
}

/// The elements of a numeric column as doubles.
#[expect(
    clippy::cast_precision_loss,
    reason = "numpy's promotion to float64 rounds too"
)]
pub(crate) fn to_f64(tensor: &Tensor) -> Vec<f64> {
    match tensor.dtype() {
        DType::F64 => tensor.to_vec::<f64>().unwrap_or_default(),
        DType::F32 => tensor
            .to_vec::<f32>()
            .unwrap_or_default()
            .into_iter()
            .map(f64::from)
            .collect(),
        DType::F16 => tensor
            .to_vec::<f16>()
            .unwrap_or_default()
            .into_iter()
            .map(f16::to_f64)
            .collect(),
        DType::Bf16 => tensor
            .to_vec::<bf16>()
            .unwrap_or_default()
            .into_iter()
            .map(bf16::to_f64)
            .collect(),
        DType::U64 => tensor
            .to_vec::<u64>()
            .unwrap_or_default()
            .into_iter()
            .map(|int| int as f64)
            .collect(),
        _ => to_i64(tensor).into_iter().map(|int| int as f64).collect(),
    }
}

/// The Python objects of a column, one by one.
pub(crate) fn cells_of(array: &Array) -> Box<dyn Iterator<Item = Cow<'_, Json>> + '_> {
    macro_rules! ints {
        ($tensor:expr, $rust:ty) => {{
            let values = $tensor.as_slice::<$rust>().unwrap_or_default().iter();
            Box::new(values.map(|&int| Cow::Owned(Json::Int(int.into()))))
        }};
    }
    macro_rules! floats {
        ($tensor:expr, $rust:ty) => {{
            let values = $tensor.as_slice::<$rust>().unwrap_or_default().iter();
            Box::new(values.map(|&float| Cow::Owned(Json::Float(float.into()))))
        }};
    }
    let tensor = match array {
        Array::Object(data) => return Box::new(data.cells.iter().map(Cow::Borrowed)),
        Array::Opaque(_, shape) => {
            let count = shape.iter().product();
            return Box::new(std::iter::repeat_n(Cow::Owned(Json::Null), count));
        }
        Array::Tensor(tensor) => tensor,
    };
    match tensor.dtype() {
        DType::String => {
            let texts = tensor.as_strings().unwrap_or_default().iter();
            Box::new(texts.map(|text| Cow::Owned(Json::Text(text.clone()))))
        }
        DType::Bool => {
            let bytes = tensor.bytes().iter();
            Box::new(bytes.map(|&byte| Cow::Owned(Json::Bool(byte != 0))))
        }
        DType::U64 => {
            let ints = tensor.as_slice::<u64>().unwrap_or_default().iter();
            Box::new(ints.map(|int| Cow::Owned(Json::Big(int.to_string().into()))))
        }
        DType::F64 => floats!(tensor, f64),
        DType::F32 => floats!(tensor, f32),
        DType::F16 => floats!(tensor, f16),
        DType::Bf16 => floats!(tensor, bf16),
        DType::U8 => ints!(tensor, u8),
        DType::U16 => ints!(tensor, u16),
        DType::U32 => ints!(tensor, u32),
        DType::I8 => ints!(tensor, i8),
        DType::I16 => ints!(tensor, i16),
        DType::I32 => ints!(tensor, i32),
        DType::I64 => ints!(tensor, i64),
    }
}

/// The Python objects of a column, all of them.
///
/// # Errors
/// [`OverBudget`].
pub(crate) fn into_cells(array: Array, meter: &Meter) -> Result<Vec<Json>, OverBudget> {
    let array = match array {
        Array::Object(data) => return Ok(data.cells),
        other => other,
    };
    let heap = array.heap();
    let count = array.shape().iter().product();
    let mut cells = meter.vec(count)?;
    let is_big = matches!(&array, Array::Tensor(tensor) if tensor.dtype() == DType::U64);
    let each = match &array {
        // Up to 20 digits.
        _ if is_big => count.saturating_mul(block(20)),
        Array::Tensor(tensor) if tensor.as_strings().is_some() => heap,
        _ => 0,
    };
    meter.charge(each)?;
    cells.extend(cells_of(&array).map(Cow::into_owned));
    drop(array);
    meter.release(heap);
    Ok(cells)
}
