//! Operators that look at one element of each input at a time.

use super::super::call::{Call, UNKNOWN_RANK};
use super::super::size::{Size, axis_of};
use super::super::value::{Refusal, Tensor, Value};
use super::Ruled;

pub(super) fn rule(call: &Call<'_>) -> Ruled {
    Some(match call.op {
        "Abs" | "Acos" | "Acosh" | "Asin" | "Asinh" | "Atan" | "Atanh" | "BitwiseNot" | "Cast"
        | "CastLike" | "Ceil" | "Celu" | "Cos" | "Cosh" | "Elu" | "Erf" | "Exp" | "Floor"
        | "Gelu" | "HardSigmoid" | "HardSwish" | "Identity" | "IsInf" | "IsNaN" | "LeakyRelu"
        | "Log" | "Mish" | "Neg" | "Not" | "Reciprocal" | "RegexFullMatch" | "Relu" | "Round"
        | "Selu" | "Shrink" | "Sigmoid" | "Sign" | "Sin" | "Sinh" | "Softplus" | "Softsign"
        | "Sqrt" | "Swish" | "Tan" | "Tanh" | "ThresholdedRelu" => unary(call),
        "Clip" => clip(call),
        "Dropout" => dropout(call),
        "Add" | "And" | "BitShift" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" | "Div"
        | "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Max" | "Mean"
        | "Min" | "Mod" | "Mul" | "Or" | "PRelu" | "Pow" | "StringConcat" | "Sub" | "Sum"
        | "Where" | "Xor" => broadcast_all(call),
        "QuantizeLinear" | "DequantizeLinear" => scaled(call),
        _ => return None,
    })
}

/// Operators that optimisers write in place of several of the standard's.
pub(super) fn contributed(call: &Call<'_>) -> Ruled {
    Some(match call.op {
        "FastGelu" | "Gelu" | "QuickGelu" if call.value(1).is_none() => unary(call),
        "BiasGelu" | "FastGelu" | "Gelu" => broadcast_all(call),
        "QuantizeLinear" | "DequantizeLinear" => scaled(call),
        _ => return None,
    })
}

fn unary(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let tensor = call.tensor(0)?.clone();
    if call.op == "Identity" {
        return Ok(vec![tensor.into()]);
    }
    Ok(vec![tensor.changed().into()])
}

fn clip(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let bounded = "takes its bounds from the data";
    call.invariant(1, bounded)?;
    call.invariant(2, bounded)?;
    unary(call)
}

/// Drops nothing outside of training.
fn dropout(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let training = "may drop elements at random, as in training";
    let trains = match call.opset {
        ..7 => call.int("is_test", 0) == 0,
        7..12 => false,
        _ => match call.value(2) {
            None => false,
            Some(value) => {
                let known = value.integers().and_then(|integers| integers.known());
                known.ok_or(training)?.iter().any(|flag| *flag != 0)
            }
        },
    };
    if trains {
        return Err(training);
    }
    let kept = call.tensor(0)?.clone().changed();
    Ok(vec![kept.clone().into(), kept.into()])
}

/// One scale for all elements, for each place of an axis, or for blocks of it.
fn scaled(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let from_data = "takes its scale from the data";
    let scale = call.invariant(1, from_data)?;
    let zero = call.invariant(2, from_data)?;
    let (tensor, shape) = call.shaped(0)?;
    if let Some(rows) = tensor.rows {
        let single = |tensor: &Tensor| {
            let shape = tensor.shape.as_deref();
            shape.is_some_and(|shape| shape.iter().all(Size::is_one))
        };
        let one_for_all = [scale, zero].into_iter().flatten().all(single);
        let axis = axis_of(call.int("axis", 1), shape.len());
        // A scale of a rank above 1 belongs to blocks, which have a place for each row.
        let flat = |tensor: &Tensor| tensor.rank() == Some(1);
        let along_axis =
            [scale, zero].into_iter().flatten().all(flat) && call.int("block_size", 0) == 0;
        if !one_for_all && (!along_axis || axis.is_none_or(|axis| axis == rows)) {
            return Err("has a scale of its own for each row");
        }
    }
    Ok(vec![tensor.clone().changed().into()])
}

fn broadcast_all(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    // Before version 7 the second shape was placed by an attribute.
    let old = matches!(
        call.op,
        "Add"
            | "And"
            | "Div"
            | "Equal"
            | "Greater"
            | "Less"
            | "Mul"
            | "Or"
            | "PRelu"
            | "Pow"
            | "Sub"
            | "Xor"
    );
    let mut joined: Option<Tensor> = None;
    for index in 0..call.inputs.len() {
        let next = call.tensor(index)?;
        joined = Some(match joined {
            None => next.clone(),
            Some(before) => {
                if call.domain.is_empty() && call.opset < 7 && old && before.shape != next.shape {
                    return Err("broadcasts by the rules of an old operator set");
                }
                broadcast(&before, next, call)?
            }
        });
    }
    let joined = joined.ok_or("has no inputs")?;
    Ok(vec![joined.changed().into()])
}

/// Two tensors, element by element, as numpy does it: the axis of the rows must meet itself, or a size that is surely 1.
pub(super) fn broadcast(one: &Tensor, other: &Tensor, call: &Call<'_>) -> Result<Tensor, Refusal> {
    let (Some(first), Some(second)) = (&one.shape, &other.shape) else {
        // Only one of them may be unknown; it may have any rank.
        return if one.rows.is_some() || other.rows.is_some() {
            Err(UNKNOWN_RANK)
        } else {
            Ok(Tensor::unknown())
        };
    };
    let rank = first.len().max(second.len());
    let place = |tensor: &Tensor, shape: &[Size]| tensor.rows.map(|rows| rows + rank - shape.len());
    let (of_one, of_other) = (place(one, first), place(other, second));
    if let (Some(of_one), Some(of_other)) = (of_one, of_other)
        && (of_one != of_other || one.row_size() != other.row_size())
    {
        return Err("brings each row together with others");
    }
    let rows = of_one.or(of_other);
    let sizes = (0..rank).map(|axis| {
        let [one, other] = [at(first, axis, rank), at(second, axis, rank)];
        meet(&one, &other, rows == Some(axis), call)
    });
    Ok(Tensor::with_rows(sizes.collect::<Result<_, _>>()?, rows))
}

/// The size at an axis of a shape that is filled up with ones from the left.
fn at(shape: &[Size], axis: usize, rank: usize) -> Size {
    let missing = rank - shape.len();
    axis.checked_sub(missing)
        .map_or(Size::ONE, |axis| shape[axis].clone())
}

fn meet(one: &Size, other: &Size, are_rows: bool, call: &Call<'_>) -> Result<Size, Refusal> {
    match (one.number(), other.number()) {
        _ if one == other => Ok(one.clone()),
        (_, Some(1)) => Ok(one.clone()),
        (Some(1), _) => Ok(other.clone()),
        _ if are_rows => Err("has another size where the rows are"),
        // The other one is 1 or the same, or it fails for every number of rows.
        (Some(_), None) => Ok(one.clone()),
        (None, Some(_)) => Ok(other.clone()),
        _ => Ok(call.symbols.fresh()),
    }
}
