//! Products of matrices. Weights of classic models are small: rows are multiplied one by one, so that the answer to a row
//! does not depend on the rows beside it.

use std::marker::PhantomData;

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run, count};
use super::super::value::{Element, Value};
use super::broadcast::{common_shape, strides};
use super::shape::dense_strides;
use crate::tensor::DType;

/// Numbers that are multiplied and summed up.
pub(super) trait Factor: Element + Copy {
    fn plus_product(self, one: Self, other: Self) -> Self;
    const ONE: Self;

    /// Adds the product of a row and a matrix to `sums`.
    fn add_products(row: &[Self], weights: &[Self], sums: &mut [Self], _rests: &mut Vec<Self>) {
        if let [sum] = sums {
            *sum = dot(row, weights, *sum);
            return;
        }
        for (factor, weights) in row.iter().zip(weights.chunks_exact(sums.len())) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = sum.plus_product(*factor, *weight);
            }
        }
    }
}

impl Factor for f64 {
    fn plus_product(self, one: Self, other: Self) -> Self {
        self + one * other
    }

    const ONE: Self = 1.0;

    /// With the rests of all roundings (Ogita, Rump and Oishi, "Accurate sum and dot product", 2005): Gaussian processes
    /// multiply by weights of 10¹² that almost cancel each other.
    fn add_products(row: &[Self], weights: &[Self], sums: &mut [Self], rests: &mut Vec<Self>) {
        rests.clear();
        rests.resize(sums.len(), 0.0);
        for (factor, weights) in row.iter().zip(weights.chunks_exact(sums.len())) {
            let high = upper_half(*factor);
            let low = factor - high;
            for ((sum, rest), weight) in sums.iter_mut().zip(rests.iter_mut()).zip(weights) {
                let product = factor * weight;
                let weight_high = upper_half(*weight);
                let weight_low = weight - weight_high;
                let lost = low * weight_low
                    - (((product - high * weight_high) - low * weight_high) - high * weight_low);
                let total = *sum + product;
                let part = total - *sum;
                *rest += (*sum - (total - part)) + (product - part) + lost;
                *sum = total;
            }
        }
        for (sum, rest) in sums.iter_mut().zip(rests) {
            // An overflow has no rest.
            if rest.is_finite() {
                *sum += *rest;
            }
        }
    }
}

/// The upper 26 bits (Dekker, 1971).
fn upper_half(value: f64) -> f64 {
    let scaled = value * 134_217_729.0;
    scaled - (scaled - value)
}

/// The sum of products of FP32, calculated in FP64.
pub(super) fn exact_dot(left: &[f32], right: &[f32]) -> f32 {
    const LANES: usize = 4;
    let mut sums = [0.0f64; LANES];
    let (left_blocks, right_blocks) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let rest = left_blocks.remainder().iter().zip(right_blocks.remainder());
    let rest: f64 = rest
        .map(|(one, other)| f64::from(*one) * f64::from(*other))
        .sum();
    for (left, right) in left_blocks.zip(right_blocks) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += f64::from(left[lane]) * f64::from(right[lane]);
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "the answer is FP32")]
    let sum = (sums.into_iter().sum::<f64>() + rest) as f32;
    sum
}

macro_rules! factor {
    ($($rust:ty: $one:expr, |$sum:ident, $a:ident, $b:ident| $product:expr;)*) => {
        $(impl Factor for $rust {
            fn plus_product(self, $a: Self, $b: Self) -> Self {
                let $sum = self;
                $product
            }

            const ONE: Self = $one;
        })*
    };
}

factor! {
    f32: 1.0, |sum, a, b| sum + a * b;
    i64: 1, |sum, a, b| sum.wrapping_add(a.wrapping_mul(b));
    i32: 1, |sum, a, b| sum.wrapping_add(a.wrapping_mul(b));
}

/// Operations between two looks at whether somebody still waits.
const BLOCK: usize = 1 << 20;

/// Adds to `output` (`[rows, columns]`) the product of `left` (`[rows, inner]`) and `right` (`[inner, columns]`).
pub(super) fn multiply<T: Factor>(
    left: &[T],
    right: &[T],
    output: &mut [T],
    (inner, columns): (usize, usize),
    run: &Run<'_>,
) -> Result<(), Failure> {
    if inner == 0 || columns == 0 {
        return Ok(());
    }
    let mut rests = Vec::new();
    let rows_a_block = BLOCK.div_ceil(inner * columns);
    for (index, (row, sums)) in left
        .chunks_exact(inner)
        .zip(output.chunks_exact_mut(columns))
        .enumerate()
    {
        if index.is_multiple_of(rows_a_block) {
            run.check()?;
        }
        T::add_products(row, right, sums, &mut rests);
    }
    Ok(())
}

/// The sum of products, in eight sums that the compiler runs side by side.
pub(super) fn dot<T: Factor>(left: &[T], right: &[T], start: T) -> T {
    const LANES: usize = 8;
    let mut sums = [T::default(); LANES];
    let (left_blocks, right_blocks) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let rest = left_blocks.remainder().iter().zip(right_blocks.remainder());
    let rest = rest.fold(start, |sum, (one, other)| sum.plus_product(*one, *other));
    for (left, right) in left_blocks.zip(right_blocks) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum = sum.plus_product(left[lane], right[lane]);
        }
    }
    sums.into_iter()
        .fold(rest, |sum, lane| sum.plus_product(lane, T::ONE))
}

struct MatMul<T>(PhantomData<fn(T) -> T>);

impl<T: Factor> Operator for MatMul<T> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let (one, other) = (inputs.get(0)?, inputs.get(1)?);
        let misfit = || {
            let (a, b) = (one.shape, other.shape);
            Failure::shapes(format!(
                "matrices of the shapes {a:?} and {b:?} cannot be multiplied"
            ))
        };
        // A vector is a row on the left side and a column on the right one.
        let (left_outer, rows, inner) = match one.shape {
            [] => return Err(misfit()),
            [inner] => (&[][..], None, *inner),
            [outer @ .., rows, inner] => (outer, Some(*rows), *inner),
        };
        let (right_outer, same, columns) = match other.shape {
            [] => return Err(misfit()),
            [inner] => (&[][..], *inner, None),
            [outer @ .., inner, columns] => (outer, *inner, Some(*columns)),
        };
        if same != inner {
            return Err(misfit());
        }
        let outer = common_shape(left_outer, right_outer)?;
        let mut shape = outer.clone();
        shape.extend(rows);
        shape.extend(columns);
        let (rows, columns) = (rows.unwrap_or(1), columns.unwrap_or(1));
        let total = count(&shape)?;
        let (left, right) = (one.elements::<T>()?, other.elements::<T>()?);
        let output = outputs[0].start::<T>(&shape);
        output.resize(total, T::default());
        let (left_steps, right_steps) = (strides(left_outer, &outer), strides(right_outer, &outer));
        let own = dense_strides(&outer);
        let blocks: usize = outer.iter().product();
        for block in 0..blocks {
            let at = |steps: &[usize]| -> usize {
                let coordinates = own
                    .iter()
                    .zip(&outer)
                    .map(|(stride, dim)| block / stride % dim);
                coordinates
                    .zip(steps)
                    .map(|(coordinate, step)| coordinate * step)
                    .sum()
            };
            let left = &left[at(&left_steps) * rows * inner..][..rows * inner];
            let right = &right[at(&right_steps) * inner * columns..][..inner * columns];
            let output = &mut output[block * rows * columns..][..rows * columns];
            multiply(left, right, output, (inner, columns), run)?;
        }
        Ok(())
    }

    fn cost(&self) -> Option<u64> {
        Some(100)
    }
}

pub(super) fn mat_mul(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&[])?;
    let dtype = node.dtype(0)?;
    if node.dtype(1)? != dtype {
        return Err(node.refuse("its inputs are of different types"));
    }
    match dtype {
        DType::F32 => Built::one(dtype, MatMul::<f32>(PhantomData)),
        DType::F64 => Built::one(dtype, MatMul::<f64>(PhantomData)),
        DType::I64 => Built::one(dtype, MatMul::<i64>(PhantomData)),
        DType::I32 => Built::one(dtype, MatMul::<i32>(PhantomData)),
        other => Err(node.unsupported(other)),
    }
}

/// `alpha · A · B + beta · C`, where A and B may stand on their sides.
struct Gemm<T> {
    alpha: T,
    beta: T,
    turns_left: bool,
    turns_right: bool,
}

fn turned<T: Copy>(elements: &[T], (rows, columns): (usize, usize)) -> Vec<T> {
    let places = (0..columns).flat_map(|column| (0..rows).map(move |row| row * columns + column));
    places.map(|place| elements[place]).collect()
}

impl<T: Factor + std::ops::Mul<Output = T>> Operator for Gemm<T> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let (one, other) = (inputs.get(0)?, inputs.get(1)?);
        let misfit = || {
            let (a, b) = (one.shape, other.shape);
            Failure::shapes(format!(
                "matrices of the shapes {a:?} and {b:?} cannot be multiplied"
            ))
        };
        let (&[a0, a1], &[b0, b1]) = (one.shape, other.shape) else {
            return Err(misfit());
        };
        let (rows, inner) = if self.turns_left { (a1, a0) } else { (a0, a1) };
        let (same, columns) = if self.turns_right { (b1, b0) } else { (b0, b1) };
        if same != inner {
            return Err(misfit());
        }
        let (mut left, mut right) = (one.elements::<T>()?, other.elements::<T>()?);
        let (left_turned, right_turned);
        if self.turns_left {
            left_turned = turned(left, (a0, a1));
            left = &left_turned;
        }
        if self.turns_right {
            right_turned = turned(right, (b0, b1));
            right = &right_turned;
        }
        let shape = [rows, columns];
        let total = count(&shape)?;
        let output = outputs[0].start::<T>(&shape);
        output.resize(total, T::default());
        multiply(left, right, output, (inner, columns), run)?;
        output
            .iter_mut()
            .for_each(|element| *element = *element * self.alpha);
        if let Some(added) = inputs.optional(2) {
            let common = common_shape(added.shape, &shape)?;
            if common != shape {
                return Err(Failure::new(format!(
                    "`C` of the shape {:?} does not fit {shape:?}",
                    added.shape
                )));
            }
            let steps = strides(added.shape, &shape);
            let added = added.elements::<T>()?;
            for (at, element) in output.iter_mut().enumerate() {
                let place = at / columns * steps[0] + at % columns * steps[1];
                *element = element.plus_product(added[place], self.beta);
            }
        }
        Ok(())
    }

    fn cost(&self) -> Option<u64> {
        Some(100)
    }
}

pub(super) fn gemm(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["alpha", "beta", "transA", "transB", "broadcast"])?;
    let (alpha, beta) = (
        node.float("alpha").unwrap_or(1.0),
        node.float("beta").unwrap_or(1.0),
    );
    let (turns_left, turns_right) = (node.flag("transA", false), node.flag("transB", false));
    match node.dtype(0)? {
        DType::F32 => Built::one(
            DType::F32,
            Gemm {
                alpha,
                beta,
                turns_left,
                turns_right,
            },
        ),
        DType::F64 => Built::one(
            DType::F64,
            Gemm {
                alpha: f64::from(alpha),
                beta: f64::from(beta),
                turns_left,
                turns_right,
            },
        ),
        other => Err(node.unsupported(other)),
    }
}
