//! Operators that move elements without changing them.

use super::super::call::{Call, NO_SUCH_AXIS};
use super::super::constant;
use super::super::size::{Number, Size, axis_of, product};
use super::super::value::{Content, Integers, Positions, Refusal, Tensor, Value};
use super::Ruled;

const ALONG_ROWS: Refusal = "works along the rows";

pub(super) fn rule(call: &Call<'_>) -> Ruled {
    Some(match call.op {
        "Reshape" => reshape(call),
        "Flatten" => flatten(call),
        "Transpose" => transpose(call),
        "Squeeze" => squeeze(call),
        "Unsqueeze" => unsqueeze(call),
        "Expand" => expand(call),
        "Tile" => tile(call),
        "Pad" => pad(call),
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

fn one(tensor: Tensor) -> Result<Vec<Value>, Refusal> {
    Ok(vec![tensor.into()])
}

/// The numbers of a shape.
fn sizes<'a>(call: &'a Call<'_>, index: usize) -> Result<&'a [Number], Refusal> {
    let value = call.value(index).ok_or("lacks a shape")?;
    let integers = value
        .integers()
        .ok_or("takes a shape that is not known before it runs")?;
    Ok(&integers.elements)
}

/// The sizes of a shape that is given as it shall be.
fn shape_of(call: &Call<'_>, index: usize) -> Result<Vec<Size>, Refusal> {
    let size = |number: &Number| match number {
        Number::Tainted => Err("calculates with the number of rows where a size is expected"),
        Number::Invariant => Ok(call.symbols.fresh()),
        number => number.to_size().ok_or("takes a negative size"),
    };
    sizes(call, index)?.iter().map(size).collect()
}

fn reshape(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let fixed: Vec<Number>;
    let target = match call.ints("shape") {
        Some(shape) => {
            fixed = shape.iter().copied().map(Number::Known).collect();
            &fixed
        }
        None => sizes(call, 1)?,
    };
    if let Some(Value::Positions(positions)) = call.value(0) {
        return positions_as(positions, target);
    }
    let (tensor, shape) = call.shaped(0)?;
    let allow_zero = call.int("allowzero", 0) != 0;
    let target = resolve(call, shape, target, allow_zero)?;
    one(reshaped(tensor, shape, target)?)
}

/// Each size of a new shape; the one that is left out (−1) follows from the others.
fn resolve(
    call: &Call<'_>,
    shape: &[Size],
    target: &[Number],
    allow_zero: bool,
) -> Result<Vec<Size>, Refusal> {
    let unfollowed = "calculates with the number of rows where a size is expected";
    let mut sizes: Vec<Option<Size>> = Vec::with_capacity(target.len());
    let mut is_exact = true;
    for (axis, number) in target.iter().enumerate() {
        sizes.push(match number {
            Number::Known(-1) => None,
            Number::Known(0) if !allow_zero => Some(shape.get(axis).ok_or(NO_SUCH_AXIS)?.clone()),
            Number::Tainted => return Err(unfollowed),
            // It may be −1, or 0.
            Number::Invariant => {
                is_exact = false;
                Some(call.symbols.fresh())
            }
            number => Some(number.to_size().ok_or(NO_SUCH_AXIS)?),
        });
    }
    let missing = sizes.iter().filter(|size| size.is_none()).count();
    if missing > 1 {
        return Err("leaves two sizes out");
    }
    let whole = product(shape);
    let others = product(sizes.iter().flatten());
    let left = whole
        .zip(others.as_ref())
        .and_then(|(whole, others)| whole.divided_by(others));
    let rest = match left {
        Some(left) if is_exact => left,
        // Without the rows on either side of the division, or with them on both, it is some size.
        _ if missing == 1 && has_rows(shape) == sizes.iter().flatten().any(Size::has_rows) => {
            call.symbols.fresh()
        }
        _ if missing == 0 => Size::ONE,
        _ => return Err("may cut a row in two"),
    };
    Ok(sizes
        .into_iter()
        .map(|size| size.unwrap_or_else(|| rest.clone()))
        .collect())
}

fn has_rows(shape: &[Size]) -> bool {
    shape.iter().any(Size::has_rows)
}

/// The same elements in another shape: rows stay whole when as many elements stand before them as did.
pub(super) fn reshaped(
    tensor: &Tensor,
    shape: &[Size],
    target: Vec<Size>,
) -> Result<Tensor, Refusal> {
    let mut with_rows = target
        .iter()
        .enumerate()
        .filter(|(_, size)| size.has_rows());
    let place = with_rows.next().map(|(axis, _)| axis);
    if with_rows.next().is_some() {
        return Err("has the number of rows on two axes");
    }
    let (Some(rows), Some(place)) = (tensor.rows, place) else {
        return match (tensor.rows, place) {
            (None, None) => Ok(Tensor::invariant(target)),
            (None, Some(_)) => Err("divides what has no rows by their number"),
            (Some(_), _) => Err("has a shape that does not follow the number of rows"),
        };
    };
    let before = product(&shape[..rows]);
    if before.is_none() || before != product(&target[..place]) {
        return Err("moves the rows among other elements");
    }
    // In one row: as many elements as before, or it fails for every number of rows; where the sizes are not numbers
    // that must be seen here.
    let of_row = |shape: &[Size]| product(shape)?.divided_by(&Size::ROWS);
    match (of_row(&shape[rows..]), of_row(&target[place..])) {
        (Some(_), Some(_)) => Ok(Tensor::with_rows(target, Some(place))),
        _ => Err("may cut a row in two"),
    }
}

/// Row numbers keep their meaning where nothing but ones stands beside them.
fn positions_as(positions: &Positions, target: &[Number]) -> Result<Vec<Value>, Refusal> {
    let others = |sizes: &[Size]| {
        sizes
            .iter()
            .all(|size| size.is_one() || *size == Size::ROWS)
    };
    let minus_one = |number: &&Number| number.known() == Some(-1);
    let sizes: Option<Vec<Size>> = if target.iter().filter(minus_one).count() == 1 {
        let size = |number: &Number| match number.known() {
            Some(-1) => Some(Size::ROWS),
            _ => number.to_size().filter(Size::is_one),
        };
        target.iter().map(size).collect()
    } else {
        target.iter().map(Number::to_size).collect()
    };
    let sizes = sizes.filter(|sizes| others(sizes) && others(&positions.shape));
    let rows = sizes
        .as_ref()
        .map(|sizes| sizes.iter().filter(|size| size.has_rows()).count());
    match (sizes, rows) {
        (Some(shape), Some(1)) => {
            let rows = shape.iter().position(Size::has_rows).unwrap_or_default();
            Ok(vec![Value::Positions(Positions {
                shape,
                rows,
                only: positions.only,
            })])
        }
        _ => Err("calculates with the position of a row"),
    }
}

fn flatten(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    let rank = i64::try_from(shape.len()).map_err(|_| NO_SUCH_AXIS)?;
    let axis = call.int("axis", 1);
    let axis = if axis < 0 { axis + rank } else { axis };
    let axis = usize::try_from(axis)
        .ok()
        .filter(|axis| *axis <= shape.len())
        .ok_or(NO_SUCH_AXIS)?;
    let too_large = "makes an axis that is too long";
    let target = vec![
        product(&shape[..axis]).ok_or(too_large)?,
        product(&shape[axis..]).ok_or(too_large)?,
    ];
    one(reshaped(tensor, shape, target)?)
}

fn transpose(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    let order: Vec<usize> = match call.ints("perm") {
        Some(order) => {
            let axes: Option<Vec<usize>> = order
                .iter()
                .map(|axis| axis_of(*axis, shape.len()))
                .collect();
            axes.filter(|axes| axes.len() == shape.len())
                .ok_or(NO_SUCH_AXIS)?
        }
        None => (0..shape.len()).rev().collect(),
    };
    let rows = tensor
        .rows
        .and_then(|rows| order.iter().position(|axis| *axis == rows));
    if rows.is_none() && tensor.rows.is_some() {
        return Err(NO_SUCH_AXIS);
    }
    one(Tensor::with_rows(
        order.iter().map(|axis| shape[*axis].clone()).collect(),
        rows,
    ))
}

fn squeeze(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    let axes = match call.axes(1, shape.len())? {
        Some(axes) => axes,
        // Which axes have the size 1 may depend on the number of rows.
        None if tensor.rows.is_some() => return Err("removes axes of size 1 without naming them"),
        None => {
            let numbers: Option<Vec<u64>> = shape.iter().map(Size::number).collect();
            let numbers = numbers.ok_or("removes axes of size 1 without naming them")?;
            (0..shape.len())
                .filter(|axis| numbers[*axis] == 1)
                .collect()
        }
    };
    if tensor.rows.is_some_and(|rows| axes.contains(&rows)) {
        return Err("removes the axis of the rows");
    }
    one(tensor.without_axes(shape, &axes))
}

fn unsqueeze(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (shape, rows) = match call.value(0) {
        Some(Value::Positions(positions)) => (positions.shape.as_slice(), Some(positions.rows)),
        _ => {
            let (tensor, shape) = call.shaped(0)?;
            (shape, tensor.rows)
        }
    };
    let given = call.numbers("axes", 1)?.ok_or("lacks axes")?;
    let rank = shape.len() + given.len();
    let axes: Option<Vec<usize>> = given.into_iter().map(|axis| axis_of(axis, rank)).collect();
    let axes = axes.ok_or(NO_SUCH_AXIS)?;
    let mut sizes = shape.iter().cloned();
    let wider: Option<Vec<Size>> = (0..rank)
        .map(|axis| {
            if axes.contains(&axis) {
                Some(Size::ONE)
            } else {
                sizes.next()
            }
        })
        .collect();
    let shape = wider
        .filter(|_| sizes.next().is_none())
        .ok_or(NO_SUCH_AXIS)?;
    let rows = rows.and_then(|rows| (0..rank).filter(|axis| !axes.contains(axis)).nth(rows));
    match (call.value(0), rows) {
        (Some(Value::Positions(positions)), Some(rows)) => Ok(vec![Value::Positions(Positions {
            shape,
            rows,
            only: positions.only,
        })]),
        _ => one(Tensor::with_rows(shape, rows)),
    }
}

fn expand(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    let target = shape_of(call, 1)?;
    let mut with_rows = target
        .iter()
        .enumerate()
        .filter(|(_, size)| size.has_rows());
    let rows = with_rows.next().map(|(axis, _)| axis);
    if with_rows.next().is_some() {
        return Err("has the number of rows on two axes");
    }
    // A tensor of the new shape in which all elements are equal: whatever is alike in each row is.
    let wanted = Tensor::with_rows(target, rows);
    let given = Tensor::with_rows(shape.to_vec(), tensor.rows);
    one(super::elementwise::broadcast(&given, &wanted, call)?)
}

fn tile(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    if call.opset < 6 {
        return Err("repeats by the rules of an old operator set");
    }
    let repeats = sizes(call, 1)?;
    if repeats.len() != shape.len() {
        return Err("does not say how often each axis is repeated");
    }
    let mut tiled = Vec::with_capacity(shape.len());
    for (axis, (size, repeat)) in shape.iter().zip(repeats).enumerate() {
        if repeat.depends_on_rows() {
            return Err("repeats as often as there are rows");
        }
        if tensor.rows == Some(axis) && repeat.known() != Some(1) {
            return Err("repeats the rows");
        }
        let size = repeat.to_size().and_then(|repeat| repeat.times(size));
        tiled.push(size.unwrap_or_else(|| call.symbols.fresh()));
    }
    one(Tensor::with_rows(tiled, tensor.rows))
}

fn pad(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    call.invariant(2, "fills up with what the data say")?;
    let attribute = if call.opset < 2 { "paddings" } else { "pads" };
    let pads = call
        .numbers(attribute, 1)?
        .ok_or("does not say how much it adds")?;
    let axes = call
        .axes(3, shape.len())?
        .unwrap_or_else(|| (0..shape.len()).collect());
    if pads.len() != 2 * axes.len() {
        return Err("does not say how much it adds to each axis");
    }
    let mut padded = shape.to_vec();
    for (place, axis) in axes.iter().enumerate() {
        let (before, after) = (pads[place], pads[place + axes.len()]);
        if before == 0 && after == 0 {
            continue;
        }
        if tensor.rows == Some(*axis) {
            return Err("adds rows");
        }
        let size = shape[*axis]
            .number()
            .and_then(|size| i64::try_from(size).ok());
        let size = size.and_then(|size| size.checked_add(before)?.checked_add(after));
        let size = size.and_then(|size| u64::try_from(size).ok());
        padded[*axis] = size.map_or_else(|| call.symbols.fresh(), Size::known);
    }
    one(Tensor::with_rows(padded, tensor.rows))
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
