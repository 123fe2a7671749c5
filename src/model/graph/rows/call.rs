//! One call of an operator: its attributes, and what is known of its inputs.

use std::cell::Cell;

use super::size::{Size, axis_of};
use super::value::{Refusal, Tensor, Value};
use crate::model::graph::proto::{AttributeProto, GraphProto, TensorProto};

pub(super) const UNKNOWN_RANK: Refusal = "reads a tensor whose rank is not known";
pub(super) const USES_ROW_COUNT: Refusal = "calculates with the number of rows";
const MISSING: Refusal = "lacks an input";

/// Makes symbols for sizes that are not followed.
#[derive(Debug, Default)]
pub(super) struct Symbols(Cell<u32>);

impl Symbols {
    /// The size of an axis of which nothing is known but that it is the same for every number of rows.
    pub(super) fn fresh(&self) -> Size {
        self.0.set(self.0.get() + 1);
        Size::symbol(self.0.get())
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.0.get()
    }
}

/// Attributes by the names that the operator knows them by: in a function, a call may give them under other ones.
pub(super) type Attributes<'a> = Vec<(&'a str, &'a AttributeProto)>;

/// A node with the values of its inputs.
pub(super) struct Call<'a> {
    pub(super) domain: &'a str,
    pub(super) op: &'a str,
    /// The version of the operator set.
    pub(super) opset: i64,
    pub(super) attributes: Attributes<'a>,
    /// `None` is an input that is left out.
    pub(super) inputs: Vec<Option<Value>>,
    /// How many outputs the node names.
    pub(super) outputs: usize,
    pub(super) symbols: &'a Symbols,
}

impl<'a> Call<'a> {
    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        let mut attributes = self.attributes.iter();
        attributes
            .find(|attribute| attribute.0 == name)
            .map(|attribute| attribute.1)
    }

    pub(super) fn has(&self, attribute: &str) -> bool {
        self.attribute(attribute).is_some()
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name)
            .and_then(|attribute| attribute.i)
            .unwrap_or(default)
    }

    pub(super) fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name)
            .map(|attribute| attribute.ints.as_slice())
    }

    pub(super) fn floats(&self, name: &str) -> Option<&'a [f32]> {
        self.attribute(name)
            .map(|attribute| attribute.floats.as_slice())
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        let bytes = self.attribute(name)?.s.as_deref()?;
        std::str::from_utf8(bytes).ok()
    }

    pub(super) fn bytes(&self, name: &str) -> Option<&'a [u8]> {
        self.attribute(name)?.s.as_deref()
    }

    pub(super) fn strings(&self, name: &str) -> Option<&'a [Vec<u8>]> {
        self.attribute(name)
            .map(|attribute| attribute.strings.as_slice())
    }

    pub(super) fn constant(&self, name: &str) -> Option<&'a TensorProto> {
        self.attribute(name)?.t.as_deref()
    }

    pub(super) fn graph(&self, name: &str) -> Option<&'a GraphProto> {
        self.attribute(name)?.g.as_deref()
    }

    pub(super) fn value(&self, index: usize) -> Option<&Value> {
        self.inputs.get(index)?.as_ref()
    }

    /// An input, where it is given, that has rows or is the same for all.
    pub(super) fn optional(&self, index: usize) -> Result<Option<&Tensor>, Refusal> {
        match self.value(index) {
            None => Ok(None),
            Some(Value::Tensor(tensor)) if tensor.padded.is_some() => {
                Err("sees how long the longest text of all rows is")
            }
            Some(Value::Tensor(tensor)) => Ok(Some(tensor)),
            Some(Value::Sizes(_)) => Err(USES_ROW_COUNT),
            Some(Value::Positions(_)) => Err("calculates with the position of a row"),
            // What is not proven does not come here.
            Some(Value::Unproven(_)) => Err("reads what is not proven"),
        }
    }

    pub(super) fn tensor(&self, index: usize) -> Result<&Tensor, Refusal> {
        self.optional(index)?.ok_or(MISSING)
    }

    /// A tensor with rows, or the same for all, with its shape.
    pub(super) fn shaped(&self, index: usize) -> Result<(&Tensor, &[Size]), Refusal> {
        let tensor = self.tensor(index)?;
        let shape = tensor.shape.as_deref().ok_or(UNKNOWN_RANK)?;
        Ok((tensor, shape))
    }

    /// An input that must be the same for every request, or left out.
    pub(super) fn invariant(
        &self,
        index: usize,
        otherwise: Refusal,
    ) -> Result<Option<&Tensor>, Refusal> {
        match self.optional(index)? {
            Some(tensor) if tensor.rows.is_some() => Err(otherwise),
            tensor => Ok(tensor),
        }
    }

    /// Numbers that are an attribute in old operator sets and an input in newer ones; `Ok(None)` when they are not given.
    pub(super) fn numbers(&self, name: &str, index: usize) -> Result<Option<Vec<i64>>, Refusal> {
        if let Some(numbers) = self.ints(name) {
            return Ok(Some(numbers.to_vec()));
        }
        match self.value(index) {
            None => Ok(None),
            Some(value) => {
                let known = value.integers().and_then(|integers| integers.known());
                Ok(Some(known.ok_or(
                    "takes axes or sizes that are not known before it runs",
                )?))
            }
        }
    }

    /// Axes of a tensor of this rank, counted from the front; `Ok(None)` when they are not given.
    pub(super) fn axes(&self, index: usize, rank: usize) -> Result<Option<Vec<usize>>, Refusal> {
        let Some(axes) = self.numbers("axes", index)? else {
            return Ok(None);
        };
        let axes: Option<Vec<usize>> = axes.into_iter().map(|axis| axis_of(axis, rank)).collect();
        axes.map(Some).ok_or(NO_SUCH_AXIS)
    }

    /// The axis of an attribute, counted from the front.
    pub(super) fn axis(&self, default: i64, rank: usize) -> Result<usize, Refusal> {
        axis_of(self.int("axis", default), rank).ok_or(NO_SUCH_AXIS)
    }
}

pub(super) const NO_SUCH_AXIS: Refusal = "names an axis that the tensor does not have";
