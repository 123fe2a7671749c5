//! Typed elements of an input, the alternative to its bytes.

use super::inference::InferTensorContents;
use crate::protocol::oip::error::OipError;
use crate::tensor::{DType, Element, Tensor};

/// The tensor with these elements.
///
/// # Errors
/// When they are in another field than that of the datatype, do not fit it, or do not fill the shape.
pub(crate) fn tensor(
    input: &str,
    dtype: DType,
    shape: Vec<usize>,
    contents: InferTensorContents,
) -> Result<Tensor, OipError> {
    let field = field(dtype).ok_or_else(|| {
        OipError::Invalid(format!(
            "input `{input}` is {dtype}, which has no typed form; send it in `raw_input_contents`"
        ))
    })?;
    if used(&contents).any(|used| used != field) {
        return Err(OipError::Invalid(format!(
            "input `{input}` is {dtype}: its elements are expected in `{field}` and no other field"
        )));
    }
    let reader = Elements { input, dtype };
    let tensor = match dtype {
        DType::Bool => Tensor::from_bools(shape, &contents.bool_contents),
        DType::U8 => Tensor::from_vec(shape, reader.fit::<u8, _>(contents.uint_contents)?),
        DType::U16 => Tensor::from_vec(shape, reader.fit::<u16, _>(contents.uint_contents)?),
        DType::U32 => Tensor::from_vec(shape, contents.uint_contents),
        DType::U64 => Tensor::from_vec(shape, contents.uint64_contents),
        DType::I8 => Tensor::from_vec(shape, reader.fit::<i8, _>(contents.int_contents)?),
        DType::I16 => Tensor::from_vec(shape, reader.fit::<i16, _>(contents.int_contents)?),
        DType::I32 => Tensor::from_vec(shape, contents.int_contents),
        DType::I64 => Tensor::from_vec(shape, contents.int64_contents),
        DType::F32 => Tensor::from_vec(shape, contents.fp32_contents),
        DType::F64 => Tensor::from_vec(shape, contents.fp64_contents),
        // The half-precision types have no field and were refused above.
        DType::String | DType::F16 | DType::Bf16 => {
            Tensor::from_strings(shape, reader.texts(&contents)?)
        }
    };
    tensor.map_err(|error| OipError::Tensor {
        name: input.to_owned(),
        error,
    })
}

/// The field with the elements of a datatype.
fn field(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::Bool => "bool_contents",
        DType::U8 | DType::U16 | DType::U32 => "uint_contents",
        DType::U64 => "uint64_contents",
        DType::I8 | DType::I16 | DType::I32 => "int_contents",
        DType::I64 => "int64_contents",
        DType::F32 => "fp32_contents",
        DType::F64 => "fp64_contents",
        DType::String => "bytes_contents",
        DType::F16 | DType::Bf16 => return None,
    })
}

fn used(contents: &InferTensorContents) -> impl Iterator<Item = &'static str> {
    let fields = [
        ("bool_contents", contents.bool_contents.len()),
        ("int_contents", contents.int_contents.len()),
        ("int64_contents", contents.int64_contents.len()),
        ("uint_contents", contents.uint_contents.len()),
        ("uint64_contents", contents.uint64_contents.len()),
        ("fp32_contents", contents.fp32_contents.len()),
        ("fp64_contents", contents.fp64_contents.len()),
        ("bytes_contents", contents.bytes_contents.len()),
    ];
    let used = fields.into_iter().filter(|(_, elements)| *elements > 0);
    used.map(|(field, _)| field)
}

struct Elements<'i> {
    input: &'i str,
    dtype: DType,
}

impl Elements<'_> {
    /// Elements that travel as wider ones.
    fn fit<T: Element + TryFrom<W>, W: Copy + std::fmt::Display>(
        &self,
        wide: Vec<W>,
    ) -> Result<Vec<T>, OipError> {
        let fit = |value: W| {
            T::try_from(value).map_err(|_| {
                let Self { input, dtype } = self;
                OipError::Invalid(format!(
                    "the data of input `{input}` holds {value}, expected values of {dtype}"
                ))
            })
        };
        wide.into_iter().map(fit).collect()
    }

    fn texts(&self, contents: &InferTensorContents) -> Result<Vec<String>, OipError> {
        let texts = contents.bytes_contents.iter().enumerate();
        let text = |(index, bytes): (usize, &bytes::Bytes)| {
            let text = std::str::from_utf8(bytes).map_err(|error| {
                let (input, valid) = (self.input, error.valid_up_to());
                OipError::Invalid(format!(
                    "input `{input}`: element {index} is not UTF-8 from byte {valid}"
                ))
            });
            text.map(str::to_owned)
        };
        texts.map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dtype: DType, contents: InferTensorContents) -> Result<Tensor, OipError> {
        tensor("x", dtype, vec![2], contents)
    }

    fn ints(values: &[i32]) -> InferTensorContents {
        InferTensorContents {
            int_contents: values.to_vec(),
            ..InferTensorContents::default()
        }
    }

    #[test]
    fn narrow_integers_travel_as_wider_ones_and_must_fit() {
        let tensor = read(DType::I8, ints(&[-128, 127])).unwrap();
        assert_eq!(tensor.as_slice::<i8>().unwrap(), [-128, 127]);
        let tensor = read(DType::I16, ints(&[-32_768, 7])).unwrap();
        assert_eq!(tensor.as_slice::<i16>().unwrap(), [-32_768, 7]);
        let message = read(DType::I8, ints(&[0, 128])).unwrap_err().to_string();
        assert_eq!(
            message,
            "the data of input `x` holds 128, expected values of INT8"
        );
        let unsigned = InferTensorContents {
            uint_contents: vec![1, 65_536],
            ..InferTensorContents::default()
        };
        assert!(
            read(DType::U16, unsigned.clone())
                .unwrap_err()
                .to_string()
                .contains("65536")
        );
        assert!(
            read(DType::U8, unsigned.clone())
                .unwrap_err()
                .to_string()
                .contains("65536")
        );
        let tensor = read(DType::U32, unsigned).unwrap();
        assert_eq!(tensor.as_slice::<u32>().unwrap(), [1, 65_536]);
    }

    #[test]
    fn every_datatype_has_its_field_and_only_that_one_is_read() {
        let message = read(DType::F32, ints(&[1, 2])).unwrap_err().to_string();
        assert!(message.contains("`fp32_contents`"), "{message}");
        let mut both = ints(&[1, 2]);
        both.int64_contents = vec![1, 2];
        assert!(read(DType::I32, both).is_err());
        for dtype in [DType::F16, DType::Bf16] {
            let message = read(dtype, InferTensorContents::default())
                .unwrap_err()
                .to_string();
            assert!(message.contains("`raw_input_contents`"), "{message}");
        }
    }

    #[test]
    fn texts_are_entries_and_must_be_utf_8() {
        let texts = |last: &'static [u8]| InferTensorContents {
            bytes_contents: vec!["grün".into(), last.into()],
            ..InferTensorContents::default()
        };
        let tensor = read(DType::String, texts(b"")).unwrap();
        assert_eq!(tensor.as_strings().unwrap(), ["grün", ""]);
        let message = read(DType::String, texts(b"a\xff"))
            .unwrap_err()
            .to_string();
        assert_eq!(message, "input `x`: element 1 is not UTF-8 from byte 1");
    }

    #[test]
    fn elements_must_fill_the_shape() {
        let message = read(DType::I32, ints(&[1])).unwrap_err().to_string();
        assert_eq!(message, "input `x`: shape [2] takes 2 elements, got 1");
        let empty = tensor("x", DType::F32, vec![0, 4], InferTensorContents::default());
        assert!(empty.unwrap().is_empty());
    }
}
