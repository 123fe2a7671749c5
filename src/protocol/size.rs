//! How large an answer may become, from the outputs alone: it is charged before it is written.

use crate::tensor::{DType, Labels, Tensor, Value};

/// A number as text at its longest, such as `-1.1754943508222875e-38`.
const FLOAT: usize = 24;

/// The same of an integer, such as `-9223372036854775808`.
const INTEGER: usize = 20;

/// Between two elements: a comma, a space, and where each is a row of its own, its brackets.
const BETWEEN: usize = 4;

/// A byte of a text becomes up to six, as `\\u0000`.
const ESCAPED: usize = 6;

/// A text of a classification: a number without an exponent, and where it stands.
const CLASS: usize = 128;

/// The same of an FP64, which may have three hundred digits.
const LONG_CLASS: usize = 420;

/// Bytes of outputs as JSON, at most.
pub(crate) fn in_json<'v>(outputs: impl IntoIterator<Item = &'v Value>) -> usize {
    let sizes = outputs.into_iter().map(|output| match output {
        Value::Tensor(tensor) => tensor_in_json(tensor),
        Value::Maps(maps) => {
            // Each row repeats the labels.
            let rows = maps.scores.rows().unwrap_or(1);
            let labels = rows.saturating_mul(labels(&maps.labels));
            labels.saturating_add(tensor_in_json(&maps.scores))
        }
        Value::Sequence(tensors) => {
            let sizes = tensors
                .iter()
                .map(|tensor| tensor_in_json(tensor) + BETWEEN);
            sizes.fold(0, usize::saturating_add)
        }
    });
    sizes.fold(0, usize::saturating_add)
}

/// Bytes of an output as it is, at most.
pub(crate) fn in_bytes(output: &Value) -> usize {
    match output {
        Value::Tensor(tensor) => tensor_in_bytes(tensor),
        Value::Maps(maps) => tensor_in_bytes(&maps.scores).saturating_add(labels(&maps.labels)),
        Value::Sequence(tensors) => tensors.iter().map(tensor_in_bytes).sum(),
    }
}

/// Bytes of the texts of the `k` best classes of each row of an output, and of the JSON that is made of them; those of a
/// tensor may be called `named`.
pub(crate) fn of_classes(output: &Value, k: usize, named: Option<&[String]>) -> usize {
    let longest = || named.and_then(|named| named.iter().map(|label| text(label)).max());
    let label = match output {
        Value::Maps(maps) => labels(&maps.labels),
        Value::Tensor(_) | Value::Sequence(_) => longest().unwrap_or(0),
    };
    let sizes = output.tensors().iter().map(|scores| {
        let classes = scores.shape().last().copied().unwrap_or(1).max(1);
        let texts = scores.len() / classes * k.min(classes);
        let text = match scores.dtype() {
            DType::F64 => LONG_CLASS,
            _ => CLASS,
        };
        texts.saturating_mul(text.saturating_add(label).saturating_mul(2))
    });
    sizes.fold(0, usize::saturating_add)
}

fn labels(labels: &Labels) -> usize {
    match labels {
        Labels::Int64(labels) => labels.len() * (INTEGER + BETWEEN),
        Labels::String(labels) => labels.iter().map(|label| text(label)).sum(),
    }
}

fn text(text: &str) -> usize {
    text.len() * ESCAPED + BETWEEN
}

fn tensor_in_json(tensor: &Tensor) -> usize {
    let element = match tensor.dtype() {
        DType::String => {
            let texts = tensor.as_strings().unwrap_or_default().iter();
            let brackets = tensor.len() * between(tensor);
            return texts.map(|element| text(element)).sum::<usize>() + brackets;
        }
        DType::F16 | DType::Bf16 | DType::F32 | DType::F64 => FLOAT,
        _ => INTEGER,
    };
    tensor.len().saturating_mul(element + between(tensor))
}

/// An element may be the only one of each list around it.
fn between(tensor: &Tensor) -> usize {
    BETWEEN + 2 * tensor.shape().len()
}

fn tensor_in_bytes(tensor: &Tensor) -> usize {
    /// In front of each text, on the wire.
    const LENGTH: usize = 4;
    match tensor.as_strings() {
        Some(texts) => texts.iter().map(|text| text.len() + LENGTH).sum(),
        None => tensor.bytes().len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::{Layout, NonFinite, write_tensor};

    fn written(tensor: &Tensor) -> usize {
        let mut json = Vec::new();
        for layout in [Layout::Flat, Layout::Nested] {
            let mut one = Vec::new();
            write_tensor(&mut one, tensor, layout, NonFinite::Null);
            json = if one.len() > json.len() { one } else { json };
        }
        json.len()
    }

    #[test]
    fn no_answer_is_longer_than_what_was_charged_for_it() {
        // The longest texts of each type, alone in their rows.
        let shape = || vec![3, 1, 1, 1];
        let tensors = [
            Tensor::from_vec(shape(), vec![-f32::MIN_POSITIVE, -f32::MAX, -1.0 / 3.0]).unwrap(),
            Tensor::from_vec(shape(), vec![-f64::MIN_POSITIVE, -f64::MAX, -1.0 / 3.0]).unwrap(),
            Tensor::from_vec(shape(), vec![i64::MIN; 3]).unwrap(),
            Tensor::from_vec(shape(), vec![u64::MAX; 3]).unwrap(),
            Tensor::from_vec(shape(), vec![i8::MIN; 3]).unwrap(),
            Tensor::from_bools(shape(), &[false; 3]).unwrap(),
            Tensor::from_strings(shape(), vec!["\u{1}".repeat(9), String::new(), "é".into()])
                .unwrap(),
        ];
        for tensor in tensors {
            // A pair of brackets is there once.
            let (longest, most) = (written(&tensor), tensor_in_json(&tensor) + 2);
            assert!(longest <= most, "{tensor:?}: {longest} > {most}");
        }
    }
}
