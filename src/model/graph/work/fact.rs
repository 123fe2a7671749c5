//! What is known of a value of a graph before it runs, for inputs of known shapes.

use std::sync::Arc;

use crate::model::graph::proto::TensorProto;
use crate::tensor::DType;

/// Contents of more elements than this are not followed.
const MOST_FOLLOWED: usize = 1024;

/// Bytes that an element of text takes beside its letters.
pub(super) const TEXT: u64 = 32;

/// What is known of a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fact {
    pub(super) dtype: DType,
    /// The most that each axis can have; `None` when even the rank is not known.
    pub(super) shape: Option<Vec<u64>>,
    /// Whether the axes have exactly that.
    pub(super) is_exact: bool,
    /// Elements that are taken for it where the shape is not known.
    pub(super) guess: u64,
    pub(super) content: Content,
    /// Bytes of the longest text in it, at most.
    pub(super) longest: u64,
}

/// What a value holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// These few numbers.
    Known(Arc<[Number]>),
    /// Not known, and the same for all requests of the same shapes.
    Fixed,
    /// What a request brings, or calculated from that.
    Values,
}

/// A number that shapes are calculated with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number {
    pub(super) value: f64,
    /// Whether it is that; else it is a size, and no larger than that.
    pub(super) is_exact: bool,
}

impl Number {
    pub(super) const fn exactly(value: f64) -> Self {
        Self {
            value,
            is_exact: true,
        }
    }

    pub(super) const fn at_most(value: f64) -> Self {
        Self {
            value,
            is_exact: false,
        }
    }

    /// As the size of an axis; `None` when it is negative or no number.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked, and a size beyond all memory may be any such size"
    )]
    pub(super) fn size(self) -> Option<u64> {
        (self.value >= 0.0).then_some(self.value as u64)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "as engines do with indices beyond the ends"
    )]
    pub(super) fn whole(self) -> i64 {
        self.value as i64
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes beyond 2^53 fit no memory anyway"
)]
pub(super) fn number(size: u64) -> f64 {
    size as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the ends of ranges, where one more or less does not matter"
)]
pub(super) fn of_integer(integer: i64) -> f64 {
    integer as f64
}

impl Fact {
    /// A tensor of this shape, whose content is not followed.
    pub(super) fn shaped(dtype: DType, shape: Vec<u64>, content: Content) -> Self {
        Self {
            dtype,
            shape: Some(shape),
            is_exact: true,
            guess: 0,
            content,
            longest: 0,
        }
    }

    /// A value of which only a guess is known.
    pub(super) fn unknown(dtype: DType, guess: u64, content: Content) -> Self {
        Self {
            dtype,
            shape: None,
            is_exact: false,
            guess,
            content,
            longest: 0,
        }
    }

    /// Numbers on one axis, or a single one.
    pub(super) fn numbers(dtype: DType, numbers: Vec<Number>, is_scalar: bool) -> Self {
        let shape = if is_scalar {
            vec![]
        } else {
            vec![numbers.len() as u64]
        };
        let is_short = numbers.len() <= MOST_FOLLOWED;
        let content = if is_short {
            Content::Known(numbers.into())
        } else {
            Content::Fixed
        };
        Self::shaped(dtype, shape, content)
    }

    /// A constant of the graph.
    pub(super) fn constant(tensor: &TensorProto) -> Self {
        let dtype = tensor.data_type.and_then(DType::from_onnx);
        let dims = tensor.dims.iter().map(|dim| u64::try_from(*dim).ok());
        let integers = || {
            let numbers = tensor.integers()?.into_iter();
            Some(
                numbers
                    .map(|number| Number::exactly(of_integer(number)))
                    .collect(),
            )
        };
        let floats = || {
            let numbers = tensor.floats()?.into_iter();
            Some(
                numbers
                    .map(|number| Number::exactly(number.into()))
                    .collect(),
            )
        };
        let numbers: Option<Arc<[Number]>> = integers().or_else(floats);
        let numbers = numbers.filter(|numbers| numbers.len() <= MOST_FOLLOWED);
        Self {
            dtype: dtype.unwrap_or(DType::F32),
            shape: dims.collect(),
            is_exact: true,
            guess: 0,
            content: numbers.map_or(Content::Fixed, Content::Known),
            // The texts of a graph are few and short beside those of requests.
            longest: 0,
        }
    }

    pub(super) fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    /// How many elements it has, at most, or by guess.
    pub(super) fn elements(&self) -> u64 {
        self.shape.as_deref().map_or(self.guess, product)
    }

    pub(super) fn bytes(&self) -> u64 {
        let width = self
            .dtype
            .width()
            .map_or(TEXT + self.longest, |width| width as u64);
        self.elements().saturating_mul(width)
    }

    pub(super) fn known(&self) -> Option<&[Number]> {
        match &self.content {
            Content::Known(numbers) => Some(numbers),
            Content::Fixed | Content::Values => None,
        }
    }

    /// The same value in another shape.
    pub(super) fn in_shape(&self, shape: Vec<u64>) -> Self {
        Self {
            shape: Some(shape),
            ..self.clone()
        }
    }

    pub(super) fn inexact(self, is_inexact: bool) -> Self {
        Self {
            is_exact: self.is_exact && !is_inexact,
            ..self
        }
    }
}

pub(super) fn product(shape: &[u64]) -> u64 {
    shape
        .iter()
        .fold(1, |product, size| product.saturating_mul(*size))
}

/// What a result that is not followed holds, by what it is calculated from.
pub(super) fn derived<'a>(from: impl IntoIterator<Item = &'a Fact>) -> Content {
    let by_values = |fact: &Fact| fact.content == Content::Values;
    if from.into_iter().any(by_values) {
        Content::Values
    } else {
        Content::Fixed
    }
}

/// `axis` counted from the front.
pub(super) fn axis_of(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let axis = if axis < 0 { axis + rank } else { axis };
    (0..rank)
        .contains(&axis)
        .then(|| usize::try_from(axis).ok())?
}
