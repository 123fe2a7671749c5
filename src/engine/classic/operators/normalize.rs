//! Operators that bring the elements along an axis to a length of 1: `Softmax`, `LogSoftmax`, `LpNormalization`.

use std::marker::PhantomData;

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run};
use super::super::value::Value;
use super::reduce::{L1, L2, Number, Reduction};
use super::shape::axis_of;
use crate::tensor::DType;

/// Numbers that add up to 1 along an axis.
struct Softmax<T> {
    axis: i64,
    /// Before operator set 13 all axes from this one on are one.
    is_flat: bool,
    is_log: bool,
    types: PhantomData<fn(T) -> T>,
}

impl<T: Number> Operator for Softmax<T> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let elements = input.elements::<T>()?;
        let axis = axis_of(self.axis, input.shape.len())?;
        let (length, inner): (usize, usize) = if self.is_flat {
            (input.shape[axis..].iter().product(), 1)
        } else {
            (input.shape[axis], input.shape[axis + 1..].iter().product())
        };
        let output = outputs[0].start::<T>(input.shape);
        output.extend_from_slice(elements);
        for block in output.chunks_mut((length * inner).max(1)) {
            for column in 0..inner {
                let most = (0..length).map(|index| block[index * inner + column]);
                let most = most.fold(
                    T::LOWEST,
                    |most, element| if element > most { element } else { most },
                );
                let mut sum = T::default();
                for index in 0..length {
                    let element = &mut block[index * inner + column];
                    let shifted = element.minus(most);
                    sum = sum.plus(shifted.exp());
                    *element = if self.is_log { shifted } else { shifted.exp() };
                }
                for index in 0..length {
                    let element = &mut block[index * inner + column];
                    *element = if self.is_log {
                        element.minus(sum.ln())
                    } else {
                        element.quotient(sum)
                    };
                }
            }
        }
        Ok(())
    }
}

fn soft(node: &Node<'_>, is_log: bool) -> Result<Built, Refusal> {
    node.only(&["axis"])?;
    let is_flat = node.version < 13;
    let axis = node.int("axis").unwrap_or(if is_flat { 1 } else { -1 });
    match node.dtype(0)? {
        DType::F32 => Built::one(
            DType::F32,
            Softmax::<f32> {
                axis,
                is_flat,
                is_log,
                types: PhantomData,
            },
        ),
        DType::F64 => Built::one(
            DType::F64,
            Softmax::<f64> {
                axis,
                is_flat,
                is_log,
                types: PhantomData,
            },
        ),
        other => Err(node.unsupported(other)),
    }
}

pub(super) fn softmax(node: &Node<'_>) -> Result<Built, Refusal> {
    soft(node, false)
}

pub(super) fn log_softmax(node: &Node<'_>) -> Result<Built, Refusal> {
    soft(node, true)
}

/// Rows of length 1 by the sum of magnitudes, or by the root of the sum of squares.
struct LpNormalization<T> {
    axis: i64,
    p: i64,
    types: PhantomData<fn(T) -> T>,
}

impl<T: Number> Operator for LpNormalization<T> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let elements = input.elements::<T>()?;
        let axis = axis_of(self.axis, input.shape.len())?;
        let (length, inner): (usize, usize) =
            (input.shape[axis], input.shape[axis + 1..].iter().product());
        let output = outputs[0].start::<T>(input.shape);
        output.extend_from_slice(elements);
        for block in output.chunks_mut((length * inner).max(1)) {
            for column in 0..inner {
                let lane = (0..length).map(|index| block[index * inner + column]);
                let norm: T = if self.p == 1 {
                    L1.reduce(lane, length)
                } else {
                    L2.reduce(lane, length)
                };
                if norm == T::default() {
                    continue;
                }
                for index in 0..length {
                    let element = &mut block[index * inner + column];
                    *element = element.quotient(norm);
                }
            }
        }
        Ok(())
    }
}

pub(super) fn lp_normalization(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["axis", "p"])?;
    let (axis, p) = (node.int("axis").unwrap_or(-1), node.int("p").unwrap_or(2));
    if !matches!(p, 1 | 2) {
        return Err(node.refuse(format!("`p` is {p}; expected 1 or 2")));
    }
    match node.dtype(0)? {
        DType::F32 => Built::one(
            DType::F32,
            LpNormalization::<f32> {
                axis,
                p,
                types: PhantomData,
            },
        ),
        DType::F64 => Built::one(
            DType::F64,
            LpNormalization::<f64> {
                axis,
                p,
                types: PhantomData,
            },
        ),
        other => Err(node.unsupported(other)),
    }
}
