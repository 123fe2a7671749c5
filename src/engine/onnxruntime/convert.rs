//! Between our tensors and ONNX Runtime's values; without a copy where both sides allow it.

use std::sync::Arc;

use half::{bf16, f16};
use ort::session::SessionInputValue;
use ort::value::{
    DynMapValueType, DynValue, Tensor as OrtTensor, TensorElementType, TensorRef, ValueType,
};

use crate::model::OutputKind;
use crate::tensor::{
    Buffer, DType, Element, Labels, MapSequence, Storage, Tensor, TensorError, Value,
};

/// Why a value cannot be handed over.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConvertError {
    /// ONNX Runtime's own words.
    #[error(transparent)]
    Ort(#[from] ort::Error),
    /// The bytes do not fill the shape.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A type that no tensor of ours has.
    #[error("the type {0} is not supported")]
    Type(String),
    /// Maps of a sequence with different keys.
    #[error("the rows of a map output have different keys")]
    Keys,
}

/// The numeric element types and their Rust types.
macro_rules! for_numbers {
    ($dtype:expr, $call:ident, $otherwise:expr) => {
        match $dtype {
            DType::U8 => $call!(u8),
            DType::U16 => $call!(u16),
            DType::U32 => $call!(u32),
            DType::U64 => $call!(u64),
            DType::I8 => $call!(i8),
            DType::I16 => $call!(i16),
            DType::I32 => $call!(i32),
            DType::I64 => $call!(i64),
            DType::F16 => $call!(f16),
            DType::Bf16 => $call!(bf16),
            DType::F32 => $call!(f32),
            DType::F64 => $call!(f64),
            DType::Bool | DType::String => $otherwise,
        }
    };
}

/// An input value over the tensor's own memory; misaligned bytes, booleans and strings are copied.
pub(super) fn input(tensor: &Tensor) -> Result<SessionInputValue<'_>, ConvertError> {
    let shape = tensor.shape().to_vec();
    macro_rules! number {
        ($rust:ty) => {
            match tensor.as_slice::<$rust>() {
                Some(values) => Ok(TensorRef::from_array_view((shape, values))?.into()),
                None => {
                    let values = tensor.to_vec::<$rust>().unwrap_or_default();
                    Ok(OrtTensor::from_array((shape, values))?.into())
                }
            }
        };
    }
    for_numbers!(
        tensor.dtype(),
        number,
        match tensor.as_strings() {
            Some(strings) => Ok(OrtTensor::from_string_array((shape, strings))?.into()),
            None => {
                let values: Vec<bool> = tensor.bytes().iter().map(|&byte| byte != 0).collect();
                Ok(OrtTensor::from_array((shape, values))?.into())
            }
        }
    )
}

/// An output of the declared kind, over ONNX Runtime's memory.
pub(super) fn output(value: DynValue, kind: &OutputKind) -> Result<Value, ConvertError> {
    match kind {
        OutputKind::Maps { text_labels } => maps(&value, *text_labels).map(Value::Maps),
        OutputKind::Tensor { .. } => tensor(value).map(Value::Tensor),
    }
}

fn tensor(value: DynValue) -> Result<Tensor, ConvertError> {
    let ValueType::Tensor { ty, shape, .. } = value.dtype().clone() else {
        return Err(ConvertError::Type(format!("{:?}", value.dtype())));
    };
    let dims = shape
        .iter()
        .map(|&dim| usize::try_from(dim).unwrap_or(0))
        .collect::<Vec<_>>();
    let dtype = dtype_of(ty).ok_or_else(|| ConvertError::Type(format!("{ty:?}")))?;
    match dtype {
        DType::Bool => {
            let (_, values) = value.try_extract_tensor::<bool>()?;
            Ok(Tensor::from_bools(dims, values)?)
        }
        DType::String => {
            let (_, values) = value.try_extract_strings()?;
            Ok(Tensor::from_strings(dims, values)?)
        }
        number => {
            let buffer = OrtBuffer {
                value,
                dtype: number,
            };
            Ok(Tensor::from_storage(
                number,
                dims,
                Storage::Owned(Arc::new(buffer)),
            )?)
        }
    }
}

fn dtype_of(element: TensorElementType) -> Option<DType> {
    Some(match element {
        TensorElementType::Bool => DType::Bool,
        TensorElementType::Uint8 => DType::U8,
        TensorElementType::Uint16 => DType::U16,
        TensorElementType::Uint32 => DType::U32,
        TensorElementType::Uint64 => DType::U64,
        TensorElementType::Int8 => DType::I8,
        TensorElementType::Int16 => DType::I16,
        TensorElementType::Int32 => DType::I32,
        TensorElementType::Int64 => DType::I64,
        TensorElementType::Float16 => DType::F16,
        TensorElementType::Bfloat16 => DType::Bf16,
        TensorElementType::Float32 => DType::F32,
        TensorElementType::Float64 => DType::F64,
        TensorElementType::String => DType::String,
        _ => return None,
    })
}

/// ONNX Runtime's memory; freed with the last tensor over it.
struct OrtBuffer {
    value: DynValue,
    dtype: DType,
}

impl Buffer for OrtBuffer {
    fn bytes(&self) -> &[u8] {
        macro_rules! number {
            ($rust:ty) => {
                bytes_of::<$rust>(&self.value)
            };
        }
        for_numbers!(self.dtype, number, &[])
    }
}

fn bytes_of<T: Element + ort::value::PrimitiveTensorElementType>(value: &DynValue) -> &[u8] {
    let (_, values) = value
        .try_extract_tensor::<T>()
        .expect("the type was read from this value");
    bytemuck::cast_slice(values)
}

fn maps(value: &DynValue, text_labels: bool) -> Result<MapSequence, ConvertError> {
    let maps = value.try_extract_sequence::<DynMapValueType>()?;
    let rows = maps.len();
    if text_labels {
        let rows_of = maps
            .iter()
            .map(|map| map.try_extract_key_values::<String, f32>());
        let (labels, scores) = same_keys(rows_of)?;
        return sequence(Labels::String(labels), rows, scores);
    }
    let rows_of = maps
        .iter()
        .map(|map| map.try_extract_key_values::<i64, f32>());
    let (labels, scores) = same_keys(rows_of)?;
    sequence(Labels::Int64(labels), rows, scores)
}

fn sequence(labels: Labels, rows: usize, scores: Vec<f32>) -> Result<MapSequence, ConvertError> {
    let shape = vec![rows, labels.len()];
    Ok(MapSequence {
        labels,
        scores: Tensor::from_vec(shape, scores)?,
    })
}

/// The keys of the first row, and the values of all rows in their order.
fn same_keys<K: PartialEq>(
    rows: impl Iterator<Item = ort::Result<Vec<(K, f32)>>>,
) -> Result<(Vec<K>, Vec<f32>), ConvertError> {
    let mut keys: Option<Vec<K>> = None;
    let mut scores = Vec::new();
    for row in rows {
        let (row_keys, row_scores): (Vec<K>, Vec<f32>) = row?.into_iter().unzip();
        if keys.get_or_insert_with(Vec::new).is_empty() {
            keys = Some(row_keys);
        } else if keys.as_ref() != Some(&row_keys) {
            return Err(ConvertError::Keys);
        }
        scores.extend(row_scores);
    }
    Ok((keys.unwrap_or_default(), scores))
}
