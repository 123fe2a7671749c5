//! Operators that move elements without changing them.

use super::super::call::{Call, NO_SUCH_AXIS};
use super::super::size::{Number, Size, axis_of, product};
use super::super::value::{Positions, Refusal, Tensor, Value};
use super::Ruled;

pub(super) const ALONG_ROWS: Refusal = "works along the rows";

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
        _ => return None,
    })
}

pub(super) fn one(tensor: Tensor) -> Result<Vec<Value>, Refusal> {
    Ok(vec![tensor.into()])
}

/// The numbers of a shape.
pub(super) fn sizes<'a>(call: &'a Call<'_>, index: usize) -> Result<&'a [Number], Refusal> {
    let value = call.value(index).ok_or("lacks a shape")?;
    let integers = value
        .integers()
        .ok_or("takes a shape that is not known before it runs")?;
    Ok(&integers.elements)
}

/// The sizes of a shape that is given as it shall be.
pub(super) fn shape_of(call: &Call<'_>, index: usize) -> Result<Vec<Size>, Refusal> {
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
