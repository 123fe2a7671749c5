//! `TensorProto` with what it holds where that is little: shapes, axes, indices. The contents of larger ones are
//! skipped, so that weights cost neither time nor memory.

use std::ops::Deref;

use ::bytes::{Buf, BufMut};
use prost::encoding::varint::encode_varint;
use prost::encoding::{
    DecodeContext, WireType, bytes, decode_varint, float, int32, int64, skip_field,
};
use prost::{DecodeError, Message};

use super::proto::TensorHead;
use crate::tensor::DType;

/// Contents of more bytes than this are skipped.
pub(super) const MOST_BYTES: u64 = 4096;

const FLOAT_DATA: u32 = 4;
const INT32_DATA: u32 = 5;
const INT64_DATA: u32 = 7;
const RAW_DATA: u32 = 9;

/// `onnx.TensorProto`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct TensorProto {
    head: TensorHead,
    floats: Vec<f32>,
    int32s: Vec<i32>,
    int64s: Vec<i64>,
    raw: Vec<u8>,
}

impl From<TensorHead> for TensorProto {
    fn from(head: TensorHead) -> Self {
        Self {
            head,
            ..Self::default()
        }
    }
}

impl Deref for TensorProto {
    type Target = TensorHead;

    fn deref(&self) -> &TensorHead {
        &self.head
    }
}

impl TensorProto {
    #[cfg(test)]
    pub(crate) fn with_integers(head: TensorHead, integers: Vec<i64>) -> Self {
        Self {
            int64s: integers,
            ..head.into()
        }
    }

    /// Its elements, when it holds a few integers or booleans.
    pub(crate) fn integers(&self) -> Option<Vec<i64>> {
        let dtype = DType::from_onnx(self.data_type?)?;
        let raw =
            |width: usize, read: fn(&[u8]) -> i64| self.raw.chunks_exact(width).map(read).collect();
        let elements: Vec<i64> = match dtype {
            DType::I64 if self.raw.is_empty() => self.int64s.clone(),
            DType::I64 => raw(8, |bytes| bytes.try_into().map_or(0, i64::from_le_bytes)),
            DType::I32 | DType::Bool if self.raw.is_empty() => {
                self.int32s.iter().copied().map(i64::from).collect()
            }
            DType::I32 => raw(4, |bytes| {
                bytes.try_into().map_or(0, i32::from_le_bytes).into()
            }),
            DType::Bool => raw(1, |bytes| {
                bytes.first().map_or(0, |byte| i64::from(*byte != 0))
            }),
            _ => return None,
        };
        self.is_whole(elements.len()).then_some(elements)
    }

    /// Its elements, when it holds a few FP32 numbers.
    pub(crate) fn floats(&self) -> Option<Vec<f32>> {
        if DType::from_onnx(self.data_type?)? != DType::F32 {
            return None;
        }
        let elements = if self.raw.is_empty() {
            self.floats.clone()
        } else {
            let read = |bytes: &[u8]| bytes.try_into().map_or(0.0, f32::from_le_bytes);
            self.raw.chunks_exact(4).map(read).collect()
        };
        self.is_whole(elements.len()).then_some(elements)
    }

    /// Whether nothing was skipped.
    fn is_whole(&self, elements: usize) -> bool {
        let count = self
            .dims
            .iter()
            .try_fold(1i64, |count, dim| count.checked_mul(*dim));
        self.external_data.is_empty()
            && count.and_then(|count| usize::try_from(count).ok()) == Some(elements)
    }

    fn merge_packed(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            FLOAT_DATA => float::merge_repeated(wire_type, &mut self.floats, buf, ctx),
            INT32_DATA => int32::merge_repeated(wire_type, &mut self.int32s, buf, ctx),
            INT64_DATA => int64::merge_repeated(wire_type, &mut self.int64s, buf, ctx),
            _ => bytes::merge(wire_type, &mut self.raw, buf, ctx),
        }
    }
}

impl Message for TensorProto {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.head.encode_raw(buf);
        float::encode_packed(FLOAT_DATA, &self.floats, buf);
        int32::encode_packed(INT32_DATA, &self.int32s, buf);
        int64::encode_packed(INT64_DATA, &self.int64s, buf);
        if !self.raw.is_empty() {
            bytes::encode(RAW_DATA, &self.raw, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if !matches!(tag, FLOAT_DATA | INT32_DATA | INT64_DATA | RAW_DATA) {
            return self.head.merge_field(tag, wire_type, buf, ctx);
        }
        if wire_type != WireType::LengthDelimited {
            let held = self.floats.len() + self.int32s.len() + self.int64s.len();
            return if held as u64 >= MOST_BYTES {
                skip_field(wire_type, tag, buf, ctx)
            } else {
                self.merge_packed(tag, wire_type, buf, ctx)
            };
        }
        let length = decode_varint(buf)?;
        // Put back for whoever reads the field.
        let mut prefix = Vec::with_capacity(10);
        encode_varint(length, &mut prefix);
        let mut field = prefix.as_slice().chain(buf);
        if length > MOST_BYTES {
            skip_field(wire_type, tag, &mut field, ctx)
        } else {
            self.merge_packed(tag, wire_type, &mut field, ctx)
        }
    }

    fn encoded_len(&self) -> usize {
        let raw = if self.raw.is_empty() {
            0
        } else {
            bytes::encoded_len(RAW_DATA, &self.raw)
        };
        self.head.encoded_len()
            + float::encoded_len_packed(FLOAT_DATA, &self.floats)
            + int32::encoded_len_packed(INT32_DATA, &self.int32s)
            + int64::encoded_len_packed(INT64_DATA, &self.int64s)
            + raw
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}
