//! Operators that cut tensors, join them or make new ones.

use super::super::call::{Call, NO_SUCH_AXIS};
use super::super::constant;
use super::super::size::{Number, Size, axis_of};
use super::super::value::{Content, Integers, Positions, Refusal, Tensor, Value};
use super::Ruled;
use super::layout::{ALONG_ROWS, one, shape_of};

pub(super) fn rule(call: &Call<'_>) -> Ruled {
    Some(match call.op {
        "Concat" => concat(call),
        "Split" => split(call),
        "Slice" => slice(call),
        "Trilu" => trilu(call),
        "Constant" => given(call),
        "ConstantOfShape" => filled(call),
        "Range" => range(call),
        _ => return None,
    })
}

fn concat(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    if call
        .inputs
        .iter()
        .flatten()
        .any(|value| matches!(value, Value::Positions(_)))
    {
        return own_rows(call);
    }
    let (first, shape) = call.shaped(0)?;
    if call.inputs.len() == 1 {
        return one(first.clone());
    }
    let axis = axis_of(call.int("axis", 1), shape.len()).ok_or(NO_SUCH_AXIS)?;
    let (mut joined, mut rows) = (shape.to_vec(), first.rows);
    let mut total = shape[axis].number();
    for index in 1..call.inputs.len() {
        let (next, sizes) = call.shaped(index)?;
        if sizes.len() != shape.len() {
            return Err("joins tensors of different ranks");
        }
        total = total
            .zip(sizes[axis].number())
            .and_then(|(one, other)| one.checked_add(other));
        if let Some(place) = next.rows {
            if rows.is_some_and(|rows| rows != place) {
                return Err("brings each row together with others");
            }
            rows = Some(place);
        }
        for (place, size) in sizes.iter().enumerate().filter(|(place, _)| *place != axis) {
            // They are equal, or it fails for every request; where the rows are, for some numbers of rows only.
            if *size != joined[place] && (size.has_rows() || joined[place].has_rows()) {
                return Err("joins tensors with another size where the rows are");
            }
            if joined[place].number().is_none() && size.number().is_some() {
                joined[place] = size.clone();
            }
        }
    }
    if rows == Some(axis) {
        return Err(ALONG_ROWS);
    }
    joined[axis] = total.map_or_else(|| call.symbols.fresh(), Size::known);
    one(Tensor::with_rows(joined, rows))
}

/// Row numbers beside indices of each row's own, as for GatherND.
fn own_rows(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let misused = "calculates with the position of a row";
    let Some(Value::Positions(first)) = call.value(0) else {
        return Err(misused);
    };
    let rank = first.shape.len();
    let last =
        axis_of(call.int("axis", 1), rank).filter(|axis| axis + 1 == rank && *axis != first.rows);
    let axis = last
        .filter(|axis| first.only && first.shape[*axis].is_one())
        .ok_or(misused)?;
    let mut width = 1u64;
    for index in 1..call.inputs.len() {
        let (tensor, shape) = call.shaped(index)?;
        let fits = tensor.rows == Some(first.rows)
            && shape.len() == rank
            && shape[..axis] == first.shape[..axis];
        let own = fits
            .then(|| shape[axis].number())
            .flatten()
            .ok_or(misused)?;
        width = width.checked_add(own).ok_or(misused)?;
    }
    let mut shape = first.shape.clone();
    shape[axis] = Size::known(width);
    Ok(vec![Value::Positions(Positions {
        shape,
        rows: first.rows,
        only: false,
    })])
}

fn split(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    let axis = call.axis(0, shape.len())?;
    if tensor.rows == Some(axis) {
        return Err(ALONG_ROWS);
    }
    let given = match call.value(1) {
        Some(value) if !value.is_invariant() => return Err("splits by what the data say"),
        Some(value) => value.integers().and_then(|integers| integers.known()),
        None => call.ints("split").map(<[i64]>::to_vec),
    };
    let even = || {
        let parts = u64::try_from(call.outputs).ok()?;
        let size = shape[axis].number()?;
        (call.value(1).is_none() && size.checked_rem(parts)? == 0)
            .then(|| Size::known(size / parts))
    };
    let part = |index: usize| {
        let size = match &given {
            Some(sizes) => sizes
                .get(index)
                .and_then(|size| u64::try_from(*size).ok())
                .map(Size::known),
            None => even(),
        };
        let mut sizes = shape.to_vec();
        sizes[axis] = size.unwrap_or_else(|| call.symbols.fresh());
        Tensor::with_rows(sizes, tensor.rows).into()
    };
    Ok((0..call.outputs).map(part).collect())
}

/// From here on the end of a slice means the end of the axis: PyTorch writes the largest integer of 64 or 32 bits,
/// tf2onnx 10⁹. An answer to more rows than that would lack rows, which is refused.
const BEYOND_ANY_AXIS: i64 = 1_000_000_000;

fn slice(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    let axes = call.axes(3, shape.len())?;
    let count = axes.as_ref().map(Vec::len);
    let starts = places(call, "starts", 1, count)?.ok_or("does not say where it cuts")?;
    let ends = places(call, "ends", 2, count)?.ok_or("does not say where it cuts")?;
    let axes = axes.unwrap_or_else(|| (0..starts.len()).collect());
    let steps =
        places(call, "steps", 4, count)?.unwrap_or_else(|| vec![Number::Known(1); axes.len()]);
    if [starts.len(), ends.len(), steps.len()] != [axes.len(); 3]
        || axes.iter().any(|axis| *axis >= shape.len())
    {
        return Err("does not say where it cuts each axis");
    }
    let mut cut = shape.to_vec();
    for (place, axis) in axes.into_iter().enumerate() {
        let (start, end, step) = (&starts[place], &ends[place], &steps[place]);
        if tensor.rows == Some(axis) {
            let to_the_end = end.known().is_some_and(|end| end >= BEYOND_ANY_AXIS)
                || end.to_size().as_ref() == tensor.row_size();
            if start.known() != Some(0) || step.known() != Some(1) || !to_the_end {
                return Err(ALONG_ROWS);
            }
            continue;
        }
        if [start, end, step].into_iter().any(Number::depends_on_rows) {
            return Err("cuts by the number of rows");
        }
        let size = sliced(&shape[axis], [start, end, step]);
        cut[axis] = size.unwrap_or_else(|| call.symbols.fresh());
    }
    one(Tensor::with_rows(cut, tensor.rows))
}

/// Where a slice begins or ends on each of `count` axes, as far as that is known.
fn places(
    call: &Call<'_>,
    name: &str,
    index: usize,
    count: Option<usize>,
) -> Result<Option<Vec<Number>>, Refusal> {
    if let Some(numbers) = call.ints(name) {
        return Ok(Some(numbers.iter().copied().map(Number::Known).collect()));
    }
    let Some(value) = call.value(index) else {
        return Ok(None);
    };
    match (value.integers(), count) {
        (Some(integers), _) => Ok(Some(integers.elements.clone())),
        (None, Some(count)) if value.is_invariant() => Ok(Some(vec![Number::Invariant; count])),
        (None, _) => Err("cuts where only the run knows"),
    }
}

/// The size that is left, where it is a number.
fn sliced(size: &Size, [start, end, step]: [&Number; 3]) -> Option<Size> {
    let (start, end, step) = (start.known()?, end.known()?, step.known()?);
    if start == 0 && step == 1 && end >= BEYOND_ANY_AXIS {
        return Some(size.clone());
    }
    let size = i64::try_from(size.number()?).ok()?;
    let clamped = |place: i64, low: i64, high: i64| {
        let place = if place < 0 {
            place.saturating_add(size)
        } else {
            place
        };
        place.clamp(low, high)
    };
    let count = match step {
        1.. => clamped(end, 0, size) - clamped(start, 0, size),
        ..=-1 => clamped(start, 0, size - 1) - clamped(end, -1, size - 1),
        0 => return None,
    };
    let step = i64::try_from(step.unsigned_abs()).ok()?;
    let count = count.max(0).checked_add(step - 1)? / step;
    u64::try_from(count).ok().map(Size::known)
}

fn trilu(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    call.invariant(1, "takes its diagonal from the data")?;
    if tensor.rows.is_some_and(|rows| rows + 2 >= shape.len()) {
        return Err("keeps elements by the position of their row");
    }
    one(tensor.clone().changed())
}

fn given(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    if let Some(tensor) = call.constant("value") {
        return one(constant(tensor));
    }
    if call.has("value_int") {
        return Ok(vec![
            Integers::scalar(Number::Known(call.int("value_int", 0))).into(),
        ]);
    }
    if let Some(numbers) = call.ints("value_ints") {
        return Ok(vec![
            Integers::vector(numbers.iter().copied().map(Number::Known).collect()).into(),
        ]);
    }
    if let Some(floats) = call.floats("value_floats") {
        let shape = vec![Size::known(floats.len() as u64)];
        let content = Some(Content::Floats(floats.to_vec()));
        return one(Tensor {
            content,
            ..Tensor::invariant(shape)
        });
    }
    if call.has("value_float") || call.has("value_string") {
        return one(Tensor::invariant(vec![]));
    }
    one(Tensor::unknown())
}

/// One number everywhere: as many rows of it as the shape says.
fn filled(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let shape = shape_of(call, 0)?;
    let rows = shape.iter().position(Size::has_rows);
    if shape.iter().filter(|size| size.has_rows()).count() > 1 {
        return Err("has the number of rows on two axes");
    }
    // Shapes are put together of such numbers.
    if let [size] = shape.as_slice()
        && let Some(count @ ..=64) = size.number()
        && let Some([number]) = call
            .constant("value")
            .and_then(|value| value.integers())
            .as_deref()
    {
        let elements = vec![Number::Known(*number); usize::try_from(count).unwrap_or_default()];
        return Ok(vec![Integers::vector(elements).into()]);
    }
    one(Tensor::with_rows(shape, rows))
}

fn range(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let number = |index: usize| {
        let integers = call.value(index)?.integers()?;
        integers.elements.first().cloned()
    };
    let (start, limit, delta) = (number(0), number(1), number(2));
    let from_zero = start.and_then(|start| start.known()) == Some(0)
        && delta.and_then(|delta| delta.known()) == Some(1);
    let limit = limit.as_ref().and_then(Number::to_size);
    match limit {
        Some(size) if from_zero && size == Size::ROWS => Ok(vec![Value::Positions(Positions {
            shape: vec![size],
            rows: 0,
            only: true,
        })]),
        Some(size) if from_zero && !size.has_rows() => one(Tensor::invariant(vec![size])),
        _ => {
            for index in 0..3 {
                call.invariant(index, "counts as far as the data say")?;
            }
            one(Tensor::invariant(vec![call.symbols.fresh()]))
        }
    }
}
