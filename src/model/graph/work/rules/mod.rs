//! A rule for each operator: the shapes of its outputs, given those of its inputs.
//!
//! A rule that refuses says that the values of a request may make an output as large as they like. What has no rule is
//! taken for as large as its largest input.

mod elementwise;
mod layout;
mod linear;
mod ml;
mod numbers;
mod picked;
mod sequences;
mod sized;
mod spatial;
mod text;

use super::follow::{Call, Effect, Rule, Rules, Unbounded};
use crate::tensor::DType;

const ML: &str = "ai.onnx.ml";
const MICROSOFT: &str = "com.microsoft";

/// What is known of operators.
pub(super) const RULES: Rules = Rules { find, is_open };

/// The rule of an operator.
fn find(domain: &str, op: &str) -> Rule {
    let families: &[fn(&str) -> Option<Rule>] = match domain {
        "" => &[
            elementwise::find,
            layout::find,
            picked::find,
            sized::find,
            spatial::find,
            linear::find,
            text::find,
            sequences::find,
        ],
        ML => &[ml::find],
        MICROSOFT => &[
            elementwise::contributed,
            linear::contributed,
            sized::contributed,
            text::find,
        ],
        _ => &[],
    };
    families
        .iter()
        .find_map(|family| family(op))
        .unwrap_or(as_large_as_inputs)
}

/// Whether shapes do not tell how much there is to do.
fn is_open(domain: &str, op: &str) -> bool {
    match domain {
        "" => matches!(
            op,
            "Compress"
                | "ImageDecoder"
                | "NonMaxSuppression"
                | "NonZero"
                | "RegexFullMatch"
                | "StringSplit"
                | "Unique"
                | "ConcatFromSequence"
                | "SequenceAt"
                | "SequenceErase"
                | "SequenceInsert"
                | "SequenceLength"
                | "SequenceMap"
                | "OptionalHasElement"
        ),
        ML => false,
        MICROSOFT => sized::contributed(op).is_some(),
        // Nobody here knows what it does.
        _ => true,
    }
}

fn as_large_as_inputs(call: &Call<'_>) -> Result<Effect, Unbounded> {
    let guess = call.guess(call.dtype(0));
    Ok(vec![guess; call.step.outputs.len()].into())
}

/// The number of a data type, as attributes have it.
fn dtype_of(code: i64) -> Option<DType> {
    DType::from_onnx(i32::try_from(code).ok()?)
}
