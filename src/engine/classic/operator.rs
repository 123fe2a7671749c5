//! The seam between the program and its operators.

use super::failure::{Failure, Refusal};
use super::node::Node;
use super::value::{Value, View};
use crate::engine::CancelToken;
use crate::tensor::{DType, Labels};
use std::ops::Range;

/// One operator with its attributes bound: immutable, shared by all sessions.
pub(super) trait Operator: Send + Sync {
    /// Calculates the outputs, in memory that it may use again.
    ///
    /// # Errors
    /// [`Failure`].
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure>;

    /// Bytes of memory that it holds.
    fn size(&self) -> u64 {
        0
    }

    /// Nanoseconds for one row, roughly; `None` where that depends on what a request brings.
    fn cost(&self) -> Option<u64> {
        Some(20)
    }
}

/// Makes an operator of a node.
pub(super) type Build = fn(&Node<'_>) -> Result<Built, Refusal>;

/// An operator and the types of its outputs.
pub(super) struct Built {
    pub(super) operator: Box<dyn Operator>,
    pub(super) dtypes: Vec<DType>,
    /// The labels of the columns of the first output, when it stands for maps.
    pub(super) labels: Option<Labels>,
}

impl Built {
    /// An operator with one output.
    #[expect(clippy::unnecessary_wraps, reason = "builders end with it")]
    pub(super) fn one(dtype: DType, operator: impl Operator + 'static) -> Result<Self, Refusal> {
        Ok(Self {
            operator: Box::new(operator),
            dtypes: vec![dtype],
            labels: None,
        })
    }

    /// An operator with two outputs.
    #[expect(clippy::unnecessary_wraps, reason = "builders end with it")]
    pub(super) fn two(
        dtypes: [DType; 2],
        operator: impl Operator + 'static,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            operator: Box::new(operator),
            dtypes: dtypes.to_vec(),
            labels: None,
        })
    }
}

/// The inputs of a run of an operator.
#[derive(Debug)]
pub(super) struct Inputs<'a>(pub(super) &'a [Option<View<'a>>]);

impl<'a> Inputs<'a> {
    /// An input that the builder has seen.
    pub(super) fn get(&self, index: usize) -> Result<View<'a>, Failure> {
        self.optional(index)
            .ok_or_else(|| Failure::new(format!("input {index} is missing")))
    }

    pub(super) fn optional(&self, index: usize) -> Option<View<'a>> {
        self.0.get(index).copied().flatten()
    }

    /// All that are there, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = View<'a>> + Clone {
        self.0.iter().copied().flatten()
    }
}

/// What a run lends to its operators.
pub(super) struct Run<'a> {
    pub(super) cancel: &'a CancelToken,
    pub(super) scratch: &'a mut Scratch,
}

impl Run<'_> {
    /// Ends the run when nobody waits for it any more; operators look here after each block of work.
    ///
    /// # Errors
    /// [`Failure::Cancelled`].
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.cancel.is_cancelled() {
            return Err(Failure::Cancelled);
        }
        Ok(())
    }

    /// Hands out many elements in blocks, and looks between them whether somebody still waits.
    ///
    /// # Errors
    /// [`Failure::Cancelled`].
    pub(super) fn in_blocks<'e, T>(
        &self,
        elements: &'e [T],
        mut each: impl FnMut(&'e [T]),
    ) -> Result<(), Failure> {
        self.in_ranges(elements.len(), 1, |range| each(&elements[range]))
    }

    /// Hands out ranges of many items, each of which takes looking at so many elements, and looks between them whether
    /// somebody still waits.
    ///
    /// # Errors
    /// [`Failure::Cancelled`].
    pub(super) fn in_ranges(
        &self,
        items: usize,
        elements: usize,
        mut each: impl FnMut(Range<usize>),
    ) -> Result<(), Failure> {
        let block = (ELEMENTS_A_BLOCK / elements.max(1)).max(1);
        for first in (0..items).step_by(block) {
            if first > 0 {
                self.check()?;
            }
            each(first..items.min(first.saturating_add(block)));
        }
        Ok(())
    }
}

/// Elements between two looks at whether somebody still waits.
pub(super) const ELEMENTS_A_BLOCK: usize = 1 << 16;

/// Memory that operators use while they run, kept for the next run.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) floats: Vec<f32>,
    pub(super) more_floats: Vec<f32>,
    pub(super) doubles: Vec<f64>,
    pub(super) more_doubles: Vec<f64>,
    pub(super) other_floats: Vec<f32>,
    pub(super) other_doubles: Vec<f64>,
    pub(super) ranks: Vec<u8>,
    pub(super) votes: Vec<bool>,
    pub(super) indices: Vec<u32>,
}

/// Most elements of one array: what is larger comes of a mistake, or of malice.
const MOST_ELEMENTS: usize = 1 << 31;

/// The number of elements of a shape.
///
/// # Errors
/// [`Failure`] when no array can have so many.
pub(super) fn count(shape: &[usize]) -> Result<usize, Failure> {
    let count = shape
        .iter()
        .try_fold(1usize, |count, dim| count.checked_mul(*dim));
    count
        .filter(|count| *count <= MOST_ELEMENTS)
        .ok_or_else(|| {
            Failure::new(format!(
                "the shape {shape:?} has more than {MOST_ELEMENTS} elements"
            ))
        })
}
