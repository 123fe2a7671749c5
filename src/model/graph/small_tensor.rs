//! `TensorProto` with what it holds where that is little: shapes, axes, indices. The contents of larger ones are
//! skipped, so that weights cost neither time nor memory.

use std::ops::Deref;

use ::bytes::{Buf, BufMut};
use prost::encoding::varint::encode_varint;
use prost::encoding::{
    DecodeContext, WireType, bytes, decode_varint, double, float, int32, int64, skip_field, uint64,
};
use prost::{DecodeError, Message};

use super::proto::TensorHead;
use crate::tensor::{DType, Storage, Tensor};

/// Contents of more bytes than this are skipped.
pub(super) const MOST_BYTES: u64 = 4096;

const FLOAT_DATA: u32 = 4;
const INT32_DATA: u32 = 5;
const STRING_DATA: u32 = 6;
const INT64_DATA: u32 = 7;
const RAW_DATA: u32 = 9;
const DOUBLE_DATA: u32 = 10;
const UINT64_DATA: u32 = 11;

/// The fields of what a tensor holds.
const CONTENTS: [u32; 7] = [
    FLOAT_DATA,
    INT32_DATA,
    STRING_DATA,
    INT64_DATA,
    RAW_DATA,
    DOUBLE_DATA,
    UINT64_DATA,
];

/// `onnx.TensorProto`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct TensorProto {
    head: TensorHead,
    floats: Vec<f32>,
    int32s: Vec<i32>,
    texts: Vec<Vec<u8>>,
    /// Of the texts, each with its end.
    text_bytes: u64,
    int64s: Vec<i64>,
    raw: Vec<u8>,
    doubles: Vec<f64>,
    uint64s: Vec<u64>,
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

    /// The tensor, when it holds little.
    pub(crate) fn tensor(&self) -> Option<Tensor> {
        if !self.external_data.is_empty() {
            return None;
        }
        let dtype = DType::from_onnx(self.data_type?)?;
        let shape = self.dims.iter().map(|dim| usize::try_from(*dim).ok());
        let shape = shape.collect::<Option<Vec<_>>>()?;
        if dtype == DType::String {
            let texts = self.texts.iter().cloned().map(String::from_utf8);
            return Tensor::from_strings(shape, texts.collect::<Result<_, _>>().ok()?).ok();
        }
        // What was skipped is missed here.
        Tensor::from_storage(dtype, shape, Storage::Shared(self.bytes_of(dtype).into())).ok()
    }

    /// Its elements, little-endian, from the field that holds them for this type (`TensorProto` in `onnx.proto`).
    fn bytes_of(&self, dtype: DType) -> Vec<u8> {
        if !self.raw.is_empty() {
            return self.raw.clone();
        }
        let first = |width: usize| move |number: i32| number.to_le_bytes().into_iter().take(width);
        let int32s = self.int32s.iter().copied();
        match dtype {
            DType::F32 => bytemuck::cast_slice(&self.floats).to_vec(),
            DType::F64 => bytemuck::cast_slice(&self.doubles).to_vec(),
            DType::I64 => bytemuck::cast_slice(&self.int64s).to_vec(),
            DType::U64 => bytemuck::cast_slice(&self.uint64s).to_vec(),
            DType::U32 => {
                let numbers = self.uint64s.iter();
                numbers
                    .flat_map(|number| number.to_le_bytes().into_iter().take(4))
                    .collect()
            }
            DType::I32 => int32s.flat_map(first(4)).collect(),
            DType::F16 | DType::Bf16 | DType::I16 | DType::U16 => {
                int32s.flat_map(first(2)).collect()
            }
            DType::Bool | DType::I8 | DType::U8 => int32s.flat_map(first(1)).collect(),
            DType::String => Vec::new(),
        }
    }

    /// How many elements were read, and bytes of text.
    fn held(&self) -> u64 {
        let numbers = self.floats.len() + self.int32s.len() + self.int64s.len();
        let large = self.doubles.len() + self.uint64s.len();
        (numbers + large) as u64 + self.text_bytes
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
            STRING_DATA => bytes::merge_repeated(wire_type, &mut self.texts, buf, ctx),
            INT64_DATA => int64::merge_repeated(wire_type, &mut self.int64s, buf, ctx),
            DOUBLE_DATA => double::merge_repeated(wire_type, &mut self.doubles, buf, ctx),
            UINT64_DATA => uint64::merge_repeated(wire_type, &mut self.uint64s, buf, ctx),
            _ => bytes::merge(wire_type, &mut self.raw, buf, ctx),
        }
    }
}

impl Message for TensorProto {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.head.encode_raw(buf);
        float::encode_packed(FLOAT_DATA, &self.floats, buf);
        int32::encode_packed(INT32_DATA, &self.int32s, buf);
        bytes::encode_repeated(STRING_DATA, &self.texts, buf);
        int64::encode_packed(INT64_DATA, &self.int64s, buf);
        if !self.raw.is_empty() {
            bytes::encode(RAW_DATA, &self.raw, buf);
        }
        double::encode_packed(DOUBLE_DATA, &self.doubles, buf);
        uint64::encode_packed(UINT64_DATA, &self.uint64s, buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if !CONTENTS.contains(&tag) {
            return self.head.merge_field(tag, wire_type, buf, ctx);
        }
        if wire_type != WireType::LengthDelimited {
            return if self.held() >= MOST_BYTES {
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
        if length.saturating_add(self.held()) > MOST_BYTES {
            skip_field(wire_type, tag, &mut field, ctx)
        } else {
            self.text_bytes += if tag == STRING_DATA { length + 1 } else { 0 };
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
            + bytes::encoded_len_repeated(STRING_DATA, &self.texts)
            + int64::encoded_len_packed(INT64_DATA, &self.int64s)
            + raw
            + double::encoded_len_packed(DOUBLE_DATA, &self.doubles)
            + uint64::encoded_len_packed(UINT64_DATA, &self.uint64s)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(data_type: i32, count: i64) -> TensorHead {
        TensorHead {
            dims: vec![count],
            data_type: Some(data_type),
            ..TensorHead::default()
        }
    }

    /// Read from its bytes, as from a file.
    fn tensor(written: &TensorProto) -> Option<Tensor> {
        TensorProto::decode(written.encode_to_vec().as_slice())
            .unwrap()
            .tensor()
    }

    /// The numbers of `TensorProto.DataType`, and the field that holds the elements of each type.
    #[test]
    fn elements_of_each_type_are_read_from_their_field() {
        let number = |dtype: i32| TensorProto {
            floats: vec![2.0; 2],
            int32s: vec![1; 2],
            int64s: vec![4; 2],
            doubles: vec![5.0; 2],
            uint64s: vec![6; 2],
            texts: vec![b"a".to_vec(); 2],
            text_bytes: 4,
            ..head(dtype, 2).into()
        };
        let expected: [(i32, DType, Vec<u8>); 13] = [
            (1, DType::F32, 2.0f32.to_le_bytes().repeat(2)),
            (2, DType::U8, vec![1; 2]),
            (3, DType::I8, vec![1; 2]),
            (4, DType::U16, vec![1, 0, 1, 0]),
            (5, DType::I16, vec![1, 0, 1, 0]),
            (6, DType::I32, 1i32.to_le_bytes().repeat(2)),
            (7, DType::I64, 4i64.to_le_bytes().repeat(2)),
            (9, DType::Bool, vec![1; 2]),
            (10, DType::F16, vec![1, 0, 1, 0]),
            (11, DType::F64, 5.0f64.to_le_bytes().repeat(2)),
            (12, DType::U32, 6u32.to_le_bytes().repeat(2)),
            (13, DType::U64, 6u64.to_le_bytes().repeat(2)),
            (16, DType::Bf16, vec![1, 0, 1, 0]),
        ];
        for (code, dtype, bytes) in expected {
            let found = tensor(&number(code)).unwrap();
            assert_eq!((found.dtype(), found.bytes()), (dtype, bytes.as_slice()));
            let raw = TensorProto {
                raw: bytes.clone(),
                ..head(code, 2).into()
            };
            assert_eq!(tensor(&raw).unwrap().bytes(), bytes);
        }
        let texts = tensor(&number(8)).unwrap();
        assert_eq!(texts.as_strings().unwrap(), ["a", "a"]);
    }

    #[test]
    fn what_is_not_whole_is_no_tensor() {
        let floats = |count: usize, of: i64| TensorProto {
            floats: vec![0.0; count],
            ..head(1, of).into()
        };
        assert!(tensor(&floats(3, 3)).is_some());
        assert!(tensor(&floats(2, 3)).is_none());
        assert!(tensor(&floats(3, -3)).is_none());
        assert!(tensor(&floats(2000, 2000)).is_none(), "it is skipped");
        let texts = |count: usize| TensorProto {
            texts: vec![b"word".to_vec(); count],
            ..head(8, i64::try_from(count).unwrap()).into()
        };
        assert!(tensor(&texts(800)).is_some());
        assert!(tensor(&texts(900)).is_none(), "some are skipped");
    }
}
