//! Operators that pick elements by their places.

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run, count};
use super::super::value::{Value, View, each_type};
use super::cast::whole_i64;
use super::shape::{Integers, axis_of, dense_strides, integers};
use crate::tensor::DType;

/// An index as a place; negative ones count from the end.
fn place(index: i64, length: usize) -> Result<usize, Failure> {
    let signed = i64::try_from(length).unwrap_or(i64::MAX);
    let place = if index < 0 {
        index.saturating_add(signed)
    } else {
        index
    };
    usize::try_from(place)
        .ok()
        .filter(|place| *place < length)
        .ok_or_else(|| Failure::new(format!("index {index} is not within an axis of {length}")))
}

pub(super) fn is_integer(dtype: DType) -> bool {
    matches!(dtype, DType::I64 | DType::I32)
}

/// Slices along an axis, by their indices.
struct Gather {
    axis: i64,
}

impl Operator for Gather {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let (input, picked) = (inputs.get(0)?, inputs.get(1)?);
        let axis = axis_of(self.axis, input.shape.len())?;
        let length = input.shape[axis];
        let places = integers(picked)?
            .into_iter()
            .map(|index| place(index, length));
        let places = places.collect::<Result<Vec<_>, _>>()?;
        let shape = [&input.shape[..axis], picked.shape, &input.shape[axis + 1..]].concat();
        let outer: usize = input.shape[..axis].iter().product();
        let inner: usize = input.shape[axis + 1..].iter().product();
        let total = count(&shape)?;
        each_type!(input.data, elements => {
            let output = outputs[0].start(&shape);
            output.reserve(total);
            for block in 0..outer {
                for place in &places {
                    let from = (block * length + place) * inner;
                    output.extend_from_slice(&elements[from..from + inner]);
                }
            }
        });
        Ok(())
    }
}

pub(super) fn gather(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["axis"])?;
    if !is_integer(node.dtype(1)?) {
        return Err(node.refuse("indices must be INT64 or INT32"));
    }
    let axis = node.int("axis").unwrap_or(0);
    Built::one(node.dtype(0)?, Gather { axis })
}

/// One element for each index, all other coordinates being those of the index itself.
struct GatherElements {
    axis: i64,
}

impl Operator for GatherElements {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let (input, picked) = (inputs.get(0)?, inputs.get(1)?);
        let axis = axis_of(self.axis, input.shape.len())?;
        let fits = |at: usize| at == axis || picked.shape[at] <= input.shape[at];
        if picked.shape.len() != input.shape.len() || !(0..input.shape.len()).all(fits) {
            let (shape, of) = (picked.shape, input.shape);
            return Err(Failure::new(format!(
                "indices of the shape {shape:?} do not fit {of:?}"
            )));
        }
        let (own, strides) = (dense_strides(input.shape), dense_strides(picked.shape));
        let indices = integers(picked)?;
        let places = indices.iter().enumerate().map(|(at, index)| {
            let coordinates = strides
                .iter()
                .zip(picked.shape)
                .map(|(stride, dim)| at / stride % dim);
            let mut from = 0;
            for (dim, coordinate) in coordinates.enumerate() {
                let coordinate = if dim == axis {
                    place(*index, input.shape[axis])?
                } else {
                    coordinate
                };
                from += coordinate * own[dim];
            }
            Ok(from)
        });
        let places = places.collect::<Result<Vec<usize>, Failure>>()?;
        each_type!(input.data, elements => {
            outputs[0].start(picked.shape).extend(places.iter().map(|at| elements[*at].clone()));
        });
        Ok(())
    }
}

pub(super) fn gather_elements(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["axis"])?;
    if !is_integer(node.dtype(1)?) {
        return Err(node.refuse("indices must be INT64 or INT32"));
    }
    let axis = node.int("axis").unwrap_or(0);
    Built::one(node.dtype(0)?, GatherElements { axis })
}

/// Slices at coordinates.
struct GatherNd;

impl Operator for GatherNd {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let (input, picked) = (inputs.get(0)?, inputs.get(1)?);
        let indices = integers(picked)?;
        let depth = picked.shape.last().copied().unwrap_or(0);
        if depth == 0 || depth > input.shape.len() {
            return Err(Failure::new(format!(
                "indices of {depth} coordinates do not fit {:?}",
                input.shape
            )));
        }
        let own = dense_strides(input.shape);
        let outer = &picked.shape[..picked.shape.len() - 1];
        let shape = [outer, &input.shape[depth..]].concat();
        let inner: usize = input.shape[depth..].iter().product();
        let starts = indices.chunks_exact(depth).map(|coordinates| {
            let parts = coordinates.iter().enumerate();
            let parts =
                parts.map(|(axis, index)| Ok(place(*index, input.shape[axis])? * own[axis]));
            parts.sum::<Result<usize, Failure>>()
        });
        let starts = starts.collect::<Result<Vec<_>, _>>()?;
        count(&shape)?;
        each_type!(input.data, elements => {
            let output = outputs[0].start(&shape);
            for start in &starts {
                output.extend_from_slice(&elements[*start..start + inner]);
            }
        });
        Ok(())
    }
}

pub(super) fn gather_nd(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["batch_dims"])?;
    if node.int("batch_dims").unwrap_or(0) != 0 {
        return Err(node.refuse("`batch_dims` is not supported"));
    }
    Built::one(node.dtype(0)?, GatherNd)
}

/// A part of each axis, perhaps with gaps or backwards.
struct Slice {
    starts: Integers,
    ends: Integers,
    axes: Integers,
    steps: Integers,
}

/// The first place, the distance to the next one, and how many there are.
fn span(start: i64, end: i64, step: i64, length: usize) -> Result<(i64, i64, usize), Failure> {
    if step == 0 {
        return Err(Failure::new("a step of 0 leads nowhere".to_owned()));
    }
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let absolute = |bound: i64| {
        if bound < 0 {
            bound.saturating_add(length)
        } else {
            bound
        }
    };
    let (low, high) = if step > 0 {
        (0, length)
    } else {
        (-1, length - 1)
    };
    let start = absolute(start).clamp(low.max(0), high.max(0));
    // The largest number stands for the end of the axis, backwards for its beginning.
    let is_open = end == i64::MAX || end == i64::from(i32::MAX);
    let end = if is_open && step < 0 {
        -1
    } else {
        absolute(end).clamp(low, high)
    };
    let distance = if step > 0 { end - start } else { start - end };
    let count = if distance <= 0 || length == 0 {
        0
    } else {
        (distance - 1) / step.saturating_abs() + 1
    };
    Ok((start, step, usize::try_from(count).unwrap_or_default()))
}

impl Operator for Slice {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let rank = input.shape.len();
        let list = |of: &Integers| match of {
            Integers::Fixed(list) => Ok(list.clone()),
            Integers::Input(index) => integers(inputs.get(*index)?),
        };
        let (starts, ends) = (list(&self.starts)?, list(&self.ends)?);
        let (axes, steps) = (list(&self.axes)?, list(&self.steps)?);
        let fits = |list: &[i64]| list.is_empty() || list.len() == starts.len();
        if starts.len() != ends.len() || !fits(&axes) || !fits(&steps) {
            return Err(Failure::new(
                "starts, ends, axes and steps are not of one length".to_owned(),
            ));
        }
        let mut spans: Vec<(i64, i64, usize)> =
            input.shape.iter().map(|dim| (0, 1, *dim)).collect();
        for (index, (start, end)) in starts.iter().zip(&ends).enumerate() {
            let axis = match axes.get(index) {
                Some(axis) => axis_of(*axis, rank)?,
                None if index < rank => index,
                None => {
                    return Err(Failure::new(format!(
                        "slices more than the {rank} axes of the input"
                    )));
                }
            };
            let step = steps.get(index).copied().unwrap_or(1);
            spans[axis] = span(*start, *end, step, input.shape[axis])?;
        }
        let shape: Vec<usize> = spans.iter().map(|span| span.2).collect();
        let (own, strides) = (dense_strides(input.shape), dense_strides(&shape));
        let total = count(&shape)?;
        let from = |at: usize| -> usize {
            let places = spans.iter().zip(&own).zip(strides.iter().zip(&shape));
            let places = places.map(|(((start, step, _), own), (stride, dim))| {
                let index = i64::try_from(at / stride % dim).unwrap_or_default();
                usize::try_from(start + step * index).unwrap_or_default() * own
            });
            places.sum()
        };
        let width = shape.last().copied().unwrap_or(1);
        let is_dense = spans.last().is_none_or(|span| span.1 == 1) && width > 0;
        each_type!(input.data, elements => {
            let output = outputs[0].start(&shape);
            output.reserve(total);
            if is_dense {
                for row in (0..total).step_by(width) {
                    let start = from(row);
                    output.extend_from_slice(&elements[start..start + width]);
                }
            } else {
                output.extend((0..total).map(|at| elements[from(at)].clone()));
            }
        });
        Ok(())
    }
}

pub(super) fn slice(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["starts", "ends", "axes"])?;
    let dtype = node.dtype(0)?;
    let list = |name: &str, index: usize| Integers::new(node, name, index);
    let operator = Slice {
        starts: list("starts", 1),
        ends: list("ends", 2),
        axes: list("axes", 3),
        steps: list("steps", 4),
    };
    Built::one(dtype, operator)
}

/// Parts of an axis, each an output of its own.
struct Split {
    axis: i64,
    sizes: Integers,
}

impl Operator for Split {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let axis = axis_of(self.axis, input.shape.len())?;
        let length = input.shape[axis];
        let sizes = self.sizes.get(inputs)?;
        let sizes: Vec<usize> = if sizes.is_empty() {
            let part = length.div_ceil(outputs.len());
            (0..outputs.len())
                .map(|index| part.min(length.saturating_sub(part * index)))
                .collect()
        } else {
            sizes
                .iter()
                .map(|size| usize::try_from(*size).unwrap_or(usize::MAX))
                .collect()
        };
        let total = sizes
            .iter()
            .fold(0usize, |sum, size| sum.saturating_add(*size));
        if total != length || sizes.len() != outputs.len() {
            return Err(Failure::new(format!(
                "an axis of {length} cannot become parts of {sizes:?}"
            )));
        }
        let outer: usize = input.shape[..axis].iter().product();
        let inner: usize = input.shape[axis + 1..].iter().product();
        let mut shape = input.shape.to_vec();
        let mut before = 0;
        for (size, output) in sizes.iter().zip(outputs) {
            shape[axis] = *size;
            each_type!(input.data, elements => {
                let output = output.start(&shape);
                for block in 0..outer {
                    let from = (block * length + before) * inner;
                    output.extend_from_slice(&elements[from..from + size * inner]);
                }
            });
            before += size;
        }
        Ok(())
    }
}

pub(super) fn split(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["axis", "split", "num_outputs"])?;
    let dtype = node.dtype(0)?;
    let operator = Split {
        axis: node.int("axis").unwrap_or(0),
        sizes: Integers::new(node, "split", 1),
    };
    Ok(Built {
        operator: Box::new(operator),
        dtypes: vec![dtype; node.outputs().max(1)],
        labels: None,
    })
}

/// One element of two for each place along a new axis: another one where the index points.
struct OneHot {
    axis: i64,
}

/// A number of any type, without its fraction.
fn whole_numbers(view: View<'_>) -> Result<Vec<i64>, Failure> {
    match view.dtype() {
        DType::F32 => Ok(view
            .elements::<f32>()?
            .iter()
            .map(|value| whole_i64(f64::from(*value)))
            .collect()),
        DType::F64 => Ok(view
            .elements::<f64>()?
            .iter()
            .map(|value| whole_i64(*value))
            .collect()),
        _ => integers(view),
    }
}

impl Operator for OneHot {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let (picked, values) = (inputs.get(0)?, inputs.get(2)?);
        let depth = whole_numbers(inputs.get(1)?)?.first().copied().unwrap_or(0);
        let depth = usize::try_from(depth).ok().filter(|depth| *depth > 0);
        let depth = depth.ok_or_else(|| Failure::new("the depth must be positive".to_owned()))?;
        let axis = axis_of(self.axis, picked.shape.len() + 1)?;
        let shape = [&picked.shape[..axis], &[depth], &picked.shape[axis..]].concat();
        let total = count(&shape)?;
        let inner: usize = picked.shape[axis..].iter().product();
        if values.len() != 2 {
            return Err(Failure::new("there must be two values".to_owned()));
        }
        let indices = whole_numbers(picked)?;
        each_type!(values.data, values => {
            let output = outputs[0].start(&shape);
            output.resize(total, values[0].clone());
            for (at, index) in indices.iter().enumerate() {
                // What points nowhere leaves no trace.
                if let Ok(place) = place(*index, depth) {
                    output[(at / inner * depth + place) * inner + at % inner] = values[1].clone();
                }
            }
        });
        Ok(())
    }
}

pub(super) fn one_hot(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["axis"])?;
    if [node.dtype(0)?, node.dtype(1)?]
        .iter()
        .any(|dtype| matches!(dtype, DType::Bool | DType::String))
    {
        return Err(node.refuse("indices and depth must be numbers"));
    }
    let axis = node.int("axis").unwrap_or(-1);
    Built::one(node.dtype(2)?, OneHot { axis })
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn bounds_beyond_the_axis_are_its_ends() {
        assert_eq!(span(1, i64::MAX, 1, 5).unwrap(), (1, 1, 4));
        assert_eq!(span(-1, i64::MIN, -1, 5).unwrap(), (4, -1, 5));
        assert_eq!(span(-100, 100, 2, 5).unwrap(), (0, 2, 3));
        assert_eq!(span(3, 1, 1, 5).unwrap().2, 0);
        assert_eq!(span(0, 0, 1, 0).unwrap().2, 0);
        assert_eq!(span(0, 5, i64::MIN, 5).unwrap().2, 0);
        assert!(span(0, 1, 0, 5).is_err());
    }
}
