//! Operators that make one element of many: sums, means, the largest and where it is.

use std::marker::PhantomData;

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run, count};
use super::super::value::{Element, Value};
use super::cast::{whole_i32, whole_i64};
use super::shape::{Integers, axis_of, dense_strides};
use crate::tensor::DType;

/// What becomes of the elements that stand behind one element of the answer.
pub(super) trait Reduction<T>: Send + Sync {
    /// `elements` may be walked through more than once.
    fn reduce(&self, elements: impl Iterator<Item = T> + Clone, length: usize) -> T;
}

/// Numbers that are summed up.
pub(super) trait Number: Element + Copy + PartialOrd {
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    fn over(self, length: usize) -> Self;
    fn magnitude(self) -> Self;
    fn root(self) -> Self;
    fn ln(self) -> Self;
    fn exp(self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn quotient(self, other: Self) -> Self;
    const LOWEST: Self;
    const HIGHEST: Self;
    const ONE: Self;
}

macro_rules! float {
    ($($rust:ty),*) => {
        $(#[expect(clippy::cast_precision_loss, reason = "a count of elements")]
        impl Number for $rust {
            fn plus(self, other: Self) -> Self { self + other }
            fn times(self, other: Self) -> Self { self * other }
            fn over(self, length: usize) -> Self { self / length as Self }
            fn magnitude(self) -> Self { self.abs() }
            fn root(self) -> Self { self.sqrt() }
            fn ln(self) -> Self { self.ln() }
            fn exp(self) -> Self { self.exp() }
            fn minus(self, other: Self) -> Self { self - other }
            fn quotient(self, other: Self) -> Self { self / other }
            const LOWEST: Self = Self::NEG_INFINITY;
            const HIGHEST: Self = Self::INFINITY;
            const ONE: Self = 1.0;
        })*
    };
}

macro_rules! integer {
    ($($rust:ty: $whole:ident),*) => {
        $(#[allow(clippy::cast_lossless, clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_precision_loss, reason = "as C++ casts")]
        impl Number for $rust {
            fn plus(self, other: Self) -> Self { self.wrapping_add(other) }
            fn times(self, other: Self) -> Self { self.wrapping_mul(other) }
            fn over(self, length: usize) -> Self { self.checked_div(length as Self).unwrap_or(0) }
            fn magnitude(self) -> Self { self.wrapping_abs() }
            fn root(self) -> Self { $whole((self as f64).sqrt()) }
            fn ln(self) -> Self { $whole((self as f64).ln()) }
            fn exp(self) -> Self { $whole((self as f64).exp()) }
            fn minus(self, other: Self) -> Self { self.wrapping_sub(other) }
            fn quotient(self, other: Self) -> Self { self.checked_div(other).unwrap_or(0) }
            const LOWEST: Self = Self::MIN;
            const HIGHEST: Self = Self::MAX;
            const ONE: Self = 1;
        })*
    };
}

float!(f32, f64);
integer!(i64: whole_i64, i32: whole_i32);

/// Partial sums that are added at the end: the compiler runs them side by side, and they are more exact than one sum.
const LANES: usize = 8;

fn total<T: Number>(elements: impl Iterator<Item = T>) -> T {
    let mut sums = [T::default(); LANES];
    for (index, element) in elements.enumerate() {
        let lane = &mut sums[index % LANES];
        *lane = lane.plus(element);
    }
    sums.into_iter().fold(T::default(), T::plus)
}

macro_rules! reductions {
    ($($name:ident($elements:ident, $length:ident) => $reduce:expr;)*) => {
        $(pub(super) struct $name;

        impl<T: Number> Reduction<T> for $name {
            fn reduce(&self, $elements: impl Iterator<Item = T> + Clone, $length: usize) -> T {
                $reduce
            }
        })*
    };
}

reductions! {
    Sum(elements, _length) => total(elements);
    // ONNX Runtime says 0 where there is nothing.
    Mean(elements, length) => if length == 0 { T::default() } else { total(elements).over(length) };
    Product(elements, _length) => elements.fold(T::ONE, T::times);
    SumSquare(elements, _length) => total(elements.map(|element| element.times(element)));
    L1(elements, _length) => total(elements.map(T::magnitude));
    L2(elements, _length) => total(elements.map(|element| element.times(element))).root();
    LogSum(elements, _length) => total(elements).ln();
    LogSumExp(elements, _length) => {
        let most = elements.clone().fold(T::LOWEST, |most, element| if element > most { element } else { most });
        // An infinite one would make NaN of all.
        let most = if most > T::LOWEST && most < T::HIGHEST { most } else { T::default() };
        total(elements.map(|element| element.minus(most).exp())).ln().plus(most)
    };
    // NaN stays where it comes first, and is passed over elsewhere.
    Largest(elements, _length) => {
        elements.reduce(|most, element| if element > most { element } else { most }).unwrap_or(T::LOWEST)
    };
    Smallest(elements, _length) => {
        elements.reduce(|least, element| if element < least { element } else { least }).unwrap_or(T::HIGHEST)
    };
}

struct Reduce<T, R> {
    axes: Integers,
    keeps_dims: bool,
    /// Without axes nothing is reduced, rather than everything.
    keeps_without_axes: bool,
    reduction: R,
    types: PhantomData<fn(T) -> T>,
}

/// Axes of an array as those that stay and those that go, each with sizes and distances.
struct Axes {
    kept: Vec<(usize, usize)>,
    gone: Vec<(usize, usize)>,
    shape: Vec<usize>,
}

impl Axes {
    fn new(shape: &[usize], axes: &[usize], keeps_dims: bool) -> Self {
        let strides = dense_strides(shape);
        let mut found = Self {
            kept: Vec::new(),
            gone: Vec::new(),
            shape: Vec::new(),
        };
        for (axis, (dim, stride)) in shape.iter().copied().zip(strides).enumerate() {
            if axes.contains(&axis) {
                found.gone.push((dim, stride));
                found.shape.extend(keeps_dims.then_some(1));
            } else {
                found.kept.push((dim, stride));
                found.shape.push(dim);
            }
        }
        found
    }
}

/// The place of the `index`-th element along these axes.
fn offset(axes: &[(usize, usize)], mut index: usize) -> usize {
    let mut offset = 0;
    for (dim, stride) in axes.iter().rev() {
        offset += index % dim * stride;
        index /= dim;
    }
    offset
}

impl<T: Number, R: Reduction<T>> Operator for Reduce<T, R> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let axes = match (&self.axes, inputs.optional(1)) {
            (Integers::Input(_), None) => &[][..],
            (axes, _) => axes.get(inputs)?,
        };
        let rank = input.shape.len();
        if axes.is_empty() && self.keeps_without_axes {
            let alone = input
                .elements::<T>()?
                .iter()
                .map(|element| self.reduction.reduce(std::iter::once(*element), 1));
            outputs[0].start::<T>(input.shape).extend(alone);
            return Ok(());
        }
        let axes = if axes.is_empty() {
            (0..rank).collect()
        } else {
            let axes = axes.iter().map(|axis| axis_of(*axis, rank));
            let mut axes = axes.collect::<Result<Vec<_>, _>>()?;
            axes.sort_unstable();
            axes.dedup();
            axes
        };
        let elements = input.elements::<T>()?;
        let Axes { kept, gone, shape } = Axes::new(input.shape, &axes, self.keeps_dims);
        let length: usize = gone.iter().map(|(dim, _)| dim).product();
        let total = count(&shape)?;
        let output = outputs[0].start::<T>(&shape);
        output.reserve(total);
        // The last axes alone: neighbours in memory.
        let is_tail = axes
            .iter()
            .copied()
            .min()
            .is_none_or(|first| first + axes.len() == rank);
        if is_tail {
            return run.in_ranges(total, length, |rows| {
                output.extend(rows.map(|row| {
                    let row = &elements[row * length..][..length];
                    self.reduction.reduce(row.iter().copied(), length)
                }));
            });
        }
        run.in_ranges(total, length, |range| {
            output.extend(range.map(|at| {
                let base = offset(&kept, at);
                let behind = (0..length).map(|index| elements[base + offset(&gone, index)]);
                self.reduction.reduce(behind, length)
            }));
        })
    }
}

fn reduce<T: Number>(
    node: &Node<'_>,
    reduction: impl Reduction<T> + 'static,
) -> Result<Built, Refusal> {
    let operator = Reduce {
        axes: Integers::new(node, "axes", 1),
        keeps_dims: node.flag("keepdims", true),
        keeps_without_axes: node.flag("noop_with_empty_axes", false),
        reduction,
        types: PhantomData,
    };
    Built::one(T::DTYPE, operator)
}

macro_rules! builders {
    ($($name:ident: $reduction:ident),* $(,)?) => {
        $(pub(super) fn $name(node: &Node<'_>) -> Result<Built, Refusal> {
            node.only(&["axes", "keepdims", "noop_with_empty_axes"])?;
            match node.dtype(0)? {
                DType::F32 => reduce::<f32>(node, $reduction),
                DType::F64 => reduce::<f64>(node, $reduction),
                DType::I64 => reduce::<i64>(node, $reduction),
                DType::I32 => reduce::<i32>(node, $reduction),
                other => Err(node.unsupported(other)),
            }
        })*
    };
}

builders! {
    sum: Sum, mean: Mean, product: Product, sum_square: SumSquare, l1: L1, l2: L2, log_sum: LogSum,
    log_sum_exp: LogSumExp, largest: Largest, smallest: Smallest,
}

/// Where the largest or smallest element of an axis is; of equal ones the first, or the last.
struct ArgBest<T> {
    axis: i64,
    keeps_dims: bool,
    takes_last: bool,
    is_better: fn(&T, &T) -> bool,
    is_as_good: fn(&T, &T) -> bool,
}

impl<T: Element> Operator for ArgBest<T> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let axis = axis_of(self.axis, input.shape.len())?;
        let elements = input.elements::<T>()?;
        let length = input.shape[axis];
        let inner: usize = input.shape[axis + 1..].iter().product();
        let outer: usize = input.shape[..axis].iter().product();
        let mut shape = input.shape.to_vec();
        if self.keeps_dims {
            shape[axis] = 1;
        } else {
            shape.remove(axis);
        }
        if length == 0 && count(&shape)? > 0 {
            return Err(Failure::new(
                "an axis without elements has no largest or smallest one".to_owned(),
            ));
        }
        let output = outputs[0].start::<i64>(&shape);
        run.in_ranges(outer, length * inner, |blocks| {
            for (block, column) in
                blocks.flat_map(|block| (0..inner).map(move |column| (block, column)))
            {
                let at = |index: usize| &elements[(block * length + index) * inner + column];
                let mut best = 0;
                for index in 1..length {
                    let wins = if self.takes_last {
                        self.is_as_good
                    } else {
                        self.is_better
                    };
                    if wins(at(index), at(best)) {
                        best = index;
                    }
                }
                output.push(i64::try_from(best).unwrap_or(i64::MAX));
            }
        })
    }
}

fn arg_best<T: Element>(
    node: &Node<'_>,
    is_better: fn(&T, &T) -> bool,
    is_as_good: fn(&T, &T) -> bool,
) -> Result<Built, Refusal> {
    node.only(&["axis", "keepdims", "select_last_index"])?;
    let operator = ArgBest {
        axis: node.int("axis").unwrap_or(0),
        keeps_dims: node.flag("keepdims", true),
        takes_last: node.flag("select_last_index", false),
        is_better,
        is_as_good,
    };
    Built::one(DType::I64, operator)
}

pub(super) fn arg_max(node: &Node<'_>) -> Result<Built, Refusal> {
    match node.dtype(0)? {
        DType::F32 => arg_best(node, f32::gt, f32::ge),
        DType::F64 => arg_best(node, f64::gt, f64::ge),
        DType::I64 => arg_best(node, i64::gt, i64::ge),
        DType::I32 => arg_best(node, i32::gt, i32::ge),
        other => Err(node.unsupported(other)),
    }
}

pub(super) fn arg_min(node: &Node<'_>) -> Result<Built, Refusal> {
    match node.dtype(0)? {
        DType::F32 => arg_best(node, f32::lt, f32::le),
        DType::F64 => arg_best(node, f64::lt, f64::le),
        DType::I64 => arg_best(node, i64::lt, i64::le),
        DType::I32 => arg_best(node, i32::lt, i32::le),
        other => Err(node.unsupported(other)),
    }
}
