//! Convolutions, pooling and their like.

use super::super::fact::{Fact, product};
use super::super::follow::{Call, Effect, Rule, Unbounded};
use crate::tensor::DType;

pub(super) fn find(op: &str) -> Option<Rule> {
    Some(match op {
        "Conv" | "ConvInteger" | "QLinearConv" => convolution,
        "ConvTranspose" => transposed,
        "AveragePool" | "LpPool" | "MaxPool" => pool,
        "GlobalAveragePool" | "GlobalLpPool" | "GlobalMaxPool" => global,
        "DeformConv" => convolution,
        "RoiAlign" | "MaxRoiPool" => regions,
        "GridSample" => sampled,
        "NonMaxSuppression" => suppressed,
        _ => return None,
    })
}

type Ruled = Result<Effect, Unbounded>;

fn at(list: Option<&[i64]>, index: usize, default: i64) -> i64 {
    list.and_then(|list| list.get(index).copied())
        .unwrap_or(default)
}

/// The sizes that a window of this size finds on each axis.
fn windows(call: &Call<'_>, spatial: &[u64], kernel: &[i64]) -> Vec<u64> {
    let (strides, dilations, pads) = (
        call.ints("strides"),
        call.ints("dilations"),
        call.ints("pads"),
    );
    let auto = call.text("auto_pad").unwrap_or("NOTSET");
    let rounds_up = call.int("ceil_mode", 0) != 0;
    let axes = spatial.len();
    let window = |(index, size): (usize, &u64)| {
        let stride = at(strides, index, 1).max(1);
        let size = i64::try_from(*size).unwrap_or(i64::MAX);
        if auto.starts_with("SAME") {
            return u64::try_from(size)
                .unwrap_or(0)
                .div_ceil(stride.unsigned_abs());
        }
        let kernel = at(Some(kernel), index, 1);
        let extent = at(dilations, index, 1)
            .saturating_mul(kernel.saturating_sub(1))
            .saturating_add(1);
        let padding = at(pads, index, 0).saturating_add(at(pads, index + axes, 0));
        let room = size.saturating_add(padding).saturating_sub(extent);
        if room < 0 {
            return 0;
        }
        let steps = room.unsigned_abs();
        let steps = if rounds_up {
            steps.div_ceil(stride.unsigned_abs())
        } else {
            steps / stride.unsigned_abs()
        };
        steps + 1
    };
    spatial.iter().enumerate().map(window).collect()
}

fn convolution(call: &Call<'_>) -> Ruled {
    let quantized = &*call.step.op == "QLinearConv";
    let dtype = match &*call.step.op {
        "ConvInteger" => DType::I32,
        "QLinearConv" => call.input(7).map_or(DType::U8, |zero| zero.dtype),
        _ => call.dtype(0),
    };
    let weights = call.shape(if quantized { 3 } else { 1 });
    let (Some([batch, channels, spatial @ ..]), Some([maps, _, kernel @ ..])) =
        (call.shape(0), weights)
    else {
        return Ok(call.guess(dtype).into());
    };
    let kernel: Vec<i64> = match call.ints("kernel_shape") {
        Some(kernel) => kernel.to_vec(),
        None => kernel
            .iter()
            .map(|size| i64::try_from(*size).unwrap_or(i64::MAX))
            .collect(),
    };
    let sizes = windows(call, spatial, &kernel);
    let group = u64::try_from(call.int("group", 1)).unwrap_or(1).max(1);
    let pixels = kernel
        .iter()
        .map(|size| size.unsigned_abs())
        .fold(1, u64::saturating_mul);
    let shape = [&[*batch, *maps], sizes.as_slice()].concat();
    let each = pixels.saturating_mul(channels / group);
    let work = product(&shape).saturating_mul(each.max(1));
    // Engines that multiply matrices write the pixels of each window beside each other.
    let unrolled = if pixels > 1 {
        product(&sizes).saturating_mul(channels.saturating_mul(pixels))
    } else {
        0
    };
    let fact = call.result(dtype, shape);
    Ok(Effect {
        work: Some(work),
        scratch: unrolled.saturating_mul(4),
        ..fact.into()
    })
}

fn transposed(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let (Some([batch, channels, spatial @ ..]), Some([_, maps, kernel @ ..])) =
        (call.shape(0), call.shape(1))
    else {
        return Ok(call.guess(dtype).into());
    };
    let group = u64::try_from(call.int("group", 1)).unwrap_or(1).max(1);
    let axes = spatial.len();
    let (strides, dilations, pads) = (
        call.ints("strides"),
        call.ints("dilations"),
        call.ints("pads"),
    );
    let size = |(index, size): (usize, &u64)| {
        if let Some(given) = call.ints("output_shape") {
            return at(Some(given), index, 1).unsigned_abs();
        }
        let size = i64::try_from(*size).unwrap_or(i64::MAX);
        let kernel = kernel
            .get(index)
            .and_then(|size| i64::try_from(*size).ok())
            .unwrap_or(1);
        let extent = at(dilations, index, 1)
            .saturating_mul(kernel - 1)
            .saturating_add(1);
        let whole = at(strides, index, 1)
            .saturating_mul(size.saturating_sub(1))
            .saturating_add(extent);
        let whole = whole.saturating_add(at(call.ints("output_padding"), index, 0));
        let padding = at(pads, index, 0).saturating_add(at(pads, index + axes, 0));
        u64::try_from(whole.saturating_sub(padding)).unwrap_or(0)
    };
    let sizes: Vec<u64> = spatial.iter().enumerate().map(size).collect();
    let shape = [&[*batch, maps.saturating_mul(group)], sizes.as_slice()].concat();
    let work = product(spatial)
        .saturating_mul(product(kernel))
        .saturating_mul(batch.saturating_mul(channels.saturating_mul(*maps)));
    let scratch = product(spatial)
        .saturating_mul(product(kernel))
        .saturating_mul(maps.saturating_mul(4));
    Ok(Effect {
        work: Some(work),
        scratch,
        ..call.result(dtype, shape).into()
    })
}

fn pool(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let (Some([batch, channels, spatial @ ..]), Some(kernel)) =
        (call.shape(0), call.ints("kernel_shape"))
    else {
        return Ok(call.guess(dtype).into());
    };
    let sizes = windows(call, spatial, kernel);
    let shape = [&[*batch, *channels], sizes.as_slice()].concat();
    let pixels = kernel
        .iter()
        .map(|size| size.unsigned_abs())
        .fold(1, u64::saturating_mul);
    let work = product(&shape).saturating_mul(pixels);
    let whole = call.result(dtype, shape);
    let places = Fact {
        dtype: DType::I64,
        ..whole.clone()
    };
    Ok(Effect {
        work: Some(work),
        ..vec![whole, places]
            .into_iter()
            .take(call.step.outputs.len().max(1))
            .collect::<Vec<_>>()
            .into()
    })
}

fn global(call: &Call<'_>) -> Ruled {
    let shape = call.shape(0).map(|shape| {
        let size = |(axis, size): (usize, &u64)| if axis < 2 { *size } else { 1 };
        shape.iter().enumerate().map(size).collect()
    });
    let dtype = call.dtype(0);
    Ok(shape
        .map_or_else(|| call.guess(dtype), |shape| call.result(dtype, shape))
        .into())
}

fn regions(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let size = |name: &str| u64::try_from(call.int(name, 1)).unwrap_or(1);
    let shape = call
        .shape(0)
        .zip(call.shape(1))
        .and_then(|(image, regions)| {
            let (height, width) = match call.ints("pooled_shape") {
                Some([height, width]) => (height.unsigned_abs(), width.unsigned_abs()),
                _ => (size("output_height"), size("output_width")),
            };
            Some(vec![*regions.first()?, *image.get(1)?, height, width])
        });
    Ok(shape
        .map_or_else(|| call.guess(dtype), |shape| call.result(dtype, shape))
        .into())
}

fn sampled(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let shape = call.shape(0).zip(call.shape(1)).and_then(|(image, grid)| {
        let inner = grid.get(1..grid.len().checked_sub(1)?)?;
        Some([image.get(..2)?, inner].concat())
    });
    Ok(shape
        .map_or_else(|| call.guess(dtype), |shape| call.result(dtype, shape))
        .into())
}

fn suppressed(call: &Call<'_>) -> Ruled {
    let boxes = call
        .shape(0)
        .and_then(|shape| shape.get(1).copied())
        .unwrap_or(0);
    let most = call.input(2).and_then(|most| most.known()?.first()?.size());
    let each = most.map_or(boxes, |most| most.min(boxes));
    let scores = call
        .shape(1)
        .and_then(|shape| shape.get(..2))
        .map_or(1, product);
    let rows = scores.saturating_mul(each);
    let fact = call.result(DType::I64, vec![rows, 3]).inexact(true);
    Ok(Effect {
        work: Some(scores.saturating_mul(boxes.saturating_mul(boxes))),
        ..fact.into()
    })
}
