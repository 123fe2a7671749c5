//! What is known of a value in a graph, whatever a request brings.

use std::sync::Arc;

use super::size::{Number, Size};

/// Why something is not proven; the operator is named around it.
pub(super) type Refusal = &'static str;

/// What is known of a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Tensor(Tensor),
    /// Integers, of rank 0 or 1, that depend on the number of rows and on nothing else.
    Sizes(Integers),
    /// The number of each row, from 0: it proves nothing, except to gather a row's own data.
    Positions(Positions),
    /// Nothing is proven: why.
    Unproven(Arc<str>),
}

/// A tensor that either has rows or is the same for all of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Tensor {
    /// `None` when even the rank is not known; known wherever there are rows.
    pub(super) shape: Option<Vec<Size>>,
    /// With rows: the axis along which f(A ++ B) = f(A) ++ f(B). Its size is that of the rows, times what each row has.
    /// Without: the tensor is the same for every request and every number of rows.
    pub(super) rows: Option<usize>,
    /// What it holds, where that may matter; only without rows.
    pub(super) content: Option<Content>,
    /// In the body of a Scan over rows: depends on the one row that the body sees.
    pub(super) of_one_row: bool,
    /// Texts cut into words and filled up to the longest text of all rows.
    pub(super) padded: Option<Padding>,
}

/// What a small constant holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Integers(Integers),
    Floats(Vec<f32>),
}

/// The elements of a tensor of rank 0 or 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Integers {
    pub(super) elements: Vec<Number>,
    pub(super) is_scalar: bool,
}

/// Where row numbers stand: an axis for the rows, and the place of the number in the last axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Positions {
    pub(super) shape: Vec<Size>,
    pub(super) rows: usize,
    /// Whether it holds nothing but row numbers; else they come first in the last axis, before indices of the row's own.
    pub(super) only: bool,
}

/// How a Tokenizer fills up.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Padding {
    pub(super) value: Vec<u8>,
}

impl Tensor {
    /// The same for every request; nothing else is known.
    pub(super) fn unknown() -> Self {
        Self::default()
    }

    pub(super) fn invariant(shape: Vec<Size>) -> Self {
        Self {
            shape: Some(shape),
            ..Self::default()
        }
    }

    pub(super) fn with_rows(shape: Vec<Size>, rows: Option<usize>) -> Self {
        Self {
            shape: Some(shape),
            rows,
            ..Self::default()
        }
    }

    pub(super) fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    /// The size of the axis with the rows.
    pub(super) fn row_size(&self) -> Option<&Size> {
        self.shape.as_ref()?.get(self.rows?)
    }

    /// What is left without these axes, none of which has the rows; `shape` is its own.
    pub(super) fn without_axes(&self, shape: &[Size], axes: &[usize]) -> Self {
        let kept: Vec<usize> = (0..shape.len())
            .filter(|axis| !axes.contains(axis))
            .collect();
        let rows = self
            .rows
            .and_then(|rows| kept.iter().position(|axis| *axis == rows));
        Self::with_rows(kept.iter().map(|axis| shape[*axis].clone()).collect(), rows)
    }

    /// The same tensor with other elements.
    pub(super) fn changed(self) -> Self {
        Self {
            content: None,
            ..self
        }
    }

    pub(super) fn integers(&self) -> Option<&Integers> {
        match &self.content {
            Some(Content::Integers(integers)) => Some(integers),
            _ => None,
        }
    }
}

impl Integers {
    pub(super) fn vector(elements: Vec<Number>) -> Self {
        Self {
            elements,
            is_scalar: false,
        }
    }

    pub(super) fn scalar(element: Number) -> Self {
        Self {
            elements: vec![element],
            is_scalar: true,
        }
    }

    pub(super) fn shape(&self) -> Vec<Size> {
        if self.is_scalar {
            vec![]
        } else {
            vec![Size::known(self.elements.len() as u64)]
        }
    }

    /// The numbers, where all are known.
    pub(super) fn known(&self) -> Option<Vec<i64>> {
        self.elements.iter().map(Number::known).collect()
    }
}

impl From<Integers> for Value {
    fn from(integers: Integers) -> Self {
        if integers.elements.iter().any(Number::depends_on_rows) {
            return Self::Sizes(integers);
        }
        Self::Tensor(Tensor {
            shape: Some(integers.shape()),
            content: Some(Content::Integers(integers)),
            ..Tensor::default()
        })
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

impl Value {
    /// Whether it is the same for every number of rows.
    pub(super) fn is_invariant(&self) -> bool {
        matches!(self, Self::Tensor(Tensor { rows: None, .. }))
    }

    /// The integers in it, as far as they are known.
    pub(super) fn integers(&self) -> Option<&Integers> {
        match self {
            Self::Tensor(tensor) => tensor.integers(),
            Self::Sizes(integers) => Some(integers),
            Self::Positions(_) | Self::Unproven(_) => None,
        }
    }
}
