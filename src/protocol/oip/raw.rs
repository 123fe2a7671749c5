//! Tensors as bytes: little-endian numbers, row-major, without padding; a boolean is one byte; a text is its length in
//! 4 bytes, then its bytes.
//!
//! The same in the binary part of a REST body and in the `raw_…_contents` of gRPC.

use bytes::Bytes;

use super::error::OipError;
use crate::protocol::meter::{Meter, block};
use crate::tensor::{DType, Storage, Tensor, TensorError, element_count};

// Numbers go from the wire to the engine and back without a look at their bytes.
const _: () = assert!(
    cfg!(target_endian = "little"),
    "tensors are little-endian in memory, as on the wire"
);

/// Dimensions that a tensor may have; a message shows them all.
const MAX_DIMENSIONS: usize = 100;

/// Bytes in front of each text.
const LENGTH: usize = 4;

/// The datatype of an input.
///
/// # Errors
/// When the protocol has no such name.
pub(crate) fn dtype(input: &str, datatype: &str) -> Result<DType, OipError> {
    DType::from_oip(datatype).ok_or_else(|| {
        let datatype: String = datatype.chars().take(40).collect();
        OipError::Invalid(format!(
            "input `{input}` has unknown datatype `{datatype}`: expected one such as `FP32`"
        ))
    })
}

/// The shape of an input.
///
/// # Errors
/// When a dimension is negative, or there are too many.
pub(crate) fn shape(input: &str, dims: &[i64]) -> Result<Vec<usize>, OipError> {
    if dims.len() > MAX_DIMENSIONS {
        return Err(OipError::Invalid(format!(
            "the shape of input `{input}` has {} dimensions, more than {MAX_DIMENSIONS}",
            dims.len()
        )));
    }
    let shape: Option<Vec<usize>> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    shape.ok_or_else(|| {
        OipError::Invalid(format!(
            "the shape of input `{input}` is {dims:?}: expected sizes from 0 up"
        ))
    })
}

/// The tensor in exactly these bytes, which stay where they are unless they are text.
///
/// # Errors
/// [`OipError::Tensor`] when they do not fill the shape, [`OipError::Invalid`] when they hold no such elements,
/// [`OipError::OverBudget`].
pub(crate) fn decode(
    input: &str,
    dtype: DType,
    shape: Vec<usize>,
    bytes: Bytes,
    meter: &Meter,
) -> Result<Tensor, OipError> {
    let tensor = if dtype == DType::String {
        let texts = texts(input, &shape, &bytes, meter)?;
        // A tensor has a vector of its own.
        meter.charge_many::<String>(texts.len())?;
        Tensor::from_strings(shape, texts)
    } else {
        Tensor::from_storage(dtype, shape, Storage::Shared(bytes))
    };
    tensor.map_err(|error| wrong(input, error))
}

fn wrong(input: &str, error: TensorError) -> OipError {
    OipError::Tensor {
        name: input.to_owned(),
        error,
    }
}

fn texts(
    input: &str,
    shape: &[usize],
    mut bytes: &[u8],
    meter: &Meter,
) -> Result<Vec<String>, OipError> {
    let expected = element_count(shape).map_err(|error| wrong(input, error))?;
    // A shape costs nothing to claim: room is made for what the bytes can hold.
    let mut texts = meter.vec(expected.min(bytes.len() / LENGTH))?;
    while !bytes.is_empty() {
        if texts.len() == expected {
            let left = bytes.len();
            return Err(OipError::Invalid(format!(
                "input `{input}`: {left} bytes are left after the {expected} elements that its shape {shape:?} takes"
            )));
        }
        let (text, rest) = text(bytes).map_err(|error| {
            OipError::Invalid(format!("input `{input}`: element {} {error}", texts.len()))
        })?;
        meter.charge(block(text.len()))?;
        texts.push(text.to_owned());
        bytes = rest;
    }
    Ok(texts)
}

/// Why bytes do not begin with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum TextError {
    #[error("has no length: {left} bytes are left, expected {}", LENGTH)]
    NoLength { left: usize },
    #[error("says that it has {length} bytes, {left} are left")]
    TooShort { length: usize, left: usize },
    #[error("is not UTF-8 from byte {valid}")]
    NotUtf8 { valid: usize },
}

/// The first text, and what follows it.
fn text(bytes: &[u8]) -> Result<(&str, &[u8]), TextError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else {
        let left = bytes.len();
        return Err(TextError::NoLength { left });
    };
    let length = u32::from_le_bytes(*length) as usize;
    let Some((text, rest)) = rest.split_at_checked(length) else {
        let left = rest.len();
        return Err(TextError::TooShort { length, left });
    };
    let text = std::str::from_utf8(text);
    let text = text.map_err(|error| TextError::NotUtf8 {
        valid: error.valid_up_to(),
    })?;
    Ok((text, rest))
}

/// The elements as bytes; what an engine holds is not copied.
///
/// # Errors
/// When a text is longer than its length can say.
pub(crate) fn encode(tensor: &Tensor) -> Result<Bytes, OipError> {
    let Some(texts) = tensor.as_strings() else {
        return Ok(tensor.shared_bytes());
    };
    let size = texts.iter().map(|text| LENGTH + text.len()).sum();
    let mut bytes = Vec::with_capacity(size);
    for text in texts {
        let length = u32::try_from(text.len())
            .map_err(|_| OipError::Invalid("an output holds a text of 4 GiB or more".to_owned()))?;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(
        input: &str,
        dtype: DType,
        shape: Vec<usize>,
        bytes: Bytes,
    ) -> Result<Tensor, OipError> {
        super::decode(input, dtype, shape, bytes, &Meter::unlimited())
    }

    fn message(dtype: DType, shape: &[usize], bytes: &'static [u8]) -> String {
        let decoded = decode("x", dtype, shape.to_vec(), Bytes::from_static(bytes));
        decoded.unwrap_err().to_string()
    }

    #[test]
    fn the_picture_of_the_protocol_is_read_and_written() {
        let ints = Bytes::from_static(&[1, 0, 0, 0, 2, 0, 0, 0]);
        let tensor = decode("x", DType::I32, vec![2], ints.clone()).unwrap();
        assert_eq!(tensor.to_vec::<i32>().unwrap(), [1, 2]);
        let written = encode(&tensor).unwrap();
        assert_eq!(written.as_ptr(), ints.as_ptr(), "not copied");
        let texts = Bytes::from_static(&[2, 0, 0, 0, 0x61, 0x62, 0, 0, 0, 0]);
        let tensor = decode("s", DType::String, vec![2], texts.clone()).unwrap();
        assert_eq!(tensor.as_strings().unwrap(), ["ab", ""]);
        assert_eq!(encode(&tensor).unwrap(), texts);
    }

    #[test]
    fn bytes_that_do_not_fill_the_shape_are_refused_with_the_numbers() {
        assert_eq!(
            message(DType::F32, &[2], &[0; 7]),
            "input `x`: shape [2] of FP32 takes 8 bytes, got 7"
        );
        let message_of = |shape: &[usize], bytes| message(DType::String, shape, bytes);
        assert_eq!(
            message_of(&[2], &[0, 0, 0, 0]),
            "input `x`: shape [2] takes 2 elements, got 1"
        );
        assert_eq!(
            message_of(&[1], &[0; 9]),
            "input `x`: 5 bytes are left after the 1 elements that its shape [1] takes"
        );
        assert_eq!(
            message_of(&[1], &[255, 255, 255, 255, 1]),
            "input `x`: element 0 says that it has 4294967295 bytes, 1 are left"
        );
        assert_eq!(
            message_of(&[1], &[1, 0]),
            "input `x`: element 0 has no length: 2 bytes are left, expected 4"
        );
        assert_eq!(
            message_of(&[1], &[2, 0, 0, 0, 0x61, 0xff]),
            "input `x`: element 0 is not UTF-8 from byte 1"
        );
        assert_eq!(
            message(DType::Bool, &[3], &[0, 1, 2]),
            "input `x`: byte 2 of a BOOL tensor is 2, expected 0 or 1"
        );
    }

    #[test]
    fn a_shape_alone_takes_no_memory() {
        let huge = [usize::MAX / 8, 1];
        assert!(message(DType::String, &huge, &[]).contains("elements"));
        assert!(message(DType::F64, &[usize::MAX, 2], &[]).contains("memory"));
        let empty = decode("x", DType::F32, vec![0, 4], Bytes::new()).unwrap();
        assert!(empty.is_empty() && encode(&empty).unwrap().is_empty());
        assert_eq!(shape("x", &[2, 3]).unwrap(), [2, 3]);
        assert!(shape("x", &[-1]).unwrap_err().to_string().contains("[-1]"));
        assert!(dtype("x", "FLOAT").is_err());
    }

    proptest! {
        #[test]
        fn any_texts_come_back(texts in proptest::collection::vec(".*", 0..8)) {
            let tensor = Tensor::from_strings(vec![texts.len()], texts.clone()).unwrap();
            let bytes = encode(&tensor).unwrap();
            let again = decode("x", DType::String, vec![texts.len()], bytes).unwrap();
            prop_assert_eq!(again.as_strings().unwrap(), &texts[..]);
        }

        #[test]
        fn any_bytes_are_numbers_again_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            rows in 0_usize..16,
        ) {
            for dtype in [DType::Bool, DType::I8, DType::F16, DType::Bf16, DType::F32, DType::I64, DType::String] {
                let given = Bytes::from(bytes.clone());
                if let Ok(tensor) = decode("x", dtype, vec![rows], given.clone()) {
                    prop_assert_eq!(encode(&tensor).unwrap(), given);
                }
            }
        }
    }
}
