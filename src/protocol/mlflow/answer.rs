//! Predictions as MLflow writes them, straight from the outputs into bytes.

use std::borrow::Cow;

use super::feed::Form;
use crate::engine::Outputs;
use crate::model::Signature;
use crate::protocol::json::{
    Layout, NonFinite, separate, write_element, write_key, write_map, write_sequence, write_tensor,
};
use crate::tensor::{DType, Tensor, Value};

/// Why outputs make no data frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error(
        "output `{name}` has {count} elements and output `{first}` has {expected}: a data frame needs one per row. Send the \
         request as `inputs` or `instances`, or give the model a tensor signature"
    )]
    Uneven {
        name: String,
        count: usize,
        first: String,
        expected: usize,
    },
    #[error(
        "output `{0}` is a sequence of tensors of different shapes, which make no column of a data frame. Send the \
         request as `inputs` or `instances`, or give the model a tensor signature"
    )]
    Ragged(String),
}

/// `{"predictions": …}`: an object with a list per output, or a list with an object per row.
///
/// # Errors
/// When the outputs of a data frame have different numbers of elements, as MLflow refuses too.
pub(crate) fn write_answer(
    form: Form,
    signature: &Signature,
    outputs: &Outputs,
    non_finite: NonFinite,
) -> Result<Vec<u8>, AnswerError> {
    let named: Vec<(&str, &Value)> = signature
        .outputs
        .iter()
        .map(|output| output.name.as_str())
        .zip(outputs)
        .collect();
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"predictions\": ");
    match form {
        Form::Lists => write_lists(&mut out, &named, non_finite),
        Form::Records => write_records(&mut out, &named, non_finite)?,
    }
    out.push(b'}');
    Ok(out)
}

/// `{"predictions": …}` with the labels or numbers alone, as scikit-learn's `predict` returns them: a matrix of one
/// column is a list.
pub(crate) fn write_predictions(output: &Value, non_finite: NonFinite) -> Vec<u8> {
    if let Value::Tensor(tensor) = output
        && let &[rows, 1] = tensor.shape()
        && let Ok(flat) = tensor.clone().reshaped(vec![rows])
    {
        return write_one(&Value::Tensor(flat), non_finite);
    }
    write_one(output, non_finite)
}

/// `{"predictions": …}` with one output alone; maps are the lists of their values.
pub(crate) fn write_one(output: &Value, non_finite: NonFinite) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"predictions\": ");
    match output {
        Value::Tensor(tensor) => write_tensor(&mut out, tensor, Layout::Nested, non_finite),
        Value::Maps(maps) => write_tensor(&mut out, &maps.scores, Layout::Nested, non_finite),
        Value::Sequence(tensors) => write_sequence(&mut out, tensors, non_finite),
    }
    out.push(b'}');
    out
}

fn write_lists(out: &mut Vec<u8>, named: &[(&str, &Value)], non_finite: NonFinite) {
    out.push(b'{');
    for (index, (name, value)) in named.iter().enumerate() {
        write_key(out, index, name);
        match value {
            Value::Tensor(tensor) => write_tensor(out, tensor, Layout::Nested, non_finite),
            Value::Maps(maps) => {
                let labels = maps.labels.to_texts();
                out.push(b'[');
                for row in 0..rows(value) {
                    separate(out, row);
                    write_map(out, &labels, maps, row, non_finite);
                }
                out.push(b']');
            }
            Value::Sequence(tensors) => write_sequence(out, tensors, non_finite),
        }
    }
    out.push(b'}');
}

fn write_records(
    out: &mut Vec<u8>,
    named: &[(&str, &Value)],
    non_finite: NonFinite,
) -> Result<(), AnswerError> {
    let outputs = named.iter();
    let flat: Result<Vec<Cow<'_, Value>>, AnswerError> =
        outputs.map(|(name, value)| flat(name, value)).collect();
    let flat = flat?;
    let named = named.iter().zip(&flat);
    let named: Vec<(&str, &Value)> = named.map(|((name, _), value)| (*name, &**value)).collect();
    let count = named.first().map_or(0, |(_, value)| rows(value));
    if let Some((name, value)) = named.iter().find(|(_, value)| rows(value) != count) {
        return Err(AnswerError::Uneven {
            name: (*name).to_owned(),
            count: rows(value),
            first: named[0].0.to_owned(),
            expected: count,
        });
    }
    let labels: Vec<Vec<String>> = named
        .iter()
        .map(|(_, value)| match value {
            Value::Maps(maps) => maps.labels.to_texts(),
            Value::Tensor(_) | Value::Sequence(_) => Vec::new(),
        })
        .collect();
    out.push(b'[');
    for row in 0..count {
        separate(out, row);
        out.push(b'{');
        for (index, (name, value)) in named.iter().enumerate() {
            write_key(out, index, name);
            match value {
                Value::Tensor(tensor) => write_element(out, tensor, row, non_finite),
                Value::Maps(maps) => write_map(out, &labels[index], maps, row, non_finite),
                Value::Sequence(tensors) => {
                    write_tensor(out, &tensors[row], Layout::Nested, non_finite);
                }
            }
        }
        out.push(b'}');
    }
    out.push(b']');
    Ok(())
}

/// An output as numpy makes an array of it: a sequence of tensors is one tensor.
fn flat<'v>(name: &str, value: &'v Value) -> Result<Cow<'v, Value>, AnswerError> {
    let Value::Sequence(tensors) = value else {
        return Ok(Cow::Borrowed(value));
    };
    // Of an empty one no element is written.
    let dtype = tensors.first().map_or(DType::F32, Tensor::dtype);
    let stacked = Tensor::stack(tensors, dtype).map(|tensor| Cow::Owned(Value::Tensor(tensor)));
    stacked.ok_or_else(|| AnswerError::Ragged(name.to_owned()))
}

/// The rows that an output makes in a data frame: tensors are flattened.
fn rows(value: &Value) -> usize {
    match value {
        Value::Tensor(tensor) => tensor.len(),
        Value::Maps(maps) => maps.scores.rows().unwrap_or(0),
        Value::Sequence(tensors) => tensors.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{OutputKind, OutputSpec};
    use crate::tensor::{DType, Labels, MapSequence, Tensor};

    fn signature(names: &[&str]) -> Signature {
        let kind = OutputKind::Tensor {
            dtype: DType::F32,
            shape: None,
        };
        let output = |name: &&str| OutputSpec {
            name: (*name).to_owned(),
            kind: kind.clone(),
        };
        Signature {
            inputs: vec![],
            outputs: names.iter().map(output).collect(),
            ..Signature::default()
        }
    }

    fn answer(form: Form, outputs: &[(&str, Value)]) -> Result<String, AnswerError> {
        let names: Vec<&str> = outputs.iter().map(|(name, _)| *name).collect();
        let values: Outputs = outputs.iter().map(|(_, value)| value.clone()).collect();
        let bytes = write_answer(form, &signature(&names), &values, NonFinite::Null)?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    fn label() -> (&'static str, Value) {
        (
            "label",
            Value::Tensor(Tensor::from_vec(vec![2], vec![0i64, 2]).unwrap()),
        )
    }

    fn maps() -> (&'static str, Value) {
        let scores = Tensor::from_vec(vec![2, 2], vec![1.0f32, 0.0, 0.25, 0.75]).unwrap();
        (
            "p",
            Value::Maps(MapSequence {
                labels: Labels::Int64(vec![0, 2]),
                scores,
            }),
        )
    }

    #[test]
    fn one_output_alone_has_the_form_of_scikit_learn() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let matrix = |rows, width, values: &[f32]| {
            Value::Tensor(Tensor::from_vec(vec![rows, width], values.to_vec()).unwrap())
        };
        let predict = |value: &Value| text(write_predictions(value, NonFinite::Null));
        assert_eq!(predict(&label().1), r#"{"predictions": [0, 2]}"#);
        let column = matrix(2, 1, &[1.5, f32::NAN]);
        assert_eq!(predict(&column), r#"{"predictions": [1.5, null]}"#);
        let wide = matrix(1, 2, &[1.5, 2.0]);
        assert_eq!(predict(&wide), r#"{"predictions": [[1.5, 2.0]]}"#);
        assert_eq!(predict(&matrix(0, 1, &[])), r#"{"predictions": []}"#);
        let probabilities = |value: &Value| text(write_one(value, NonFinite::Null));
        assert_eq!(
            probabilities(&maps().1),
            r#"{"predictions": [[1.0, 0.0], [0.25, 0.75]]}"#
        );
        assert_eq!(
            probabilities(&matrix(1, 1, &[1.0])),
            r#"{"predictions": [[1.0]]}"#
        );
    }

    #[test]
    fn lists_keep_the_shapes_of_the_outputs() {
        let matrix = Value::Tensor(Tensor::from_vec(vec![1, 2], vec![0.5f32, f32::NAN]).unwrap());
        let text = answer(Form::Lists, &[label(), ("m", matrix)]).unwrap();
        assert_eq!(
            text,
            r#"{"predictions": {"label": [0, 2], "m": [[0.5, null]]}}"#
        );
        let text = answer(Form::Lists, &[maps()]).unwrap();
        assert_eq!(
            text,
            r#"{"predictions": {"p": [{"0": 1.0, "2": 0.0}, {"0": 0.25, "2": 0.75}]}}"#
        );
    }

    #[test]
    fn records_have_one_object_per_row() {
        let text = answer(Form::Records, &[label(), maps()]).unwrap();
        let rows = r#"[{"label": 0, "p": {"0": 1.0, "2": 0.0}}, {"label": 2, "p": {"0": 0.25, "2": 0.75}}]"#;
        assert_eq!(text, format!("{{\"predictions\": {rows}}}"));
        let wide = Value::Tensor(Tensor::from_vec(vec![2, 2], vec![0.5f32; 4]).unwrap());
        let error = answer(Form::Records, &[label(), ("m", wide)])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("output `m` has 4 elements and output `label` has 2"),
            "{error}"
        );
    }
}
