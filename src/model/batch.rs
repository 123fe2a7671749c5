//! The inputs of one engine call.

use std::ops::Range;

use crate::tensor::Tensor;

/// The inputs of one engine call, in the order of [`Signature::inputs`](super::Signature::inputs); made by [`Signature::bind`](super::Signature::bind), or of another
/// one.
#[derive(Debug, Clone)]
pub struct Batch {
    inputs: Vec<Tensor>,
}

impl Batch {
    /// `inputs` are in the order of the signature.
    pub(super) fn new(inputs: Vec<Tensor>) -> Self {
        Self { inputs }
    }

    /// Whether both may be rows of one batch: the same datatypes, the same dimensions but for the first, and in each the
    /// same first dimension for every input.
    pub fn may_join(&self, other: &Self) -> bool {
        self.inputs.len() == other.inputs.len() && self.is_even() && other.is_even() && {
            self.inputs.iter().zip(&other.inputs)
        }
        .all(|(one, other)| one.dtype() == other.dtype() && one.shape()[1..] == other.shape()[1..])
    }

    /// Whether each input has a first dimension, the same for all, and not 0.
    pub fn is_even(&self) -> bool {
        let rows = self.rows();
        let same = |input: &Tensor| input.rows() == Some(rows);
        rows > 0 && self.inputs.iter().all(same)
    }

    /// One batch with the rows of all, in order; they [may join](Self::may_join). `None` for no batch.
    pub fn join(batches: &[&Self]) -> Option<Self> {
        let first = batches.first()?;
        let inputs = (0..first.inputs.len()).map(|input| {
            let parts: Vec<&Tensor> = batches.iter().map(|batch| &batch.inputs[input]).collect();
            Tensor::join_rows(&parts)
        });
        Some(Self {
            inputs: inputs.collect::<Option<_>>()?,
        })
    }

    /// Some of the rows; `None` when there are fewer.
    pub fn rows_of(&self, rows: Range<usize>) -> Option<Self> {
        let inputs = self.inputs.iter().map(|input| input.rows_of(rows.clone()));
        Some(Self {
            inputs: inputs.collect::<Option<_>>()?,
        })
    }
    /// The tensors, in the order of the signature's inputs.
    pub fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    /// The first dimension of the first input, which is the number of rows where the model has a batch axis; else 1.
    pub fn rows(&self) -> usize {
        self.inputs.first().and_then(Tensor::rows).unwrap_or(1)
    }

    /// A batch of this many rows: those of this one, over and over. For models with a
    /// [batch axis](super::Signature::has_batch_axis) only; `None` when there are no rows.
    pub fn repeat_rows(&self, rows: usize) -> Option<Self> {
        let inputs = self.inputs.iter().map(|input| input.repeat_rows(rows));
        let inputs = inputs.collect::<Option<_>>()?;
        Some(Self { inputs })
    }
}
