//! Operators that make arrays of constants, and repeat what is there.

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run, count};
use super::super::value::{Value, each_type};
use super::broadcast::{common_shape, strides};
use super::shape::{dense_strides, gather_strided, size, sizes};

/// An array that repeats one element.
struct Filled(Value);

impl Operator for Filled {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let shape = sizes(inputs.get(0)?)?;
        let length = count(&shape)?;
        each_type!(self.0.view().data, elements => {
            let element = elements.first().cloned().unwrap_or_default();
            outputs[0].start(&shape).resize(length, element);
        });
        Ok(())
    }
}

pub(super) fn constant_of_shape(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["value"])?;
    let value = match node.tensor("value")? {
        Some(value) => value,
        None => Value::new(vec![1], vec![0.0f32]),
    };
    if value.view().len() != 1 {
        return Err(node.refuse("attribute `value` must have one element"));
    }
    Built::one(value.view().dtype(), Filled(value))
}

/// A constant of the graph.
struct Constant(Value);

impl Operator for Constant {
    fn run(
        &self,
        _inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let view = self.0.view();
        outputs[0].copy_as(view, view.shape);
        Ok(())
    }
}

pub(super) fn constant(node: &Node<'_>) -> Result<Built, Refusal> {
    let scalar = |value: Value| Built::one(value.view().dtype(), Constant(value));
    if let Some(value) = node.tensor("value")? {
        return Built::one(value.view().dtype(), Constant(value));
    }
    if let Some(value) = node.float("value_float") {
        return scalar(Value::new(vec![], vec![value]));
    }
    if let Some(value) = node.int("value_int") {
        return scalar(Value::new(vec![], vec![value]));
    }
    if let Some(value) = node.text("value_string")? {
        return scalar(Value::new(vec![], vec![value.to_owned()]));
    }
    if node.attribute("value_floats").is_some() {
        let values = node.floats("value_floats").to_vec();
        return scalar(Value::new(vec![values.len()], values));
    }
    if node.attribute("value_ints").is_some() {
        let values = node.ints("value_ints").to_vec();
        return scalar(Value::new(vec![values.len()], values));
    }
    if node.attribute("value_strings").is_some() {
        let values = node.texts("value_strings")?;
        return scalar(Value::new(vec![values.len()], values));
    }
    Err(node.refuse(
        "has none of the attributes `value`, `value_float`, `value_int`, … that are supported",
    ))
}

/// Repeats dimensions of 1.
struct Expand;

impl Operator for Expand {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let shape = common_shape(input.shape, &sizes(inputs.get(1)?)?)?;
        count(&shape)?;
        let steps = strides(input.shape, &shape);
        each_type!(input.data, elements => gather_strided(elements, &shape, &steps, &mut outputs[0]))
    }
}

pub(super) fn expand(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&[])?;
    Built::one(node.dtype(0)?, Expand)
}

/// Repeats whole arrays along each axis.
struct Tile;

impl Operator for Tile {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let repeats = inputs.get(1)?.elements::<i64>()?;
        if repeats.len() != input.shape.len() {
            let (found, expected) = (repeats.len(), input.shape.len());
            return Err(Failure::new(format!(
                "has {found} repeats; expected one for each of {expected} axes"
            )));
        }
        let shape = input
            .shape
            .iter()
            .zip(repeats)
            .map(|(dim, times)| Ok(dim.saturating_mul(size(*times)?)));
        let shape = shape.collect::<Result<Vec<_>, Failure>>()?;
        let length = count(&shape)?;
        let own = dense_strides(input.shape);
        let outer = dense_strides(&shape);
        each_type!(input.data, elements => {
            let output = outputs[0].start(&shape);
            output.reserve(length);
            run.in_ranges(length, 1, |range| output.extend(range.map(|index| {
                let from = outer.iter().zip(&shape).zip(input.shape).zip(&own);
                let at: usize = from.map(|(((step, dim), inner), stride)| index / step % dim % inner * stride).sum();
                elements[at].clone()
            })))
        })
    }
}

pub(super) fn tile(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&[])?;
    if node.inputs.len() != 2 {
        return Err(node.refuse("this form is not supported"));
    }
    Built::one(node.dtype(0)?, Tile)
}
