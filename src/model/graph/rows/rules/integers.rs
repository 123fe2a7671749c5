//! Sizes that a graph calculates: Shape, then Gather, Concat and the like, followed element by element.

use super::super::call::Call;
use super::super::size::{Number, Size, axis_of, product};
use super::super::value::{Integers, Value};

/// The outputs, where they are integers that are followed.
pub(super) fn follow(call: &Call<'_>) -> Option<Vec<Value>> {
    if !call.domain.is_empty() {
        return None;
    }
    let result = match call.op {
        "Shape" => shape(call),
        "Size" => Some(Integers::scalar(Number::of_size(&product(shape_of(
            call,
        )?)?))),
        "Gather" => gather(call),
        "Concat" => concat(call),
        "Slice" => slice(call),
        "Split" => return split(call),
        "Squeeze" | "Unsqueeze" | "Reshape" => reshape(call),
        "Cast" => cast(call),
        "Identity" => input(call, 0).cloned(),
        "ReduceProd" => reduce_prod(call),
        "Where" => choose(call),
        "Not" => map(call, |number| match number {
            Number::Known(flag) => Number::Known(i64::from(*flag == 0)),
            other => Number::unknown(&[other]),
        }),
        "Neg" => map(call, |number| match number {
            Number::Known(number) => number
                .checked_neg()
                .map_or(Number::Invariant, Number::Known),
            other => Number::unknown(&[other]),
        }),
        "Add" | "And" | "Div" | "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual"
        | "Max" | "Min" | "Mod" | "Mul" | "Or" | "Sub" => calculate(call),
        _ => None,
    };
    result.map(|integers| vec![integers.into()])
}

fn input<'a>(call: &'a Call<'_>, index: usize) -> Option<&'a Integers> {
    call.value(index)?.integers()
}

fn shape_of<'a>(call: &'a Call<'_>) -> Option<&'a [Size]> {
    match call.value(0)? {
        Value::Tensor(tensor) if tensor.padded.is_none() => tensor.shape.as_deref(),
        _ => None,
    }
}

fn shape(call: &Call<'_>) -> Option<Integers> {
    let own;
    let shape = match call.value(0)? {
        Value::Sizes(integers) => {
            own = integers.shape();
            &own
        }
        Value::Positions(positions) => &positions.shape,
        _ => shape_of(call)?,
    };
    let rank = i64::try_from(shape.len()).ok()?;
    let place = |place: i64| {
        let place = if place < 0 {
            place.saturating_add(rank)
        } else {
            place
        };
        usize::try_from(place.clamp(0, rank)).ok()
    };
    let (start, end) = (place(call.int("start", 0))?, place(call.int("end", rank))?);
    let sizes = shape.get(start..end.max(start))?;
    Some(Integers::vector(
        sizes.iter().map(Number::of_size).collect(),
    ))
}

fn gather(call: &Call<'_>) -> Option<Integers> {
    let data = input(call, 0)?;
    let indices = input(call, 1)?;
    if data.is_scalar || axis_of(call.int("axis", 0), 1).is_none() {
        return None;
    }
    let element = |index: i64| {
        data.elements
            .get(axis_of(index, data.elements.len())?)
            .cloned()
    };
    let elements = indices
        .known()?
        .into_iter()
        .map(element)
        .collect::<Option<_>>()?;
    Some(Integers {
        elements,
        is_scalar: indices.is_scalar,
    })
}

/// Longer lists are no shape.
const MOST: usize = 1024;

fn concat(call: &Call<'_>) -> Option<Integers> {
    let mut elements = Vec::new();
    for index in 0..call.inputs.len() {
        if elements.len() > MOST {
            return None;
        }
        let part = call.value(index)?;
        match part.integers() {
            Some(part) if !part.is_scalar => elements.extend_from_slice(&part.elements),
            Some(_) => return None,
            // A part of which only the length is known.
            None => {
                let Value::Tensor(tensor) = part else {
                    return None;
                };
                let [size] = tensor.shape.as_deref()? else {
                    return None;
                };
                let length = size
                    .number()
                    .filter(|length| *length <= 64 && tensor.rows.is_none())?;
                let unknown = std::iter::repeat_n(Number::Invariant, usize::try_from(length).ok()?);
                elements.extend(unknown);
            }
        }
    }
    let followed = (0..call.inputs.len()).any(|index| input(call, index).is_some());
    followed.then(|| Integers::vector(elements))
}

fn slice(call: &Call<'_>) -> Option<Integers> {
    let data = input(call, 0)?;
    let number = |name: &str, index: usize| match call.ints(name) {
        Some([number]) => Some(*number),
        Some(_) => None,
        None => match input(call, index)?.known()?.as_slice() {
            [number] => Some(*number),
            _ => None,
        },
    };
    let step = if call.value(4).is_some() {
        number("steps", 4)?
    } else {
        1
    };
    let (start, end) = (number("starts", 1)?, number("ends", 2)?);
    if data.is_scalar || step != 1 {
        return None;
    }
    let length = i64::try_from(data.elements.len()).ok()?;
    let place = |place: i64| {
        let place = if place < 0 {
            place.saturating_add(length)
        } else {
            place
        };
        usize::try_from(place.clamp(0, length)).ok()
    };
    let (start, end) = (place(start)?, place(end)?);
    Some(Integers::vector(
        data.elements.get(start..end.max(start))?.to_vec(),
    ))
}

fn split(call: &Call<'_>) -> Option<Vec<Value>> {
    let data = input(call, 0)?;
    let given = match call.ints("split") {
        Some(sizes) => Some(sizes.to_vec()),
        None if call.value(1).is_some() => Some(input(call, 1)?.known()?),
        None => None,
    };
    let even = data.elements.len().checked_div(call.outputs)?;
    let sizes: Vec<usize> = match given {
        Some(sizes) => sizes
            .into_iter()
            .map(|size| usize::try_from(size).ok())
            .collect::<Option<_>>()?,
        None => vec![even; call.outputs],
    };
    if data.is_scalar
        || sizes.len() != call.outputs
        || sizes.iter().sum::<usize>() != data.elements.len()
    {
        return None;
    }
    let mut rest = data.elements.as_slice();
    let parts = sizes.into_iter().map(|size| {
        let (part, behind) = rest.split_at_checked(size)?;
        rest = behind;
        Some(Integers::vector(part.to_vec()).into())
    });
    parts.collect()
}

/// Between a number and a list of one, or to the same rank.
fn reshape(call: &Call<'_>) -> Option<Integers> {
    let data = input(call, 0)?;
    let is_scalar = match call.op {
        "Unsqueeze" if data.is_scalar => false,
        "Squeeze" if !data.is_scalar && data.elements.len() == 1 => true,
        "Reshape" => {
            let target = match call.ints("shape") {
                Some(target) => target.to_vec(),
                None => input(call, 1)?.known()?,
            };
            match target.as_slice() {
                [] if data.elements.len() == 1 => true,
                [-1] => false,
                [size] if usize::try_from(*size).is_ok_and(|size| size == data.elements.len()) => {
                    false
                }
                _ => return None,
            }
        }
        _ => return None,
    };
    // One axis more makes a list of a number; two make what is not followed.
    let axes = call.numbers("axes", 1).ok().flatten();
    if call.op == "Unsqueeze" && axes.is_some_and(|axes| axes.len() != 1) {
        return None;
    }
    Some(Integers {
        elements: data.elements.clone(),
        is_scalar,
    })
}

fn cast(call: &Call<'_>) -> Option<Integers> {
    const INT32: i64 = 6;
    const INT64: i64 = 7;
    const BOOL: i64 = 9;
    let data = input(call, 0)?;
    match call.int("to", 0) {
        INT32 => map(call, |number| match number {
            Number::Known(number) if i32::try_from(*number).is_err() => Number::Invariant,
            other => other.clone(),
        }),
        INT64 => Some(data.clone()),
        BOOL => map(call, |number| match number {
            Number::Known(number) => Number::Known(i64::from(*number != 0)),
            other => Number::unknown(&[other]),
        }),
        _ => None,
    }
}

fn reduce_prod(call: &Call<'_>) -> Option<Integers> {
    let data = input(call, 0)?;
    let one = Number::Known(1);
    let whole = data
        .elements
        .iter()
        .fold(one, |product, number| times(&product, number));
    let keeps = call.int("keepdims", 1) != 0 && !data.is_scalar;
    Some(Integers {
        elements: vec![whole],
        is_scalar: !keeps,
    })
}

fn map(call: &Call<'_>, change: impl Fn(&Number) -> Number) -> Option<Integers> {
    let data = input(call, 0)?;
    Some(Integers {
        elements: data.elements.iter().map(change).collect(),
        is_scalar: data.is_scalar,
    })
}

/// Pairs of elements; one of the two may be a single number.
fn paired(
    one: &Integers,
    other: &Integers,
    with: impl Fn(&Number, &Number) -> Number,
) -> Option<Integers> {
    let length = match (one.elements.len(), other.elements.len()) {
        (one, other) if one == other => one,
        (1, length) | (length, 1) => length,
        _ => return None,
    };
    let at = |integers: &Integers, index: usize| {
        let single = integers.elements.len() == 1;
        integers
            .elements
            .get(if single { 0 } else { index })
            .cloned()
    };
    let pairs = (0..length).map(|index| Some(with(&at(one, index)?, &at(other, index)?)));
    Some(Integers {
        elements: pairs.collect::<Option<_>>()?,
        is_scalar: one.is_scalar && other.is_scalar,
    })
}

fn choose(call: &Call<'_>) -> Option<Integers> {
    let condition = input(call, 0)?.known()?;
    let condition = Integers::vector(condition.into_iter().map(Number::Known).collect());
    let (yes, no) = (input(call, 1)?, input(call, 2)?);
    let is_scalar = input(call, 0)?.is_scalar && yes.is_scalar && no.is_scalar;
    // Twice two of three: where the condition holds, and where it does not.
    let missing = Number::Known(i64::MIN);
    let taken = paired(&condition, yes, |flag, yes| {
        if flag.known() == Some(0) {
            missing.clone()
        } else {
            yes.clone()
        }
    })?;
    let other = paired(&condition, no, |flag, no| {
        if flag.known() == Some(0) {
            no.clone()
        } else {
            missing.clone()
        }
    })?;
    let both = paired(&taken, &other, |taken, other| {
        if *taken == missing {
            other.clone()
        } else {
            taken.clone()
        }
    })?;
    Some(Integers { is_scalar, ..both })
}

fn calculate(call: &Call<'_>) -> Option<Integers> {
    if call.inputs.len() != 2 || (call.opset < 7 && call.has("axis")) {
        return None;
    }
    let (one, other) = (input(call, 0)?, input(call, 1)?);
    paired(one, other, |one, other| match call.op {
        "Mul" => times(one, other),
        "Div" => divided(one, other),
        op => match (one.known(), other.known()) {
            (Some(first), Some(second)) => known(op, first, second),
            _ => compared(op, one, other).unwrap_or_else(|| Number::unknown(&[one, other])),
        },
    })
}

fn times(one: &Number, other: &Number) -> Number {
    let product = match (one.known(), other.known()) {
        (Some(one), Some(other)) => one.checked_mul(other).map(Number::Known),
        (Some(0), _) | (_, Some(0)) => Some(Number::Known(0)),
        _ => {
            let sizes = one.to_size().zip(other.to_size());
            sizes
                .and_then(|(one, other)| one.times(&other))
                .map(|size| Number::of_size(&size))
        }
    };
    product.unwrap_or_else(|| Number::unknown(&[one, other]))
}

fn divided(one: &Number, other: &Number) -> Number {
    let quotient = match (one.known(), other.known()) {
        // Engines round towards zero.
        (Some(one), Some(other)) => one.checked_div(other).map(Number::Known),
        _ => {
            let sizes = one.to_size().zip(other.to_size());
            sizes
                .and_then(|(one, other)| one.divided_by(&other))
                .map(|size| Number::of_size(&size))
        }
    };
    quotient.unwrap_or_else(|| Number::unknown(&[one, other]))
}

fn known(op: &str, one: i64, other: i64) -> Number {
    let result = match op {
        "Add" => one.checked_add(other),
        "Sub" => one.checked_sub(other),
        "Mod" => (one >= 0 && other > 0).then(|| one % other),
        "Max" => Some(one.max(other)),
        "Min" => Some(one.min(other)),
        "And" => Some(i64::from(one != 0 && other != 0)),
        "Or" => Some(i64::from(one != 0 || other != 0)),
        "Equal" => Some(i64::from(one == other)),
        "Greater" => Some(i64::from(one > other)),
        "GreaterOrEqual" => Some(i64::from(one >= other)),
        "Less" => Some(i64::from(one < other)),
        "LessOrEqual" => Some(i64::from(one <= other)),
        _ => None,
    };
    result.map_or(Number::Invariant, Number::Known)
}

/// What is certain of sizes that are no numbers: they equal themselves, and none is negative.
fn compared(op: &str, one: &Number, other: &Number) -> Option<Number> {
    let is_same = matches!((one, other), (Number::Size(one), Number::Size(other)) if one == other);
    let is_negative = |number: &Number| number.known().is_some_and(|number| number < 0);
    let is_size = |number: &Number| matches!(number, Number::Size(_));
    let apart = (is_negative(one) && is_size(other)) || (is_size(one) && is_negative(other));
    match op {
        "Equal" if is_same => Some(Number::Known(1)),
        "Equal" if apart => Some(Number::Known(0)),
        "Max" | "Min" if is_same => Some(one.clone()),
        _ => None,
    }
}
