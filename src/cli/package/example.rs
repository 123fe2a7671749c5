//! The input example as a user brings it: a whole request, or its data alone.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::cli::Failure;
use crate::model::Example;

/// The keys of a scoring request that hold data, each with the orientation of its data frame.
const FORMS: [(&str, Option<&str>); 4] = [
    ("dataframe_split", Some("split")),
    ("dataframe_records", Some("records")),
    ("instances", None),
    ("inputs", None),
];

pub(super) fn read(path: &Path) -> Result<Example, Failure> {
    let shown = path.display();
    let bytes = fs::read(path).map_err(|error| {
        Failure::failed(format!("cannot read input example `{shown}`: {error}"))
    })?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
        Failure::failed(format!("input example `{shown}` is not JSON: {error}"))
    })?;
    from_json(value)
        .map_err(|problem| Failure::failed(format!("input example `{shown}` {problem}")))
}

/// Why JSON is no input example.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum ExampleError {
    #[error("is a single value; expected a list of rows, or the body of a request")]
    SingleValue,
    #[error("has `params`, but a package made of a graph has no parameters; leave them out")]
    Parameters,
    #[error("has both `{0}` and `{1}`; expected one of them")]
    Both(&'static str, &'static str),
}

fn from_json(value: Value) -> Result<Example, ExampleError> {
    match value {
        Value::Object(body) => from_object(body),
        data @ Value::Array(_) => Ok(inputs(data)),
        _ => Err(ExampleError::SingleValue),
    }
}

fn from_object(body: Map<String, Value>) -> Result<Example, ExampleError> {
    let given: Vec<&(&str, Option<&str>)> = FORMS
        .iter()
        .filter(|(key, _)| body.contains_key(*key))
        .collect();
    match given.as_slice() {
        // Tensors by name.
        [] => Ok(inputs(Value::Object(body))),
        [(key, orient)] => {
            if body.contains_key("params") {
                return Err(ExampleError::Parameters);
            }
            let data = body[*key].clone();
            Ok(Example {
                body: json!({ *key: data }),
                data,
                orient: *orient,
            })
        }
        [(one, _), (other, _), ..] => Err(ExampleError::Both(one, other)),
    }
}

fn inputs(data: Value) -> Example {
    Example {
        body: json!({ "inputs": data }),
        data,
        orient: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_alone_becomes_a_request() {
        for data in [json!([[1.5, 2]]), json!({ "user": [1], "item": [2] })] {
            let example = from_json(data.clone()).unwrap();
            assert_eq!(example.body, json!({ "inputs": data }));
            assert_eq!((example.data, example.orient), (data, None));
        }
    }

    #[test]
    fn a_request_is_kept_in_its_form() {
        let split = json!({ "columns": ["a"], "data": [[1]] });
        let example = from_json(json!({ "dataframe_split": split })).unwrap();
        assert_eq!((example.data, example.orient), (split, Some("split")));
        let example = from_json(json!({ "instances": [1] })).unwrap();
        assert_eq!(example.body, json!({ "instances": [1] }));
    }

    #[test]
    fn what_cannot_be_an_example_is_refused_with_the_reason() {
        let cases = [
            json!(7),
            json!({ "inputs": [1], "params": {} }),
            json!({ "inputs": [1], "instances": [1] }),
        ];
        let problems = cases.map(|case| from_json(case).unwrap_err().to_string());
        insta::assert_snapshot!(problems.join("\n"));
    }
}
