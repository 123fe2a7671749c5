//! Operators on pairs of elements, with the shapes of both brought together ("Broadcasting in ONNX").

use std::marker::PhantomData;

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, ELEMENTS_A_BLOCK, Inputs, Operator, Run, count};
use super::super::value::{Element, Value, View};
use super::cast::{whole_i32, whole_i64};
use crate::tensor::DType;

/// The shape that both have when dimensions of 1 are repeated.
///
/// # Errors
/// [`Failure`] when they cannot be brought together.
pub(super) fn common_shape(one: &[usize], other: &[usize]) -> Result<Vec<usize>, Failure> {
    let rank = one.len().max(other.len());
    let dim = |shape: &[usize], axis: usize| {
        let missing = rank - shape.len();
        if axis < missing {
            1
        } else {
            shape[axis - missing]
        }
    };
    let dims = (0..rank).map(|axis| match (dim(one, axis), dim(other, axis)) {
        (one, other) if one == other => Some(one),
        (1, other) => Some(other),
        (one, 1) => Some(one),
        _ => None,
    });
    let common = dims.collect::<Option<Vec<usize>>>();
    common.ok_or_else(|| {
        Failure::shapes(format!(
            "the shapes {one:?} and {other:?} do not fit each other"
        ))
    })
}

/// Distances between neighbours along each axis of the common shape; 0 where elements are repeated.
pub(super) fn strides(shape: &[usize], common: &[usize]) -> Vec<usize> {
    let mut strides = vec![0; common.len()];
    let mut stride = 1;
    let missing = common.len() - shape.len();
    for axis in (0..shape.len()).rev() {
        if shape[axis] != 1 {
            strides[axis + missing] = stride;
        }
        stride *= shape[axis];
    }
    strides
}

/// Calls `each` with the place of the first element of each innermost run, for several arrays at once.
pub(super) fn for_each_run<const N: usize>(
    common: &[usize],
    strides: &[Vec<usize>; N],
    mut each: impl FnMut([usize; N]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let outer = common.len().saturating_sub(1);
    if common.contains(&0) {
        return Ok(());
    }
    let mut index = vec![0; outer];
    let mut offsets = [0; N];
    loop {
        each(offsets)?;
        let mut axis = outer;
        loop {
            if axis == 0 {
                return Ok(());
            }
            axis -= 1;
            index[axis] += 1;
            for (offset, strides) in offsets.iter_mut().zip(strides) {
                *offset += strides[axis];
            }
            if index[axis] < common[axis] {
                break;
            }
            for (offset, strides) in offsets.iter_mut().zip(strides) {
                *offset -= strides[axis] * common[axis];
            }
            index[axis] = 0;
        }
    }
}

/// Writes `calculate` of each pair.
pub(super) fn zip<A: Element, B: Element, O: Element>(
    (one, other): (View<'_>, View<'_>),
    output: &mut Value,
    run: &Run<'_>,
    calculate: impl Fn(&A, &B) -> O,
) -> Result<(), Failure> {
    let (left, right) = (one.elements::<A>()?, other.elements::<B>()?);
    if one.shape == other.shape {
        let output = output.start::<O>(one.shape);
        output.reserve(left.len());
        return run.in_blocks(left, |block| {
            let pairs = block.iter().zip(&right[output.len()..]);
            output.extend(pairs.map(|(one, other)| calculate(one, other)));
        });
    }
    let common = common_shape(one.shape, other.shape)?;
    let length = count(&common)?;
    let output = output.start::<O>(&common);
    if let ([single], true) = (right, left.len() == length) {
        return run.in_blocks(left, |block| {
            output.extend(block.iter().map(|one| calculate(one, single)));
        });
    }
    if let ([single], true) = (left, right.len() == length) {
        return run.in_blocks(right, |block| {
            output.extend(block.iter().map(|other| calculate(single, other)));
        });
    }
    output.reserve(length);
    let strides = [strides(one.shape, &common), strides(other.shape, &common)];
    let width = common.last().copied().unwrap_or(1);
    let [left_step, right_step] =
        [&strides[0], &strides[1]].map(|strides| strides.last().copied().unwrap_or(0));
    let mut next_check = ELEMENTS_A_BLOCK;
    for_each_run(&common, &strides, |[at_left, at_right]| {
        if output.len() >= next_check {
            run.check()?;
            next_check = output.len() + ELEMENTS_A_BLOCK;
        }
        match (left_step, right_step) {
            (1, 1) => {
                let pairs = left[at_left..][..width]
                    .iter()
                    .zip(&right[at_right..][..width]);
                output.extend(pairs.map(|(one, other)| calculate(one, other)));
            }
            (1, 0) => {
                let other = &right[at_right];
                output.extend(
                    left[at_left..][..width]
                        .iter()
                        .map(|one| calculate(one, other)),
                );
            }
            (0, 1) => {
                let one = &left[at_left];
                output.extend(
                    right[at_right..][..width]
                        .iter()
                        .map(|other| calculate(one, other)),
                );
            }
            _ => output.extend((0..width).map(|_| calculate(&left[at_left], &right[at_right]))),
        }
        Ok(())
    })
}

/// An operator on two arrays.
struct Pairs<A, B, O, F> {
    calculate: F,
    types: PhantomData<fn(A, B) -> O>,
}

impl<A: Element, B: Element, O: Element, F: Fn(&A, &B) -> O + Send + Sync> Operator
    for Pairs<A, B, O, F>
{
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        zip(
            (inputs.get(0)?, inputs.get(1)?),
            &mut outputs[0],
            run,
            &self.calculate,
        )
    }
}

/// An operator on two arrays of these types.
pub(super) fn pairs<A: Element, B: Element, O: Element>(
    calculate: impl Fn(&A, &B) -> O + Send + Sync + 'static,
) -> Result<Built, Refusal> {
    Built::one(
        O::DTYPE,
        Pairs {
            calculate,
            types: PhantomData,
        },
    )
}

/// An operator that folds one array after the other into the first.
struct Fold<T, F> {
    calculate: F,
    /// The sum is divided by the number of arrays.
    is_mean: bool,
    types: PhantomData<fn(T) -> T>,
}

impl<T: Element + Average, F: Fn(&T, &T) -> T + Send + Sync> Operator for Fold<T, F> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let first = inputs.get(0)?;
        outputs[0].copy_as(first, first.shape);
        let mut count = 1;
        for input in inputs.iter().skip(1) {
            let before = std::mem::take(&mut outputs[0]);
            zip(
                (before.view(), input),
                &mut outputs[0],
                run,
                &self.calculate,
            )?;
            count += 1;
        }
        if self.is_mean {
            let elements = T::vec_of(&mut outputs[0].data);
            elements
                .iter_mut()
                .for_each(|element| *element = element.over(count));
        }
        Ok(())
    }
}

/// Division by a count.
trait Average {
    fn over(&self, count: u32) -> Self;
}

impl Average for f32 {
    #[expect(clippy::cast_precision_loss, reason = "few arrays")]
    fn over(&self, count: u32) -> Self {
        self / count as Self
    }
}

impl Average for f64 {
    fn over(&self, count: u32) -> Self {
        self / Self::from(count)
    }
}

impl Average for i64 {
    fn over(&self, count: u32) -> Self {
        self / Self::from(count)
    }
}

impl Average for i32 {
    fn over(&self, count: u32) -> Self {
        self / Self::try_from(count).unwrap_or(Self::MAX)
    }
}

fn fold<T: Element + Average>(
    is_mean: bool,
    calculate: impl Fn(&T, &T) -> T + Send + Sync + 'static,
) -> Result<Built, Refusal> {
    Built::one(
        T::DTYPE,
        Fold {
            calculate,
            is_mean,
            types: PhantomData,
        },
    )
}

/// The type that both inputs have.
pub(super) fn same_type(node: &Node<'_>) -> Result<DType, Refusal> {
    let dtype = node.dtype(0)?;
    for index in 1..node.inputs.len() {
        let other = node.dtype(index)?;
        if other != dtype {
            return Err(node.refuse(format!("inputs of {dtype} and {other} are not supported")));
        }
    }
    Ok(dtype)
}

/// Before operator set 7 shapes were brought together only where an attribute said how.
pub(super) fn no_axis(node: &Node<'_>) -> Result<(), Refusal> {
    node.only(&["consumed_inputs"])
}

pub(super) fn add(node: &Node<'_>) -> Result<Built, Refusal> {
    no_axis(node)?;
    match same_type(node)? {
        DType::F32 => pairs(|a: &f32, b: &f32| a + b),
        DType::F64 => pairs(|a: &f64, b: &f64| a + b),
        DType::I64 => pairs(|a: &i64, b: &i64| a.wrapping_add(*b)),
        DType::I32 => pairs(|a: &i32, b: &i32| a.wrapping_add(*b)),
        other => Err(node.unsupported(other)),
    }
}

pub(super) fn sub(node: &Node<'_>) -> Result<Built, Refusal> {
    no_axis(node)?;
    match same_type(node)? {
        DType::F32 => pairs(|a: &f32, b: &f32| a - b),
        DType::F64 => pairs(|a: &f64, b: &f64| a - b),
        DType::I64 => pairs(|a: &i64, b: &i64| a.wrapping_sub(*b)),
        DType::I32 => pairs(|a: &i32, b: &i32| a.wrapping_sub(*b)),
        other => Err(node.unsupported(other)),
    }
}

pub(super) fn mul(node: &Node<'_>) -> Result<Built, Refusal> {
    no_axis(node)?;
    match same_type(node)? {
        DType::F32 => pairs(|a: &f32, b: &f32| a * b),
        DType::F64 => pairs(|a: &f64, b: &f64| a * b),
        DType::I64 => pairs(|a: &i64, b: &i64| a.wrapping_mul(*b)),
        DType::I32 => pairs(|a: &i32, b: &i32| a.wrapping_mul(*b)),
        other => Err(node.unsupported(other)),
    }
}

/// Whole numbers by something that may be 0, which has no answer.
struct Division<O>(O);

impl<O: Operator> Operator for Division<O> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let divisor = inputs.get(1)?;
        let has_zero = match divisor.dtype() {
            DType::I64 => divisor.elements::<i64>()?.contains(&0),
            _ => divisor.elements::<i32>()?.contains(&0),
        };
        if has_zero {
            return Err(Failure::new("a whole number is divided by 0".to_owned()));
        }
        self.0.run(inputs, outputs, run)
    }
}

fn guarded<A: Element>(
    calculate: impl Fn(&A, &A) -> A + Send + Sync + 'static,
) -> Result<Built, Refusal> {
    let operator = Pairs {
        calculate,
        types: PhantomData::<fn(A, A) -> A>,
    };
    Built::one(A::DTYPE, Division(operator))
}

pub(super) fn div(node: &Node<'_>) -> Result<Built, Refusal> {
    no_axis(node)?;
    match same_type(node)? {
        DType::F32 => pairs(|a: &f32, b: &f32| a / b),
        DType::F64 => pairs(|a: &f64, b: &f64| a / b),
        DType::I64 => guarded(|a: &i64, b: &i64| a.wrapping_div(*b)),
        DType::I32 => guarded(|a: &i32, b: &i32| a.wrapping_div(*b)),
        other => Err(node.unsupported(other)),
    }
}

/// The remainder with the sign of the divisor.
macro_rules! floored {
    ($whole:ty) => {
        guarded(|a: &$whole, b: &$whole| {
            let rest = a.wrapping_rem(*b);
            if rest != 0 && (rest < 0) != (*b < 0) {
                rest.wrapping_add(*b)
            } else {
                rest
            }
        })
    };
}

/// The remainder has the sign of the divisor, with `fmod` that of the dividend.
pub(super) fn modulo(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["fmod"])?;
    match (same_type(node)?, node.flag("fmod", false)) {
        (DType::F32, true) => pairs(|a: &f32, b: &f32| a % b),
        (DType::F64, true) => pairs(|a: &f64, b: &f64| a % b),
        (DType::I64, true) => guarded(|a: &i64, b: &i64| a.wrapping_rem(*b)),
        (DType::I32, true) => guarded(|a: &i32, b: &i32| a.wrapping_rem(*b)),
        (DType::I64, false) => floored!(i64),
        (DType::I32, false) => floored!(i32),
        (other, _) => Err(node.unsupported(other)),
    }
}

/// Base and exponent may be of different types; the answer is of the type of the base.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "as C++ casts"
)]
pub(super) fn pow(node: &Node<'_>) -> Result<Built, Refusal> {
    no_axis(node)?;
    match (node.dtype(0)?, node.dtype(1)?) {
        (DType::F32, DType::F32) => {
            pairs(|a: &f32, b: &f32| if *b == 2.0 { a * a } else { a.powf(*b) })
        }
        (DType::F32, DType::F64) => pairs(|a: &f32, b: &f64| f64::from(*a).powf(*b) as f32),
        (DType::F32, DType::I64) => pairs(|a: &f32, b: &i64| f64::from(*a).powf(*b as f64) as f32),
        (DType::F32, DType::I32) => pairs(|a: &f32, b: &i32| f64::from(*a).powi(*b) as f32),
        (DType::F64, DType::F64) => pairs(|a: &f64, b: &f64| a.powf(*b)),
        (DType::F64, DType::F32) => pairs(|a: &f64, b: &f32| a.powf(f64::from(*b))),
        (DType::F64, DType::I64) => pairs(|a: &f64, b: &i64| a.powf(*b as f64)),
        (DType::F64, DType::I32) => pairs(|a: &f64, b: &i32| a.powi(*b)),
        (DType::I64, DType::I64) => {
            pairs(|a: &i64, b: &i64| whole_i64((*a as f64).powf(*b as f64)))
        }
        (DType::I64, DType::I32) => {
            pairs(|a: &i64, b: &i32| whole_i64((*a as f64).powf(f64::from(*b))))
        }
        (DType::I64, DType::F32) => {
            pairs(|a: &i64, b: &f32| whole_i64((*a as f64).powf(f64::from(*b))))
        }
        (DType::I64, DType::F64) => pairs(|a: &i64, b: &f64| whole_i64((*a as f64).powf(*b))),
        (DType::I32, DType::I32) => {
            pairs(|a: &i32, b: &i32| whole_i32(f64::from(*a).powf(f64::from(*b))))
        }
        (DType::I32, DType::I64) => {
            pairs(|a: &i32, b: &i64| whole_i32(f64::from(*a).powf(*b as f64)))
        }
        (DType::I32, DType::F32) => {
            pairs(|a: &i32, b: &f32| whole_i32(f64::from(*a).powf(f64::from(*b))))
        }
        (DType::I32, DType::F64) => pairs(|a: &i32, b: &f64| whole_i32(f64::from(*a).powf(*b))),
        (base, exponent) => Err(node.refuse(format!(
            "a base of {base} with exponents of {exponent} is not supported"
        ))),
    }
}

/// The larger one; NaN where either is.
fn larger<T: PartialOrd + Copy>(a: &T, b: &T) -> T {
    #[expect(clippy::eq_op, reason = "only NaN differs from itself")]
    if a > b || a != a { *a } else { *b }
}

/// The smaller one; NaN where either is.
fn smaller<T: PartialOrd + Copy>(a: &T, b: &T) -> T {
    #[expect(clippy::eq_op, reason = "only NaN differs from itself")]
    if a < b || a != a { *a } else { *b }
}

pub(super) fn max(node: &Node<'_>) -> Result<Built, Refusal> {
    no_axis(node)?;
    match same_type(node)? {
        DType::F32 => fold(false, larger::<f32>),
        DType::F64 => fold(false, larger::<f64>),
        DType::I64 => fold(false, larger::<i64>),
        DType::I32 => fold(false, larger::<i32>),
        other => Err(node.unsupported(other)),
    }
}

pub(super) fn min(node: &Node<'_>) -> Result<Built, Refusal> {
    no_axis(node)?;
    match same_type(node)? {
        DType::F32 => fold(false, smaller::<f32>),
        DType::F64 => fold(false, smaller::<f64>),
        DType::I64 => fold(false, smaller::<i64>),
        DType::I32 => fold(false, smaller::<i32>),
        other => Err(node.unsupported(other)),
    }
}

pub(super) fn sum(node: &Node<'_>) -> Result<Built, Refusal> {
    no_axis(node)?;
    match same_type(node)? {
        DType::F32 => fold(false, |a: &f32, b: &f32| a + b),
        DType::F64 => fold(false, |a: &f64, b: &f64| a + b),
        other => Err(node.unsupported(other)),
    }
}

pub(super) fn mean(node: &Node<'_>) -> Result<Built, Refusal> {
    no_axis(node)?;
    match same_type(node)? {
        DType::F32 => fold(true, |a: &f32, b: &f32| a + b),
        DType::F64 => fold(true, |a: &f64, b: &f64| a + b),
        other => Err(node.unsupported(other)),
    }
}
