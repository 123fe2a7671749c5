//! Operators on the order of elements along an axis: `TopK`, `CumSum`.

use std::cmp::Ordering;
use std::marker::PhantomData;

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run, count};
use super::super::value::{Element, Value};
use super::index::is_integer;
use super::shape::{axis_of, integers};
use crate::tensor::DType;

/// The largest or smallest elements along an axis and where they are; of equal ones the first.
struct TopK<T> {
    axis: i64,
    k: Option<i64>,
    takes_largest: bool,
    types: PhantomData<fn(T) -> T>,
}

impl<T: Element + PartialOrd + Copy> Operator for TopK<T> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let axis = axis_of(self.axis, input.shape.len())?;
        let wanted = match self.k {
            Some(k) => k,
            None => *inputs.get(1)?.elements::<i64>()?.first().unwrap_or(&0),
        };
        let length = input.shape[axis];
        let k = usize::try_from(wanted).ok().filter(|k| *k <= length);
        let k = k.ok_or_else(|| {
            Failure::new(format!(
                "{wanted} elements of an axis of {length} are asked for"
            ))
        })?;
        let outer: usize = input.shape[..axis].iter().product();
        let inner: usize = input.shape[axis + 1..].iter().product();
        let mut shape = input.shape.to_vec();
        shape[axis] = k;
        let total = count(&shape)?;
        let elements = input.elements::<T>()?;
        let [values, places] = outputs else {
            return Err(Failure::new("has two outputs".to_owned()));
        };
        let values = values.start::<T>(&shape);
        let places = places.start::<i64>(&shape);
        values.resize(total, T::default());
        places.resize(total, 0);
        let order = &mut run.scratch.indices;
        for block in 0..outer {
            for column in 0..inner {
                let at = |index: u32| elements[(block * length + index as usize) * inner + column];
                order.clear();
                order.extend(0..u32::try_from(length).unwrap_or(u32::MAX));
                let before = |one: &u32, other: &u32| {
                    let (a, b) = (at(*one), at(*other));
                    let by_value = if self.takes_largest {
                        b.partial_cmp(&a)
                    } else {
                        a.partial_cmp(&b)
                    };
                    by_value.unwrap_or(Ordering::Equal).then(one.cmp(other))
                };
                if k < length && k > 0 {
                    order.select_nth_unstable_by(k - 1, before);
                }
                order[..k].sort_unstable_by(before);
                for (rank, index) in order[..k].iter().enumerate() {
                    let to = (block * k + rank) * inner + column;
                    values[to] = at(*index);
                    places[to] = i64::from(*index);
                }
            }
        }
        Ok(())
    }
}

pub(super) fn top_k(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["axis", "k", "largest", "sorted"])?;
    let k = if node.optional(1).is_some() {
        None
    } else {
        Some(node.int("k").unwrap_or(0))
    };
    let (axis, takes_largest) = (node.int("axis").unwrap_or(-1), node.flag("largest", true));
    macro_rules! of {
        ($rust:ty, $dtype:ident) => {
            Built::two(
                [DType::$dtype, DType::I64],
                TopK::<$rust> {
                    axis,
                    k,
                    takes_largest,
                    types: PhantomData,
                },
            )
        };
    }
    match node.dtype(0)? {
        DType::F32 => of!(f32, F32),
        DType::F64 => of!(f64, F64),
        DType::I64 => of!(i64, I64),
        DType::I32 => of!(i32, I32),
        other => Err(node.unsupported(other)),
    }
}

/// Sums of all elements up to each one.
struct CumSum<T> {
    is_exclusive: bool,
    is_reverse: bool,
    add: fn(T, T) -> T,
}

impl<T: Element + Copy> Operator for CumSum<T> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let axis = integers(inputs.get(1)?)?;
        let axis = axis_of(axis.first().copied().unwrap_or(0), input.shape.len())?;
        let elements = input.elements::<T>()?;
        let length = input.shape[axis];
        let inner: usize = input.shape[axis + 1..].iter().product();
        let output = outputs[0].start::<T>(input.shape);
        output.resize(elements.len(), T::default());
        let outer: usize = input.shape[..axis].iter().product();
        for block in 0..outer {
            for column in 0..inner {
                let mut sum = T::default();
                for index in 0..length {
                    let index = if self.is_reverse {
                        length - 1 - index
                    } else {
                        index
                    };
                    let at = (block * length + index) * inner + column;
                    let with = (self.add)(sum, elements[at]);
                    output[at] = if self.is_exclusive { sum } else { with };
                    sum = with;
                }
            }
        }
        Ok(())
    }
}

pub(super) fn cum_sum(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["exclusive", "reverse"])?;
    let (is_exclusive, is_reverse) = (node.flag("exclusive", false), node.flag("reverse", false));
    if !is_integer(node.dtype(1)?) {
        return Err(node.refuse("the axis must be INT64 or INT32"));
    }
    macro_rules! of {
        ($rust:ty, $add:expr) => {
            Built::one(
                <$rust>::DTYPE,
                CumSum::<$rust> {
                    is_exclusive,
                    is_reverse,
                    add: $add,
                },
            )
        };
    }
    match node.dtype(0)? {
        DType::F32 => of!(f32, |a, b| a + b),
        DType::F64 => of!(f64, |a, b| a + b),
        DType::I64 => of!(i64, i64::wrapping_add),
        DType::I32 => of!(i32, i32::wrapping_add),
        other => Err(node.unsupported(other)),
    }
}
