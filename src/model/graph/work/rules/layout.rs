//! Operators that move elements, cut, repeat or join them by sizes that the graph says or calculates.

use super::super::fact::{Content, Fact, Number, axis_of, derived, product};
use super::super::follow::{Call, Effect, Unbounded};
use super::{Rule, numbers};
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
        "Gather" => gather,
        "GatherElements" => gather_elements,
        "GatherND" => gather_nd,
        "Compress" | "DynamicSlice" => no_larger,
        "Unique" => unique,
        "NonZero" => nonzero,
        "TopK" => top,
        "Constant" => constant,
        "Shape" => shape,
        "Size" => size,
        "DepthToSpace" | "SpaceToDepth" => rearranged,
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax"
        | "ReduceMean" | "ReduceMin" | "ReduceProd" | "ReduceSum" | "ReduceSumSquare" => reduce,
        "ArgMax" | "ArgMin" => arg,
        _ => return None,
    })
}

type Ruled = Result<Effect, Unbounded>;

const SIZED: Unbounded = "takes a shape that is calculated from the values of a request";

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
fn listed(call: &Call<'_>, name: &str, index: usize) -> Option<Vec<i64>> {
    if let Some(numbers) = call.ints(name) {
        return Some(numbers.to_vec());
    }
    let numbers = call.input(index)?.known()?;
    Some(numbers.iter().map(|number| number.whole()).collect())
}

fn axes(call: &Call<'_>, index: usize, rank: usize) -> Option<Vec<usize>> {
    let axes = listed(call, "axes", index)?;
    axes.into_iter().map(|axis| axis_of(axis, rank)).collect()
}

/// The first input in this shape; the numbers in it stay what they are when there is at most one axis.
fn moved(call: &Call<'_>, shape: Option<Vec<u64>>) -> Fact {
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

fn gather(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let (Some(data), Some(indices)) = (call.shape(0), call.shape(1)) else {
        let guess = call
            .given()
            .map(Fact::elements)
            .fold(1, u64::saturating_mul);
        return Ok(Fact {
            guess,
            ..call.guess(dtype)
        }
        .into());
    };
    let Some(axis) = axis_of(call.int("axis", 0), data.len()) else {
        return Ok(call.guess(dtype).into());
    };
    if let Some(numbers) = picked(call, data, indices) {
        return Ok(Fact::numbers(dtype, numbers, indices.is_empty()).into());
    }
    let shape = [&data[..axis], indices, &data[axis + 1..]].concat();
    Ok(call.result(dtype, shape).into())
}

fn picked(call: &Call<'_>, data: &[u64], indices: &[u64]) -> Option<Vec<Number>> {
    let numbers = call.input(0)?.known()?;
    if data.len() != 1 || indices.len() > 1 {
        return None;
    }
    let at = |index: &Number| {
        if !index.is_exact {
            let largest = numbers
                .iter()
                .map(|number| number.value)
                .fold(f64::MIN, f64::max);
            return Some(Number::at_most(largest));
        }
        numbers.get(axis_of(index.whole(), numbers.len())?).copied()
    };
    call.input(1)?.known()?.iter().map(at).collect()
}

fn gather_elements(call: &Call<'_>) -> Ruled {
    let fact = match call.shape(1) {
        Some(shape) => call.result(call.dtype(0), shape.to_vec()),
        None => call.guess(call.dtype(0)),
    };
    Ok(fact.into())
}

fn gather_nd(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let shape = call
        .shape(0)
        .zip(call.shape(1))
        .and_then(|(data, indices)| {
            let batch = usize::try_from(call.int("batch_dims", 0)).ok()?;
            let (last, before) = indices.split_last()?;
            let rest = data.get(batch.checked_add(usize::try_from(*last).ok()?)?..)?;
            Some([before, rest].concat())
        });
    let fact = shape.map_or_else(|| call.guess(dtype), |shape| call.result(dtype, shape));
    Ok(fact.into())
}

/// Some of the elements, by values.
fn no_larger(call: &Call<'_>) -> Ruled {
    let Some(input) = call.input(0) else {
        return super::as_large_as_inputs(call);
    };
    let shape = match (&input.shape, call.has("axis")) {
        (Some(shape), true) => Some(shape.clone()),
        _ => Some(vec![input.elements()]),
    };
    let fact = Fact {
        content: derived(call.given()),
        shape,
        ..input.clone()
    };
    Ok(fact.inexact(true).into())
}

fn unique(call: &Call<'_>) -> Ruled {
    let first = no_larger(call)?;
    let elements = call.input(0).map_or(0, Fact::elements);
    let index = || Fact::shaped(DType::I64, vec![elements], Content::Values).inexact(true);
    let mut outputs = first.outputs;
    outputs.extend([index(), index(), index()]);
    Ok(outputs.into())
}

fn nonzero(call: &Call<'_>) -> Ruled {
    let rank = call.shape(0).map_or(1, <[u64]>::len) as u64;
    let elements = call.input(0).map_or(0, Fact::elements);
    // Of a mask that is the same for all, so are the places.
    Ok(call
        .result(DType::I64, vec![rank, elements])
        .inexact(true)
        .into())
}

fn top(call: &Call<'_>) -> Ruled {
    let count = match call.has("k") {
        true => u64::try_from(call.int("k", 0)).ok(),
        false => call.input(1).and_then(|fact| fact.known()?.first()?.size()),
    };
    let shape = call.shape(0).map(|shape| {
        let mut shape = shape.to_vec();
        if let Some(axis) = axis_of(call.int("axis", -1), shape.len()) {
            shape[axis] = count.map_or(shape[axis], |count| count.min(shape[axis]));
        }
        shape
    });
    let part = |dtype| match &shape {
        Some(shape) => call.result(dtype, shape.clone()).inexact(count.is_none()),
        None => call.guess(dtype),
    };
    Ok(vec![part(call.dtype(0)), part(DType::I64)].into())
}

fn constant(call: &Call<'_>) -> Ruled {
    let numbers = |values: &[f64], dtype, is_scalar| {
        let numbers = values.iter().map(|value| Number::exactly(*value)).collect();
        Fact::numbers(dtype, numbers, is_scalar)
    };
    let fact = if let Some(tensor) = call.tensor("value") {
        tensor.clone()
    } else if let Some(ints) = call.ints("value_ints") {
        let values: Vec<f64> = ints
            .iter()
            .map(|value| super::super::fact::of_integer(*value))
            .collect();
        numbers(&values, DType::I64, false)
    } else if let Some(floats) = call.floats("value_floats") {
        let values: Vec<f64> = floats.iter().map(|value| f64::from(*value)).collect();
        numbers(&values, DType::F32, false)
    } else if call.has("value_int") {
        numbers(
            &[super::super::fact::of_integer(call.int("value_int", 0))],
            DType::I64,
            true,
        )
    } else {
        Fact::shaped(
            DType::F32,
            vec![call.count("value_strings").max(1)],
            Content::Fixed,
        )
    };
    Ok(fact.into())
}

fn shape(call: &Call<'_>) -> Ruled {
    let Some(input) = call.input(0) else {
        return super::as_large_as_inputs(call);
    };
    let Some(shape) = &input.shape else {
        return Ok(Fact::unknown(DType::I64, 8, Content::Fixed).into());
    };
    let rank = i64::try_from(shape.len()).unwrap_or(i64::MAX);
    let place = |place: i64| {
        let place = if place < 0 {
            place.saturating_add(rank)
        } else {
            place
        };
        usize::try_from(place.clamp(0, rank)).unwrap_or_default()
    };
    let (start, end) = (place(call.int("start", 0)), place(call.int("end", rank)));
    let sizes = shape.get(start..end.max(start)).unwrap_or_default();
    let number = |size: &u64| Number {
        value: super::super::fact::number(*size),
        is_exact: input.is_exact,
    };
    Ok(Fact::numbers(DType::I64, sizes.iter().map(number).collect(), false).into())
}

fn size(call: &Call<'_>) -> Ruled {
    let fact = match call.input(0) {
        Some(input) if input.shape.is_some() => {
            let number = Number {
                value: super::super::fact::number(input.elements()),
                is_exact: input.is_exact,
            };
            Fact::numbers(DType::I64, vec![number], true)
        }
        _ => Fact::shaped(DType::I64, vec![], Content::Fixed),
    };
    Ok(fact.into())
}

fn rearranged(call: &Call<'_>) -> Ruled {
    let block = u64::try_from(call.int("blocksize", 1)).unwrap_or(1).max(1);
    let shape = call.shape(0).and_then(|shape| {
        let [batch, channels, height, width] = *shape else {
            return None;
        };
        let square = block.checked_mul(block)?;
        Some(if &*call.step.op == "DepthToSpace" {
            vec![
                batch,
                channels / square,
                height.checked_mul(block)?,
                width.checked_mul(block)?,
            ]
        } else {
            vec![
                batch,
                channels.checked_mul(square)?,
                height / block,
                width / block,
            ]
        })
    });
    let fact = shape.map_or_else(
        || call.guess(call.dtype(0)),
        |shape| call.result(call.dtype(0), shape),
    );
    Ok(fact.into())
}

fn reduce(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let keeps = call.int("keepdims", 1) != 0;
    let Some(shape) = call.shape(0) else {
        return Ok(call.guess(dtype).into());
    };
    if let (Some(number), true) = (numbers::reduced(call), shape.len() <= 1) {
        return Ok(Fact::numbers(dtype, vec![number], !(keeps && shape.len() == 1)).into());
    }
    let is_given = call.has("axes") || call.input(1).is_some();
    let along: Vec<usize> = match is_given {
        true => match axes(call, 1, shape.len()) {
            Some(axes) if axes.is_empty() && call.int("noop_with_empty_axes", 0) == 0 => {
                (0..shape.len()).collect()
            }
            Some(axes) => axes,
            // Over some of them; the work is done on the whole.
            None => return Ok(call.guess(dtype).into()),
        },
        false if call.int("noop_with_empty_axes", 0) != 0 => vec![],
        false => (0..shape.len()).collect(),
    };
    Ok(call.result(dtype, without(shape, &along, keeps)).into())
}

fn without(shape: &[u64], along: &[usize], keeps: bool) -> Vec<u64> {
    let sizes = shape.iter().enumerate();
    let left = |(axis, size): (usize, &u64)| match along.contains(&axis) {
        false => Some(*size),
        true => keeps.then_some(1),
    };
    sizes.filter_map(left).collect()
}

fn arg(call: &Call<'_>) -> Ruled {
    let keeps = call.int("keepdims", 1) != 0;
    let shape = call.shape(0).and_then(|shape| {
        let axis = axis_of(call.int("axis", 0), shape.len())?;
        Some(without(shape, &[axis], keeps))
    });
    let fact = shape.map_or_else(
        || call.guess(DType::I64),
        |shape| call.result(DType::I64, shape),
    );
    Ok(fact.into())
}
