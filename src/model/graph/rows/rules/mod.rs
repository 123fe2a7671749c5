//! A rule for each operator: what its outputs are, given what its inputs are.
//!
//! A rule works out shapes and where the rows are. With rows it refuses whatever could depend on other rows, on
//! positions or on the number of rows; without rows it may know less, and nothing is lost.

mod elementwise;
mod indexing;
mod integers;
mod layout;
mod linear;
mod ml;
mod neural;
mod pieces;
mod reduction;
mod spatial;
mod text;

use super::call::Call;
use super::value::{Refusal, Tensor, Value};

/// What a family of rules says of an operator; `None` is not one of theirs.
type Ruled = Option<Result<Vec<Value>, Refusal>>;

const ML: &str = "ai.onnx.ml";
const MICROSOFT: &str = "com.microsoft";

/// The outputs of an operator, in order; those that are not proven may be left out.
pub(super) fn apply(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    if is_random(call) {
        return Err("draws random numbers");
    }
    let of_one_row = one_row(call)?;
    if let Some(values) = integers::follow(call) {
        return Ok(values);
    }
    let values = rule(call).or_else(|refusal| {
        // Dropout is refused when it may draw.
        let known = matches!(call.domain, "" | ML) && call.op != "Dropout";
        let same_for_all = call.inputs.iter().flatten().all(Value::is_invariant);
        // Whatever it calculates, it calculates the same from the same.
        let unknown = || vec![Tensor::unknown().into(); call.outputs];
        (known && same_for_all).then(unknown).ok_or(refusal)
    })?;
    Ok(values
        .into_iter()
        .map(|value| mark(value, of_one_row))
        .collect())
}

fn mark(value: Value, of_one_row: bool) -> Value {
    match value {
        Value::Tensor(tensor) if of_one_row => Tensor {
            of_one_row,
            content: None,
            ..tensor
        }
        .into(),
        value => value,
    }
}

fn is_random(call: &Call<'_>) -> bool {
    call.domain.is_empty()
        && matches!(
            call.op,
            "Bernoulli"
                | "Multinomial"
                | "RandomNormal"
                | "RandomNormalLike"
                | "RandomUniform"
                | "RandomUniformLike"
        )
}

/// Whether an operator works on the one row that the body of a Scan sees.
fn one_row(call: &Call<'_>) -> Result<bool, Refusal> {
    let inputs = || call.inputs.iter().flatten();
    let is_of_one_row = |value: &Value| matches!(value, Value::Tensor(tensor) if tensor.of_one_row);
    if !inputs().any(is_of_one_row) {
        return Ok(false);
    }
    if inputs().any(|value| !value.is_invariant()) {
        return Err("brings one row together with all rows");
    }
    let sized_by_data = match call.op {
        "Compress" | "ConstantOfShape" | "NonMaxSuppression" | "NonZero" | "Range"
        | "StringSplit" | "TfIdfVectorizer" | "Tokenizer" | "Unique" | "StringNormalizer" => true,
        "CenterCropPad" | "Expand" | "OneHot" | "Pad" | "Reshape" | "Resize" | "Slice"
        | "Split" | "SplitToSequence" | "Squeeze" | "Tile" | "TopK" | "Unsqueeze" | "Upsample" => {
            call.inputs.iter().skip(1).flatten().any(is_of_one_row)
        }
        _ => false,
    };
    if sized_by_data {
        return Err("gives a size that depends on the data of a row");
    }
    Ok(true)
}

fn rule(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let families: &[fn(&Call<'_>) -> Ruled] = match call.domain {
        "" => &[
            text::rule,
            elementwise::rule,
            layout::rule,
            pieces::rule,
            indexing::rule,
            reduction::rule,
            linear::rule,
            spatial::rule,
            neural::rule,
        ],
        ML => &[ml::rule],
        MICROSOFT => &[elementwise::contributed, linear::contributed, text::rule],
        _ => &[],
    };
    let found = families.iter().find_map(|family| family(call));
    found.unwrap_or(Err("has no rule"))
}
