//! How clients with codecs send tensors: the content types of `MLServer` (`parameters.content_type` of an input, or of all
//! of a request), and data frames as columns.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::error::OipError;
use super::parameters::Parameters;
use crate::model::{Dim, InputSpec, Signature};
use crate::tensor::Tensor;

const KEY: &str = "content_type";

/// What the codec of an input did to its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Content {
    /// Nothing: `np`, `str`, `pd`, or no content type.
    #[default]
    Plain,
    /// Each text is the base64 of the element.
    Base64,
}

impl Content {
    /// The content type in `parameters`; `None` when there is none.
    ///
    /// # Errors
    /// When it means nothing for a tensor.
    pub(crate) fn named(parameters: &Parameters) -> Result<Option<Self>, OipError> {
        match parameters.text(KEY)? {
            None => Ok(None),
            Some("np" | "str" | "pd") => Ok(Some(Self::Plain)),
            Some("base64") => Ok(Some(Self::Base64)),
            Some(other) => Err(OipError::Invalid(format!(
                "the content type `{}` means nothing for a tensor: expected `np`, `pd`, `str`, `base64` or none",
                other.escape_debug()
            ))),
        }
    }

    /// The tensor before the codec.
    ///
    /// # Errors
    /// When its elements are not what the content type says.
    pub(crate) fn undone(self, name: &str, tensor: Tensor) -> Result<Tensor, OipError> {
        if self == Self::Plain {
            return Ok(tensor);
        }
        let invalid = |problem: String| {
            OipError::Invalid(format!(
                "input `{name}` has the content type `base64`, {problem}"
            ))
        };
        let Some(texts) = tensor.as_strings() else {
            let dtype = tensor.dtype();
            return Err(invalid(format!("but it is {dtype}: expected BYTES")));
        };
        let texts = texts.iter().enumerate().map(|(index, text)| {
            let bytes = BASE64_STANDARD
                .decode(text)
                .map_err(|error| invalid(format!("but element {index} is no base64: {error}")))?;
            String::from_utf8(bytes).map_err(|_| {
                invalid(format!(
                    "but the bytes of element {index} are no UTF-8 text"
                ))
            })
        });
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let shape = tensor.shape().to_vec();
        Tensor::from_strings(shape, texts).map_err(|error| OipError::Tensor {
            name: name.to_owned(),
            error,
        })
    }
}

/// Gives columns of a data frame, which come as `[n]`, the shape `[n, 1]` where the model takes that.
pub(crate) fn columns(signature: &Signature, named: &mut [(String, Tensor)]) {
    for (name, tensor) in named {
        let &[rows] = tensor.shape() else {
            continue;
        };
        let takes_column = |input: &InputSpec| {
            let dims = input.shape.as_deref();
            input.name == *name && matches!(dims, Some([Dim::Any(_), Dim::Fixed(1)]))
        };
        if signature.inputs.iter().any(takes_column)
            && let Ok(column) = tensor.clone().reshaped(vec![rows, 1])
        {
            *tensor = column;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parameters::Parameter;
    use super::*;

    fn content(value: &str) -> Result<Option<Content>, OipError> {
        let mut parameters = Parameters::default();
        let value = Parameter::Text(value.to_owned());
        parameters.push(KEY.to_owned(), value).unwrap();
        Content::named(&parameters)
    }

    #[test]
    fn a_content_type_is_undone_or_refused_by_name() {
        for plain in ["np", "str", "pd"] {
            assert_eq!(content(plain).unwrap(), Some(Content::Plain));
        }
        assert_eq!(Content::named(&Parameters::default()).unwrap(), None);
        let refused = content("datetime").unwrap_err().to_string();
        assert!(refused.contains("`datetime`"), "{refused}");
        let texts = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            Tensor::from_strings(vec![texts.len(), 1], texts).unwrap()
        };
        let base64 = content("base64").unwrap().unwrap();
        let undone = base64.undone("x", texts(&["w7w=", ""])).unwrap();
        assert_eq!(undone.as_strings(), texts(&["ü", ""]).as_strings());
        assert_eq!(undone.shape(), [2, 1]);
        for (given, problem) in [("!", "element 0 is no base64"), ("/w==", "no UTF-8")] {
            let refused = base64.undone("x", texts(&[given])).unwrap_err().to_string();
            assert!(
                refused.contains(problem) && refused.contains("`x`"),
                "{refused}"
            );
        }
        let numbers = Tensor::from_vec(vec![1], vec![1.0_f32]).unwrap();
        assert!(base64.undone("x", numbers).is_err());
    }
}
