//! `TensorProto` with all that it holds, for an engine that runs the graph.

use bytes::Bytes;
use prost::Message;

use super::proto::{EXTERNAL, StringStringEntryProto};
use crate::tensor::{DType, Storage, Tensor};

/// `onnx.TensorProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WholeTensor {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) dims: Vec<i64>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) data_type: Option<i32>,
    #[prost(float, repeated, tag = "4")]
    pub(crate) float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    pub(crate) int32_data: Vec<i32>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub(crate) string_data: Vec<Vec<u8>>,
    #[prost(int64, repeated, tag = "7")]
    pub(crate) int64_data: Vec<i64>,
    #[prost(string, optional, tag = "8")]
    pub(crate) name: Option<String>,
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub(crate) raw_data: Option<Bytes>,
    #[prost(double, repeated, tag = "10")]
    pub(crate) double_data: Vec<f64>,
    #[prost(uint64, repeated, tag = "11")]
    pub(crate) uint64_data: Vec<u64>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) external_data: Vec<StringStringEntryProto>,
    #[prost(int32, optional, tag = "14")]
    pub(crate) data_location: Option<i32>,
}

/// Why a tensor of a model file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WholeTensorError {
    /// Its contents are in another file.
    #[error("has its contents in another file")]
    External,
    /// An element type that no tensor of ours has.
    #[error("has element type {0}, which is not supported")]
    Type(i32),
    /// A negative dimension.
    #[error("has the dimensions {0:?}")]
    Dims(Vec<i64>),
    /// Text that is no UTF-8.
    #[error("holds text that is not UTF-8")]
    Text,
    /// The contents do not fill the shape.
    #[error("is incomplete: {0}")]
    Contents(#[from] crate::tensor::TensorError),
}

impl WholeTensor {
    /// The tensor.
    ///
    /// # Errors
    /// [`WholeTensorError`].
    pub(crate) fn tensor(&self) -> Result<Tensor, WholeTensorError> {
        if self.data_location == Some(EXTERNAL) {
            return Err(WholeTensorError::External);
        }
        let code = self.data_type.unwrap_or_default();
        let dtype = DType::from_onnx(code).ok_or(WholeTensorError::Type(code))?;
        let shape = self.dims.iter().map(|dim| usize::try_from(*dim).ok());
        let shape = shape.collect::<Option<Vec<_>>>();
        let shape = shape.ok_or_else(|| WholeTensorError::Dims(self.dims.clone()))?;
        if dtype == DType::String {
            let texts = self.string_data.iter().cloned().map(String::from_utf8);
            let texts = texts.collect::<Result<_, _>>();
            let texts = texts.map_err(|_| WholeTensorError::Text)?;
            return Ok(Tensor::from_strings(shape, texts)?);
        }
        let raw = self.raw_data.clone().filter(|raw| !raw.is_empty());
        let bytes = raw.unwrap_or_else(|| self.elements(dtype).into());
        Ok(Tensor::from_storage(dtype, shape, Storage::Shared(bytes))?)
    }

    /// The elements, little-endian, from the field that holds them for this type (`TensorProto` in `onnx.proto`).
    fn elements(&self, dtype: DType) -> Vec<u8> {
        let first = |width: usize| move |number: i32| number.to_le_bytes().into_iter().take(width);
        let int32s = self.int32_data.iter().copied();
        match dtype {
            DType::F32 => bytemuck::cast_slice(&self.float_data).to_vec(),
            DType::F64 => bytemuck::cast_slice(&self.double_data).to_vec(),
            DType::I64 => bytemuck::cast_slice(&self.int64_data).to_vec(),
            DType::U64 => bytemuck::cast_slice(&self.uint64_data).to_vec(),
            DType::U32 => {
                let numbers = self.uint64_data.iter();
                let bytes = numbers.flat_map(|number| number.to_le_bytes().into_iter().take(4));
                bytes.collect()
            }
            DType::I32 => int32s.flat_map(first(4)).collect(),
            DType::F16 | DType::Bf16 | DType::I16 | DType::U16 => {
                int32s.flat_map(first(2)).collect()
            }
            DType::Bool | DType::I8 | DType::U8 => int32s.flat_map(first(1)).collect(),
            DType::String => Vec::new(),
        }
    }
}
