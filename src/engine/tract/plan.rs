//! The plan for one set of shapes: a fast one, and its twin for numbers that are not plain.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::plan::{SimpleState, eval};

use super::exact::watch;
use super::load::Runnable;
use crate::engine::CancelToken;

/// What one of them needs to run again.
pub(super) type State = SimpleState<TypedFact, Box<dyn TypedOp>>;

/// See the module.
pub(super) struct Plan {
    fast: Arc<Runnable>,
    /// Nodes whose numbers may be as low as they like.
    lows: BTreeSet<usize>,
    /// Nodes that make plain numbers of plain ones.
    harmless: BTreeSet<usize>,
    exact: OnceLock<Arc<Runnable>>,
}

impl Plan {
    pub(super) fn new(fast: Arc<Runnable>) -> Self {
        let lows = watch::lows(fast.model());
        let harmless = watch::harmless(fast.model());
        Self {
            fast,
            lows,
            harmless,
            exact: OnceLock::new(),
        }
    }

    /// Runs the fast plan, or `exact` where a number is not plain; `kept` is the state of the last run and of which it was.
    pub(super) fn run(
        &self,
        inputs: TVec<TValue>,
        cancel: &CancelToken,
        kept: &mut Option<(Arc<Runnable>, State)>,
        exact: impl FnOnce() -> TractResult<Arc<Runnable>>,
    ) -> TractResult<TVec<TValue>> {
        if inputs.iter().all(|input| watch::are_plain(input, false)) {
            let mut plain = true;
            let watched = |node: usize, outputs: &[TValue]| {
                if self.harmless.contains(&node) {
                    return true;
                }
                let may_be_low = self.lows.contains(&node);
                plain = outputs
                    .iter()
                    .all(|output| watch::are_plain(output, may_be_low));
                plain
            };
            let outputs = run(&self.fast, inputs.clone(), cancel, kept, watched);
            if plain {
                return outputs;
            }
        }
        let exact = match self.exact.get() {
            Some(exact) => Arc::clone(exact),
            None => {
                let made = exact()?;
                Arc::clone(self.exact.get_or_init(|| made))
            }
        };
        run(&exact, inputs, cancel, kept, |_, _| true)
    }
}

/// Runs until a node's outputs are not to the liking of `watched`.
fn run(
    runnable: &Arc<Runnable>,
    inputs: TVec<TValue>,
    cancel: &CancelToken,
    kept: &mut Option<(Arc<Runnable>, State)>,
    mut watched: impl FnMut(usize, &[TValue]) -> bool,
) -> TractResult<TVec<TValue>> {
    let mut state = match kept.take() {
        Some((last, state)) if Arc::ptr_eq(&last, runnable) => state,
        _ => runnable.spawn()?,
    };
    let outputs = state.run_plan_with_eval(inputs, |context, op_state, node, inputs| {
        if cancel.is_cancelled() {
            return Err(TractError::msg("cancelled"));
        }
        let outputs = eval(context, op_state, node, inputs)?;
        match watched(node.id, &outputs) {
            true => Ok(outputs),
            false => Err(TractError::msg("a number is not plain")),
        }
    })?;
    // Operators with a state of their own, such as loops, begin each request anew.
    if state.op_states.iter().all(Option::is_none) {
        *kept = Some((Arc::clone(runnable), state));
    }
    Ok(outputs)
}
