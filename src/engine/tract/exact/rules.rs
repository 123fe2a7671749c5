//! Which operators are computed otherwise.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{OneHot, Topk};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::cnn::MaxPool;
use tract_onnx::tract_core::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};
use tract_onnx::tract_core::ops::logic::IfThenElse;
use tract_onnx::tract_core::ops::lstm_cell::LstmEpilogue;
use tract_onnx::tract_core::ops::math::{
    Acosh, Asinh, Exp, Ln, Max, Min, ShiftLeft, ShiftRight, Tanh,
};
use tract_onnx::tract_core::ops::nn::gelu_approximate::GeluApproximate;
use tract_onnx::tract_core::ops::nn::silu::Silu;
use tract_onnx::tract_core::ops::nn::{HardSwish, Reduce, Reducer, Sigmoid, Softmax, SoftmaxKind};
use tract_onnx::tract_core::ops::scan::Scan;

use super::compute::{self, End, Unary};
use super::operators::Exact;

/// How an operator is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// As tract does it; only hidden from its rewriting.
    Same,
    Unary(Unary),
    /// The greater, or the lesser, of two; a missing number wins.
    Extreme(End),
    /// The same along axes.
    Reduce(End),
    /// Of windows.
    MaxPool,
    /// Where it is along an axis, the last place of equal ones or the first; a missing number is it only where it comes
    /// first.
    ArgReduce(End, bool),
    /// A missing number is above all others.
    TopK,
    /// With the logarithm taken, or not.
    Softmax(bool),
    /// To integers: what has no room becomes the lowest one, as on x86.
    Cast,
    /// By as many bits as there are, or more; to the left, or to the right.
    Shift(bool),
    Lstm,
    /// An index beyond gives the value of those that are off.
    OneHot,
}

/// Puts our operators in place of those that do not keep numbers that are not plain.
pub(in crate::engine::tract) fn make_exact(model: &mut TypedModel) {
    replace(model, &|node, _| {
        let mut outputs = node.outputs.iter();
        let gives_floats = outputs.any(|output| output.fact.datum_type.is_float());
        let may_lose = gives_floats || node.op_is::<Reduce>();
        may_lose.then(|| exact(node)).flatten()
    });
}

/// The same for those that are wrong on plain numbers.
pub(in crate::engine::tract) fn make_right(model: &mut TypedModel) {
    replace(model, &|node, from_float| {
        // Those of shapes stay where tract sees them.
        if from_float && node.op_as::<Cast>().is_some_and(|op| op.to.is_integer()) {
            return Some(Rule::Cast);
        }
        if node.op_is::<OneHot>() {
            return Some(Rule::OneHot);
        }
        let binary = node.op_as::<TypedBinOp>()?;
        let left = binary.0.is::<ShiftLeft>();
        (left || binary.0.is::<ShiftRight>()).then_some(Rule::Shift(left))
    });
}

/// Each operator for which there is a rule, of the node and whether its first input has floats.
fn replace(model: &mut TypedModel, rule: &dyn Fn(&TypedNode, bool) -> Option<Rule>) {
    for id in 0..model.nodes().len() {
        let first = model.node(id).inputs.first();
        let fact = first.and_then(|outlet| model.outlet_fact(*outlet).ok());
        let from_float = fact.is_some_and(|fact| fact.datum_type.is_float());
        let node = model.node_mut(id);
        if let Some(scan) = node.op_as_mut::<Scan>() {
            replace(&mut scan.body, rule);
        } else if let Some(choice) = node.op_as_mut::<IfThenElse>() {
            replace(&mut choice.then_body, rule);
            replace(&mut choice.else_body, rule);
        } else if let Some(rule) = rule(node, from_float) {
            let inner = node.op.clone();
            node.op = Box::new(Exact { inner, rule });
        }
    }
}

fn exact(node: &TypedNode) -> Option<Rule> {
    if let Some(op) = node.op_as::<ElementWiseOp>() {
        return Some(unary(&*op.0).map_or(Rule::Same, Rule::Unary));
    }
    if let Some(op) = node.op_as::<TypedBinOp>() {
        return Some(match &op.0 {
            op if op.is::<Max>() => Rule::Extreme(End::Greatest),
            op if op.is::<Min>() => Rule::Extreme(End::Least),
            _ => Rule::Same,
        });
    }
    if let Some(op) = node.op_as::<Softmax>() {
        return Some(Rule::Softmax(op.kind == SoftmaxKind::LogSoftmax));
    }
    if let Some(op) = node.op_as::<Reduce>() {
        return Some(match op.reducer {
            Reducer::Max => Rule::Reduce(End::Greatest),
            Reducer::Min => Rule::Reduce(End::Least),
            Reducer::ArgMax(last) => Rule::ArgReduce(End::Greatest, last),
            Reducer::ArgMin(last) => Rule::ArgReduce(End::Least, last),
            _ => Rule::Same,
        });
    }
    if let Some(op) = node.op_as::<MaxPool>() {
        return op.with_index_outputs.is_none().then_some(Rule::MaxPool);
    }
    if node.op_is::<Topk>() {
        return Some(Rule::TopK);
    }
    node.op_is::<LstmEpilogue>().then_some(Rule::Lstm)
}

fn unary(op: &dyn ElementWiseMiniOp) -> Option<Unary> {
    Some(match op {
        op if op.is::<Sigmoid>() => Unary::Sigmoid,
        op if op.is::<Tanh>() => Unary::Tanh,
        op if op.is::<Silu>() => Unary::Silu,
        op if op.is::<HardSwish>() => Unary::HardSwish,
        op if op.is::<Exp>() => Unary::Exp,
        op if op.is::<Ln>() => Unary::Ln,
        op if op.is::<Acosh>() => Unary::Acosh,
        op if op.is::<Asinh>() => Unary::Asinh,
        op => Unary::Gelu {
            power: match op.downcast_ref::<GeluApproximate>()?.fast_impl {
                true => 2,
                false => 3,
            },
        },
    })
}

impl Rule {
    pub(super) fn eval(
        self,
        inner: &dyn TypedOp,
        context: &EvalContext,
        inputs: TVec<TValue>,
    ) -> TractResult<TVec<TValue>> {
        match (self, inputs[0].datum_type()) {
            (Self::Shift(left), _) => compute::shift(left, &inputs),
            (Self::OneHot, _) => {
                let Some(op) = inner.downcast_ref::<OneHot>() else {
                    bail!("`{}` is no OneHot", inner.name());
                };
                compute::one_hot(op, context, &inputs[0])
            }
            (Self::Same, _) => inner.eval(context, inputs),
            (Self::MaxPool, dt) if dt.is_float() => compute::max_pool(inner, context, inputs),
            // Half numbers are computed as tract computes what it has no kernel for: in single precision.
            (_, DatumType::F16 | DatumType::F32) => self.floats::<f32>(inner, &inputs),
            (_, DatumType::F64) => self.floats::<f64>(inner, &inputs),
            _ => inner.eval(context, inputs),
        }
    }

    fn floats<T: compute::Float>(
        self,
        inner: &dyn TypedOp,
        inputs: &[TValue],
    ) -> TractResult<TVec<TValue>> {
        let dt = inputs[0].datum_type();
        let first = inputs[0].cast_to::<T>()?;
        let view = first.to_plain_array_view::<T>()?;
        let reduced = || inner.downcast_ref::<Reduce>().map(|op| op.axes.clone());
        let axes = || reduced().unwrap_or_default();
        let computed = match self {
            Self::Unary(function) => view.mapv(|number| function.of(number)),
            Self::Extreme(end) => {
                let second = inputs[1].cast_to::<T>()?;
                compute::extreme_of_two(&view, &second.to_plain_array_view::<T>()?, end)?
            }
            Self::Reduce(end) => compute::extreme_along(&view, &axes(), end),
            Self::Softmax(logarithm) => {
                let axes = inner.downcast_ref::<Softmax>().map(|op| op.axes.clone());
                compute::softmax(view.to_owned(), &axes.unwrap_or_default(), logarithm)
            }
            Self::ArgReduce(end, last) => {
                let places = compute::place_of_extreme(&view, &axes(), (end, last));
                return Ok(tvec!(places.into_tensor().into_tvalue()));
            }
            Self::TopK => {
                let Some(op) = inner.downcast_ref::<Topk>() else {
                    bail!("`{}` is no TopK", inner.name());
                };
                let count = usize::try_from(inputs[1].cast_to_scalar::<i64>()?)?;
                let (values, places) = compute::best(&view, (op.axis, op.largest), count)?;
                let values = values.into_tensor().cast_to_dt(dt)?.into_owned();
                return Ok(tvec!(
                    values.into_tvalue(),
                    places.into_tensor().into_tvalue()
                ));
            }
            Self::Cast => {
                let to = inner.downcast_ref::<Cast>().map(|op| op.to);
                return compute::cast(&first, to.unwrap_or(dt));
            }
            Self::Lstm => return compute::lstm::<T>(inputs),
            Self::Same | Self::MaxPool | Self::OneHot | Self::Shift(_) => view.to_owned(),
        };
        let computed = computed.into_tensor().cast_to_dt(dt)?.into_owned();
        Ok(tvec!(computed.into_tvalue()))
    }
}
