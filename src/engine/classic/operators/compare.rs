//! Operators that compare, combine truths, and choose by them.

use std::marker::PhantomData;

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run, count};
use super::super::value::{Element, Value};
use super::broadcast::{common_shape, for_each_run, no_axis, pairs, same_type, strides};
use crate::tensor::DType;

pub(super) fn equal(node: &Node<'_>) -> Result<Built, Refusal> {
    no_axis(node)?;
    match same_type(node)? {
        DType::F32 => pairs(|a: &f32, b: &f32| a == b),
        DType::F64 => pairs(|a: &f64, b: &f64| a == b),
        DType::I64 => pairs(|a: &i64, b: &i64| a == b),
        DType::I32 => pairs(|a: &i32, b: &i32| a == b),
        DType::Bool => pairs(|a: &bool, b: &bool| a == b),
        DType::String => pairs(|a: &String, b: &String| a == b),
        other => Err(node.unsupported(other)),
    }
}

macro_rules! order {
    ($($name:ident: $operator:tt),* $(,)?) => {
        $(pub(super) fn $name(node: &Node<'_>) -> Result<Built, Refusal> {
            no_axis(node)?;
            match same_type(node)? {
                DType::F32 => pairs(|a: &f32, b: &f32| a $operator b),
                DType::F64 => pairs(|a: &f64, b: &f64| a $operator b),
                DType::I64 => pairs(|a: &i64, b: &i64| a $operator b),
                DType::I32 => pairs(|a: &i32, b: &i32| a $operator b),
                other => Err(node.unsupported(other)),
            }
        })*
    };
}

order!(less: <, less_or_equal: <=, greater: >, greater_or_equal: >=);

macro_rules! logic {
    ($($name:ident: $operator:tt),* $(,)?) => {
        $(pub(super) fn $name(node: &Node<'_>) -> Result<Built, Refusal> {
            no_axis(node)?;
            match same_type(node)? {
                DType::Bool => pairs(|a: &bool, b: &bool| a $operator b),
                other => Err(node.unsupported(other)),
            }
        })*
    };
}

logic!(and: &, or: |, xor: ^);

/// An operator that chooses between two arrays.
struct Where<T>(PhantomData<fn(T) -> T>);

impl<T: Element> Operator for Where<T> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let [condition, one, other] = [inputs.get(0)?, inputs.get(1)?, inputs.get(2)?];
        let (decide, yes, no) = (
            condition.elements::<bool>()?,
            one.elements::<T>()?,
            other.elements::<T>()?,
        );
        let common = common_shape(one.shape, other.shape)?;
        let common = common_shape(condition.shape, &common)?;
        let length = count(&common)?;
        let strides =
            [condition.shape, one.shape, other.shape].map(|shape| strides(shape, &common));
        let width = common.last().copied().unwrap_or(1);
        let steps = [0, 1, 2].map(|index: usize| strides[index].last().copied().unwrap_or(0));
        let output = outputs[0].start::<T>(&common);
        output.reserve(length);
        for_each_run(&common, &strides, |[decide_at, yes_at, no_at]| {
            output.extend((0..width).map(|column| {
                if decide[decide_at + column * steps[0]] {
                    yes[yes_at + column * steps[1]].clone()
                } else {
                    no[no_at + column * steps[2]].clone()
                }
            }));
            Ok(())
        })
    }
}

pub(super) fn choose(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&[])?;
    if node.dtype(0)? != DType::Bool {
        return Err(node.refuse("the condition must be BOOL"));
    }
    let dtype = node.dtype(1)?;
    if node.dtype(2)? != dtype {
        return Err(node.refuse("both choices must be of one type"));
    }
    match dtype {
        DType::F32 => Built::one(dtype, Where::<f32>(PhantomData)),
        DType::F64 => Built::one(dtype, Where::<f64>(PhantomData)),
        DType::I64 => Built::one(dtype, Where::<i64>(PhantomData)),
        DType::I32 => Built::one(dtype, Where::<i32>(PhantomData)),
        DType::Bool => Built::one(dtype, Where::<bool>(PhantomData)),
        DType::String => Built::one(dtype, Where::<String>(PhantomData)),
        other => Err(node.unsupported(other)),
    }
}
