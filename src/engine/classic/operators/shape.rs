//! Operators that only change where elements are: their numbers are those of the input.

use std::marker::PhantomData;

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run, count};
use super::super::value::{Element, Value, View, each_type};
use super::broadcast::for_each_run;
use crate::tensor::DType;

/// An axis as an index; negative ones count from the end.
///
/// # Errors
/// [`Failure`] when there is no such axis.
pub(super) fn axis_of(axis: i64, rank: usize) -> Result<usize, Failure> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let index = if axis < 0 { axis + signed } else { axis };
    usize::try_from(index)
        .ok()
        .filter(|index| *index < rank)
        .ok_or_else(|| {
            Failure::shapes(format!(
                "axis {axis} is not one of the {rank} axes of the input"
            ))
        })
}

/// Integers that are an attribute in early operator sets and an input in later ones.
pub(super) enum Integers {
    Fixed(Vec<i64>),
    Input(usize),
}

impl Integers {
    /// Those of the attribute, else of the input.
    pub(super) fn new(node: &Node<'_>, attribute: &str, input: usize) -> Self {
        if node.optional(input).is_some() {
            return Self::Input(input);
        }
        Self::Fixed(node.ints(attribute).to_vec())
    }

    pub(super) fn get<'a>(&'a self, inputs: &Inputs<'a>) -> Result<&'a [i64], Failure> {
        match self {
            Self::Fixed(integers) => Ok(integers),
            Self::Input(index) => inputs.get(*index)?.elements(),
        }
    }
}

/// Integers of 32 or 64 bits.
pub(super) fn integers(view: View<'_>) -> Result<Vec<i64>, Failure> {
    match view.dtype() {
        DType::I32 => Ok(view
            .elements::<i32>()?
            .iter()
            .copied()
            .map(i64::from)
            .collect()),
        _ => view.elements::<i64>().map(<[i64]>::to_vec),
    }
}

pub(super) fn size(dim: i64) -> Result<usize, Failure> {
    usize::try_from(dim).map_err(|_| Failure::new(format!("{dim} is no size of a dimension")))
}

/// A shape that is an input.
pub(super) fn sizes(dims: View<'_>) -> Result<Vec<usize>, Failure> {
    dims.elements::<i64>()?
        .iter()
        .map(|dim| size(*dim))
        .collect()
}

/// An operator that keeps the elements and their order.
struct Shaped<F>(F);

impl<F> Operator for Shaped<F>
where
    F: Fn(&Inputs<'_>) -> Result<Vec<usize>, Failure> + Send + Sync,
{
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let shape = (self.0)(inputs)?;
        if count(&shape)? != input.len() {
            let from = input.shape;
            return Err(Failure::shapes(format!(
                "the shape {from:?} cannot become {shape:?}"
            )));
        }
        outputs[0].copy_as(input, &shape);
        Ok(())
    }

    fn cost(&self) -> Option<u64> {
        Some(10)
    }
}

fn shaped(
    node: &Node<'_>,
    shape: impl Fn(&Inputs<'_>) -> Result<Vec<usize>, Failure> + Send + Sync + 'static,
) -> Result<Built, Refusal> {
    Built::one(node.dtype(0)?, Shaped(shape))
}

pub(super) fn reshape(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["shape", "allowzero", "consumed_inputs"])?;
    let wanted = Integers::new(node, "shape", 1);
    let allows_zero = node.flag("allowzero", false);
    shaped(node, move |inputs| {
        let input = inputs.get(0)?;
        let wanted = wanted.get(inputs)?;
        let mut shape = Vec::with_capacity(wanted.len());
        let mut open = None;
        for (axis, dim) in wanted.iter().enumerate() {
            let dim = match *dim {
                -1 if open.is_none() => {
                    open = Some(axis);
                    1
                }
                0 if !allows_zero => *input.shape.get(axis).ok_or_else(|| {
                    Failure::new(format!(
                        "the shape {wanted:?} copies an axis that the input lacks"
                    ))
                })?,
                dim => size(dim)?,
            };
            shape.push(dim);
        }
        if let Some(axis) = open {
            let rest = count(&shape)?;
            if rest == 0 || !input.len().is_multiple_of(rest) {
                let from = input.shape;
                return Err(Failure::shapes(format!(
                    "the shape {from:?} cannot become {wanted:?}"
                )));
            }
            shape[axis] = input.len() / rest;
        }
        Ok(shape)
    })
}

pub(super) fn flatten(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["axis"])?;
    let axis = node.int("axis").unwrap_or(1);
    shaped(node, move |inputs| {
        let shape = inputs.get(0)?.shape;
        let rank = i64::try_from(shape.len()).unwrap_or(i64::MAX);
        let at = if axis < 0 { axis + rank } else { axis };
        let at = usize::try_from(at).ok().filter(|at| *at <= shape.len());
        let at = at.ok_or_else(|| Failure::new(format!("axis {axis} is not one of {rank}")))?;
        Ok(vec![
            shape[..at].iter().product(),
            shape[at..].iter().product(),
        ])
    })
}

pub(super) fn squeeze(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["axes"])?;
    let axes = Integers::new(node, "axes", 1);
    shaped(node, move |inputs| {
        let shape = inputs.get(0)?.shape;
        let axes = axes.get(inputs)?;
        if axes.is_empty() {
            return Ok(shape.iter().copied().filter(|dim| *dim != 1).collect());
        }
        let axes = axes.iter().map(|axis| axis_of(*axis, shape.len()));
        let axes = axes.collect::<Result<Vec<_>, _>>()?;
        if let Some(axis) = axes.iter().find(|axis| shape[**axis] != 1) {
            return Err(Failure::shapes(format!(
                "axis {axis} of the shape {shape:?} is not 1"
            )));
        }
        let kept = shape
            .iter()
            .enumerate()
            .filter(|(axis, _)| !axes.contains(axis));
        Ok(kept.map(|(_, dim)| *dim).collect())
    })
}

pub(super) fn unsqueeze(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["axes"])?;
    let axes = Integers::new(node, "axes", 1);
    shaped(node, move |inputs| {
        let shape = inputs.get(0)?.shape;
        let axes = axes.get(inputs)?;
        let rank = shape.len() + axes.len();
        let axes = axes.iter().map(|axis| axis_of(*axis, rank));
        let axes = axes.collect::<Result<Vec<_>, _>>()?;
        let mut rest = shape.iter();
        let dims = (0..rank).map(|axis| {
            if axes.contains(&axis) {
                Some(1)
            } else {
                rest.next().copied()
            }
        });
        let dims = dims.collect::<Option<Vec<_>>>();
        dims.ok_or_else(|| Failure::new(format!("the axes {axes:?} are not distinct")))
    })
}

/// Reads elements from other places: the axes of the input, in another order.
struct Transpose {
    order: Vec<usize>,
}

impl Operator for Transpose {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let rank = input.shape.len();
        let order: Vec<usize> = if self.order.is_empty() {
            (0..rank).rev().collect()
        } else {
            self.order.clone()
        };
        if order.len() != rank {
            return Err(Failure::new(format!(
                "`perm` names {} axes; the input has {rank}",
                order.len()
            )));
        }
        let own = dense_strides(input.shape);
        let shape: Vec<usize> = order.iter().map(|axis| input.shape[*axis]).collect();
        let steps: Vec<usize> = order.iter().map(|axis| own[*axis]).collect();
        each_type!(input.data, elements => gather_strided(elements, &shape, &steps, &mut outputs[0]))
    }
}

/// Distances between neighbours along each axis.
pub(super) fn dense_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Writes the elements of an array of this shape whose neighbours lie so far apart.
pub(super) fn gather_strided<T: Element>(
    elements: &[T],
    shape: &[usize],
    steps: &[usize],
    output: &mut Value,
) -> Result<(), Failure> {
    let output = output.start::<T>(shape);
    output.reserve(shape.iter().product());
    let width = shape.last().copied().unwrap_or(1);
    let step = steps.last().copied().unwrap_or(0);
    for_each_run(shape, &[steps.to_vec()], |[at]| {
        output.extend((0..width).map(|column| elements[at + column * step].clone()));
        Ok(())
    })
}

pub(super) fn transpose(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["perm"])?;
    let order = node
        .ints("perm")
        .iter()
        .map(|axis| usize::try_from(*axis).ok());
    let order = order.collect::<Option<Vec<_>>>();
    let is_order = |order: &Vec<usize>| (0..order.len()).all(|axis| order.contains(&axis));
    let order = order.filter(is_order);
    let order = order.ok_or_else(|| {
        node.refuse(format!(
            "`perm` is {:?}, which is no order of axes",
            node.ints("perm")
        ))
    })?;
    Built::one(node.dtype(0)?, Transpose { order })
}

/// Arrays one after the other along an axis.
struct Concat<T> {
    axis: i64,
    types: PhantomData<fn(T) -> T>,
}

impl<T: Element> Operator for Concat<T> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let first = inputs.get(0)?;
        let axis = axis_of(self.axis, first.shape.len())?;
        let mut shape = first.shape.to_vec();
        shape[axis] = 0;
        for input in inputs.iter() {
            let agree = |(at, dim): (usize, &usize)| at == axis || *dim == first.shape[at];
            if input.shape.len() != shape.len() || !input.shape.iter().enumerate().all(agree) {
                return Err(Failure::shapes(format!(
                    "arrays of the shapes {:?} and {:?} cannot stand side by side along axis {axis}",
                    first.shape, input.shape
                )));
            }
            shape[axis] += input.shape[axis];
        }
        let inner: usize = shape[axis + 1..].iter().product();
        let outer: usize = shape[..axis].iter().product();
        let length = count(&shape)?;
        let output = outputs[0].start::<T>(&shape);
        output.reserve(length);
        if outer == 1 {
            for input in inputs.iter() {
                output.extend_from_slice(input.elements()?);
            }
            return Ok(());
        }
        let parts = inputs
            .iter()
            .map(|input| Ok((input.elements::<T>()?, input.shape[axis] * inner)));
        let parts = parts.collect::<Result<Vec<(&[T], usize)>, Failure>>()?;
        for row in 0..outer {
            for (elements, width) in &parts {
                match width {
                    1 => output.push(elements[row].clone()),
                    width => output.extend_from_slice(&elements[row * width..][..*width]),
                }
            }
        }
        Ok(())
    }
}

pub(super) fn concat(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["axis"])?;
    let axis = node.int("axis").unwrap_or(1);
    let dtype = node.dtype(0)?;
    for index in 0..node.inputs.len() {
        if node.dtype(index)? != dtype {
            return Err(node.refuse("its inputs are of different types"));
        }
    }
    let types = PhantomData;
    match dtype {
        DType::F32 => Built::one(dtype, Concat::<f32> { axis, types }),
        DType::F64 => Built::one(
            dtype,
            Concat::<f64> {
                axis,
                types: PhantomData,
            },
        ),
        DType::I64 => Built::one(
            dtype,
            Concat::<i64> {
                axis,
                types: PhantomData,
            },
        ),
        DType::I32 => Built::one(
            dtype,
            Concat::<i32> {
                axis,
                types: PhantomData,
            },
        ),
        DType::Bool => Built::one(
            dtype,
            Concat::<bool> {
                axis,
                types: PhantomData,
            },
        ),
        DType::String => Built::one(
            dtype,
            Concat::<String> {
                axis,
                types: PhantomData,
            },
        ),
        other => Err(node.unsupported(other)),
    }
}

/// The shape of an array, or some of its dimensions, as numbers.
struct ShapeOf {
    start: i64,
    end: i64,
}

impl Operator for ShapeOf {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let shape = inputs.get(0)?.shape;
        let rank = i64::try_from(shape.len()).unwrap_or(i64::MAX);
        let bound = |bound: i64| {
            let bound = if bound < 0 {
                bound.saturating_add(rank)
            } else {
                bound
            };
            usize::try_from(bound.clamp(0, rank)).unwrap_or_default()
        };
        let (start, end) = (bound(self.start), bound(self.end));
        let dims = shape.get(start..end).unwrap_or_default();
        let dims = dims
            .iter()
            .map(|dim| i64::try_from(*dim).unwrap_or(i64::MAX));
        outputs[0].start::<i64>(&[dims.len()]).extend(dims);
        Ok(())
    }
}

pub(super) fn shape(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["start", "end"])?;
    let start = node.int("start").unwrap_or(0);
    let end = node.int("end").unwrap_or(i64::MAX);
    Built::one(DType::I64, ShapeOf { start, end })
}

struct Size;

impl Operator for Size {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let length = i64::try_from(inputs.get(0)?.len()).unwrap_or(i64::MAX);
        outputs[0].start::<i64>(&[]).push(length);
        Ok(())
    }
}

pub(super) fn size_of_array(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&[])?;
    Built::one(DType::I64, Size)
}
