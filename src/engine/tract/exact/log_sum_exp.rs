//! `ReduceLogSumExp` without the overflow: tract takes the exponentials as they are, so that a sum of those of -1000 is 0
//! and its logarithm minus infinity.

use half::f16;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::logic::IfThenElse;
use tract_onnx::tract_core::ops::math::{Exp, Ln, add, exp, ln, max, min, sub};
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};
use tract_onnx::tract_core::ops::scan::Scan;

/// Has each such operator take the largest number out before the exponentials, and add it to the logarithm.
pub(in crate::engine::tract) fn shift_log_sums(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let node = model.node_mut(id);
        if let Some(scan) = node.op_as_mut::<Scan>() {
            shift_log_sums(&mut scan.body)?;
        } else if let Some(choice) = node.op_as_mut::<IfThenElse>() {
            shift_log_sums(&mut choice.then_body)?;
            shift_log_sums(&mut choice.else_body)?;
        } else if let Some(found) = Found::at(model, id) {
            found.shift(model)?;
        }
    }
    Ok(())
}

/// The three operators that tract makes of one.
struct Found {
    name: String,
    input: OutletId,
    axes: TVec<usize>,
    logarithm: usize,
}

impl Found {
    /// Told by their names: a graph that has the three itself is computed as it is written.
    fn at(model: &TypedModel, logarithm: usize) -> Option<Self> {
        let named = |id: usize, end: &str| {
            let node = model.node(id);
            node.name.strip_suffix(end).map(|name| (node, name))
        };
        let is = |node: &TypedNode, is: fn(&ElementWiseOp) -> bool| {
            node.op_as::<ElementWiseOp>().is_some_and(is)
        };
        let (last, name) = named(logarithm, ".ln")?;
        let (sum, of_sum) = named(last.inputs.first()?.node, ".sum")?;
        let (first, of_first) = named(sum.inputs.first()?.node, ".exp")?;
        let reduce = sum.op_as::<Reduce>()?;
        let are_they = is(last, |op| op.0.is::<Ln>())
            && is(first, |op| op.0.is::<Exp>())
            && reduce.reducer == Reducer::Sum
            && (name, name) == (of_sum, of_first);
        are_they.then(|| Self {
            name: name.to_owned(),
            input: first.inputs[0],
            axes: reduce.axes.clone(),
            logarithm,
        })
    }

    fn shift(self, model: &mut TypedModel) -> TractResult<()> {
        let mut patch = TypedModelPatch::new("the largest number is taken out first");
        let input = patch.tap_model(model, self.input)?;
        let fact = patch.outlet_fact(input)?.clone();
        let named = |what: &str| format!("{}.shifted.{what}", self.name);
        // Infinities stay with the numbers: less themselves they would be none.
        let [lowest, highest] = match fact.datum_type {
            DatumType::F64 => [f64::MIN, f64::MAX].map(tensor0),
            DatumType::F16 => [f16::MIN, f16::MAX].map(tensor0),
            _ => [f32::MIN, f32::MAX].map(tensor0),
        };
        let lowest = lowest.broadcast_into_rank(fact.rank())?;
        let lowest = patch.add_const(named("lowest"), lowest)?;
        let highest = highest.broadcast_into_rank(fact.rank())?;
        let highest = patch.add_const(named("highest"), highest)?;
        let largest = Reduce::new(self.axes.clone(), Reducer::Max);
        let largest = patch.wire_node(named("largest"), largest, &[input])?[0];
        let largest = patch.wire_node(named("above"), max(), &[largest, lowest])?[0];
        let largest = patch.wire_node(named("below"), min(), &[largest, highest])?[0];
        let less = patch.wire_node(named("less"), sub(), &[input, largest])?[0];
        let powers = patch.wire_node(named("exp"), exp(), &[less])?[0];
        let total = Reduce::new(self.axes, Reducer::Sum);
        let total = patch.wire_node(named("total"), total, &[powers])?[0];
        let logarithm = patch.wire_node(named("ln"), ln(), &[total])?[0];
        let whole = patch.wire_node(named("whole"), add(), &[logarithm, largest])?[0];
        patch.shunt_outside(model, OutletId::new(self.logarithm, 0), whole)?;
        patch.apply(model)
    }
}
