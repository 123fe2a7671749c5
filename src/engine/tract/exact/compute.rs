//! What operators compute, on any number.

use std::cmp::Ordering;

use tract_onnx::prelude::tract_ndarray::{ArrayD, ArrayViewD, Axis};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::OneHot;

/// `f32` and `f64`.
pub(super) trait Float: Datum + Copy + tract_num_traits::Float {
    fn from_f64(number: f64) -> Self;
    fn widened(self) -> f64;
}

impl Float for f32 {
    #[expect(clippy::cast_possible_truncation, reason = "the nearest one is meant")]
    fn from_f64(number: f64) -> Self {
        number as Self
    }

    fn widened(self) -> f64 {
        f64::from(self)
    }
}

impl Float for f64 {
    fn from_f64(number: f64) -> Self {
        number
    }

    fn widened(self) -> f64 {
        self
    }
}

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unary {
    Sigmoid,
    Tanh,
    Silu,
    HardSwish,
    /// With this power of the number in it.
    Gelu {
        power: i32,
    },
    Exp,
    Ln,
    Acosh,
    Asinh,
}

impl Unary {
    pub(super) fn of<T: Float>(self, x: T) -> T {
        match self {
            Self::Sigmoid => T::one() / (T::one() + (-x).exp()),
            Self::Tanh => x.tanh(),
            Self::Silu => x * Self::Sigmoid.of(x),
            Self::HardSwish => {
                let share = x * T::from_f64(1.0 / 6.0) + T::from_f64(0.5);
                let share = End::Least.of(share, T::one());
                x * End::Greatest.of(share, T::zero())
            }
            Self::Gelu { power } => {
                let slope = T::from_f64((2.0 / std::f64::consts::PI).sqrt());
                let inner = slope * (x + T::from_f64(0.044_715) * x.powi(power));
                T::from_f64(0.5) * x * (T::one() + inner.tanh())
            }
            Self::Exp => x.exp(),
            Self::Ln => x.ln(),
            // The square of a large number has no room in single precision.
            Self::Acosh => T::from_f64(x.widened().acosh()),
            Self::Asinh => T::from_f64(x.widened().asinh()),
        }
    }
}

/// Which one of several is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Greatest,
    Least,
}

impl End {
    /// Of two; a missing number wins.
    fn of<T: Float>(self, one: T, other: T) -> T {
        if one.is_nan() || other.is_nan() {
            return T::nan();
        }
        if self.is_beaten(one, other) {
            other
        } else {
            one
        }
    }

    fn is_beaten<T: Float>(self, one: T, by: T) -> bool {
        match self {
            Self::Greatest => by > one,
            Self::Least => by < one,
        }
    }

    /// What every number beats.
    fn worst<T: Float>(self) -> T {
        match self {
            Self::Greatest => T::neg_infinity(),
            Self::Least => T::infinity(),
        }
    }
}

/// Element by element, in the shape that both have together.
pub(super) fn extreme_of_two<T: Float>(
    one: &ArrayViewD<T>,
    other: &ArrayViewD<T>,
    end: End,
) -> TractResult<ArrayD<T>> {
    let (mut one, other) = together(one, other)?;
    one.zip_mut_with(&other, |one, other| *one = end.of(*one, *other));
    Ok(one)
}

/// The axes keep a size of 1.
pub(super) fn extreme_along<T: Float>(
    array: &ArrayViewD<T>,
    axes: &[usize],
    end: End,
) -> ArrayD<T> {
    along(array.to_owned(), axes, end.worst(), |one, other| {
        end.of(one, other)
    })
}

fn along<T: Float>(
    array: ArrayD<T>,
    axes: &[usize],
    first: T,
    both: impl Fn(T, T) -> T,
) -> ArrayD<T> {
    axes.iter().fold(array, |array, &axis| {
        let folded = array.fold_axis(Axis(axis), first, |one, other| both(*one, *other));
        folded.insert_axis(Axis(axis))
    })
}

/// The axes keep a size of 1; of several axes the last one counts.
pub(super) fn place_of_extreme<T: Float>(
    array: &ArrayViewD<T>,
    axes: &[usize],
    (end, last): (End, bool),
) -> ArrayD<i64> {
    let mut places = array.mapv(|_| 0_i64);
    for &axis in axes {
        let found = array.map_axis(Axis(axis), |lane| {
            let mut best = (0_i64, lane.first().copied().unwrap_or_else(T::zero));
            for (at, &number) in (1_i64..).zip(lane.iter().skip(1)) {
                if end.is_beaten(best.1, number) || (last && number == best.1) {
                    best = (at, number);
                }
            }
            best.0
        });
        places = found.insert_axis(Axis(axis));
    }
    places
}

pub(super) fn softmax<T: Float>(
    mut array: ArrayD<T>,
    axes: &[usize],
    logarithm: bool,
) -> ArrayD<T> {
    let greatest = extreme_along(&array.view(), axes, End::Greatest);
    if let Some(greatest) = greatest.broadcast(array.raw_dim()) {
        array.zip_mut_with(&greatest, |number, greatest| *number = *number - *greatest);
    }
    let powers = array.mapv(T::exp);
    let sums = along(powers.clone(), axes, T::zero(), |one, other| one + other);
    let mut answer = if logarithm { array } else { powers };
    if let Some(sums) = sums.broadcast(answer.raw_dim()) {
        answer.zip_mut_with(&sums, |number, sum| {
            *number = match logarithm {
                true => *number - sum.ln(),
                false => *number / *sum,
            };
        });
    }
    answer
}

/// With one class more, for what is beyond the others, which is cut off again.
pub(super) fn one_hot(
    op: &OneHot,
    context: &EvalContext,
    indices: &Tensor,
) -> TractResult<TVec<TValue>> {
    let classes = i64::try_from(op.dim)?;
    let indices = indices.cast_to::<i64>()?;
    let indices = indices.to_plain_array_view::<i64>()?.mapv(|index| {
        let index = if index < 0 {
            index.saturating_add(classes)
        } else {
            index
        };
        if (0..classes).contains(&index) {
            index
        } else {
            classes
        }
    });
    let wider = OneHot {
        dim: op.dim + 1,
        ..op.clone()
    };
    let indices = indices.into_tensor().into_tvalue();
    let hot = wider.eval(context, tvec!(indices))?.remove(0);
    Ok(tvec!(hot.slice(op.axis, 0, op.dim)?.into_tvalue()))
}

/// tract's pool passes missing numbers by: another one tells where they are.
pub(super) fn max_pool(
    inner: &dyn TypedOp,
    context: &EvalContext,
    inputs: TVec<TValue>,
) -> TractResult<TVec<TValue>> {
    let dt = inputs[0].datum_type();
    let numbers = inputs[0].cast_to::<f64>()?;
    let missing = numbers.to_plain_array_view::<f64>()?;
    let missing = missing.mapv(|number| if number.is_nan() { 1_f64 } else { 0.0 });
    let missing = missing.into_tensor().cast_to_dt(dt)?.into_owned();
    let missing = inner.eval(context, tvec!(missing.into_tvalue()))?.remove(0);
    let missing = missing.cast_to::<f64>()?;
    let pooled = inner.eval(context, inputs)?.remove(0);
    let mut pooled = pooled
        .cast_to::<f64>()?
        .to_plain_array_view::<f64>()?
        .to_owned();
    pooled.zip_mut_with(&missing.to_plain_array_view::<f64>()?, |pooled, missing| {
        if *missing > 0.0 {
            *pooled = f64::NAN;
        }
    });
    let pooled = pooled.into_tensor().cast_to_dt(dt)?.into_owned();
    Ok(tvec!(pooled.into_tvalue()))
}

/// So many of the largest numbers along an axis, or of the smallest, and where they are; of equal ones the first comes
/// first.
pub(super) fn best<T: Float>(
    array: &ArrayViewD<T>,
    (axis, largest): (usize, bool),
    count: usize,
) -> TractResult<(ArrayD<T>, ArrayD<i64>)> {
    let mut shape = array.shape().to_vec();
    let size = shape.get(axis).copied().unwrap_or_default();
    ensure!(count <= size, "the {count} best of {size} are asked for");
    shape[axis] = count;
    let mut values = ArrayD::<T>::zeros(shape.clone());
    let mut places = ArrayD::<i64>::zeros(shape);
    let results = values.lanes_mut(Axis(axis)).into_iter();
    let results = results.zip(places.lanes_mut(Axis(axis)));
    for (lane, (mut values, mut places)) in array.lanes(Axis(axis)).into_iter().zip(results) {
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|&one, &other| match largest {
            true => ascending(lane[other], lane[one]),
            false => ascending(lane[one], lane[other]),
        });
        for (rank, &at) in order.iter().take(count).enumerate() {
            values[rank] = lane[at];
            places[rank] = i64::try_from(at)?;
        }
    }
    Ok((values, places))
}

/// A missing number is above all others.
fn ascending<T: Float>(one: T, other: T) -> Ordering {
    let known = one.partial_cmp(&other);
    known.unwrap_or_else(|| one.is_nan().cmp(&other.is_nan()))
}

/// From floats to integers by way of 32 or 64 bits, as compilers do it for ONNX Runtime.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the bits that have room are meant"
)]
pub(super) fn cast(input: &Tensor, to: DatumType) -> TractResult<TVec<TValue>> {
    let input = input.cast_to::<f64>()?;
    let numbers = input.to_plain_array_view::<f64>()?;
    // 2⁶³ is a float, and the largest integer is not.
    let wide = |number: f64| match number.abs() < 9_223_372_036_854_775_808.0 {
        true => number as i64,
        false => i64::MIN,
    };
    let narrow = |number: f64| i32::try_from(wide(number)).unwrap_or(i32::MIN);
    let cast = match to {
        DatumType::I64 => numbers.mapv(wide).into_tensor(),
        DatumType::I32 => numbers.mapv(narrow).into_tensor(),
        DatumType::I16 => numbers.mapv(|number| narrow(number) as i16).into_tensor(),
        DatumType::I8 => numbers.mapv(|number| narrow(number) as i8).into_tensor(),
        DatumType::U16 => numbers.mapv(|number| narrow(number) as u16).into_tensor(),
        DatumType::U8 => numbers.mapv(|number| narrow(number) as u8).into_tensor(),
        DatumType::U32 => numbers.mapv(|number| wide(number) as u32).into_tensor(),
        _ => input.cast_to_dt(to)?.into_owned(),
    };
    Ok(tvec!(cast.into_tvalue()))
}

/// One step: the new hidden state and the new cell, from gates in ONNX's order (i, o, f, c) before their activation, and
/// the cell before.
pub(super) fn lstm<T: Float>(inputs: &[TValue]) -> TractResult<TVec<TValue>> {
    let (dt, shape) = (inputs[1].datum_type(), inputs[1].shape());
    let (gates, before) = (inputs[0].cast_to::<T>()?, inputs[1].cast_to::<T>()?);
    let (gates, before) = (gates.try_as_plain_ram()?, before.try_as_plain_ram()?);
    let (gates, before) = (gates.as_slice::<T>()?, before.as_slice::<T>()?);
    let size = shape.last().copied().unwrap_or_default().max(1);
    let (mut hidden, mut cells) = (Vec::new(), Vec::new());
    let sigmoid = |x: T| Unary::Sigmoid.of(x);
    for (gates, before) in gates.chunks(4 * size).zip(before.chunks(size)) {
        for (at, before) in before.iter().enumerate() {
            let gate = |number: usize| gates[number * size + at];
            let cell = sigmoid(gate(2)) * *before + sigmoid(gate(0)) * gate(3).tanh();
            hidden.push(sigmoid(gate(1)) * cell.tanh());
            cells.push(cell);
        }
    }
    let in_shape = |numbers: Vec<T>| -> TractResult<TValue> {
        let tensor = ArrayD::from_shape_vec(shape, numbers)?.into_tensor();
        Ok(tensor.cast_to_dt(dt)?.into_owned().into_tvalue())
    };
    Ok(tvec!(in_shape(hidden)?, in_shape(cells)?))
}

/// tract takes the number of bits modulo the width.
#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "bits as they stand are meant"
)]
pub(super) fn shift(left: bool, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
    let dt = inputs[0].datum_type();
    let width = u32::try_from(dt.size_of() * 8)?;
    let (numbers, bits) = match dt {
        DatumType::U64 => (wide(&inputs[0])?, wide(&inputs[1])?),
        _ => (
            inputs[0].cast_to::<i64>()?.into_owned(),
            inputs[1].cast_to::<i64>()?.into_owned(),
        ),
    };
    let (mut numbers, bits) = together(
        &numbers.to_plain_array_view::<i64>()?,
        &bits.to_plain_array_view::<i64>()?,
    )?;
    let (unused, is_signed) = (64 - width, dt.is_signed());
    numbers.zip_mut_with(&bits, |number, bits| {
        let bits = u32::try_from(*bits).unwrap_or(width);
        let shifted = match (left, bits < width) {
            (true, true) => *number << bits,
            (false, true) if is_signed => *number >> bits,
            (false, true) => (*number as u64 >> bits) as i64,
            (false, false) if is_signed => *number >> 63,
            (_, false) => 0,
        };
        // What has room in this width.
        *number = match is_signed {
            true => shifted << unused >> unused,
            false => ((shifted as u64) << unused >> unused) as i64,
        };
    });
    let shifted = match dt {
        DatumType::U64 => numbers.mapv(|number| number as u64).into_tensor(),
        dt => numbers.into_tensor().cast_to_dt(dt)?.into_owned(),
    };
    Ok(tvec!(shifted.into_tvalue()))
}

#[expect(clippy::cast_possible_wrap, reason = "bits as they stand are meant")]
fn wide(tensor: &Tensor) -> TractResult<Tensor> {
    let numbers = tensor.to_plain_array_view::<u64>()?;
    Ok(numbers.mapv(|number| number as i64).into_tensor())
}

/// Both in the shape that they have together.
fn together<T: Datum>(
    one: &ArrayViewD<T>,
    other: &ArrayViewD<T>,
) -> TractResult<(ArrayD<T>, ArrayD<T>)> {
    let shape = multi_broadcast(&[one.shape(), other.shape()])?;
    let in_shape = |array: &ArrayViewD<T>| array.broadcast(&*shape).map(|array| array.to_owned());
    match (in_shape(one), in_shape(other)) {
        (Some(one), Some(other)) => Ok((one, other)),
        _ => bail!(
            "shapes {:?} and {:?} do not go together",
            one.shape(),
            other.shape()
        ),
    }
}
