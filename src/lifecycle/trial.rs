//! Whether the rows of a batch are independent: only then may requests of several clients run together.
//!
//! A graph may declare an open first dimension and still mix rows, by a mean over it, say; so it is tried.

use tokio::time::Instant;

use crate::batching::split_outputs;
use crate::engine::{CancelToken, EngineError, Outputs, Session};
use crate::model::Batch;
use crate::serving::Servable;
use crate::tensor::{DType, Element, Tensor, Value};

/// Kernels for larger batches add in another order; more than this is another answer.
const TOLERANCE: f64 = 1e-4;

/// Whether two different requests get the same answers together as alone. `example` is one that the model takes.
///
/// Each run of a large model is felt by those that serve, so that there is none too many, and what one takes is told
/// to the batcher.
pub(super) fn rows_are_independent(servable: &Servable, example: Option<&Batch>) -> bool {
    let signature = servable.signature();
    if !signature.has_batch_axis() {
        return false;
    }
    let zeros = signature.zeros();
    let Some(one) = example.or(zeros.as_ref()).filter(|one| one.is_even()) else {
        return false;
    };
    let tried = servable.batcher().with_session(|session| {
        let began = Instant::now();
        let alone = session.run(one, &CancelToken::new())?;
        servable.batcher().settle(one.rows(), began.elapsed());
        let (other, of_other) = other_rows(session, one, zeros.as_ref());
        let of_other = of_other.map_or_else(|| session.run(&other, &CancelToken::new()), Ok)?;
        agree(session, [(one, alone), (&other, of_other)])
    });
    matches!(tried, Ok(Ok(true)))
}

/// Rows that differ from those of `one` and that the model takes too, with its answer where it was asked; `one` itself
/// where none are known.
fn other_rows(
    session: &mut dyn Session,
    one: &Batch,
    zeros: Option<&Batch>,
) -> (Batch, Option<Outputs>) {
    if one.rows() > 1
        && let Some(last) = one.rows_of(one.rows() - 1..one.rows())
    {
        return (last, None);
    }
    let zeros = zeros.filter(|zeros| one.may_join(zeros));
    let ran = zeros.and_then(|zeros| Some((zeros, session.run(zeros, &CancelToken::new()).ok()?)));
    match ran {
        Some((zeros, outputs)) => (zeros.clone(), Some(outputs)),
        None => (one.clone(), None),
    }
}

fn agree(
    session: &mut dyn Session,
    [(one, of_one), (other, of_other)]: [(&Batch, Outputs); 2],
) -> Result<bool, EngineError> {
    let alone = [of_one, of_other];
    let Some(joined) = Batch::join(&[one, other]) else {
        return Ok(false);
    };
    let together = session.run(&joined, &CancelToken::new())?;
    let Some(parts) = split_outputs(&together, &[one.rows(), other.rows()]) else {
        return Ok(false);
    };
    Ok(parts
        .iter()
        .zip(&alone)
        .all(|(part, alone)| are_alike(part, alone)))
}

fn are_alike(one: &Outputs, other: &Outputs) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(one, other)| is_alike(one, other))
}

fn is_alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Tensor(one), Value::Tensor(other)) => tensors_are_alike(one, other),
        (Value::Maps(one), Value::Maps(other)) => {
            one.labels == other.labels && tensors_are_alike(&one.scores, &other.scores)
        }
        _ => false,
    }
}

fn tensors_are_alike(one: &Tensor, other: &Tensor) -> bool {
    if one.dtype() != other.dtype() || one.shape() != other.shape() {
        return false;
    }
    match one.dtype() {
        DType::F32 => near::<f32>(one, other),
        DType::F64 => near::<f64>(one, other),
        DType::String => one.as_strings() == other.as_strings(),
        _ => one.bytes() == other.bytes(),
    }
}

fn near<T: Element + Into<f64>>(one: &Tensor, other: &Tensor) -> bool {
    let (Some(one), Some(other)) = (one.to_vec::<T>(), other.to_vec::<T>()) else {
        return false;
    };
    one.into_iter().zip(other).all(|(one, other)| {
        let (one, other): (f64, f64) = (one.into(), other.into());
        let is_same = one == other || (one.is_nan() && other.is_nan());
        is_same || (one - other).abs() <= TOLERANCE * one.abs().max(1.0)
    })
}
