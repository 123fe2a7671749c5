//! `TensorProto` with what it holds where that is little: shapes, axes, indices. The contents of larger ones are
//! skipped, so that weights cost neither time nor memory.

use std::ops::Deref;

use bytes::{Buf, BufMut};
use prost::encoding::varint::encode_varint;
use prost::encoding::{DecodeContext, WireType, decode_varint, skip_field};
use prost::{DecodeError, Message};

use super::whole_tensor::WholeTensor;
use crate::tensor::{DType, Tensor};

/// Contents of more bytes than this are skipped.
pub(super) const MOST_BYTES: u64 = 4096;

const STRING_DATA: u32 = 6;

/// The fields of what a tensor holds.
const CONTENTS: [u32; 7] = [4, 5, STRING_DATA, 7, 9, 10, 11];

/// `onnx.TensorProto`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct TensorProto {
    read: WholeTensor,
    /// Of the texts, each with its end.
    text_bytes: u64,
}

impl From<WholeTensor> for TensorProto {
    fn from(read: WholeTensor) -> Self {
        let text_bytes = read.string_data.iter().map(|text| text.len() as u64 + 1);
        Self {
            text_bytes: text_bytes.sum(),
            read,
        }
    }
}

impl Deref for TensorProto {
    type Target = WholeTensor;

    fn deref(&self) -> &WholeTensor {
        &self.read
    }
}

impl TensorProto {
    #[cfg(test)]
    pub(crate) fn with_integers(tensor: WholeTensor, integers: Vec<i64>) -> Self {
        let int64_data = integers;
        Self::from(WholeTensor {
            int64_data,
            ..tensor
        })
    }

    /// Its elements, when it holds a few integers or booleans.
    pub(crate) fn integers(&self) -> Option<Vec<i64>> {
        let tensor = self.tensor()?;
        Some(match tensor.dtype() {
            DType::I64 => tensor.to_vec()?,
            DType::I32 => tensor.to_vec::<i32>()?.into_iter().map(i64::from).collect(),
            DType::Bool => tensor.bytes().iter().copied().map(i64::from).collect(),
            _ => return None,
        })
    }

    /// Its elements, when it holds a few FP32 numbers.
    pub(crate) fn floats(&self) -> Option<Vec<f32>> {
        self.tensor()?.to_vec()
    }

    /// The tensor, when it holds little: what was skipped is missed here.
    pub(crate) fn tensor(&self) -> Option<Tensor> {
        self.read
            .tensor()
            .ok()
            .filter(|_| self.external_data.is_empty())
    }

    /// How many elements were read, and bytes of text.
    fn held(&self) -> u64 {
        let numbers = self.float_data.len() + self.int32_data.len() + self.int64_data.len();
        let large = self.double_data.len() + self.uint64_data.len();
        (numbers + large) as u64 + self.text_bytes
    }
}

impl Message for TensorProto {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.read.encode_raw(buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if !CONTENTS.contains(&tag) {
            return self.read.merge_field(tag, wire_type, buf, ctx);
        }
        if wire_type != WireType::LengthDelimited {
            return if self.held() >= MOST_BYTES {
                skip_field(wire_type, tag, buf, ctx)
            } else {
                self.read.merge_field(tag, wire_type, buf, ctx)
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
            self.read.merge_field(tag, wire_type, &mut field, ctx)
        }
    }

    fn encoded_len(&self) -> usize {
        self.read.encoded_len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(data_type: i32, count: i64) -> WholeTensor {
        WholeTensor {
            dims: vec![count],
            data_type: Some(data_type),
            ..WholeTensor::default()
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
        let number = |dtype: i32| {
            let tensor = WholeTensor {
                float_data: vec![2.0; 2],
                int32_data: vec![1; 2],
                int64_data: vec![4; 2],
                double_data: vec![5.0; 2],
                uint64_data: vec![6; 2],
                string_data: vec![b"a".to_vec(); 2],
                ..head(dtype, 2)
            };
            TensorProto::from(tensor)
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
            let raw = WholeTensor {
                raw_data: Some(bytes.clone().into()),
                ..head(code, 2)
            };
            assert_eq!(tensor(&raw.into()).unwrap().bytes(), bytes);
        }
        let texts = tensor(&number(8)).unwrap();
        assert_eq!(texts.as_strings().unwrap(), ["a", "a"]);
    }

    #[test]
    fn what_is_not_whole_is_no_tensor() {
        let floats = |count: usize, of: i64| {
            let tensor = WholeTensor {
                float_data: vec![0.0; count],
                ..head(1, of)
            };
            TensorProto::from(tensor)
        };
        assert!(tensor(&floats(3, 3)).is_some());
        assert!(tensor(&floats(2, 3)).is_none());
        assert!(tensor(&floats(3, -3)).is_none());
        assert!(tensor(&floats(2000, 2000)).is_none(), "it is skipped");
        let texts = |count: usize| {
            let tensor = WholeTensor {
                string_data: vec![b"word".to_vec(); count],
                ..head(8, i64::try_from(count).unwrap())
            };
            TensorProto::from(tensor)
        };
        assert!(tensor(&texts(800)).is_some());
        assert!(tensor(&texts(900)).is_none(), "some are skipped");
    }
}
