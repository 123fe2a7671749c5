//! Recurrent layers.

use super::super::call::Call;
use super::super::size::Size;
use super::super::value::{Refusal, Tensor, Value};
use super::Ruled;

pub(super) fn rule(call: &Call<'_>) -> Ruled {
    matches!(call.op, "RNN" | "GRU" | "LSTM").then(|| recurrent(call))
}

/// X is `[steps, batch, input]`, or with `layout = 1` `[batch, steps, input]`; the rows are the batch.
fn recurrent(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    let layout = call.int("layout", 0) != 0;
    let [first, second, _] = shape else {
        return Err("takes what is no sequence");
    };
    let (batch_axis, batch, steps) = if layout {
        (0, first, second)
    } else {
        (1, second, first)
    };
    if tensor.rows.is_some_and(|rows| rows != batch_axis) {
        return Err("has the rows where it expects steps or inputs");
    }
    for weights in [1, 2, 3, 7] {
        call.invariant(weights, "takes its weights from the data")?;
    }
    for (index, axis) in [(4, 0), (5, batch_axis), (6, batch_axis)] {
        if let Some(own) = call.optional(index)?
            && (own.rows != tensor.rows.map(|_| axis) || own.row_size() != tensor.row_size())
        {
            return Err("takes lengths or states by the position of a row");
        }
    }
    let directions = Size::known(if call.text("direction") == Some("bidirectional") {
        2
    } else {
        1
    });
    let hidden = u64::try_from(call.int("hidden_size", 0))
        .ok()
        .filter(|size| *size > 0);
    let hidden = hidden.map_or_else(|| call.symbols.fresh(), Size::known);
    let place = |axis: usize| tensor.rows.map(|_| axis);
    let (all, last) = if layout {
        let all = vec![
            batch.clone(),
            steps.clone(),
            directions.clone(),
            hidden.clone(),
        ];
        (
            Tensor::with_rows(all, place(0)),
            Tensor::with_rows(vec![batch.clone(), directions, hidden], place(0)),
        )
    } else {
        let all = vec![
            steps.clone(),
            directions.clone(),
            batch.clone(),
            hidden.clone(),
        ];
        (
            Tensor::with_rows(all, place(2)),
            Tensor::with_rows(vec![directions, batch.clone(), hidden], place(1)),
        )
    };
    Ok(vec![all.into(), last.clone().into(), last.into()])
}
