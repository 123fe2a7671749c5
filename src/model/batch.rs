//! The inputs of one engine call.

use std::ops::Range;

use super::Extent;
use crate::budget::Allowance;
use crate::tensor::{DType, Tensor};

/// Inputs that must be equal for requests to share a run are compared while the queue is locked, so no larger ones are.
const MOST_SHARED_BYTES: usize = 16 << 10;

/// The inputs of one engine call, in the order of [`Signature::inputs`](super::Signature::inputs); made by [`Signature::bind`](super::Signature::bind), or of another
/// one.
#[derive(Debug, Clone)]
pub struct Batch {
    inputs: Vec<Tensor>,
    /// Inputs that are the same for all rows, ascending; mostly none.
    shared: Vec<usize>,
    /// Whether its sizes agree with each other as the graph says.
    sizes_agree: bool,
    /// What the request was charged: it is not given back while this batch waits or runs, whoever has gone.
    allowance: Option<Allowance>,
}

impl Batch {
    /// `inputs` are in the order of the signature; `shared` are those without rows.
    pub(super) fn new(inputs: Vec<Tensor>, shared: Vec<usize>, sizes_agree: bool) -> Self {
        Self {
            inputs,
            shared,
            sizes_agree,
            allowance: None,
        }
    }

    /// The same batch, charged to this request for as long as it lives.
    #[must_use]
    pub fn charged_to(self, allowance: Allowance) -> Self {
        let allowance = Some(allowance);
        Self { allowance, ..self }
    }

    /// What its request may hold; `None` for a batch that no request brought, or that several did.
    pub fn allowance(&self) -> Option<&Allowance> {
        self.allowance.as_ref()
    }

    /// Bytes of memory that its inputs take.
    pub fn size(&self) -> usize {
        self.inputs.iter().map(Tensor::size).sum()
    }

    fn carries_rows(&self, input: usize) -> bool {
        self.shared.binary_search(&input).is_err()
    }

    /// The inputs with rows.
    fn carriers(&self) -> impl Iterator<Item = &Tensor> {
        let inputs = self.inputs.iter().enumerate();
        inputs.filter_map(|(input, tensor)| self.carries_rows(input).then_some(tensor))
    }

    /// Whether both may be rows of one batch: the same datatypes, the same dimensions but for the rows, the same number of
    /// rows in each input that carries them, and equal inputs that do not.
    pub fn may_join(&self, other: &Self) -> bool {
        let fits = |(input, (one, other)): (usize, (&Tensor, &Tensor))| {
            let same = one.dtype() == other.dtype() && one.shape().len() == other.shape().len();
            same && if self.carries_rows(input) {
                one.shape()[1..] == other.shape()[1..]
            } else {
                are_equal(one, other)
            }
        };
        let pairs = self.inputs.iter().zip(&other.inputs);
        self.inputs.len() == other.inputs.len()
            && self.is_even()
            && other.is_even()
            && pairs.enumerate().all(fits)
    }

    /// Whether it has rows, each input that carries rows the same number of them, and sizes that agree.
    pub fn is_even(&self) -> bool {
        let rows = self.carriers().next().and_then(Tensor::rows);
        let same = |input: &Tensor| input.rows() == rows;
        self.sizes_agree && rows.is_some_and(|rows| rows > 0) && self.carriers().all(same)
    }

    /// One batch with the rows of all, in order; they [may join](Self::may_join). `None` for no batch.
    pub fn join(batches: &[&Self]) -> Option<Self> {
        let first = batches.first()?;
        let inputs = (0..first.inputs.len()).map(|input| {
            if !first.carries_rows(input) {
                return Some(first.inputs[input].clone());
            }
            let parts: Vec<&Tensor> = batches.iter().map(|batch| &batch.inputs[input]).collect();
            Tensor::join_rows(&parts)
        });
        Some(Self {
            inputs: inputs.collect::<Option<_>>()?,
            shared: first.shared.clone(),
            sizes_agree: first.sizes_agree,
            allowance: None,
        })
    }

    /// What matters of the inputs of all of them together, for what a run of them takes; they
    /// [may join](Self::may_join).
    pub fn extents(batches: &[&Self]) -> Vec<Extent> {
        let Some((first, others)) = batches.split_first() else {
            return Vec::new();
        };
        let mut extents: Vec<Extent> = first.inputs.iter().map(Extent::from_tensor).collect();
        for other in others {
            for (input, (extent, tensor)) in extents.iter_mut().zip(&other.inputs).enumerate() {
                if !first.carries_rows(input) {
                    continue;
                }
                let own = Extent::from_tensor(tensor);
                if let (Some(rows), Some(more)) = (extent.shape.first_mut(), own.shape.first()) {
                    *rows = rows.saturating_add(*more);
                }
                extent.longest = extent.longest.max(own.longest);
            }
        }
        extents
    }

    /// What matters of so many of its rows.
    pub fn extents_of_rows(&self, rows: usize) -> Vec<Extent> {
        let mut extents = Self::extents(&[self]);
        for (input, extent) in extents.iter_mut().enumerate() {
            if let Some(size) = extent
                .shape
                .first_mut()
                .filter(|_| self.carries_rows(input))
            {
                *size = rows;
            }
        }
        extents
    }

    /// Some of the rows; `None` when there are fewer.
    pub fn rows_of(&self, rows: Range<usize>) -> Option<Self> {
        self.with_rows(|input| input.rows_of(rows.clone()))
    }

    /// A batch of this many rows: those of this one, over and over; `None` when there are no rows.
    pub fn repeat_rows(&self, rows: usize) -> Option<Self> {
        self.with_rows(|input| input.repeat_rows(rows))
    }

    /// The same batch with each input that carries rows changed.
    pub(super) fn with_rows(
        &self,
        mut change: impl FnMut(&Tensor) -> Option<Tensor>,
    ) -> Option<Self> {
        let inputs = self.inputs.iter().enumerate().map(|(input, tensor)| {
            if self.carries_rows(input) {
                change(tensor)
            } else {
                Some(tensor.clone())
            }
        });
        Some(Self {
            inputs: inputs.collect::<Option<_>>()?,
            ..self.clone()
        })
    }

    /// The same batch with each input changed.
    pub(super) fn with_all(&self, change: impl FnMut(&Tensor) -> Option<Tensor>) -> Option<Self> {
        Some(Self {
            inputs: self.inputs.iter().map(change).collect::<Option<_>>()?,
            ..self.clone()
        })
    }

    /// Whether an input carries rows.
    pub(super) fn has_rows(&self) -> bool {
        self.shared.len() < self.inputs.len()
    }

    /// The tensors, in the order of the signature's inputs.
    pub fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    /// The number of rows: the first dimension of the first input that carries rows; where none does, of the first input;
    /// 1 when that has none.
    pub fn rows(&self) -> usize {
        let first = self.carriers().next().or_else(|| self.inputs.first());
        first.and_then(Tensor::rows).unwrap_or(1)
    }
}

fn are_equal(one: &Tensor, other: &Tensor) -> bool {
    if one.shape() != other.shape() {
        return false;
    }
    match one.dtype() {
        DType::String => {
            let bytes: usize = one
                .as_strings()
                .unwrap_or_default()
                .iter()
                .map(String::len)
                .sum();
            bytes <= MOST_SHARED_BYTES && one.as_strings() == other.as_strings()
        }
        _ => one.bytes().len() <= MOST_SHARED_BYTES && one.bytes() == other.bytes(),
    }
}
