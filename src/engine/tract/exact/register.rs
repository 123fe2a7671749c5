//! Operators of ONNX that tract puts together from others so that plain numbers overflow on the way.

use tract_hir::internal::*;
use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::math::{abs, add, exp, ln, max, neg};
use tract_onnx::tract_core::ops::nn;

type Parsed = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// Has `onnx` read these operators our way.
pub(in crate::engine::tract) fn register(mut onnx: Onnx) -> Onnx {
    onnx.op_register.insert("LogSoftmax", log_softmax);
    onnx.op_register
        .insert("Softplus", |_, _| Ok((expand(Own::Softplus), vec![])));
    onnx
}

fn log_softmax(context: &ParsingContext, node: &NodeProto) -> Parsed {
    // Up to opset 12 it was over all axes from this one on.
    let to_the_end = context.onnx_operator_set_version < 13;
    let usual = if to_the_end { 1 } else { -1 };
    let axis = node.get_attr_opt("axis")?.unwrap_or(usual);
    Ok((expand(Own::LogSoftmax { axis, to_the_end }), vec![]))
}

/// An operator whose output has the shape of its input.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Own {
    /// The logarithm of a softmax, without the softmax: that of 200 beside 0 is 0 before its logarithm is taken.
    LogSoftmax { axis: isize, to_the_end: bool },
    /// `max(x, 0) + ln(1 + exp(-|x|))`: the exponential of a large number is never taken.
    Softplus,
}

impl Expansion for Own {
    fn name(&self) -> StaticName {
        match self {
            Self::LogSoftmax { .. } => "LogSoftmax".into(),
            Self::Softplus => "Softplus".into(),
        }
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        solver.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(
        &self,
        name: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        match *self {
            Self::LogSoftmax { axis, to_the_end } => {
                wire_log_softmax(name, model, inputs, (axis, to_the_end))
            }
            Self::Softplus => wire_softplus(name, model, inputs),
        }
    }
}

fn wire_log_softmax(
    name: &str,
    model: &mut TypedModel,
    inputs: &[OutletId],
    (axis, to_the_end): (isize, bool),
) -> TractResult<TVec<OutletId>> {
    let rank = model.outlet_fact(inputs[0])?.rank();
    let axis = if axis < 0 { axis + rank as isize } else { axis } as usize;
    let axes = if to_the_end {
        (axis..rank).collect()
    } else {
        tvec!(axis)
    };
    let kind = nn::SoftmaxKind::LogSoftmax;
    model.wire_node(
        name,
        nn::Softmax {
            axes,
            quant_output_dt: None,
            kind,
        },
        inputs,
    )
}

fn wire_softplus(
    name: &str,
    model: &mut TypedModel,
    inputs: &[OutletId],
) -> TractResult<TVec<OutletId>> {
    let fact = model.outlet_fact(inputs[0])?.clone();
    let mut constant = |what: &str, value: f32| {
        let value = tensor0(value).cast_to_dt(fact.datum_type)?.into_owned();
        model.add_const(
            format!("{name}.{what}"),
            value.broadcast_into_rank(fact.rank())?,
        )
    };
    let (zero, one) = (constant("zero", 0.0)?, constant("one", 1.0)?);
    let mut wire = |what: &str, op: Box<dyn TypedOp>, inputs: &[OutletId]| {
        model
            .wire_node(format!("{name}.{what}"), op, inputs)
            .map(|outlets| outlets[0])
    };
    let positive = wire("positive", Box::new(max()), &[inputs[0], zero])?;
    let size = wire("abs", Box::new(abs()), inputs)?;
    let opposite = wire("neg", Box::new(neg()), &[size])?;
    let power = wire("exp", Box::new(exp()), &[opposite])?;
    let sum = wire("plus_one", Box::new(add()), &[power, one])?;
    let rest = wire("ln", Box::new(ln()), &[sum])?;
    Ok(tvec!(wire("sum", Box::new(add()), &[positive, rest])?))
}
