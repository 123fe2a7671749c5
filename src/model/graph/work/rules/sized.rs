//! Operators whose outputs are as large as the numbers in an input say.

use super::super::fact::{Content, Fact, Number, axis_of, number};
use super::super::follow::{Call, Effect, Rule, Unbounded};
use super::dtype_of;
use super::elementwise::broadcasted;
use super::layout::sizes;
use crate::tensor::DType;

pub(super) fn find(op: &str) -> Option<Rule> {
    Some(match op {
        "Range" => range,
        "ConstantOfShape" => filled,
        "Expand" => expand,
        "Tile" => tile,
        "Pad" => pad,
        "OneHot" => one_hot,
        "Resize" | "Upsample" => resize,
        "CenterCropPad" => crop,
        "RandomNormal" | "RandomUniform" => random,
        "Multinomial" => drawn,
        "BlackmanWindow" | "HammingWindow" | "HannWindow" => window,
        "MelWeightMatrix" => mel,
        "AffineGrid" => grid,
        "Col2Im" => image,
        "MaxUnpool" => unpooled,
        "DFT" => transformed,
        "STFT" => windows,
        "ImageDecoder" => decoded,
        _ => return None,
    })
}

pub(super) fn contributed(op: &str) -> Option<Rule> {
    Some(match op {
        "Range" => range,
        "Pad" => pad,
        "BeamSearch" | "GreedySearch" | "Sampling" | "WhisperBeamSearch" => generated,
        "CropAndResize" | "MaxpoolWithMask" | "NGramRepeatBlock" | "Unique" => {
            super::as_large_as_inputs
        }
        _ => return None,
    })
}

type Ruled = Result<Effect, Unbounded>;

const MANY: Unbounded = "makes as many elements as the values of a request say";

/// A tensor of these sizes; a guess when they are not followed.
fn of_sizes(call: &Call<'_>, dtype: DType, numbers: Option<&[Number]>) -> Fact {
    let shape = numbers.and_then(|numbers| numbers.iter().map(|number| number.size()).collect());
    let is_inexact = numbers.is_some_and(|numbers| numbers.iter().any(|number| !number.is_exact));
    match shape {
        Some(shape) => call.result(dtype, shape).inexact(is_inexact),
        None => call.guess(dtype),
    }
}

/// A single number of an input, `Ok(None)` when it is the same for all requests but not followed.
fn single(call: &Call<'_>, index: usize) -> Result<Option<Number>, Unbounded> {
    Ok(sizes(call, index, MANY)?.and_then(|numbers| numbers.first().copied()))
}

fn range(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let ends = (single(call, 0)?, single(call, 1)?, single(call, 2)?);
    let (Some(start), Some(limit), Some(step)) = ends else {
        return Ok(Fact {
            content: Content::Fixed,
            ..call.guess(dtype)
        }
        .into());
    };
    // Whoever makes the step smaller, or turns it around, makes more.
    let is_whole = matches!(dtype, DType::I16 | DType::I32 | DType::I64);
    let is_bound = !(start.is_exact && limit.is_exact && step.is_exact);
    if is_bound && (step.value < 0.0 || (!step.is_exact && !is_whole)) {
        return Err(MANY);
    }
    let step = match step.is_exact {
        true => step,
        false => Number { value: 1.0, ..step },
    };
    // A start that is only a bound may be 0.
    let from = if start.is_exact {
        start.value
    } else {
        start.value.min(0.0)
    };
    let count = ((limit.value - from) / step.value).ceil();
    let count = if count.is_nan() { 0.0 } else { count.max(0.0) };
    let is_exact = start.is_exact && limit.is_exact && step.is_exact;
    let size = Number {
        value: count,
        is_exact,
    };
    if is_exact && count <= 64.0 {
        let numbers = (0..size.size().unwrap_or_default())
            .map(|index| Number::exactly(from + number(index) * step.value));
        return Ok(Fact::numbers(dtype, numbers.collect(), false).into());
    }
    let fact = Fact::shaped(dtype, vec![size.size().unwrap_or_default()], Content::Fixed);
    Ok(fact.inexact(!is_exact).into())
}

fn filled(call: &Call<'_>) -> Ruled {
    let numbers = sizes(call, 0, MANY)?;
    let value = call.tensor("value");
    let dtype = value.map_or(DType::F32, |value| value.dtype);
    let fact = of_sizes(call, dtype, numbers);
    let number = match value {
        Some(value) => value.known().and_then(|numbers| numbers.first().copied()),
        None => Some(Number::exactly(0.0)),
    };
    let is_short =
        fact.rank().is_some_and(|rank| rank <= 1) && fact.elements() <= 64 && fact.is_exact;
    let content = match number.filter(|_| is_short) {
        Some(number) => Content::Known((0..fact.elements()).map(|_| number).collect()),
        None => Content::Fixed,
    };
    Ok(Fact { content, ..fact }.into())
}

fn expand(call: &Call<'_>) -> Ruled {
    let numbers = sizes(call, 1, MANY)?;
    let dtype = call.dtype(0);
    let target = of_sizes(call, dtype, numbers);
    let both = call.input(0).into_iter().chain([&target]);
    let fact = match broadcasted(both) {
        Some(shape) => call.result(dtype, shape).inexact(!target.is_exact),
        None => Fact {
            guess: target.elements(),
            ..call.guess(dtype)
        },
    };
    // The same number everywhere is still known.
    let single = call
        .input(0)
        .and_then(|input| input.known())
        .filter(|numbers| numbers.len() == 1);
    let is_short = fact.rank().is_some_and(|rank| rank <= 1) && fact.elements() <= 64;
    let content = match single.filter(|_| is_short) {
        Some(numbers) => Content::Known((0..fact.elements()).map(|_| numbers[0]).collect()),
        None => super::super::fact::derived(call.input(0)),
    };
    Ok(Fact { content, ..fact }.into())
}

fn tile(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let Some(repeats) = sizes(call, 1, MANY)? else {
        return Ok(call.guess(dtype).into());
    };
    let is_inexact = repeats.iter().any(|number| !number.is_exact);
    let times = |repeat: &Number| repeat.size().unwrap_or_default();
    let fact = match call.shape(0) {
        Some(shape) => {
            let sizes = shape
                .iter()
                .zip(repeats)
                .map(|(size, repeat)| size.saturating_mul(times(repeat)));
            call.result(dtype, sizes.collect())
        }
        None => {
            let all = repeats.iter().map(times).fold(1, u64::saturating_mul);
            let guess = call.guess(dtype);
            Fact {
                guess: guess.guess.saturating_mul(all),
                ..guess
            }
        }
    };
    Ok(fact.inexact(is_inexact).into())
}

fn pad(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let fixed: Vec<Number>;
    let pads = match call.ints("pads").or_else(|| call.ints("paddings")) {
        Some(pads) => {
            fixed = pads
                .iter()
                .map(|pad| Number::exactly(super::super::fact::of_integer(*pad)))
                .collect();
            Some(fixed.as_slice())
        }
        None => sizes(call, 1, MANY)?,
    };
    let (Some(pads), Some(shape)) = (pads, call.shape(0)) else {
        return Ok(call.guess(dtype).into());
    };
    let axes: Vec<usize> = match call.input(3).and_then(Fact::known) {
        Some(axes) => axes
            .iter()
            .filter_map(|axis| axis_of(axis.whole(), shape.len()))
            .collect(),
        None => (0..shape.len()).collect(),
    };
    let mut padded = shape.to_vec();
    for (index, axis) in axes.iter().enumerate() {
        let at = |index: usize| pads.get(index).map_or(0, |pad| pad.whole());
        let more = at(index).saturating_add(at(index + axes.len()));
        padded[*axis] = padded[*axis].saturating_add_signed(more);
    }
    let is_inexact = pads.iter().any(|number| !number.is_exact);
    Ok(call.result(dtype, padded).inexact(is_inexact).into())
}

fn one_hot(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(2);
    let depth = single(call, 1)?;
    let shape = call.shape(0).zip(depth).and_then(|(shape, depth)| {
        let axis = call.int("axis", -1);
        let axis = axis_of(axis, shape.len() + 1)?;
        let mut shape = shape.to_vec();
        shape.insert(axis, depth.size()?);
        Some(shape)
    });
    let fact = match shape {
        Some(shape) => call
            .result(dtype, shape)
            .inexact(depth.is_some_and(|depth| !depth.is_exact)),
        None => call.guess(dtype),
    };
    Ok(fact.into())
}

fn resize(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let is_upsample = &*call.step.op == "Upsample" || call.step.opset < 11;
    let (scales_at, sizes_at) = if is_upsample { (1, usize::MAX) } else { (2, 3) };
    let axes = call.ints("axes");
    let Some(shape) = call.shape(0) else {
        sizes(call, scales_at, MANY)?;
        sizes(call, sizes_at, MANY)?;
        return Ok(call.guess(dtype).into());
    };
    let axes: Vec<usize> = match axes {
        Some(axes) => axes
            .iter()
            .filter_map(|axis| axis_of(*axis, shape.len()))
            .collect(),
        None => (0..shape.len()).collect(),
    };
    let mut resized = shape.to_vec();
    if let Some(fact) = call.input(sizes_at).filter(|fact| fact.elements() > 0) {
        let Some(numbers) = sizes(call, sizes_at, MANY)? else {
            return Ok(call.guess(dtype).into());
        };
        for (axis, number) in axes.iter().zip(numbers) {
            resized[*axis] = number.size().unwrap_or_default();
        }
        let is_exact = numbers.iter().all(|number| number.is_exact) && fact.is_exact;
        return Ok(call.result(dtype, resized).inexact(!is_exact).into());
    }
    let fixed: Vec<Number>;
    let scales = match call.floats("scales") {
        Some(scales) => {
            fixed = scales
                .iter()
                .map(|scale| Number::exactly((*scale).into()))
                .collect();
            Some(fixed.as_slice())
        }
        None => sizes(call, scales_at, MANY)?,
    };
    let Some(scales) = scales else {
        return Ok(call.guess(dtype).into());
    };
    for (axis, scale) in axes.iter().zip(scales) {
        let size = Number::exactly((number(resized[*axis]) * scale.value).floor());
        resized[*axis] = size.size().unwrap_or_default();
    }
    let is_inexact = scales.iter().any(|scale| !scale.is_exact);
    Ok(call.result(dtype, resized).inexact(is_inexact).into())
}

fn crop(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let (Some(numbers), Some(shape)) = (sizes(call, 1, MANY)?, call.shape(0)) else {
        return Ok(call.guess(dtype).into());
    };
    let axes: Vec<usize> = match call.ints("axes") {
        Some(axes) => axes
            .iter()
            .filter_map(|axis| axis_of(*axis, shape.len()))
            .collect(),
        None => (0..shape.len()).collect(),
    };
    let mut cropped = shape.to_vec();
    for (axis, number) in axes.iter().zip(numbers) {
        cropped[*axis] = number.size().unwrap_or_default();
    }
    let is_inexact = numbers.iter().any(|number| !number.is_exact);
    Ok(call.result(dtype, cropped).inexact(is_inexact).into())
}

fn random(call: &Call<'_>) -> Ruled {
    let sizes = call.ints("shape").unwrap_or_default();
    let shape: Option<Vec<u64>> = sizes.iter().map(|size| u64::try_from(*size).ok()).collect();
    let dtype = dtype_of(call.int("dtype", 1)).unwrap_or(DType::F32);
    Ok(Fact::shaped(dtype, shape.unwrap_or_default(), Content::Fixed).into())
}

fn drawn(call: &Call<'_>) -> Ruled {
    let rows = call
        .shape(0)
        .and_then(|shape| shape.first().copied())
        .unwrap_or(1);
    let count = u64::try_from(call.int("sample_size", 1)).unwrap_or(1);
    Ok(call.result(DType::I64, vec![rows, count]).into())
}

fn window(call: &Call<'_>) -> Ruled {
    let size = sizes(call, 0, MANY)?;
    let fact = of_sizes(call, DType::F32, size.and_then(|numbers| numbers.get(..1)));
    Ok(Fact {
        content: Content::Fixed,
        ..fact
    }
    .into())
}

fn mel(call: &Call<'_>) -> Ruled {
    let (bins, length) = (single(call, 0)?, single(call, 1)?);
    let sizes = bins.zip(length).map(|(bins, length)| {
        [
            Number {
                value: (length.value / 2.0).floor() + 1.0,
                ..length
            },
            bins,
        ]
    });
    let fact = of_sizes(
        call,
        DType::F32,
        sizes.as_ref().map(<[Number; 2]>::as_slice),
    );
    Ok(fact.into())
}

fn grid(call: &Call<'_>) -> Ruled {
    let Some(numbers) = sizes(call, 1, MANY)? else {
        return Ok(call.guess(call.dtype(0)).into());
    };
    let spatial = numbers.get(2..).unwrap_or_default();
    let batch = numbers.first().copied();
    let last = Number::exactly(number(spatial.len() as u64));
    let all: Vec<Number> = batch
        .into_iter()
        .chain(spatial.iter().copied())
        .chain([last])
        .collect();
    Ok(of_sizes(call, call.dtype(0), Some(&all)).into())
}

fn image(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let (Some(image), Some(block)) = (sizes(call, 1, MANY)?, sizes(call, 2, MANY)?) else {
        return Ok(call.guess(dtype).into());
    };
    let pixels = block
        .iter()
        .filter_map(|number| number.size())
        .fold(1, u64::saturating_mul);
    let shape = call.shape(0).and_then(|shape| {
        let [batch, channels, _] = *shape else {
            return None;
        };
        let mut sizes = vec![batch, channels / pixels.max(1)];
        for number in image {
            sizes.push(number.size()?);
        }
        Some(sizes)
    });
    Ok(shape
        .map_or_else(|| call.guess(dtype), |shape| call.result(dtype, shape))
        .into())
}

fn unpooled(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    if call.input(2).is_some() {
        let numbers = sizes(call, 2, MANY)?;
        return Ok(of_sizes(call, dtype, numbers).into());
    }
    let Some(shape) = call.shape(0) else {
        return Ok(call.guess(dtype).into());
    };
    let (kernel, strides) = (
        call.ints("kernel_shape").unwrap_or_default(),
        call.ints("strides"),
    );
    let mut sizes = shape.to_vec();
    for (index, size) in sizes.iter_mut().skip(2).enumerate() {
        let at = |list: Option<&[i64]>| {
            list.and_then(|list| list.get(index))
                .map_or(1, |size| size.unsigned_abs())
        };
        let (stride, kernel) = (at(strides), at(Some(kernel)));
        *size = size
            .saturating_sub(1)
            .saturating_mul(stride)
            .saturating_add(kernel);
    }
    Ok(call.result(dtype, sizes).into())
}

fn transformed(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let length = if call.input(1).is_some() {
        single(call, 1)?
    } else {
        None
    };
    let shape = call.shape(0).map(|shape| {
        let mut shape = shape.to_vec();
        if let Some(last) = shape.last_mut() {
            *last = 2;
        }
        let axis = if call.step.opset >= 20 {
            call.input(2)
                .and_then(|axis| axis.known()?.first().copied())
                .map_or(-2, Number::whole)
        } else {
            call.int("axis", 1)
        };
        if let (Some(axis), Some(length)) =
            (axis_of(axis, shape.len()), length.and_then(Number::size))
        {
            shape[axis] = length;
        }
        shape
    });
    Ok(shape
        .map_or_else(|| call.guess(dtype), |shape| call.result(dtype, shape))
        .into())
}

fn windows(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let step = single(call, 1)?;
    let length = match call.shape(2).and_then(|shape| shape.first().copied()) {
        Some(length) => Some(length),
        None => single(call, 3)?.and_then(Number::size),
    };
    let shape = call
        .shape(0)
        .zip(step)
        .zip(length)
        .and_then(|((shape, step), length)| {
            let (batch, signal) = (*shape.first()?, *shape.get(1)?);
            // A step that is only a bound may be 1.
            let step = if step.is_exact {
                step.size()?.max(1)
            } else {
                1
            };
            let frames = signal.saturating_sub(length) / step + 1;
            let bins = if call.int("onesided", 1) != 0 {
                length / 2 + 1
            } else {
                length
            };
            Some(vec![batch, frames, bins, 2])
        });
    Ok(shape
        .map_or_else(|| call.guess(dtype), |shape| call.result(dtype, shape))
        .into())
}

fn decoded(_: &Call<'_>) -> Ruled {
    Err("makes an image as large as the bytes of a request say")
}

fn generated(call: &Call<'_>) -> Ruled {
    sizes(call, 1, "runs as often as the values of a request say")?;
    super::as_large_as_inputs(call)
}
