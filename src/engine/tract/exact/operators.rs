//! Operators of our own: each hides one of tract's from its rewriting, and computes what that gets wrong.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use super::rules::Rule;

/// One of tract's operators, computed by a rule of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exact {
    pub(super) inner: Box<dyn TypedOp>,
    pub(super) rule: Rule,
}

impl Op for Exact {
    fn name(&self) -> StaticName {
        format!("Exact<{}>", self.inner.name()).into()
    }

    op_as_typed_op!();
}

impl EvalOp for Exact {
    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.rule.eval(&*self.inner, context, inputs)
    }

    op_out_of_plan!();
}

impl TypedOp for Exact {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.inner.output_facts(inputs)
    }

    as_op!();
}
