//! Whether a run of the fast plan can be trusted: everything that goes from node to node is a plain number.

use std::collections::BTreeSet;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{
    Gather, MultiBroadcastTo, Slice, Tile, Topk, TypedConcat,
};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::logic::Iff;
use tract_onnx::tract_core::ops::math::{Abs, Add, Erf, Max, Min, Neg, Tanh};
use tract_onnx::tract_core::ops::nn::{LeakyRelu, Reduce, Reducer, Sigmoid, Softmax};

/// Sums of a million products of numbers up to this one, scaled once more, are finite: nothing overflows within a node,
/// where nobody sees it.
const LARGE: f32 = 1e9;

/// Nodes may be checked in so many elements before anything else is done.
const BLOCK: usize = 4096;

/// The nodes of a plan whose numbers may be as low as they like: an attention mask is `-inf`, or the lowest number, and
/// only a softmax sees it.
pub(in crate::engine::tract) fn lows(model: &TypedModel) -> BTreeSet<usize> {
    let mut lows = BTreeSet::new();
    // Consumers come before what they consume.
    let order = model.eval_order().unwrap_or_default();
    for &id in order.iter().rev() {
        let node = model.node(id);
        let is_output = model.outputs.iter().any(|output| output.node == id);
        let mut consumers = node.outputs.iter().flat_map(|output| &output.successors);
        let only_lows = consumers.all(|consumer| {
            let consumer = model.node(consumer.node);
            consumer.op_is::<Softmax>() || (lows.contains(&consumer.id) && passes(consumer))
        });
        if !is_output
            && only_lows
            && !node
                .outputs
                .iter()
                .all(|output| output.successors.is_empty())
        {
            lows.insert(id);
        }
    }
    lows
}

/// Whether a low number stays one in this operator.
fn passes(node: &TypedNode) -> bool {
    let is_sum = |op: &TypedBinOp| op.0.is::<Add>();
    node.op_as::<TypedBinOp>().is_some_and(is_sum)
        || node.op_is::<Iff>()
        || node.op_is::<AxisOp>()
        || node.op_is::<MultiBroadcastTo>()
        || node.op_is::<Slice>()
        || node.op_is::<Cast>()
}

/// The nodes of a plan that make plain numbers of plain ones: what they give need not be looked at.
pub(in crate::engine::tract) fn harmless(model: &TypedModel) -> BTreeSet<usize> {
    // A constant is never looked at.
    let is_plain = |outlet: &OutletId| {
        let fact = model.outlet_fact(*outlet);
        let constant = fact.ok().and_then(|fact| fact.konst.as_ref());
        constant.is_none_or(|constant| are_plain(constant, false))
    };
    let nodes = model.nodes().iter();
    let harmless = nodes.filter(|node| makes_nothing_new(node) && node.inputs.iter().all(is_plain));
    harmless.map(|node| node.id).collect()
}

fn makes_nothing_new(node: &TypedNode) -> bool {
    if let Some(op) = node.op_as::<ElementWiseOp>() {
        let op = &op.0;
        return op.is::<Tanh>()
            || op.is::<Sigmoid>()
            || op.is::<Erf>()
            || op.is::<Abs>()
            || op.is::<Neg>()
            || op.is::<LeakyRelu>();
    }
    if let Some(op) = node.op_as::<TypedBinOp>() {
        return op.0.is::<Max>() || op.0.is::<Min>();
    }
    if let Some(op) = node.op_as::<Reduce>() {
        return matches!(op.reducer, Reducer::Max | Reducer::Min);
    }
    node.op_is::<AxisOp>()
        || node.op_is::<MultiBroadcastTo>()
        || node.op_is::<Slice>()
        || node.op_is::<TypedConcat>()
        || node.op_is::<Gather>()
        || node.op_is::<Tile>()
        || node.op_is::<Iff>()
        || node.op().name() == "OptMaxPool"
        || node.op_is::<Topk>()
}

/// Whether no number is beyond [`LARGE`] either way, or none at all. By their bits, whose order is that of the numbers:
/// without a branch, in as many lanes as the processor has.
fn are_small(block: &[f32]) -> bool {
    const SIGN: u32 = 1 << 31;
    let beyond = block.iter().fold(0, |beyond, number| {
        let absolute = number.to_bits() & !SIGN;
        // Borrows the sign where it is larger.
        beyond | LARGE.to_bits().wrapping_sub(absolute)
    });
    beyond & SIGN == 0
}

/// Whether all numbers are plain: finite and not too large.
pub(in crate::engine::tract) fn are_plain(tensor: &Tensor, may_be_low: bool) -> bool {
    let Ok(view) = tensor.try_as_plain_ram() else {
        return true;
    };
    let low = if may_be_low {
        f32::NEG_INFINITY
    } else {
        -LARGE
    };
    match tensor.datum_type() {
        DatumType::F32 => {
            let numbers = view.as_slice::<f32>().unwrap_or_default();
            let mut blocks = numbers.chunks(BLOCK);
            if !may_be_low {
                return blocks.all(are_small);
            }
            blocks.all(|block| {
                block
                    .iter()
                    .all(|number| *number >= low && *number <= LARGE)
            })
        }
        DatumType::F64 => {
            let (low, large) = (f64::from(low), f64::from(LARGE));
            let numbers = view.as_slice::<f64>().unwrap_or_default();
            numbers
                .iter()
                .all(|number| *number >= low && *number <= large)
        }
        DatumType::F16 => {
            let numbers = view.as_slice::<f16>().unwrap_or_default();
            let is_low = |number: &f16| may_be_low && *number == f16::NEG_INFINITY;
            numbers
                .iter()
                .all(|number| number.is_finite() || is_low(number))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_are_told_by_their_bits() {
        let above = f32::from_bits(LARGE.to_bits() + 1);
        for number in [0.0, -0.0, 1.0, -1e-40, LARGE, -LARGE] {
            assert!(are_small(&[1.0, number]), "{number}");
        }
        for number in [
            above,
            -above,
            f32::MAX,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            -f32::NAN,
        ] {
            assert!(!are_small(&[1.0, number]), "{number}");
        }
    }
}
