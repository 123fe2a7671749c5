//! Operators that bring the elements along some axes together: sums, norms, sorting.

use super::super::call::{Call, NO_SUCH_AXIS};
use super::super::size::{Size, axis_of};
use super::super::value::{Refusal, Tensor, Value};
use super::Ruled;

const OVER_ROWS: Refusal = "brings the rows together";

pub(super) fn rule(call: &Call<'_>) -> Ruled {
    Some(match call.op {
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax"
        | "ReduceMean" | "ReduceMin" | "ReduceProd" | "ReduceSum" | "ReduceSumSquare" => {
            reduce(call)
        }
        "ArgMax" | "ArgMin" => arg(call),
        "Softmax" | "LogSoftmax" | "Hardmax" => softmax(call),
        "CumSum" | "CumProd" => cumulate(call),
        "TopK" => top_k(call),
        "LpNormalization" => along(call, -1),
        "LayerNormalization" => layer_norm(call),
        "RMSNormalization" => layer_norm(call),
        "MeanVarianceNormalization" => mean_variance(call),
        "BatchNormalization" => batch_norm(call),
        "InstanceNormalization" | "GroupNormalization" => of_instances(call),
        "LRN" => of_instances(call),
        "DFT" => dft(call),
        _ => return None,
    })
}

/// What is left of a shape, and of the place of the rows.
fn without(tensor: &Tensor, shape: &[Size], axes: &[usize], keep: bool) -> Value {
    if keep {
        let size = |(axis, size): (usize, &Size)| {
            if axes.contains(&axis) {
                Size::ONE
            } else {
                size.clone()
            }
        };
        return Tensor::with_rows(shape.iter().enumerate().map(size).collect(), tensor.rows).into();
    }
    tensor.without_axes(shape, axes).into()
}

fn reduce(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    call.invariant(1, "takes its axes from the data")?;
    let axes = call.axes(1, shape.len())?.filter(|axes| !axes.is_empty());
    let axes = match axes {
        Some(axes) => axes,
        None if call.int("noop_with_empty_axes", 0) != 0 => {
            return Ok(vec![tensor.clone().changed().into()]);
        }
        None => (0..shape.len()).collect(),
    };
    if tensor.rows.is_some_and(|rows| axes.contains(&rows)) {
        return Err(OVER_ROWS);
    }
    Ok(vec![without(
        tensor,
        shape,
        &axes,
        call.int("keepdims", 1) != 0,
    )])
}

fn arg(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    let axis = call.axis(0, shape.len())?;
    if tensor.rows == Some(axis) {
        return Err(OVER_ROWS);
    }
    Ok(vec![without(
        tensor,
        shape,
        &[axis],
        call.int("keepdims", 1) != 0,
    )])
}

fn softmax(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    if call.opset >= 13 {
        return along(call, -1);
    }
    // Before version 13 everything from the axis on is one axis.
    let (tensor, shape) = call.shaped(0)?;
    let axis = call.axis(1, shape.len())?;
    if tensor.rows.is_some_and(|rows| rows >= axis) {
        return Err(OVER_ROWS);
    }
    Ok(vec![tensor.clone().changed().into()])
}

/// Brings the elements along one axis together and keeps the shape.
fn along(call: &Call<'_>, default: i64) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    if tensor.rows == Some(call.axis(default, shape.len())?) {
        return Err(OVER_ROWS);
    }
    Ok(vec![tensor.clone().changed().into()])
}

fn cumulate(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    if tensor.rows.is_some() {
        let axis = call.numbers("axis", 1)?.unwrap_or_default();
        let axis = match axis.as_slice() {
            [axis] => axis_of(*axis, shape.len()).ok_or(NO_SUCH_AXIS)?,
            _ => return Err("does not say along which axis it adds"),
        };
        if tensor.rows == Some(axis) {
            return Err(OVER_ROWS);
        }
    } else {
        call.invariant(1, "takes its axis from the data")?;
    }
    Ok(vec![tensor.clone().changed().into()])
}

fn top_k(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    let axis = call.axis(-1, shape.len())?;
    if tensor.rows == Some(axis) {
        return Err("sorts the rows");
    }
    call.invariant(1, "takes the number of its results from the data")?;
    let known = match call.value(1) {
        Some(value) => value
            .integers()
            .and_then(|integers| integers.elements.first()?.to_size()),
        None => u64::try_from(call.int("k", 0)).ok().map(Size::known),
    };
    let mut best = shape.to_vec();
    best[axis] = known.unwrap_or_else(|| call.symbols.fresh());
    let best: Value = Tensor::with_rows(best, tensor.rows).into();
    Ok(vec![best.clone(), best])
}

fn layer_norm(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    let axis = call.axis(-1, shape.len())?;
    if tensor.rows.is_some_and(|rows| rows >= axis) {
        return Err(OVER_ROWS);
    }
    for index in 1..3 {
        let factor = call.invariant(index, "takes its scale from the data")?;
        let (Some(factor), Some(rows)) = (factor, tensor.rows) else {
            continue;
        };
        let factor = factor
            .shape
            .as_ref()
            .ok_or(super::super::call::UNKNOWN_RANK)?;
        let place = (rows + factor.len()).checked_sub(shape.len());
        if place
            .and_then(|place| factor.get(place))
            .is_some_and(|size| !size.is_one())
        {
            return Err("has a scale of its own for each row");
        }
    }
    let normal: Value = tensor.clone().changed().into();
    let axes: Vec<usize> = (axis..shape.len()).collect();
    let statistics = without(tensor, shape, &axes, true);
    Ok(vec![normal, statistics.clone(), statistics])
}

fn mean_variance(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    let axes = call.ints("axes").unwrap_or(&[0, 2, 3]);
    let axes: Option<Vec<usize>> = axes
        .iter()
        .map(|axis| axis_of(*axis, shape.len()))
        .collect();
    if tensor
        .rows
        .is_some_and(|rows| axes.is_none_or(|axes| axes.contains(&rows)))
    {
        return Err(OVER_ROWS);
    }
    Ok(vec![tensor.clone().changed().into()])
}

fn batch_norm(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let training = match call.opset {
        ..7 => call.int("is_test", 0) == 0,
        7..14 => call.outputs > 1,
        _ => call.int("training_mode", 0) != 0,
    };
    if training {
        return Err("learns from all rows of a run, as in training");
    }
    of_channels(call, 4)
}

fn of_instances(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    of_channels(call, 2)
}

/// Rows on the first axis, channels on the second, and numbers for each channel.
fn of_channels(call: &Call<'_>, numbers: usize) -> Result<Vec<Value>, Refusal> {
    let (tensor, _) = call.shaped(0)?;
    for index in 1..=numbers {
        call.invariant(index, "takes its scale from the data")?;
    }
    match tensor.rows {
        None | Some(0) => Ok(vec![tensor.clone().changed().into()]),
        Some(_) => Err("has the rows where it expects channels or places"),
    }
}

fn dft(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    for index in 1..3 {
        call.invariant(index, "takes its length or axis from the data")?;
    }
    let axis = match call.value(2) {
        Some(value) => value
            .integers()
            .and_then(|axis| axis.elements.first()?.known()),
        None if call.opset >= 20 => Some(-2),
        None => Some(call.int("axis", 1)),
    };
    let axis = axis_of(axis.ok_or(NO_SUCH_AXIS)?, shape.len()).ok_or(NO_SUCH_AXIS)?;
    if tensor
        .rows
        .is_some_and(|rows| rows == axis || rows + 1 == shape.len())
    {
        return Err(OVER_ROWS);
    }
    let mut sizes = shape.to_vec();
    let last = sizes.len() - 1;
    sizes[axis] = call.symbols.fresh();
    sizes[last] = call.symbols.fresh();
    Ok(vec![Tensor::with_rows(sizes, tensor.rows).into()])
}
