//! Element types and their names in each of the worlds that name them.

use std::fmt;

use half::{bf16, f16};

/// An ONNX tensor element type that a runtime can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an IEEE 754 single.
    Bf16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// UTF-8 text of any length.
    String,
}

/// One row per type: Open Inference Protocol name, numpy name, number in `onnx.TensorProto.DataType`, bytes.
const TABLE: [(DType, &str, &str, i32, usize); 14] = [
    (DType::Bool, "BOOL", "bool", 9, 1),
    (DType::U8, "UINT8", "uint8", 2, 1),
    (DType::U16, "UINT16", "uint16", 4, 2),
    (DType::U32, "UINT32", "uint32", 12, 4),
    (DType::U64, "UINT64", "uint64", 13, 8),
    (DType::I8, "INT8", "int8", 3, 1),
    (DType::I16, "INT16", "int16", 5, 2),
    (DType::I32, "INT32", "int32", 6, 4),
    (DType::I64, "INT64", "int64", 7, 8),
    (DType::F16, "FP16", "float16", 10, 2),
    (DType::Bf16, "BF16", "bfloat16", 16, 2),
    (DType::F32, "FP32", "float32", 1, 4),
    (DType::F64, "FP64", "float64", 11, 8),
    (DType::String, "BYTES", "str", 8, 0),
];

impl DType {
    /// The type with this Open Inference Protocol name (`FP32`, `BYTES`, …).
    pub fn from_oip(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The type with this numpy name (`float32`, `str`, …); `object` and `bytes` hold text too.
    pub fn from_numpy(name: &str) -> Option<Self> {
        if matches!(name, "object" | "bytes") {
            return Some(Self::String);
        }
        TABLE.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    /// The type with this number in `onnx.TensorProto.DataType`.
    pub fn from_onnx(code: i32) -> Option<Self> {
        TABLE.iter().find(|row| row.3 == code).map(|row| row.0)
    }

    /// The Open Inference Protocol name.
    pub fn oip_name(self) -> &'static str {
        self.row().1
    }

    /// The numpy name.
    pub fn numpy_name(self) -> &'static str {
        self.row().2
    }

    /// Bytes per element; `None` for strings.
    pub fn width(self) -> Option<usize> {
        (self != Self::String).then(|| self.row().4)
    }

    /// Whether this is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    fn row(self) -> &'static (Self, &'static str, &'static str, i32, usize) {
        TABLE
            .iter()
            .find(|row| row.0 == self)
            .expect("the table has a row for each type")
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.oip_name())
    }
}

/// A Rust type that is the element of a tensor. Booleans are read through [`super::Tensor::bytes`].
pub trait Element: bytemuck::Pod + Send + Sync {
    /// The element type that it stands for.
    const DTYPE: DType;
}

macro_rules! element {
    ($($rust:ty => $dtype:ident),* $(,)?) => {
        $(impl Element for $rust { const DTYPE: DType = DType::$dtype; })*
    };
}

element!(
    u8 => U8, u16 => U16, u32 => U32, u64 => U64,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    f16 => F16, bf16 => Bf16, f32 => F32, f64 => F64,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_again_by_each_of_its_names() {
        for (dtype, oip, numpy, onnx, _) in TABLE {
            assert_eq!(DType::from_oip(oip), Some(dtype));
            assert_eq!(DType::from_numpy(numpy), Some(dtype));
            assert_eq!(DType::from_onnx(onnx), Some(dtype));
        }
        assert_eq!(DType::from_onnx(14), None, "complex64 has no runtime type");
    }
}
