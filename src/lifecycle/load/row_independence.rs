//! A second lock on runs that requests share: what the analysis of the graph proved is tried once, and a trial that differs
//! is believed. It can only refute; that requests may run together is never its word.

use std::time::Duration;

use tokio::time::Instant;

use crate::batching::split_outputs;
use crate::engine::{CancelToken, EngineError, Outputs, Session};
use crate::model::Batch;
use crate::serving::Servable;
use crate::tensor::{DType, Element, Tensor, Value};

/// Kernels for larger batches add in another order; more than this is another answer.
const TOLERANCE: f64 = 1e-4;

/// Rows that run together. Means, maxima and positions show among few; 7 is no power of two.
const TOGETHER: [usize; 3] = [2, 3, 7];

/// Different rows that are tried.
const ROWS: usize = 7;

/// A trial of a slow model ends after this long, with the two rows that it takes at least: whoever waits for the version waits
/// for its trial too.
const LONGEST: Duration = Duration::from_secs(2);

/// How rows together got other answers than alone; `None` when they did not, or when the model takes nothing that could
/// be tried. `example` is a batch that the model takes.
pub(super) fn refute(servable: &Servable, example: Option<&Batch>) -> Option<String> {
    let zeros = servable.signature().zeros();
    let shape = example.or(zeros.as_ref()).filter(|batch| batch.is_even())?;
    let until = Instant::now() + LONGEST;
    let tried = servable.batcher().with_session(|session| {
        let rows = answered_rows(servable, session, shape, until);
        let counts = TOGETHER.into_iter().filter(|count| *count <= rows.len());
        for count in counts {
            if count > TOGETHER[0] && Instant::now() >= until {
                break;
            }
            // A joint run that fails says nothing: its requests run alone then.
            if let Ok(false) = agree(servable, session, &rows[..count]) {
                return Some(count);
            }
        }
        None
    });
    let count = tried.ok().flatten()?;
    Some(format!(
        "{count} different rows got other answers together than alone"
    ))
}

/// Different rows that the model takes, each with its answer alone: random ones, and those of the example.
fn answered_rows(
    servable: &Servable,
    session: &mut dyn Session,
    shape: &Batch,
    until: Instant,
) -> Vec<(Batch, Outputs)> {
    let random = (1..=ROWS as u64).filter_map(|seed| shape.random_row(seed));
    let own = (0..shape.rows().min(ROWS)).filter_map(|row| shape.rows_of(row..row + 1));
    let mut rows: Vec<(Batch, Outputs)> = Vec::with_capacity(ROWS);
    for row in random.chain(own) {
        let enough = rows.len() >= TOGETHER[0] && Instant::now() >= until;
        if rows.len() == ROWS || enough {
            break;
        }
        let began = Instant::now();
        if let Ok(answer) = session.run(&row, &CancelToken::new()) {
            servable.batcher().settle(1, began.elapsed());
            rows.push((row, answer));
        }
    }
    rows
}

fn agree(
    servable: &Servable,
    session: &mut dyn Session,
    rows: &[(Batch, Outputs)],
) -> Result<bool, EngineError> {
    let batches: Vec<&Batch> = rows.iter().map(|(batch, _)| batch).collect();
    let Some(joined) = Batch::join(&batches) else {
        return Ok(true);
    };
    let together = session.run(&joined, &CancelToken::new());
    servable.batcher().forget(&joined);
    let together = together?;
    let Some(parts) = split_outputs(&together, &vec![1; rows.len()]) else {
        return Ok(false);
    };
    let pairs = parts.iter().zip(rows);
    Ok(pairs
        .into_iter()
        .all(|(part, (_, alone))| are_alike(part, alone)))
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
        (Value::Sequence(one), Value::Sequence(other)) => {
            let mut pairs = one.iter().zip(other);
            one.len() == other.len() && pairs.all(|(one, other)| tensors_are_alike(one, other))
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
