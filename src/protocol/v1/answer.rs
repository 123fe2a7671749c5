//! Predictions in the form of the request.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::request::Form;
use crate::engine::Outputs;
use crate::model::Signature;
use crate::protocol::json::{
    Layout, NonFinite, separate, write_key, write_map, write_sequence, write_str, write_tensor,
};
use crate::tensor::{DType, Tensor, Value};

/// Text outputs whose names end so are bytes for their clients.
const BYTES: &str = "_bytes";

/// An output that does not have one row for each instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "output `{name}` has {} for {instances} instances; send the request as `inputs` to get whole tensors",
    rows.map_or("no rows".to_owned(), |rows| format!("{rows} rows"))
)]
pub(crate) struct RowsError {
    name: String,
    /// `None` where it has no rows at all.
    rows: Option<usize>,
    instances: usize,
}

/// `{"predictions": [one entry for each row]}` or `{"outputs": …}`; an entry or a tensor alone for a model with one
/// output, objects with the names of the outputs for one with several.
///
/// # Errors
/// [`RowsError`] when the request has rows and an output does not have one for each.
pub(crate) fn write_answer(
    form: Form,
    signature: &Signature,
    outputs: &Outputs,
    non_finite: NonFinite,
) -> Result<Vec<u8>, RowsError> {
    let names = signature.outputs.iter().map(|output| output.name.as_str());
    let writer = Writer {
        named: names.zip(outputs).collect(),
        non_finite,
    };
    let mut out = Vec::with_capacity(256);
    match form {
        Form::Columns => {
            out.extend_from_slice(b"{\"outputs\": ");
            writer.columns(&mut out);
        }
        Form::Rows(rows) => {
            writer.check_rows(rows)?;
            out.extend_from_slice(b"{\"predictions\": ");
            writer.rows(&mut out, rows);
        }
    }
    out.push(b'}');
    Ok(out)
}

struct Writer<'o> {
    named: Vec<(&'o str, &'o Value)>,
    non_finite: NonFinite,
}

impl Writer<'_> {
    fn check_rows(&self, instances: usize) -> Result<(), RowsError> {
        let has = |value: &Value| match value {
            Value::Sequence(tensors) => Some(tensors.len()),
            Value::Tensor(_) | Value::Maps(_) => value.rows(),
        };
        let odd = self
            .named
            .iter()
            .find(|(_, value)| has(value) != Some(instances));
        odd.map_or(Ok(()), |(name, value)| {
            Err(RowsError {
                name: (*name).to_owned(),
                rows: has(value),
                instances,
            })
        })
    }

    fn columns(&self, out: &mut Vec<u8>) {
        if let [(name, value)] = self.named.as_slice() {
            return self.whole(out, name, value);
        }
        out.push(b'{');
        for (index, (name, value)) in self.named.iter().enumerate() {
            write_key(out, index, name);
            self.whole(out, name, value);
        }
        out.push(b'}');
    }

    fn rows(&self, out: &mut Vec<u8>, rows: usize) {
        if let [(name, value)] = self.named.as_slice() {
            return self.whole(out, name, value);
        }
        let labels: Vec<Vec<String>> = self.named.iter().map(|(_, value)| labels(value)).collect();
        out.push(b'[');
        for row in 0..rows {
            separate(out, row);
            out.push(b'{');
            for (index, (name, value)) in self.named.iter().enumerate() {
                write_key(out, index, name);
                match value {
                    Value::Maps(maps) => write_map(out, &labels[index], maps, row, self.non_finite),
                    Value::Tensor(tensor) => self.row(out, name, tensor, row),
                    Value::Sequence(tensors) => self.tensor(out, name, &tensors[row]),
                }
            }
            out.push(b'}');
        }
        out.push(b']');
    }

    fn row(&self, out: &mut Vec<u8>, name: &str, tensor: &Tensor, row: usize) {
        let inner = tensor.shape()[1..].to_vec();
        let row = tensor.rows_of(row..row + 1);
        if let Some(row) = row.and_then(|row| row.reshaped(inner).ok()) {
            self.tensor(out, name, &row);
        }
    }

    fn whole(&self, out: &mut Vec<u8>, name: &str, value: &Value) {
        let maps = match value {
            Value::Tensor(tensor) => return self.tensor(out, name, tensor),
            Value::Sequence(tensors) => return write_sequence(out, tensors, self.non_finite),
            Value::Maps(maps) => maps,
        };
        let labels = labels(value);
        out.push(b'[');
        for row in 0..maps.scores.rows().unwrap_or(0) {
            separate(out, row);
            write_map(out, &labels, maps, row, self.non_finite);
        }
        out.push(b']');
    }

    fn tensor(&self, out: &mut Vec<u8>, name: &str, tensor: &Tensor) {
        match tensor.as_strings() {
            Some(texts) if name.ends_with(BYTES) && tensor.dtype() == DType::String => {
                write_bytes(out, tensor.shape(), texts);
            }
            _ => write_tensor(out, tensor, Layout::Nested, self.non_finite),
        }
    }
}

/// Texts as `{"b64": …}`, in lists nested to the shape.
fn write_bytes(out: &mut Vec<u8>, shape: &[usize], texts: &[String]) {
    let Some((&count, inner)) = shape.split_first() else {
        for text in texts {
            out.extend_from_slice(b"{\"b64\": ");
            write_str(out, &BASE64_STANDARD.encode(text));
            out.push(b'}');
        }
        return;
    };
    let width = inner.iter().product::<usize>();
    out.push(b'[');
    for index in 0..count {
        separate(out, index);
        write_bytes(out, inner, &texts[index * width..(index + 1) * width]);
    }
    out.push(b']');
}

fn labels(value: &Value) -> Vec<String> {
    match value {
        Value::Maps(maps) => maps.labels.to_texts(),
        Value::Tensor(_) | Value::Sequence(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{OutputKind, OutputSpec};
    use crate::tensor::{Labels, MapSequence};

    fn answer(form: Form, outputs: &[(&str, Value)]) -> Result<String, RowsError> {
        let spec = |(name, _): &(&str, Value)| OutputSpec {
            name: (*name).to_owned(),
            kind: OutputKind::Maps { text_labels: false },
        };
        let signature = Signature {
            inputs: vec![],
            outputs: outputs.iter().map(spec).collect(),
            ..Signature::default()
        };
        let values: Outputs = outputs.iter().map(|(_, value)| value.clone()).collect();
        let bytes = write_answer(form, &signature, &values, NonFinite::Bare)?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    fn scores() -> Tensor {
        Tensor::from_vec(vec![2, 2], vec![1.0_f32, f32::NAN, 0.25, 0.75]).unwrap()
    }

    fn maps() -> (&'static str, Value) {
        let labels = Labels::Int64(vec![0, 2]);
        let scores = scores();
        ("p", Value::Maps(MapSequence { labels, scores }))
    }

    fn texts(name: &'static str) -> (&'static str, Value) {
        let texts = vec!["u".to_owned(), "v".to_owned()];
        let texts = Tensor::from_strings(vec![2], texts).unwrap();
        (name, Value::Tensor(texts))
    }

    #[test]
    fn one_output_stands_alone_and_several_have_names() {
        let matrix = ("m", Value::Tensor(scores()));
        let one = [matrix.clone()];
        let rows = answer(Form::Rows(2), &one).unwrap();
        assert_eq!(rows, r#"{"predictions": [[1.0, NaN], [0.25, 0.75]]}"#);
        let columns = answer(Form::Columns, &one).unwrap();
        assert_eq!(columns, r#"{"outputs": [[1.0, NaN], [0.25, 0.75]]}"#);
        let two = [matrix, texts("t")];
        let rows = answer(Form::Rows(2), &two).unwrap();
        let first = r#"{"m": [1.0, NaN], "t": "u"}"#;
        let second = r#"{"m": [0.25, 0.75], "t": "v"}"#;
        assert_eq!(rows, format!("{{\"predictions\": [{first}, {second}]}}"));
        let columns = answer(Form::Columns, &two).unwrap();
        assert_eq!(
            columns,
            r#"{"outputs": {"m": [[1.0, NaN], [0.25, 0.75]], "t": ["u", "v"]}}"#
        );
    }

    #[test]
    fn maps_are_objects_and_bytes_are_base64() {
        let rows = r#"[{"0": 1.0, "2": NaN}, {"0": 0.25, "2": 0.75}]"#;
        let one = answer(Form::Rows(2), &[maps()]).unwrap();
        assert_eq!(one, format!("{{\"predictions\": {rows}}}"));
        let columns = answer(Form::Columns, &[maps(), texts("t_bytes")]).unwrap();
        let bytes = r#"[{"b64": "dQ=="}, {"b64": "dg=="}]"#;
        assert_eq!(
            columns,
            format!("{{\"outputs\": {{\"p\": {rows}, \"t_bytes\": {bytes}}}}}")
        );
    }

    #[test]
    fn rows_that_are_not_there_are_told() {
        let error = answer(Form::Rows(3), &[maps()]).unwrap_err().to_string();
        assert!(
            error.starts_with("output `p` has 2 rows for 3 instances"),
            "{error}"
        );
        let scalar = Tensor::from_vec(vec![], vec![1.0_f32]).unwrap();
        let error = answer(Form::Rows(1), &[("y", Value::Tensor(scalar))])
            .unwrap_err()
            .to_string();
        assert!(error.contains("no rows"), "{error}");
    }
}
