//! Operators on single elements.

use std::marker::PhantomData;

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run};
use super::super::value::{Element, Value};
use crate::tensor::DType;

/// Writes `calculate` of each element.
struct Each<A, O, F> {
    calculate: F,
    types: PhantomData<fn(A) -> O>,
}

impl<A: Element, O: Element, F: Fn(&A) -> O + Send + Sync> Operator for Each<A, O, F> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let elements = input.elements::<A>()?;
        let output = outputs[0].start::<O>(input.shape);
        output.reserve(elements.len());
        run.in_blocks(elements, |block| {
            output.extend(block.iter().map(&self.calculate))
        })
    }
}

/// An operator on single elements of this type.
pub(super) fn each<A: Element, O: Element>(
    calculate: impl Fn(&A) -> O + Send + Sync + 'static,
) -> Result<Built, Refusal> {
    Built::one(
        O::DTYPE,
        Each {
            calculate,
            types: PhantomData,
        },
    )
}

/// Functions of floating-point numbers.
macro_rules! floats {
    ($($name:ident: $calculate:expr),* $(,)?) => {
        $(pub(super) fn $name(node: &Node<'_>) -> Result<Built, Refusal> {
            node.only(&["consumed_inputs"])?;
            match node.dtype(0)? {
                DType::F32 => {
                    let calculate: fn(f32) -> f32 = $calculate;
                    each(move |a: &f32| calculate(*a))
                }
                DType::F64 => {
                    let calculate: fn(f64) -> f64 = $calculate;
                    each(move |a: &f64| calculate(*a))
                }
                other => Err(node.unsupported(other)),
            }
        })*
    };
}

floats! {
    exp: |a| a.exp(),
    log: |a| a.ln(),
    sqrt: |a| a.sqrt(),
    sigmoid: |a| if a >= 0.0 { 1.0 / (1.0 + (-a).exp()) } else { let e = a.exp(); e / (1.0 + e) },
    tanh: |a| a.tanh(),
    reciprocal: |a| 1.0 / a,
    floor: |a| a.floor(),
    ceil: |a| a.ceil(),
    round: |a| a.round_ties_even(),
    sin: |a| a.sin(),
    cos: |a| a.cos(),
    tan: |a| a.tan(),
    atan: |a| a.atan(),
    softplus: |a| if a > 0.0 { a + (-a).exp().ln_1p() } else { a.exp().ln_1p() },
    softsign: |a| a / (1.0 + a.abs()),
}

/// Numbers of all types.
macro_rules! numbers {
    ($($name:ident: $float:expr, $integer:expr);* $(;)?) => {
        $(pub(super) fn $name(node: &Node<'_>) -> Result<Built, Refusal> {
            node.only(&["consumed_inputs"])?;
            match node.dtype(0)? {
                DType::F32 => {
                    let calculate: fn(f32) -> f32 = $float;
                    each(move |a: &f32| calculate(*a))
                }
                DType::F64 => {
                    let calculate: fn(f64) -> f64 = $float;
                    each(move |a: &f64| calculate(*a))
                }
                DType::I64 => {
                    let calculate: fn(i64) -> i64 = $integer;
                    each(move |a: &i64| calculate(*a))
                }
                DType::I32 => {
                    let calculate: fn(i32) -> i32 = $integer;
                    each(move |a: &i32| calculate(*a))
                }
                other => Err(node.unsupported(other)),
            }
        })*
    };
}

numbers! {
    abs: |a| a.abs(), |a| a.wrapping_abs();
    neg: |a| -a, |a| a.wrapping_neg();
    sign: |a| if a > 0.0 { 1.0 } else if a < 0.0 { -1.0 } else { 0.0 * a }, |a| a.signum();
    relu: |a| if a < 0.0 { 0.0 } else { a }, |a| a.max(0);
}

pub(super) fn not(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&[])?;
    match node.dtype(0)? {
        DType::Bool => each(|a: &bool| !a),
        other => Err(node.unsupported(other)),
    }
}

pub(super) fn is_nan(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&[])?;
    match node.dtype(0)? {
        DType::F32 => each(|a: &f32| a.is_nan()),
        DType::F64 => each(|a: &f64| a.is_nan()),
        other => Err(node.unsupported(other)),
    }
}

pub(super) fn is_inf(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["detect_negative", "detect_positive"])?;
    let negative = node.flag("detect_negative", true);
    let positive = node.flag("detect_positive", true);
    match node.dtype(0)? {
        DType::F32 => {
            each(move |a: &f32| a.is_infinite() && if *a > 0.0 { positive } else { negative })
        }
        DType::F64 => {
            each(move |a: &f64| a.is_infinite() && if *a > 0.0 { positive } else { negative })
        }
        other => Err(node.unsupported(other)),
    }
}

pub(super) fn leaky_relu(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["alpha"])?;
    let alpha = node.float("alpha").unwrap_or(0.01);
    match node.dtype(0)? {
        DType::F32 => each(move |a: &f32| if *a >= 0.0 { *a } else { alpha * a }),
        other => Err(node.unsupported(other)),
    }
}

pub(super) fn elu(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["alpha"])?;
    let alpha = node.float("alpha").unwrap_or(1.0);
    match node.dtype(0)? {
        DType::F32 => each(move |a: &f32| if *a >= 0.0 { *a } else { alpha * a.exp_m1() }),
        other => Err(node.unsupported(other)),
    }
}

pub(super) fn erf(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&[])?;
    match node.dtype(0)? {
        DType::F32 => each(|a: &f32| libm::erff(*a)),
        DType::F64 => each(|a: &f64| libm::erf(*a)),
        other => Err(node.unsupported(other)),
    }
}

/// Bounds that an operator set before 11 has as attributes, later ones as inputs.
struct Clip<T>(std::marker::PhantomData<fn(T) -> T>, Option<T>, Option<T>);

impl<T: Element + PartialOrd + Copy> Operator for Clip<T> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let bound = |index: usize, fixed: Option<T>| match inputs.optional(index) {
            Some(bound) => match bound.elements::<T>()? {
                [bound] => Ok(Some(*bound)),
                other => Err(Failure::new(format!(
                    "a bound has {} elements; expected one",
                    other.len()
                ))),
            },
            None => Ok(fixed),
        };
        let (low, high) = (bound(1, self.1)?, bound(2, self.2)?);
        let clip = |element: &T| {
            let mut element = *element;
            if let Some(low) = low
                && element < low
            {
                element = low;
            }
            if let Some(high) = high
                && element > high
            {
                element = high;
            }
            element
        };
        let elements = input.elements::<T>()?;
        outputs[0]
            .start::<T>(input.shape)
            .extend(elements.iter().map(clip));
        Ok(())
    }
}

pub(super) fn clip(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["min", "max", "consumed_inputs"])?;
    let (mut low, mut high) = (node.float("min"), node.float("max"));
    if node.version < 11 {
        low = low.or(Some(f32::MIN));
        high = high.or(Some(f32::MAX));
    }
    match node.dtype(0)? {
        DType::F32 => Built::one(DType::F32, Clip::<f32>(PhantomData, low, high)),
        DType::F64 => Built::one(
            DType::F64,
            Clip::<f64>(PhantomData, low.map(f64::from), high.map(f64::from)),
        ),
        DType::I64 if low.is_none() && high.is_none() => {
            Built::one(DType::I64, Clip::<i64>(PhantomData, None, None))
        }
        DType::I32 if low.is_none() && high.is_none() => {
            Built::one(DType::I32, Clip::<i32>(PhantomData, None, None))
        }
        other => Err(node.unsupported(other)),
    }
}
