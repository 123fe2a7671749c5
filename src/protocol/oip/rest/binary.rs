//! The extension `binary_tensor_data`: tensors as bytes behind the JSON of a body.
//!
//! ```text
//! JSON (as long as the header says) | bytes of the first binary input | of the second | …
//! ```

use axum::http::HeaderMap;
use bytes::Bytes;

use crate::http::headers::LENGTH_HEADER;
use crate::model::{Dim, InputSpec, Signature};
use crate::protocol::meter::{Meter, block};
use crate::protocol::oip::error::OipError;
use crate::protocol::oip::raw;
use crate::tensor::{DType, Tensor};

/// How request and response state the length of the JSON in front of binary tensors.
#[derive(Debug)]
pub(crate) struct Framing {
    /// The length; `None` when there is nothing but JSON.
    pub(crate) json: Result<Option<usize>, OipError>,
    /// The media type that the answer names with `;json-header-size=N` behind it, in place of the header.
    pub(crate) alias: Option<&'static str>,
}

impl Framing {
    /// By the header of the protocol.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let length = headers.get(LENGTH_HEADER).map(|value| {
            let text = value.to_str().unwrap_or("?").trim();
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let length = text.parse().ok().filter(|_| digits);
            length.ok_or_else(|| {
                OipError::Invalid(format!(
                    "invalid header `Inference-Header-Content-Length: {text}`: expected the number of bytes of the JSON"
                ))
            })
        });
        Self {
            json: length.transpose(),
            alias: None,
        }
    }
}

/// A body in its two parts.
#[derive(Debug)]
pub(crate) enum Parts {
    /// JSON, and what stands behind it.
    Json(Bytes, Section),
    /// No JSON: the body is the one tensor.
    Raw(Bytes),
}

/// The bytes behind the JSON.
#[derive(Debug)]
pub(crate) struct Section(Bytes);

impl Parts {
    /// Cuts a body where its JSON ends.
    ///
    /// # Errors
    /// When the body is shorter.
    pub(crate) fn split(mut body: Bytes, json: Option<usize>) -> Result<Self, OipError> {
        match json {
            None => Ok(Self::Json(body, Section(Bytes::new()))),
            Some(0) => Ok(Self::Raw(body)),
            Some(length) if length > body.len() => Err(OipError::Invalid(format!(
                "the JSON has {length} bytes by the header `Inference-Header-Content-Length`, the body has {}",
                body.len()
            ))),
            Some(length) => {
                let json = body.split_to(length);
                Ok(Self::Json(json, Section(body)))
            }
        }
    }
}

impl Section {
    /// The next bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub(crate) fn take(&mut self, input: &str, size: u64) -> Result<Bytes, OipError> {
        let left = self.0.len();
        let size = usize::try_from(size).ok().filter(|&size| size <= left);
        let size = size.ok_or_else(|| {
            OipError::Invalid(format!(
                "the `binary_data_size` of input `{input}` is larger than what is left behind the JSON, which is {left} bytes; the header \
                 `Inference-Header-Content-Length` says where the JSON ends"
            ))
        })?;
        Ok(self.0.split_to(size))
    }

    /// Checks that every byte was somebody's.
    ///
    /// # Errors
    /// When some are left.
    pub(crate) fn finish(&self) -> Result<(), OipError> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(OipError::Invalid(format!(
                "{left} bytes are left behind the last tensor: the sum of all `binary_data_size` must be what follows \
                 the JSON"
            ))),
        }
    }
}

/// The only input of a model out of a body that is nothing else: one row, one open dimension at most. A text is the whole
/// body, without a length in front.
///
/// # Errors
/// When the model is not of that kind, or the bytes do not fill it.
pub(crate) fn only_tensor(
    signature: &Signature,
    body: Bytes,
    meter: &Meter,
) -> Result<(String, Tensor), OipError> {
    let Some(input) = signature.sole_input() else {
        return Err(unfit(format!(
            "this model takes {} inputs",
            signature.required().count()
        )));
    };
    let shape = only_shape(input, signature.has_batch_axis(), body.len())?;
    let name = input.name.clone();
    let tensor = match input.dtype {
        DType::String => {
            meter.charge(block(body.len()))?;
            let text = String::from_utf8(body.into());
            let text = text.map_err(|_| {
                OipError::Invalid(format!(
                    "the body is the text of input `{name}`, but no UTF-8"
                ))
            })?;
            Tensor::from_strings(shape, vec![text]).map_err(|error| OipError::Tensor {
                name: name.clone(),
                error,
            })?
        }
        dtype => raw::decode(&name, dtype, shape, body, meter)?,
    };
    Ok((name, tensor))
}

fn only_shape(
    input: &InputSpec,
    has_batch_axis: bool,
    bytes: usize,
) -> Result<Vec<usize>, OipError> {
    let name = &input.name;
    let dims = input.shape.as_deref();
    let dims = dims.ok_or_else(|| unfit(format!("input `{name}` has no fixed rank")))?;
    let is_open = |&(place, dim): &(usize, &Dim)| {
        matches!(dim, Dim::Any(_)) && !(has_batch_axis && place == 0)
    };
    let open = dims.iter().enumerate().filter(is_open).count();
    if open > 1 {
        return Err(unfit(format!("input `{name}` has {open} open dimensions")));
    }
    let fixed = dims.iter().filter_map(|dim| match dim {
        Dim::Fixed(size) => Some(*size),
        Dim::Any(_) => None,
    });
    // Of texts there is one, of numbers as many as the open dimension leaves room for.
    let width = input.dtype.width();
    let row = width.and_then(|width| fixed.clone().try_fold(width, usize::checked_mul));
    let length = row.and_then(|row| bytes.checked_div(row)).unwrap_or(1);
    let sizes = dims.iter().enumerate().map(|(place, dim)| match dim {
        Dim::Fixed(size) => *size,
        Dim::Any(_) if is_open(&(place, dim)) => length,
        Dim::Any(_) => 1,
    });
    Ok(sizes.collect())
}

fn unfit(reason: String) -> OipError {
    OipError::Invalid(format!(
        "a body without JSON (`Inference-Header-Content-Length: 0`) is for models with one input of one open dimension \
         at most: {reason}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(dtype: DType, shape: Vec<Dim>) -> Signature {
        let input = InputSpec {
            name: "x".to_owned(),
            dtype,
            shape: Some(shape),
            default: None,
        };
        Signature {
            inputs: vec![input],
            outputs: Vec::new(),
            ..Signature::default()
        }
    }

    fn shape(dtype: DType, dims: Vec<Dim>, body: &'static [u8]) -> Result<Vec<usize>, OipError> {
        let only = only_tensor(
            &signature(dtype, dims),
            Bytes::from_static(body),
            &Meter::unlimited(),
        );
        only.map(|(_, tensor)| tensor.shape().to_vec())
    }

    #[test]
    fn a_body_is_cut_where_the_header_says() {
        let body = || Bytes::from_static(b"{}abcde");
        let Parts::Json(json, mut section) = Parts::split(body(), Some(2)).unwrap() else {
            panic!("there is JSON");
        };
        assert_eq!(json, "{}");
        assert_eq!(section.take("x", 2).unwrap(), "ab");
        assert!(
            section
                .finish()
                .unwrap_err()
                .to_string()
                .starts_with("3 bytes")
        );
        let message = section.take("x", 4).unwrap_err().to_string();
        assert!(
            message.contains("`x`") && message.contains("3 bytes"),
            "{message}"
        );
        assert!(section.take("x", u64::MAX).is_err());
        assert_eq!(section.take("x", 3).unwrap(), "cde");
        assert_eq!(section.take("x", 0).unwrap(), "");
        section.finish().unwrap();
        assert!(matches!(Parts::split(body(), Some(0)), Ok(Parts::Raw(_))));
        assert!(
            matches!(Parts::split(body(), Some(7)), Ok(Parts::Json(json, _)) if json == body())
        );
        assert!(Parts::split(body(), Some(8)).is_err());
        assert!(matches!(Parts::split(body(), None), Ok(Parts::Json(json, _)) if json == body()));
    }

    #[test]
    fn the_header_is_a_number_of_bytes() {
        let framing = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(LENGTH_HEADER, value.parse().unwrap());
            Framing::from_headers(&headers).json
        };
        assert_eq!(framing("12").unwrap(), Some(12));
        for value in ["", "-1", "+1", "1.0", "0x1", "99999999999999999999999"] {
            assert!(framing(value).is_err(), "{value}");
        }
        assert_eq!(Framing::from_headers(&HeaderMap::new()).json.unwrap(), None);
    }

    #[test]
    fn a_body_without_json_is_one_row() {
        let any = || Dim::Any(None);
        let fixed = Dim::Fixed;
        let eight = [0; 8];
        let body = Box::leak(Box::new(eight));
        assert_eq!(
            shape(DType::F32, vec![any(), fixed(2)], body).unwrap(),
            [1, 2]
        );
        assert_eq!(shape(DType::F32, vec![any(), any()], body).unwrap(), [1, 2]);
        assert_eq!(
            shape(DType::I16, vec![fixed(2), any()], body).unwrap(),
            [2, 2]
        );
        assert_eq!(shape(DType::String, vec![any()], body).unwrap(), [1]);
        assert_eq!(
            shape(DType::String, vec![any(), any()], b"a").unwrap(),
            [1, 1]
        );
        for (dtype, dims) in [
            (DType::F32, vec![any(), any(), any()]),
            (DType::F32, vec![any(), fixed(3)]),
            (DType::F32, vec![any(), fixed(0), any()]),
            (DType::F32, vec![any(), fixed(usize::MAX), any()]),
            (DType::String, vec![fixed(2)]),
        ] {
            assert!(
                shape(dtype, dims.clone(), body).is_err(),
                "{dtype} {dims:?}"
            );
        }
        assert!(shape(DType::String, vec![any()], b"\xff").is_err());
        let mut two = signature(DType::F32, vec![any()]);
        two.inputs.push(two.inputs[0].clone());
        assert!(only_tensor(&two, Bytes::new(), &Meter::unlimited()).is_err());
    }
}
