//! Operators that read or write at places that other tensors name.

use super::super::call::{Call, NO_SUCH_AXIS};
use super::super::size::{Size, axis_of};
use super::super::value::{Positions, Refusal, Tensor, Value};
use super::Ruled;

const OTHER_ROWS: Refusal = "may read other rows, by their number";

pub(super) fn rule(call: &Call<'_>) -> Ruled {
    Some(match call.op {
        "Gather" => gather(call),
        "GatherElements" => gather_elements(call),
        "GatherND" => gather_nd(call),
        "ScatterElements" | "Scatter" => scatter_elements(call),
        "OneHot" => one_hot(call),
        "Compress" => compress(call),
        "ReverseSequence" => reverse_sequence(call),
        _ => return None,
    })
}

fn one(shape: Vec<Size>, rows: Option<usize>) -> Result<Vec<Value>, Refusal> {
    Ok(vec![Tensor::with_rows(shape, rows).into()])
}

fn gather(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (data, shape) = call.shaped(0)?;
    let axis = call.axis(0, shape.len())?;
    if let Some(Value::Positions(own)) = call.value(1) {
        // Each row takes what is its own: the same rows in the same order.
        let is_plain = own.only && own.shape == [Size::ROWS];
        return if is_plain && data.rows == Some(axis) && shape[axis] == Size::ROWS {
            one(shape.to_vec(), data.rows)
        } else {
            Err(OTHER_ROWS)
        };
    }
    let (indices, places) = call.shaped(1)?;
    if data.rows == Some(axis) || (data.rows.is_some() && indices.rows.is_some()) {
        return Err(OTHER_ROWS);
    }
    let rows = match (data.rows, indices.rows) {
        (Some(rows), _) if rows < axis => Some(rows),
        (Some(rows), _) => Some(rows + places.len() - 1),
        (None, Some(rows)) => Some(rows + axis),
        (None, None) => None,
    };
    one([&shape[..axis], places, &shape[axis + 1..]].concat(), rows)
}

fn gather_elements(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (data, shape) = call.shaped(0)?;
    let (indices, places) = call.shaped(1)?;
    let axis = call.axis(0, shape.len())?;
    let pinned = match (data.rows, indices.rows) {
        // Everything but the axis is read at its own place.
        (Some(rows), Some(others)) => {
            rows == others && rows != axis && data.row_size() == indices.row_size()
        }
        (None, Some(rows)) => rows == axis,
        (Some(_), None) => false,
        (None, None) => true,
    };
    if !pinned || places.len() != shape.len() {
        return Err(OTHER_ROWS);
    }
    one(places.to_vec(), indices.rows)
}

fn gather_nd(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (data, shape) = call.shaped(0)?;
    let batch = usize::try_from(call.int("batch_dims", 0)).map_err(|_| NO_SUCH_AXIS)?;
    let own;
    let (places, index_rows) = match call.value(1) {
        Some(Value::Positions(positions)) => {
            own = own_rows(positions, data, batch)?;
            (&own, Some(positions.rows))
        }
        _ => {
            let (indices, places) = call.shaped(1)?;
            (&places.to_vec(), indices.rows)
        }
    };
    let last = places.len().checked_sub(1).ok_or(NO_SUCH_AXIS)?;
    let width = places[last]
        .number()
        .and_then(|width| usize::try_from(width).ok());
    let behind = width
        .and_then(|width| width.checked_add(batch))
        .ok_or("takes places whose number of axes is not known")?;
    if behind > shape.len() || batch > last || index_rows == Some(last) {
        return Err(NO_SUCH_AXIS);
    }
    let rows = match (data.rows, index_rows) {
        _ if matches!(call.value(1), Some(Value::Positions(_))) => index_rows,
        (Some(rows), Some(others)) => {
            let pinned = rows == others && rows < batch && data.row_size() == places.get(others);
            pinned.then_some(Some(rows)).ok_or(OTHER_ROWS)?
        }
        (Some(rows), None) if rows >= behind => Some(rows - behind + last),
        (Some(_), None) => return Err(OTHER_ROWS),
        (None, Some(rows)) if rows >= batch => Some(rows),
        (None, Some(_)) => return Err("reads a constant at the position of the row"),
        (None, None) => None,
    };
    one([&places[..last], &shape[behind..]].concat(), rows)
}

/// Each row's own number first, then indices of its own: no other row is read.
fn own_rows(positions: &Positions, data: &Tensor, batch: usize) -> Result<Vec<Size>, Refusal> {
    let last = positions.shape.len().checked_sub(1).ok_or(NO_SUCH_AXIS)?;
    let first_of_places =
        positions.rows != last && (!positions.only || positions.shape[last].is_one());
    let pinned = batch == 0 && first_of_places && data.rows == Some(0);
    let same = positions.shape.get(positions.rows) == data.row_size();
    if pinned && same {
        Ok(positions.shape.clone())
    } else {
        Err(OTHER_ROWS)
    }
}

fn scatter_elements(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (data, shape) = call.shaped(0)?;
    let axis = call.axis(0, shape.len())?;
    let parts = [call.shaped(1)?, call.shaped(2)?];
    if let Some(rows) = data.rows {
        let pinned = |(part, sizes): &(&Tensor, &[Size])| {
            part.rows == Some(rows)
                && part.row_size() == data.row_size()
                && sizes.len() == shape.len()
        };
        if rows == axis || !parts.iter().all(pinned) {
            return Err("may write to other rows, by their number");
        }
    } else if parts.iter().any(|(part, _)| part.rows.is_some()) {
        return Err("writes all rows into one tensor");
    }
    one(shape.to_vec(), data.rows)
}

fn one_hot(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (indices, places) = call.shaped(0)?;
    call.invariant(1, "takes the number of classes from the data")?;
    call.invariant(2, "takes its two values from the data")?;
    let axis = axis_of(call.int("axis", -1), places.len() + 1).ok_or(NO_SUCH_AXIS)?;
    let depth = call
        .value(1)
        .and_then(|depth| depth.integers()?.elements.first()?.to_size());
    let mut shape = places.to_vec();
    shape.insert(axis, depth.unwrap_or_else(|| call.symbols.fresh()));
    one(
        shape,
        indices.rows.map(|rows| rows + usize::from(rows >= axis)),
    )
}

fn compress(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (data, shape) = call.shaped(0)?;
    call.invariant(1, "keeps what the data say")?;
    if !call.has("axis") {
        return Err("keeps elements wherever they are");
    }
    let axis = call.axis(0, shape.len())?;
    if data.rows == Some(axis) {
        return Err("keeps some rows");
    }
    let mut kept = shape.to_vec();
    kept[axis] = call.symbols.fresh();
    one(kept, data.rows)
}

fn reverse_sequence(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (data, shape) = call.shaped(0)?;
    let (lengths, sizes) = call.shaped(1)?;
    let axis = |name: &str, default: i64| {
        axis_of(call.int(name, default), shape.len()).ok_or(NO_SUCH_AXIS)
    };
    let (batch, time) = (axis("batch_axis", 1)?, axis("time_axis", 0)?);
    match (data.rows, lengths.rows) {
        (None, None) => {}
        (Some(rows), Some(0))
            if rows == batch && rows != time && sizes == [shape[rows].clone()] => {}
        _ => return Err("may reverse the rows, or takes lengths by their position"),
    }
    one(shape.to_vec(), data.rows)
}
