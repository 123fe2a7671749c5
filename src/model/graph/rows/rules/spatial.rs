//! Operators on images and signals: the rows are on the first axis, channels on the second, places behind them.

use super::super::call::{Call, NO_SUCH_AXIS};
use super::super::size::{Number, Size, axis_of};
use super::super::value::{Content, Refusal, Tensor, Value};
use super::Ruled;

const PLACES: Refusal = "has the rows where it expects channels or places";
const WEIGHTS: Refusal = "takes its weights from the data";

pub(super) fn rule(call: &Call<'_>) -> Ruled {
    Some(match call.op {
        "Conv" => weighted(call, [0, 1], &[2]),
        "ConvInteger" => weighted(call, [0, 1], &[2, 3]),
        "QLinearConv" => weighted(call, [0, 3], &[1, 2, 4, 5, 6, 7, 8]),
        "ConvTranspose" => transposed(call),
        "DeformConv" => deformable(call),
        "MaxPool" | "AveragePool" | "LpPool" => pool(call),
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => global_pool(call),
        "DepthToSpace" | "SpaceToDepth" => blocks(call),
        "Resize" | "Upsample" => resize(call),
        "GridSample" => grid_sample(call),
        "AffineGrid" => affine_grid(call),
        "Col2Im" => col2im(call),
        _ => return None,
    })
}

/// An image of each row, with its shape.
fn images<'a>(call: &'a Call<'_>, index: usize) -> Result<(&'a Tensor, &'a [Size]), Refusal> {
    let (tensor, shape) = call.shaped(index)?;
    match tensor.rows {
        Some(1..) => Err(PLACES),
        _ if shape.len() < 2 => Err("takes what is no image"),
        _ => Ok((tensor, shape)),
    }
}

fn result(mut shape: Vec<Size>, tensor: &Tensor, first: &Size) -> Value {
    shape.insert(0, first.clone());
    Tensor::with_rows(shape, tensor.rows).into()
}

fn weighted(
    call: &Call<'_>,
    [data, weights]: [usize; 2],
    constants: &[usize],
) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = images(call, data)?;
    for index in constants {
        call.invariant(*index, WEIGHTS)?;
    }
    let kernel = call
        .invariant(weights, WEIGHTS)?
        .and_then(|weights| weights.shape.as_deref());
    let channels = kernel.and_then(|kernel| kernel.first().cloned());
    let window = match (call.ints("kernel_shape"), kernel) {
        (Some(window), _) => Some(window.to_vec()),
        (None, Some([_, _, window @ ..])) => window
            .iter()
            .map(|size| i64::try_from(size.number()?).ok())
            .collect(),
        (None, _) => None,
    };
    let mut sizes = vec![channels.unwrap_or_else(|| call.symbols.fresh())];
    sizes.extend(windows(call, &shape[2..], window.as_deref()));
    Ok(vec![result(sizes, tensor, &shape[0])])
}

/// How often a window fits along each axis.
fn windows(call: &Call<'_>, places: &[Size], window: Option<&[i64]>) -> Vec<Size> {
    let fits = |(axis, size): (usize, &Size)| {
        let size = i64::try_from(size.number()?).ok()?;
        let number = |name: &str, default: i64| match call.ints(name) {
            Some(numbers) => numbers.get(axis).copied(),
            None => Some(default),
        };
        let stride = number("strides", 1).filter(|stride| *stride > 0)?;
        let padded = match call.text("auto_pad").unwrap_or("NOTSET") {
            "NOTSET" => {
                let after = match call.ints("pads") {
                    Some(pads) => *pads.get(axis + places.len())?,
                    None => 0,
                };
                size.checked_add(number("pads", 0)?)?.checked_add(after)?
            }
            "VALID" => size,
            _ => return None,
        };
        let covered = (*window?.get(axis)?)
            .checked_sub(1)?
            .checked_mul(number("dilations", 1)?)?
            .checked_add(1)?;
        let rest = padded.checked_sub(covered).filter(|rest| *rest >= 0)?;
        // Rounding up has rules of its own about windows that begin in the padding.
        (call.int("ceil_mode", 0) == 0 || rest % stride == 0).then_some(())?;
        u64::try_from(rest / stride + 1).ok().map(Size::known)
    };
    let sizes = places.iter().enumerate();
    sizes
        .map(|place| fits(place).unwrap_or_else(|| call.symbols.fresh()))
        .collect()
}

fn transposed(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = images(call, 0)?;
    call.invariant(2, WEIGHTS)?;
    let weights = call
        .invariant(1, WEIGHTS)?
        .and_then(|weights| weights.shape.as_deref());
    let channels = weights.and_then(|weights| {
        let group = u64::try_from(call.int("group", 1)).ok()?;
        weights.get(1)?.times(&Size::known(group))
    });
    let mut sizes = vec![channels.unwrap_or_else(|| call.symbols.fresh())];
    sizes.extend(shape[2..].iter().map(|_| call.symbols.fresh()));
    Ok(vec![result(sizes, tensor, &shape[0])])
}

fn deformable(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = images(call, 0)?;
    call.invariant(1, WEIGHTS)?;
    call.invariant(3, WEIGHTS)?;
    // Where each pixel is read, which each row says for itself.
    for index in [2, 4] {
        if let Some(own) = call.optional(index)?
            && (own.rows != tensor.rows || own.row_size() != tensor.row_size())
        {
            return Err("takes offsets by the position of a row");
        }
    }
    let sizes = shape[1..].iter().map(|_| call.symbols.fresh()).collect();
    Ok(vec![result(sizes, tensor, &shape[0])])
}

fn pool(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = images(call, 0)?;
    let mut sizes = vec![shape[1].clone()];
    sizes.extend(windows(call, &shape[2..], call.ints("kernel_shape")));
    let pooled = result(sizes, tensor, &shape[0]);
    if call.op == "MaxPool" && call.outputs > 1 {
        let reason = "operator `MaxPool` numbers its places through all rows";
        return Ok(vec![pooled, Value::Unproven(reason.into())]);
    }
    Ok(vec![pooled])
}

fn global_pool(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = images(call, 0)?;
    let mut sizes = vec![shape[1].clone()];
    sizes.extend(shape[2..].iter().map(|_| Size::ONE));
    Ok(vec![result(sizes, tensor, &shape[0])])
}

fn blocks(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = images(call, 0)?;
    let block = u64::try_from(call.int("blocksize", 1))
        .ok()
        .map(Size::known);
    let sizes = match (call.op, block, shape) {
        ("DepthToSpace", Some(block), [_, depth, height, width]) => {
            let area = block.times(&block);
            [
                area.and_then(|area| depth.divided_by(&area)),
                height.times(&block),
                width.times(&block),
            ]
        }
        (_, Some(block), [_, depth, height, width]) => {
            let area = block.times(&block);
            [
                area.and_then(|area| depth.times(&area)),
                height.divided_by(&block),
                width.divided_by(&block),
            ]
        }
        _ => return Err("takes what is no image"),
    };
    let sizes = sizes.map(|size| size.unwrap_or_else(|| call.symbols.fresh()));
    Ok(vec![result(sizes.to_vec(), tensor, &shape[0])])
}

/// Rows must stay as they are: a scale of exactly 1, or their own size.
fn resize(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    let Some(rows) = tensor.rows else {
        return Err("may have any size");
    };
    let scales_at = if call.op == "Upsample" || call.opset < 11 {
        1
    } else {
        2
    };
    let (mut sizes, mut keeps) = (shape.to_vec(), false);
    let axes = match call.ints("axes") {
        Some(axes) => axes
            .iter()
            .map(|axis| axis_of(*axis, shape.len()))
            .collect::<Option<Vec<usize>>>()
            .ok_or(NO_SUCH_AXIS)?,
        None => (0..shape.len()).collect(),
    };
    let place = axes.iter().position(|axis| *axis == rows);
    let attribute = call.floats("scales").map(<[f32]>::to_vec);
    let scales = attribute.or_else(|| match &call.optional(scales_at).ok()??.content {
        Some(Content::Floats(scales)) => Some(scales.clone()),
        _ => None,
    });
    let stretches = call.text("keep_aspect_ratio_policy").unwrap_or("stretch") == "stretch";
    let crops = call.text("coordinate_transformation_mode") == Some("tf_crop_and_resize");
    match (scales.filter(|scales| scales.len() == axes.len()), place) {
        _ if crops => {}
        (_, None) => keeps = stretches,
        (Some(scales), Some(place)) => keeps = scales[place].to_bits() == 1.0f32.to_bits(),
        (None, Some(place)) => {
            let given = call.value(3).and_then(|value| value.integers());
            let size = given
                .and_then(|given| given.elements.get(place))
                .and_then(Number::to_size);
            keeps = stretches && size.as_ref() == tensor.row_size();
        }
    }
    if !keeps {
        return Err("may change the number of rows");
    }
    // The size of other axes must not follow the number of rows either.
    for index in 1..call.inputs.len() {
        let value = call.value(index);
        let follows = |axis: usize| {
            let integers = value.and_then(|value| value.integers());
            let number = integers.and_then(|integers| integers.elements.get(axis));
            Some(axis) != place && number.is_some_and(Number::depends_on_rows)
        };
        let foreign =
            value.is_some_and(|value| !value.is_invariant() && value.integers().is_none());
        if foreign || (0..shape.len()).any(follows) {
            return Err("takes a size from the data or from the number of rows");
        }
    }
    for axis in axes.into_iter().filter(|axis| *axis != rows) {
        sizes[axis] = call.symbols.fresh();
    }
    Ok(vec![Tensor::with_rows(sizes, tensor.rows).into()])
}

fn grid_sample(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = images(call, 0)?;
    let (grid, places) = call.shaped(1)?;
    if grid.rows != tensor.rows || grid.row_size() != tensor.row_size() {
        return Err("takes places by the position of a row");
    }
    let mut sizes = vec![shape[1].clone()];
    sizes.extend(
        places
            .get(1..places.len().saturating_sub(1))
            .unwrap_or_default()
            .iter()
            .cloned(),
    );
    Ok(vec![result(sizes, tensor, &shape[0])])
}

fn affine_grid(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (theta, shape) = call.shaped(0)?;
    let size = call
        .value(1)
        .and_then(|value| value.integers())
        .ok_or("takes a size that is not known")?;
    let sizes: Vec<Size> = {
        let numbers = size
            .elements
            .iter()
            .map(|number| number.to_size().unwrap_or_else(|| call.symbols.fresh()));
        numbers.collect()
    };
    let ([first, _, places @ ..], [_, _, _]) = (sizes.as_slice(), shape) else {
        return Err("takes what is no size of images");
    };
    let tainted = size.elements.iter().skip(1).any(Number::depends_on_rows);
    if theta.rows != Some(0) || Some(first) != theta.row_size() || tainted {
        return Err("takes a size from the number of rows");
    }
    let mut grid = places.to_vec();
    grid.push(Size::known(places.len() as u64));
    Ok(vec![result(grid, theta, &shape[0])])
}

fn col2im(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = images(call, 0)?;
    let size = call.invariant(1, "takes its size from the data")?;
    call.invariant(2, "takes its size from the data")?;
    let places = size
        .and_then(|size| size.integers())
        .ok_or("takes a size that is not known")?;
    let sizes = std::iter::once(call.symbols.fresh()).chain(
        places
            .elements
            .iter()
            .map(|place| place.to_size().unwrap_or_else(|| call.symbols.fresh())),
    );
    Ok(vec![result(sizes.collect(), tensor, &shape[0])])
}
