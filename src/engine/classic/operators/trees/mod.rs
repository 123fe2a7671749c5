//! Ensembles of decision trees: `TreeEnsembleClassifier`, `TreeEnsembleRegressor`, `TreeEnsemble`.
//!
//! ```text
//! attributes ──read──► Forest ──┬─ walk: a few rows, tree by tree, many walks at a time
//!                               └─ lanes: blocks of rows, every split of small trees
//!                                    └─► sums in the order of the trees ──vote──► labels and scores
//! ```
//!
//! Both kernels find the same leaves, and sums are in the order of the trees: the bits of an answer depend neither on the
//! rows beside it nor on threads.

mod classifier;
mod fault;
mod forest;
mod kernel;
mod lanes;
mod read;
mod regressor;
mod unfold;
mod walk;

pub(super) use self::classifier::classifier;
pub(super) use self::regressor::{ensemble, regressor};

use super::super::operator::Scratch;
use super::super::value::{Element, Slice};

/// A floating-point number of thresholds and sums.
pub(super) trait Real:
    Element + Copy + PartialOrd + std::ops::AddAssign + std::fmt::Debug + std::fmt::Display
{
    const ZERO: Self;
    const LOWEST: Self;
    const HIGHEST: Self;

    /// The largest number below this one.
    fn next_below(self) -> Self;
    fn is_nan_number(self) -> bool;
    /// So many ranges of equal width for the numbers from `least` to `largest`: how many there are for one. 0 when the
    /// numbers are too far apart, or not at all.
    fn ranges(count: usize, least: Self, largest: Self) -> Self;
    /// The range that a number lies in: the first one for smaller numbers and NaN, the last one for larger ones.
    fn range(self, least: Self, scale: Self) -> u8;
    fn over(self, count: Self) -> Self;
    fn from_count(count: u32) -> Self;
    /// A number that came of [`Self::from_count`].
    fn to_count(self) -> usize;
    fn to_f64(self) -> f64;
    fn from_f32(value: f32) -> Self;
    fn from_f64(value: f64) -> Self;
    fn to_f32(self) -> f32;
    /// The elements, if they are of this type.
    fn elements(data: Slice<'_>) -> Option<&[Self]>;
    /// Memory for the rows of a block, and for their sums.
    fn scratch(scratch: &mut Scratch) -> Buffers<'_, Self>;
}

/// The memory of a run of trees.
pub(super) struct Buffers<'s, T> {
    /// Rows of another type than that of the thresholds.
    pub(super) converted: &'s mut Vec<T>,
    pub(super) rows: &'s mut Vec<T>,
    pub(super) sums: &'s mut Vec<T>,
    pub(super) ranks: &'s mut Vec<u8>,
    pub(super) votes: &'s mut Vec<bool>,
}

macro_rules! real {
    ($($rust:ty: $kind:ident, $converted:ident, $rows:ident, $sums:ident;)*) => {
        $(#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless, clippy::cast_precision_loss, clippy::unnecessary_cast, reason = "counts are small")]
        impl Real for $rust {
            const ZERO: Self = 0.0;
            const LOWEST: Self = Self::NEG_INFINITY;
            const HIGHEST: Self = Self::INFINITY;

            fn next_below(self) -> Self { if self == 0.0 { (0.0 as Self).next_down() } else { self.next_down() } }
            fn is_nan_number(self) -> bool { self.is_nan() }

            fn ranges(count: usize, least: Self, largest: Self) -> Self {
                let scale = count as Self / (largest - least);
                if scale.is_finite() { scale } else { 0.0 }
            }

            #[inline(always)]
            fn range(self, least: Self, scale: Self) -> u8 { ((self - least) * scale) as u8 }
            fn over(self, count: Self) -> Self { self / count }
            fn from_count(count: u32) -> Self { count as Self }
            fn to_count(self) -> usize { self as usize }
            fn to_f64(self) -> f64 { self as f64 }
            fn from_f32(value: f32) -> Self { value as Self }
            fn from_f64(value: f64) -> Self { value as Self }
            fn to_f32(self) -> f32 { self as f32 }

            fn elements(data: Slice<'_>) -> Option<&[Self]> {
                match data {
                    Slice::$kind(elements) => Some(elements),
                    _ => None,
                }
            }

            fn scratch(scratch: &mut Scratch) -> Buffers<'_, Self> {
                Buffers {
                    converted: &mut scratch.$converted,
                    rows: &mut scratch.$rows,
                    sums: &mut scratch.$sums,
                    ranks: &mut scratch.ranks,
                    votes: &mut scratch.votes,
                }
            }
        })*
    };
}

real! {
    f32: F32, other_floats, floats, more_floats;
    f64: F64, other_doubles, doubles, more_doubles;
}
