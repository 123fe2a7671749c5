//! What a graph's output can be: a tensor, or the sequence of maps that ZipMap makes.

use super::Tensor;

/// One output of a model.
#[derive(Debug, Clone)]
pub enum Value {
    /// A tensor of any type and rank.
    Tensor(Tensor),
    /// ONNX `seq(map(int64 | string, float))`, one map a row: the output of `ai.onnx.ml.ZipMap`.
    Maps(MapSequence),
}

impl Value {
    /// The tensor, when it is one.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            Self::Maps(_) => None,
        }
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
