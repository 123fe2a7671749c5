//! What the names of a graph stand for while it is compiled.

use super::program::Place;
use crate::tensor::{DType, Labels};

/// What a name of the graph stands for.
#[derive(Debug, Clone)]
pub(super) enum Known {
    Array(Array),
    /// What ZipMap makes: scores, one column for each label.
    Maps {
        labels: Labels,
        scores: Array,
    },
    Sequence(Vec<Array>),
}

/// An array: where it is and of which type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Array {
    pub(super) place: Place,
    pub(super) dtype: DType,
}

impl Known {
    /// The arrays that it is made of.
    pub(super) fn arrays(&self) -> &[Array] {
        match self {
            Self::Array(array) | Self::Maps { scores: array, .. } => std::slice::from_ref(array),
            Self::Sequence(arrays) => arrays,
        }
    }

    pub(super) fn arrays_mut(&mut self) -> &mut [Array] {
        match self {
            Self::Array(array) | Self::Maps { scores: array, .. } => std::slice::from_mut(array),
            Self::Sequence(arrays) => arrays,
        }
    }
}
