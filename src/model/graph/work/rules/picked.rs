//! Operators that pick elements, or say or reduce what there is of them.

use super::super::fact::{Content, Fact, Number, axis_of, derived};
use super::super::follow::{Call, Rule};
use super::layout::{Ruled, axes};
use super::numbers;
use crate::tensor::DType;

pub(super) fn find(op: &str) -> Option<Rule> {
    Some(match op {
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
