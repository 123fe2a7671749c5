//! Our tensors to ONNX Runtime's and back.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use ort::ErrorCode;
use ort::session::SessionInputValue;
use ort::value::{
    DynMapValueType, DynSequence, DynSequenceValueType, DynTensor, DynTensorValueType, DynValue,
    IntoTensorElementType, PrimitiveTensorElementType, TensorElementType, TensorRef,
};

use crate::model::{OutputKind, OutputSpec};
use crate::tensor::{
    Buffer, DType, Element, Labels, MapSequence, Storage, Tensor, Value, dispatch,
};

/// ONNX Runtime's name of an element type.
pub(super) fn element_type(dtype: DType) -> TensorElementType {
    match dtype {
        DType::Bool => TensorElementType::Bool,
        DType::U8 => TensorElementType::Uint8,
        DType::U16 => TensorElementType::Uint16,
        DType::U32 => TensorElementType::Uint32,
        DType::U64 => TensorElementType::Uint64,
        DType::I8 => TensorElementType::Int8,
        DType::I16 => TensorElementType::Int16,
        DType::I32 => TensorElementType::Int32,
        DType::I64 => TensorElementType::Int64,
        DType::F16 => TensorElementType::Float16,
        DType::Bf16 => TensorElementType::Bfloat16,
        DType::F32 => TensorElementType::Float32,
        DType::F64 => TensorElementType::Float64,
        DType::String => TensorElementType::String,
    }
}

/// The input `name`: a view of our memory, which must be [aligned](Tensor::aligned), or text.
pub(super) fn to_ort<'a>(tensor: &'a Tensor, name: &str) -> ort::Result<SessionInputValue<'a>> {
    dispatch!(
        tensor.dtype(),
        number T => view::<T>(tensor),
        DType::Bool => {
            let values = bytemuck::checked::try_cast_slice::<u8, bool>(tensor.bytes());
            let values = values.map_err(|_| ort::Error::new("a BOOL is neither 0 nor 1"))?;
            Ok(TensorRef::from_array_view((tensor.shape(), values))?.into())
        },
        DType::String => {
            let values = tensor.as_strings().unwrap_or_default();
            if let Some(index) = values.iter().position(|text| text.contains('\0')) {
                let message = format!(
                    "text {index} of input `{name}` holds a NUL character, which ONNX Runtime cannot take"
                );
                return Err(ort::Error::new_with_code(
                    ErrorCode::InvalidArgument,
                    message,
                ));
            }
            let value = ort::value::Tensor::from_string_array((tensor.shape(), values))?;
            Ok(value.into())
        },
    )
}

fn view<T>(tensor: &Tensor) -> ort::Result<SessionInputValue<'_>>
where
    T: Element + PrimitiveTensorElementType + Debug + Clone + 'static,
{
    let values = tensor.as_slice::<T>();
    let values =
        values.ok_or_else(|| ort::Error::new("the elements of a tensor are not aligned"))?;
    Ok(TensorRef::from_array_view((tensor.shape(), values))?.into())
}

/// An output as the graph declares it; `copy` where its memory may be an input's.
pub(super) fn from_ort(value: DynValue, spec: &OutputSpec, copy: bool) -> ort::Result<Value> {
    match spec.kind {
        OutputKind::Tensor { dtype, .. } => {
            let tensor = value.downcast().map_err(|_| absent(spec))?;
            from_tensor(tensor, dtype, copy).map(Value::Tensor)
        }
        OutputKind::Maps { text_labels: true } => maps(value, Labels::String).map(Value::Maps),
        OutputKind::Maps { text_labels: false } => maps(value, Labels::Int64).map(Value::Maps),
        OutputKind::Sequence { dtype, .. } => {
            let sequence: DynSequence = value.downcast().map_err(|_| absent(spec))?;
            let tensors = sequence.try_extract_sequence::<DynTensorValueType>()?;
            let tensors = tensors.into_iter();
            let tensors = tensors.map(|tensor| from_tensor(tensor, dtype, copy));
            tensors.collect::<ort::Result<_>>().map(Value::Sequence)
        }
    }
}

/// An optional that holds nothing.
fn absent(spec: &OutputSpec) -> ort::Error {
    let name = &spec.name;
    let message =
        format!("output `{name}` is an optional without a value, which no answer can hold");
    ort::Error::new_with_code(ErrorCode::InvalidArgument, message)
}

/// An output of ONNX Runtime that stays where it is.
struct Owned {
    value: DynTensor,
    bytes: for<'a> fn(&'a DynTensor) -> ort::Result<&'a [u8]>,
}

impl Buffer for Owned {
    fn bytes(&self) -> &[u8] {
        // Was read once before this was made, and a tensor neither moves nor changes its type.
        (self.bytes)(&self.value).unwrap_or_default()
    }
}

fn bytes_of<T: Element + PrimitiveTensorElementType>(value: &DynTensor) -> ort::Result<&[u8]> {
    Ok(bytemuck::cast_slice(value.try_extract_tensor::<T>()?.1))
}

fn bytes_of_bools(value: &DynTensor) -> ort::Result<&[u8]> {
    Ok(bytemuck::cast_slice(value.try_extract_tensor::<bool>()?.1))
}

fn from_tensor(value: DynTensor, dtype: DType, copy: bool) -> ort::Result<Tensor> {
    let shape: Vec<usize> = value
        .shape()
        .iter()
        .map(|&size| size.unsigned_abs() as usize)
        .collect();
    let bytes: for<'a> fn(&'a DynTensor) -> ort::Result<&'a [u8]> = dispatch!(
        dtype,
        number T => bytes_of::<T>,
        DType::String => {
            let (_, values) = value.try_extract_strings()?;
            return Tensor::from_strings(shape, values).map_err(ort::Error::wrap);
        },
        DType::Bool => bytes_of_bools,
    );
    let found = bytes(&value)?;
    let storage = if copy {
        Storage::Shared(bytes::Bytes::copy_from_slice(found))
    } else {
        Storage::Owned(Arc::new(Owned { value, bytes }))
    };
    Tensor::from_storage(dtype, shape, storage).map_err(ort::Error::wrap)
}

/// ZipMap's rows as one matrix.
fn maps<K>(value: DynValue, labels: fn(Vec<K>) -> Labels) -> ort::Result<MapSequence>
where
    K: IntoTensorElementType + Clone + Hash + Eq,
{
    let sequence = value.downcast::<DynSequenceValueType>()?;
    let rows = sequence.try_extract_sequence::<DynMapValueType>()?;
    let mut keys: Option<Vec<K>> = None;
    let mut scores: Vec<f32> = Vec::new();
    for row in &rows {
        let (row_keys, row_scores): (Vec<K>, Vec<f32>) =
            row.try_extract_key_values::<K, f32>()?.into_iter().unzip();
        let keys = keys.get_or_insert_with(|| row_keys.clone());
        if *keys != row_keys {
            return Err(ort::Error::new(
                "the rows of a sequence of maps have different keys",
            ));
        }
        scores.extend(row_scores);
    }
    let keys = keys.unwrap_or_default();
    let shape = vec![rows.len(), keys.len()];
    Ok(MapSequence {
        scores: Tensor::from_vec(shape, scores).map_err(ort::Error::wrap)?,
        labels: labels(keys),
    })
}
