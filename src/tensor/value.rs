//! What a graph's output can be: a tensor, a sequence of tensors, or the sequence of maps that ZipMap makes.

use std::ops::Range;
use std::slice;

use half::{bf16, f16};

use super::{DType, Element, Tensor};

/// One output of a model.
#[derive(Debug, Clone)]
pub enum Value {
    /// A tensor of any type and rank.
    Tensor(Tensor),
    /// ONNX `seq(map(int64 | string, float))`, one map a row: the output of `ai.onnx.ml.ZipMap`.
    Maps(MapSequence),
    /// ONNX `seq(tensor(…))`: tensors of one type, each of a shape of its own.
    Sequence(Vec<Tensor>),
}

impl Value {
    /// The tensor, when it is one.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            Self::Maps(_) | Self::Sequence(_) => None,
        }
    }

    /// The tensors that hold its elements: of maps the scores.
    pub fn tensors(&self) -> &[Tensor] {
        match self {
            Self::Tensor(tensor) => slice::from_ref(tensor),
            Self::Maps(maps) => slice::from_ref(&maps.scores),
            Self::Sequence(tensors) => tensors,
        }
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.tensors().iter().map(Tensor::len).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that its elements take.
    pub fn size(&self) -> usize {
        self.tensors().iter().map(Tensor::size).sum()
    }

    /// The first dimension; `None` for a scalar and for a sequence, which has no axis of rows.
    pub fn rows(&self) -> Option<usize> {
        match self {
            Self::Tensor(tensor) => tensor.rows(),
            Self::Maps(maps) => maps.scores.rows(),
            Self::Sequence(_) => None,
        }
    }

    /// Some of the rows; `None` when there are fewer, or none at all.
    pub fn rows_of(&self, rows: Range<usize>) -> Option<Self> {
        Some(match self {
            Self::Tensor(tensor) => Self::Tensor(tensor.rows_of(rows)?),
            Self::Maps(maps) => Self::Maps(MapSequence {
                labels: maps.labels.clone(),
                scores: maps.scores.rows_of(rows)?,
            }),
            Self::Sequence(_) => return None,
        })
    }

    /// One value with the rows of all, in order; `None` unless they are alike.
    pub fn join_rows(parts: &[&Self]) -> Option<Self> {
        match parts.first()? {
            Self::Tensor(_) => {
                let parts: Option<Vec<&Tensor>> =
                    parts.iter().map(|part| part.as_tensor()).collect();
                Tensor::join_rows(&parts?).map(Self::Tensor)
            }
            Self::Maps(first) => {
                let scores = parts.iter().map(|part| match part {
                    Self::Maps(maps) if maps.labels == first.labels => Some(&maps.scores),
                    _ => None,
                });
                let scores = Tensor::join_rows(&scores.collect::<Option<Vec<_>>>()?)?;
                let labels = first.labels.clone();
                Some(Self::Maps(MapSequence { labels, scores }))
            }
            Self::Sequence(_) => None,
        }
    }

    /// How many elements are NaN or infinite.
    pub fn count_non_finite(&self) -> usize {
        fn count<T: Element>(tensor: &Tensor, finite: impl Fn(&T) -> bool) -> usize {
            let elements = tensor.as_slice::<T>().unwrap_or_default();
            elements.iter().filter(|value| !finite(value)).count()
        }
        let counts = self.tensors().iter().map(|tensor| match tensor.dtype() {
            DType::F32 => count::<f32>(tensor, |value| value.is_finite()),
            DType::F64 => count::<f64>(tensor, |value| value.is_finite()),
            DType::F16 => count::<f16>(tensor, |value| value.is_finite()),
            DType::Bf16 => count::<bf16>(tensor, |value| value.is_finite()),
            _ => 0,
        });
        counts.sum()
    }
}

/// A sequence of maps whose keys are the same in each row, kept as one matrix.
#[derive(Debug, Clone)]
pub struct MapSequence {
    /// The keys, in the order of the columns of `scores`.
    pub labels: Labels,
    /// FP32, shape `[rows, labels]`.
    pub scores: Tensor,
}

/// The keys of a [`MapSequence`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// ZipMap's `classlabels_int64s`.
    Int64(Vec<i64>),
    /// ZipMap's `classlabels_strings`.
    String(Vec<String>),
}

impl Labels {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Int64(labels) => labels.len(),
            Self::String(labels) => labels.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys as text, as JSON objects need them.
    pub fn to_texts(&self) -> Vec<String> {
        match self {
            Self::Int64(labels) => labels.iter().map(i64::to_string).collect(),
            Self::String(labels) => labels.clone(),
        }
    }
}
