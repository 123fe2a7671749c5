//! A node of a graph as the builder of its operator reads it: attributes checked for name and type, inputs with what is
//! known of them.

use std::fmt;

use super::failure::Refusal;
use super::value::{Element, Value, is_supported};
use crate::model::onnx::{AttributeProto, GraphProto, NodeProto};
use crate::tensor::DType;

/// One node.
pub(super) struct Node<'g> {
    pub(super) proto: &'g NodeProto,
    /// Empty for `ai.onnx`.
    pub(super) domain: &'g str,
    /// The version of the domain's operator set.
    pub(super) version: i64,
    /// The types of the inputs; `None` for one that is left out.
    pub(super) inputs: Vec<Option<DType>>,
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operator())
    }
}

impl<'g> Node<'g> {
    pub(super) fn op_type(&self) -> &'g str {
        self.proto.op_type.as_deref().unwrap_or_default()
    }

    /// Domain and name, as messages have it.
    pub(super) fn operator(&self) -> String {
        match self.domain {
            "" => self.op_type().to_owned(),
            domain => format!("{domain}.{}", self.op_type()),
        }
    }

    /// The refusal of this node.
    pub(super) fn refuse(&self, reason: impl Into<String>) -> Refusal {
        Refusal::Operator {
            operator: self.operator(),
            node: self.proto.name.clone().unwrap_or_default(),
            reason: reason.into(),
        }
    }

    /// Refuses attributes that are not among these: they could change what the operator means.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        let names = self
            .proto
            .attribute
            .iter()
            .filter_map(|found| found.name.as_deref());
        match { names }.find(|name| !known.contains(name)) {
            Some(name) => Err(self.refuse(format!(
                "attribute `{}` is not supported",
                name.escape_debug()
            ))),
            None => Ok(()),
        }
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&'g AttributeProto> {
        let mut attributes = self.proto.attribute.iter();
        attributes.find(|attribute| attribute.name.as_deref() == Some(name))
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name)
            .map(|attribute| attribute.i.unwrap_or_default())
    }

    /// An attribute that is 0 or 1.
    pub(super) fn flag(&self, name: &str, default: bool) -> bool {
        self.int(name).map_or(default, |value| value != 0)
    }

    pub(super) fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name)
            .map(|attribute| attribute.f.unwrap_or_default())
    }

    /// An attribute of text.
    ///
    /// # Errors
    /// [`Refusal`] when it is no UTF-8.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'g str>, Refusal> {
        let bytes = self
            .attribute(name)
            .and_then(|attribute| attribute.s.as_deref());
        let text = bytes.map(std::str::from_utf8).transpose();
        text.map_err(|_| self.refuse(format!("attribute `{name}` is not UTF-8")))
    }

    pub(super) fn ints(&self, name: &str) -> &'g [i64] {
        self.attribute(name)
            .map_or(&[], |attribute| &attribute.ints)
    }

    pub(super) fn floats(&self, name: &str) -> &'g [f32] {
        self.attribute(name)
            .map_or(&[], |attribute| &attribute.floats)
    }

    /// An attribute that is a list of texts.
    ///
    /// # Errors
    /// [`Refusal`] when one is no UTF-8.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Refusal> {
        let texts = self
            .attribute(name)
            .map_or(&[][..], |attribute| &attribute.strings);
        let texts = texts.iter().map(|text| String::from_utf8(text.clone()));
        let texts = texts.collect::<Result<_, _>>();
        texts.map_err(|_| self.refuse(format!("attribute `{name}` is not UTF-8")))
    }

    /// An attribute that is a tensor.
    ///
    /// # Errors
    /// [`Refusal`] when it cannot be read.
    pub(super) fn tensor(&self, name: &str) -> Result<Option<Value>, Refusal> {
        let Some(tensor) = self
            .attribute(name)
            .and_then(|attribute| attribute.t.as_deref())
        else {
            return Ok(None);
        };
        let refuse = |problem: String| self.refuse(format!("attribute `{name}` {problem}"));
        let tensor = tensor.tensor().map_err(|error| refuse(error.to_string()))?;
        let value = Value::from_tensor(&tensor)
            .map_err(|error| refuse(format!("cannot be read: {error}")))?;
        Ok(Some(value))
    }

    /// The elements of a tensor attribute of this type; empty when it is not there.
    ///
    /// # Errors
    /// [`Refusal`] when it holds another type.
    pub(super) fn elements<T: Element>(&self, name: &str) -> Result<Vec<T>, Refusal> {
        let Some(value) = self.tensor(name)? else {
            return Ok(Vec::new());
        };
        let found = value.view().dtype();
        let elements = T::from_slice(value.view().data).map(<[T]>::to_vec);
        elements.ok_or_else(|| {
            let expected = T::DTYPE;
            self.refuse(format!(
                "attribute `{name}` holds {found}; expected {expected}"
            ))
        })
    }

    pub(super) fn graph(&self, name: &str) -> Option<&'g GraphProto> {
        self.attribute(name)
            .and_then(|attribute| attribute.g.as_deref())
    }

    /// The type of an input.
    ///
    /// # Errors
    /// [`Refusal`] when the node lacks it, or its type is not supported here.
    pub(super) fn dtype(&self, index: usize) -> Result<DType, Refusal> {
        match self.optional(index) {
            Some(dtype) if is_supported(dtype) => Ok(dtype),
            Some(dtype) => Err(self.refuse(format!("input {index} of {} is not supported", dtype))),
            None => Err(self.refuse(format!("input {index} is missing"))),
        }
    }

    pub(super) fn optional(&self, index: usize) -> Option<DType> {
        self.inputs.get(index).copied().flatten()
    }

    /// How many outputs it names.
    pub(super) fn outputs(&self) -> usize {
        self.proto.output.len()
    }

    /// A type that the operator does not take.
    pub(super) fn unsupported(&self, dtype: DType) -> Refusal {
        self.refuse(format!("inputs of {dtype} are not supported"))
    }
}
