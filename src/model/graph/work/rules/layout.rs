//! Operators that move elements, cut or join them by sizes that the graph says or calculates.

use super::super::fact::{Content, Fact, Number, axis_of, derived, product};
use super::super::follow::{Call, Effect, Rule, Unbounded};
use crate::tensor::DType;

pub(super) fn find(op: &str) -> Option<Rule> {
    Some(match op {
        "Reshape" => reshape,
        "Flatten" => flatten,
        "Transpose" => transpose,
        "Squeeze" => squeeze,
        "Unsqueeze" => unsqueeze,
        "Concat" => concat,
        "Split" => split,
        "Slice" => slice,
        _ => return None,
    })
}

pub(super) type Ruled = Result<Effect, Unbounded>;

pub(super) const SIZED: Unbounded = "takes a shape that is calculated from the values of a request";

/// The numbers of an input, `Ok(None)` when they are the same for all requests but not followed.
pub(super) fn sizes<'a>(
    call: &Call<'a>,
    index: usize,
    refusal: Unbounded,
) -> Result<Option<&'a [Number]>, Unbounded> {
    match call.input(index).map(|fact| &fact.content) {
        Some(Content::Known(numbers)) => Ok(Some(numbers)),
        Some(Content::Values) => Err(refusal),
        Some(Content::Fixed) | None => Ok(None),
    }
}

/// Numbers that are an attribute in old operator sets and an input in newer ones.
pub(super) fn listed(call: &Call<'_>, name: &str, index: usize) -> Option<Vec<i64>> {
    if let Some(numbers) = call.ints(name) {
        return Some(numbers.to_vec());
    }
    let numbers = call.input(index)?.known()?;
    Some(numbers.iter().map(|number| number.whole()).collect())
}

pub(super) fn axes(call: &Call<'_>, index: usize, rank: usize) -> Option<Vec<usize>> {
    let axes = listed(call, "axes", index)?;
    axes.into_iter().map(|axis| axis_of(axis, rank)).collect()
}

/// The first input in this shape; the numbers in it stay what they are when there is at most one axis.
pub(super) fn moved(call: &Call<'_>, shape: Option<Vec<u64>>) -> Fact {
    let Some(input) = call.input(0) else {
        return call.guess(DType::F32);
    };
    let elements = input.elements();
    let content = match &input.content {
        Content::Known(numbers)
            if shape
                .as_ref()
                .is_some_and(|shape| product(shape) == numbers.len() as u64) =>
        {
            input.content.clone()
        }
        _ => derived([input]),
    };
    Fact {
        shape,
        guess: elements,
        content,
        ..input.clone()
    }
}

fn reshape(call: &Call<'_>) -> Ruled {
    let fixed: Vec<Number>;
    let target = match call.ints("shape") {
        Some(shape) => {
            fixed = shape
                .iter()
                .map(|size| Number::exactly(super::super::fact::of_integer(*size)))
                .collect();
            Some(fixed.as_slice())
        }
        None => sizes(call, 1, SIZED)?,
    };
    let (Some(target), Some(input)) = (target, call.input(0)) else {
        return Ok(moved(call, None).into());
    };
    let allow_zero = call.int("allowzero", 0) != 0;
    let whole = input.elements();
    let mut shape: Vec<Option<u64>> = Vec::with_capacity(target.len());
    for (axis, number) in target.iter().enumerate() {
        shape.push(match number.whole() {
            -1 => None,
            0 if !allow_zero => input
                .shape
                .as_ref()
                .and_then(|shape| shape.get(axis).copied()),
            _ => number.size(),
        });
    }
    let exact = target
        .iter()
        .zip(&shape)
        .filter(|(number, _)| number.is_exact);
    let others = exact
        .filter_map(|(_, size)| *size)
        .fold(1, u64::saturating_mul);
    // With other sizes that are only bounds it may be anything up to this.
    let rest = whole / others.max(1);
    let shape: Vec<u64> = shape.into_iter().map(|size| size.unwrap_or(rest)).collect();
    let is_inexact = target.iter().any(|number| !number.is_exact);
    let is_known = input.shape.is_some();
    // It has as many elements as before, or it fails.
    let shape = (is_known && (is_inexact || product(&shape) <= whole)).then_some(shape);
    Ok(moved(call, shape).inexact(is_inexact).into())
}

fn flatten(call: &Call<'_>) -> Ruled {
    let shape = call.shape(0).and_then(|shape| {
        let axis = call.int("axis", 1);
        let rank = i64::try_from(shape.len()).ok()?;
        let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?;
        let (before, after) = shape.split_at_checked(axis)?;
        Some(vec![product(before), product(after)])
    });
    Ok(moved(call, shape).into())
}

fn transpose(call: &Call<'_>) -> Ruled {
    let shape = call.shape(0).and_then(|shape| match call.ints("perm") {
        Some(order) => order
            .iter()
            .map(|axis| shape.get(axis_of(*axis, shape.len())?).copied())
            .collect(),
        None => Some(shape.iter().rev().copied().collect()),
    });
    let is_flat = call.shape(0).is_some_and(|shape| shape.len() < 2);
    let fact = moved(call, shape);
    let content = if is_flat {
        fact.content.clone()
    } else {
        derived(call.given())
    };
    Ok(Fact { content, ..fact }.into())
}

fn squeeze(call: &Call<'_>) -> Ruled {
    let shape = call.shape(0).and_then(|shape| {
        let gone = match call.has("axes") || call.input(1).is_some() {
            true => axes(call, 1, shape.len())?,
            false => (0..shape.len()).filter(|axis| shape[*axis] == 1).collect(),
        };
        let kept = (0..shape.len()).filter(|axis| !gone.contains(axis));
        Some(kept.map(|axis| shape[axis]).collect())
    });
    Ok(moved(call, shape).into())
}

fn unsqueeze(call: &Call<'_>) -> Ruled {
    let shape = call.shape(0).and_then(|shape| {
        let count = listed(call, "axes", 1)?.len();
        let new = axes(call, 1, shape.len() + count)?;
        let mut old = shape.iter().copied();
        (0..shape.len() + count)
            .map(|axis| {
                if new.contains(&axis) {
                    Some(1)
                } else {
                    old.next()
                }
            })
            .collect()
    });
    Ok(moved(call, shape).into())
}

fn concat(call: &Call<'_>) -> Ruled {
    let total: u64 = call
        .given()
        .map(Fact::elements)
        .fold(0, u64::saturating_add);
    let dtype = call.dtype(0);
    let shapes: Option<Vec<&[u64]>> = call.given().map(|fact| fact.shape.as_deref()).collect();
    let joined = shapes.and_then(|shapes| {
        let mut shape = shapes.first()?.to_vec();
        let axis = axis_of(call.int("axis", 0), shape.len())?;
        for other in &shapes[1..] {
            for (index, size) in shape.iter_mut().enumerate() {
                let own = *other.get(index)?;
                *size = if index == axis {
                    size.saturating_add(own)
                } else {
                    (*size).max(own)
                };
            }
        }
        Some(shape)
    });
    let numbers: Option<Vec<Number>> = call
        .given()
        .map(|fact| fact.known().filter(|_| fact.rank() == Some(1)))
        .try_fold(Vec::new(), |mut all, numbers| {
            all.extend(numbers?);
            Some(all)
        });
    if let Some(numbers) = numbers {
        return Ok(Fact::numbers(dtype, numbers, false).into());
    }
    let fact = match joined {
        Some(shape) => call.result(dtype, shape),
        None => Fact {
            guess: total,
            ..call.guess(dtype)
        },
    };
    // Some of it may be known although the rest is not: the sizes of a shape of which one is calculated from values.
    Ok(fact.into())
}

fn split(call: &Call<'_>) -> Ruled {
    let outputs = call.step.outputs.len().max(1);
    let parts = listed(call, "split", 1);
    let facts = (0..outputs).map(|index| {
        let shape = call.shape(0).and_then(|shape| {
            let axis = axis_of(call.int("axis", 0), shape.len())?;
            let mut shape = shape.to_vec();
            shape[axis] = match &parts {
                Some(parts) => u64::try_from(*parts.get(index)?).ok()?.min(shape[axis]),
                None if call.input(1).is_some() => shape[axis],
                None => shape[axis].div_ceil(outputs as u64),
            };
            Some(shape)
        });
        let is_open = parts.is_none() && call.input(1).is_some();
        let start: usize = parts
            .iter()
            .flatten()
            .take(index)
            .filter_map(|size| usize::try_from(*size).ok())
            .fold(0, usize::saturating_add);
        let numbers = call.input(0).and_then(Fact::known).zip(shape.clone());
        match numbers {
            Some((numbers, shape)) if parts.is_some() && shape.len() == 1 => {
                let part: Vec<Number> = numbers
                    .iter()
                    .skip(start)
                    .take(usize::try_from(shape[0]).unwrap_or(0))
                    .copied()
                    .collect();
                Fact::numbers(call.dtype(0), part, false)
            }
            _ => moved(call, shape).inexact(is_open),
        }
    });
    Ok(facts.collect::<Vec<Fact>>().into())
}

fn slice(call: &Call<'_>) -> Ruled {
    let Some(shape) = call.shape(0) else {
        return Ok(moved(call, None).into());
    };
    let starts = listed(call, "starts", 1);
    let ends = listed(call, "ends", 2);
    let is_bound = |index: usize| {
        let numbers = call.input(index).and_then(Fact::known);
        numbers.is_some_and(|numbers| numbers.iter().any(|number| !number.is_exact))
    };
    let (Some(starts), Some(ends), false) = (starts, ends, is_bound(1) || is_bound(2)) else {
        // Some part of it, whichever that is.
        let fact = moved(call, Some(shape.to_vec())).inexact(true);
        let content = derived(call.given());
        return Ok(Fact { content, ..fact }.into());
    };
    let along = match call.has("axes") || call.input(3).is_some() {
        true => axes(call, 3, shape.len()),
        false => Some((0..starts.len().min(shape.len())).collect()),
    };
    let steps = call.input(4).and_then(Fact::known);
    let mut cut = shape.to_vec();
    let mut ranges = Vec::new();
    for (index, axis) in along.unwrap_or_default().into_iter().enumerate() {
        let step = steps
            .and_then(|steps| steps.get(index))
            .map_or(1, |step| step.whole());
        let (start, end) = (starts.get(index), ends.get(index));
        if let (Some(start), Some(end)) = (start, end) {
            let range = range(*start, *end, step, shape[axis]);
            cut[axis] = range.1;
            ranges.push((range.0, step));
        }
    }
    if let (Some(numbers), [(first, step)], 1) = (
        call.input(0).and_then(Fact::known),
        ranges.as_slice(),
        shape.len(),
    ) {
        let at = |index: u64| {
            let offset = i64::try_from(index).ok()?.checked_mul(*step)?;
            numbers
                .get(usize::try_from(first.checked_add(offset)?).ok()?)
                .copied()
        };
        if let Some(part) = (0..cut[0]).map(at).collect::<Option<Vec<Number>>>() {
            return Ok(Fact::numbers(call.dtype(0), part, false).into());
        }
    }
    Ok(moved(call, Some(cut)).into())
}

/// Where a slice begins, and how many it takes.
fn range(start: i64, end: i64, step: i64, size: u64) -> (i64, u64) {
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    let from_front = |place: i64| {
        if place < 0 {
            place.saturating_add(size)
        } else {
            place
        }
    };
    let (start, end) = if step > 0 {
        (
            from_front(start).clamp(0, size),
            from_front(end).clamp(0, size),
        )
    } else {
        (
            from_front(start).clamp(0, (size - 1).max(0)),
            from_front(end).clamp(-1, size),
        )
    };
    let step = if step == 0 { 1 } else { step };
    let length = if step > 0 { end - start } else { start - end };
    let count = u64::try_from(length.max(0)).unwrap_or_default();
    (start, count.div_ceil(step.unsigned_abs()))
}
