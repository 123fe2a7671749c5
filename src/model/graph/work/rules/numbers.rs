//! Calculations with the few numbers of which shapes are made.

use super::super::fact::{Content, Fact, Number, derived};
use super::super::follow::Call;
use crate::tensor::DType;

/// More elements than this are no shape.
const MOST: u64 = 64;

fn is_whole(dtype: DType) -> bool {
    !matches!(dtype, DType::F16 | DType::Bf16 | DType::F32 | DType::F64)
}

/// One of several operators on each number.
pub(super) fn unary(call: &Call<'_>) -> Option<Content> {
    let op = &*call.step.op;
    let input = call.input(0)?;
    if op == "Clip" {
        return clipped(call, input);
    }
    let numbers = input.known()?;
    let each = |number: &Number| {
        let value = match op {
            "Identity" | "Dropout" => return Some(*number),
            "Floor" => number.value.floor(),
            "Ceil" => number.value.ceil(),
            "Round" => number.value.round_ties_even(),
            "Sqrt" => number.value.sqrt(),
            "Abs" => number.value.abs(),
            "Neg" if number.is_exact => -number.value,
            "Not" if number.is_exact => f64::from(u8::from(number.value == 0.0)),
            "Not" => 1.0,
            _ => return None,
        };
        Some(Number {
            value,
            is_exact: number.is_exact,
        })
    };
    Some(known(numbers.iter().map(each)).unwrap_or_else(|| lost(call.given())))
}

/// No more than the upper end, where that is known, and the lower one is not below 0.
fn clipped(call: &Call<'_>, input: &Fact) -> Option<Content> {
    let upper = call.input(2)?.known()?.first()?.value;
    let lower = || call.input(1)?.known()?.first().map(|lower| lower.value);
    if let Some(numbers) = input.known() {
        let each = |number: &Number| {
            Some(Number {
                value: number.value.min(upper),
                ..*number
            })
        };
        return known(numbers.iter().map(each));
    }
    let is_size = is_unsigned(input.dtype) || lower().is_some_and(|lower| lower >= 0.0);
    is_size.then(|| at_most(input, upper)).flatten()
}

fn is_unsigned(dtype: DType) -> bool {
    matches!(dtype, DType::U8 | DType::U16 | DType::U32 | DType::U64)
}

/// Some numbers from 0 to this one.
fn at_most(fact: &Fact, upper: f64) -> Option<Content> {
    let count = fact.shape.as_ref().map(|_| fact.elements())?;
    let few = count <= MOST && upper >= 0.0;
    few.then(|| known((0..count).map(|_| Some(Number::at_most(upper)))))?
}

pub(super) fn cast(input: &Fact, to: DType) -> Content {
    match input.known() {
        Some(numbers) => {
            let each = |number: &Number| {
                let value = match to {
                    DType::Bool => f64::from(u8::from(number.value != 0.0)),
                    DType::String => return None,
                    to if is_whole(to) => number.value.trunc(),
                    _ => number.value,
                };
                Some(Number { value, ..*number })
            };
            known(numbers.iter().map(each)).unwrap_or_else(|| lost([input]))
        }
        None if input.dtype == DType::Bool => {
            at_most(input, 1.0).unwrap_or_else(|| derived([input]))
        }
        None => derived([input]),
    }
}

/// One of several operators on pairs of numbers; one of the two operands may be a single one.
pub(super) fn binary(call: &Call<'_>) -> Option<Content> {
    let (one, other) = (call.input(0)?, call.input(1)?);
    if call.inputs.len() != 2 {
        return None;
    }
    let op = &*call.step.op;
    let (Some(first), Some(second)) = (one.known(), other.known()) else {
        // The smaller of a value and a constant is no larger than the constant; how far below 0 it is nobody knows.
        let bound = one.known().or(other.known()).filter(|_| op == "Min")?;
        let upper = bound
            .iter()
            .map(|number| number.value)
            .fold(f64::MIN, f64::max);
        let larger = if one.elements() >= other.elements() {
            one
        } else {
            other
        };
        return is_unsigned(one.dtype)
            .then(|| at_most(larger, upper))
            .flatten();
    };
    if one.rank()? > 1 || other.rank()? > 1 {
        return None;
    }
    let whole = is_whole(one.dtype);
    let pairs = paired(first, second)?;
    let calculated = pairs.map(|(first, second)| calculate(op, first, second, whole));
    Some(known(calculated).unwrap_or_else(|| lost([one, other])))
}

fn paired<'a>(
    one: &'a [Number],
    other: &'a [Number],
) -> Option<impl Iterator<Item = (Number, Number)> + 'a> {
    let length = match (one.len(), other.len()) {
        (one, other) if one == other => one,
        (1, length) | (length, 1) => length,
        _ => return None,
    };
    let at =
        |numbers: &'a [Number], index: usize| numbers[if numbers.len() == 1 { 0 } else { index }];
    Some((0..length).map(move |index| (at(one, index), at(other, index))))
}

fn calculate(op: &str, one: Number, other: Number, whole: bool) -> Option<Number> {
    let (a, b) = (one.value, other.value);
    let is_exact = one.is_exact && other.is_exact;
    let flag = |flag: bool| f64::from(u8::from(flag));
    let value = match op {
        "Add" => a + b,
        // What is taken away from a bound may be nothing.
        "Sub" if !other.is_exact => a,
        "Sub" => a - b,
        "Mul" if !is_exact && (a < 0.0 || b < 0.0) => return None,
        "Mul" => a * b,
        // What is below 1 makes more of it.
        "Div" if !other.is_exact && !whole => return None,
        "Div" if !other.is_exact => a,
        "Div" if b == 0.0 => return None,
        "Div" if whole => (a / b).trunc(),
        "Div" => a / b,
        "Mod" if !other.is_exact || !one.is_exact => a.min(b),
        "Mod" if b == 0.0 => return None,
        "Mod" => a.rem_euclid(b),
        "Pow" => a.powf(b),
        "Max" => a.max(b),
        "Min" => a.min(b),
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "And" | "Or" | "Xor"
            if !is_exact =>
        {
            1.0
        }
        #[expect(clippy::float_cmp, reason = "whole numbers")]
        "Equal" => flag(a == b),
        "Greater" => flag(a > b),
        "GreaterOrEqual" => flag(a >= b),
        "Less" => flag(a < b),
        "LessOrEqual" => flag(a <= b),
        "And" => flag(a != 0.0 && b != 0.0),
        "Or" => flag(a != 0.0 || b != 0.0),
        "Xor" => flag((a != 0.0) != (b != 0.0)),
        _ => return None,
    };
    Some(Number { value, is_exact })
}

/// The numbers of Where.
pub(super) fn chosen(call: &Call<'_>) -> Option<Content> {
    let (condition, yes, no) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let (yes, no) = (yes.known()?, no.known()?);
    let length = yes.len().max(no.len());
    let at = |numbers: &[Number], index: usize| {
        let index = if numbers.len() == 1 { 0 } else { index };
        numbers.get(index).copied()
    };
    let either = |index: usize| {
        let (yes, no) = (at(yes, index)?, at(no, index)?);
        Some(Number::at_most(yes.value.max(no.value)))
    };
    let Some(conditions) = condition.known() else {
        return known((0..length).map(either));
    };
    let length = length.max(conditions.len());
    let choose = |index: usize| {
        let condition = at(conditions, index)?;
        match condition.is_exact {
            true if condition.value != 0.0 => at(yes, index),
            true => at(no, index),
            false => either(index),
        }
    };
    known((0..length).map(choose))
}

/// Sums and the like over all of a few numbers.
pub(super) fn reduced(call: &Call<'_>) -> Option<Number> {
    let numbers = call.input(0)?.known()?;
    let is_exact = numbers.iter().all(|number| number.is_exact);
    let values = numbers.iter().map(|number| number.value);
    let value = match &*call.step.op {
        "ReduceProd" => values.product(),
        "ReduceSum" => values.sum(),
        "ReduceMax" => values.fold(f64::MIN, f64::max),
        "ReduceMin" => values.fold(f64::MAX, f64::min),
        _ => return None,
    };
    Some(Number { value, is_exact })
}

fn known(numbers: impl Iterator<Item = Option<Number>>) -> Option<Content> {
    let numbers: Option<Vec<Number>> = numbers.collect();
    Some(Content::Known(numbers?.into()))
}

/// What is left of bounds that an operator turns around: they were made of values. Else it is the same for all.
fn lost<'a>(from: impl IntoIterator<Item = &'a Fact>) -> Content {
    let is_bound = |fact: &Fact| {
        fact.known()
            .is_some_and(|numbers| numbers.iter().any(|number| !number.is_exact))
    };
    let mut from = from.into_iter();
    if from.any(|fact| is_bound(fact) || fact.content == Content::Values) {
        Content::Values
    } else {
        Content::Fixed
    }
}
