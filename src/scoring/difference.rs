//! How far two scoring answers are apart, output by output.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;

use crate::model::Signature;
use crate::tensor::DType;

/// How much two numbers of each output may differ.
#[derive(Debug, Clone)]
pub struct Tolerances {
    chosen: Option<f64>,
    dtypes: HashMap<String, DType>,
}

impl Tolerances {
    /// Those of the outputs' own types, or the one chosen for all that are not whole numbers.
    pub fn new(signature: &Signature, chosen: Option<f64>) -> Self {
        let dtypes = signature.outputs.iter();
        let dtypes = dtypes.map(|output| (output.name.clone(), output.kind.dtype()));
        Self {
            chosen,
            dtypes: dtypes.collect(),
        }
    }

    fn of_output(&self, name: &str) -> f64 {
        // Engines sum in another order, which moves the last digits of what a type can hold.
        let own = match self.dtypes.get(name) {
            Some(DType::F64) => 1e-7,
            Some(DType::F16) => 1e-2,
            Some(DType::Bf16) => 5e-2,
            Some(DType::F32) | None => 1e-4,
            Some(_) => return 0.0,
        };
        self.chosen.unwrap_or(own)
    }
}

/// The difference of one output, or of one of its columns.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The output; with `[1]` or `.label` when it is one of its columns.
    pub output: String,
    /// How many values were compared.
    pub values: usize,
    /// The largest difference of two values.
    pub largest_absolute: f64,
    /// The largest one as a share of the expected value.
    pub largest_relative: f64,
    /// Numbers pass when they are this close absolutely or relatively.
    pub tolerance: f64,
    /// How many values are further apart; labels and texts must be equal.
    pub beyond: usize,
    /// The first of those.
    pub first: Option<String>,
}

impl Difference {
    /// Whether no value is further from the expected one than the tolerance.
    pub fn passes(&self) -> bool {
        self.beyond == 0
    }
}

/// Compares two answers `{"predictions": …}`. With `columns` each column of a matrix and each label of a map is a row of
/// its own.
pub fn compare(
    old: &Value,
    new: &Value,
    tolerances: &Tolerances,
    columns: bool,
) -> Vec<Difference> {
    let mut walk = Walk {
        found: Vec::new(),
        places: HashMap::new(),
        tolerances,
        columns,
    };
    let (old, new) = (&old["predictions"], &new["predictions"]);
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in old {
                walk.output(name, value, new.get(name).unwrap_or(&Value::Null));
            }
            for (name, value) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
                walk.output(name, &Value::Null, value);
            }
        }
        _ => walk.output("predictions", old, new),
    }
    walk.found
}

/// Reads an answer, in which Python and `server.nonfinite = "bare"` write `NaN` and `Infinity`: they become null, as in
/// the answers of a server that writes legal JSON.
pub fn parse(answer: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(answer).or_else(|error| {
        let text = std::str::from_utf8(answer).map_err(|_| error)?;
        serde_json::from_str(&without_bare(text))
    })
}

fn without_bare(text: &str) -> String {
    let mut legal = String::with_capacity(text.len());
    let (mut in_text, mut escaped) = (false, false);
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let mut tokens = ["-Infinity", "Infinity", "NaN"].into_iter();
        if let Some(token) = tokens.find(|token| !in_text && rest.starts_with(token)) {
            legal.push_str("null");
            rest = &rest[token.len()..];
            continue;
        }
        in_text ^= next == '"' && !escaped;
        escaped = in_text && next == '\\' && !escaped;
        legal.push(next);
        rest = &rest[next.len_utf8()..];
    }
    legal
}

struct Walk<'a> {
    found: Vec<Difference>,
    places: HashMap<String, usize>,
    tolerances: &'a Tolerances,
    columns: bool,
}

/// Where a value is: its output, its column if columns are told apart, and the path for messages.
#[derive(Clone)]
struct Place<'a> {
    output: &'a str,
    label: String,
    path: String,
    depth: usize,
}

impl Place<'_> {
    fn inside(&self, step: &str, columns: bool) -> Self {
        let mut inside = self.clone();
        inside.path.push_str(step);
        inside.depth += 1;
        // The first step is the row.
        if columns && inside.depth == 2 {
            inside.label.push_str(step);
        }
        inside
    }
}

impl Walk<'_> {
    fn output<'v>(&mut self, name: &'v str, old: &'v Value, new: &Value) {
        let place = Place {
            output: name,
            label: name.to_owned(),
            path: name.to_owned(),
            depth: 0,
        };
        let before = self.found.len();
        self.value(&place, old, new);
        // An output without rows is told, too.
        if self.found.len() == before {
            self.entry(&place);
        }
    }

    fn value<'v>(&mut self, place: &Place<'v>, old: &'v Value, new: &Value) {
        match (old, new) {
            (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
                for (index, (old, new)) in old.iter().zip(new).enumerate() {
                    let inside = place.inside(&format!("[{index}]"), self.columns);
                    self.value(&inside, old, new);
                }
            }
            (Value::Object(old), Value::Object(new))
                if old.len() == new.len() && old.keys().all(|key| new.contains_key(key)) =>
            {
                for (key, old) in old {
                    let mut inside = place.inside(&format!(".{key}"), self.columns);
                    // The only output of a model stands in each row under its name.
                    if inside.depth == 2 && self.tolerances.dtypes.contains_key(key) {
                        inside.output = key;
                        inside.label.clone_from(key);
                    }
                    self.value(&inside, old, &new[key]);
                }
            }
            _ => self.leaf(place, old, new),
        }
    }

    fn leaf(&mut self, place: &Place<'_>, old: &Value, new: &Value) {
        let entry = self.entry(place);
        entry.values += 1;
        let fits = match (old.as_f64(), new.as_f64()) {
            // Whole numbers may be larger than what a float tells apart.
            (Some(_), Some(_)) if old == new => true,
            (Some(old), Some(new)) => {
                let absolute = (old - new).abs();
                let relative = absolute / old.abs().max(new.abs());
                entry.largest_absolute = entry.largest_absolute.max(absolute);
                entry.largest_relative = entry.largest_relative.max(relative);
                entry.tolerance > 0.0
                    && (absolute <= entry.tolerance || relative <= entry.tolerance)
            }
            _ => old == new,
        };
        if !fits {
            entry.beyond += 1;
            let first = || format!("{} is {}, was {}", place.path, short(new), short(old));
            entry.first.get_or_insert_with(first);
        }
    }

    fn entry(&mut self, place: &Place<'_>) -> &mut Difference {
        let index = match self.places.get(&place.label) {
            Some(index) => *index,
            None => {
                self.found.push(Difference {
                    output: place.label.clone(),
                    values: 0,
                    largest_absolute: 0.0,
                    largest_relative: 0.0,
                    tolerance: self.tolerances.of_output(place.output),
                    beyond: 0,
                    first: None,
                });
                self.places
                    .insert(place.label.clone(), self.found.len() - 1);
                self.found.len() - 1
            }
        };
        &mut self.found[index]
    }
}

fn short(value: &Value) -> String {
    const LIMIT: usize = 60;
    let text = match value {
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(entries) => format!("an object of {}", entries.len()),
        scalar => scalar.to_string(),
    };
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{OutputKind, OutputSpec, Signature};
    use serde_json::json;

    fn tolerances(chosen: Option<f64>) -> Tolerances {
        let output = |(name, dtype): (&str, DType)| OutputSpec {
            name: name.to_owned(),
            kind: OutputKind::Tensor { dtype, shape: None },
        };
        let outputs = [
            ("label", DType::I64),
            ("p", DType::F32),
            ("d", DType::F64),
            ("h", DType::F16),
        ];
        let signature = Signature {
            inputs: vec![],
            outputs: outputs.map(output).into(),
            ..Signature::default()
        };
        Tolerances::new(&signature, chosen)
    }

    fn differences(old: Value, new: Value, columns: bool) -> Vec<Difference> {
        let (old, new) = (json!({"predictions": old}), json!({"predictions": new}));
        compare(&old, &new, &tolerances(None), columns)
    }

    #[test]
    fn each_type_has_its_tolerance_and_whole_numbers_have_none() {
        let old = json!({"label": [1], "p": [1.0], "d": [1.0], "h": [1.0]});
        let new = json!({"label": [2], "p": [1.00005], "d": [1.00005], "h": [1.005]});
        let found = differences(old, new, false);
        let passed: Vec<(&str, bool)> = found
            .iter()
            .map(|one| (one.output.as_str(), one.passes()))
            .collect();
        assert_eq!(
            passed,
            [("label", false), ("p", true), ("d", false), ("h", true)]
        );
    }

    #[test]
    fn one_tolerance_can_be_chosen_for_floating_point_numbers() {
        let (old, new) = (
            json!({"predictions": {"label": [1], "p": [1.0]}}),
            json!({"predictions": {"label": [2], "p": [1.4]}}),
        );
        let found = compare(&old, &new, &tolerances(Some(0.5)), false);
        assert!(!found[0].passes() && found[1].passes(), "{found:?}");
    }

    #[test]
    fn the_largest_differences_and_the_first_that_counts_are_told() {
        let found = differences(
            json!({"p": [1.0, 200.0, 0.0]}),
            json!({"p": [1.5, 201.0, 0.0]}),
            false,
        );
        let [one] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!((one.values, one.beyond), (3, 2));
        assert_eq!(one.largest_absolute, 1.0);
        assert_eq!(one.largest_relative, 0.5 / 1.5);
        assert_eq!(one.first.as_deref(), Some("p[0] is 1.5, was 1.0"));
    }

    #[test]
    fn columns_and_labels_are_told_apart_on_request() {
        let labels = |found: Vec<Difference>| -> Vec<String> {
            found.into_iter().map(|one| one.output).collect()
        };
        let matrix = || json!({"p": [[1.0, 2.0], [3.0, 4.0]]});
        assert_eq!(
            labels(differences(matrix(), matrix(), true)),
            ["p[0]", "p[1]"]
        );
        assert_eq!(labels(differences(matrix(), matrix(), false)), ["p"]);
        let maps = || json!([{"setosa": 1.0}, {"setosa": 0.5}]);
        assert_eq!(
            labels(differences(maps(), maps(), true)),
            ["predictions.setosa"]
        );
        let rows = || json!([{"d": 1.0}, {"d": 0.5}]);
        let found = differences(rows(), rows(), false);
        assert_eq!(
            (found[0].tolerance, labels(found)),
            (1e-7, vec!["d".to_owned()])
        );
    }

    #[test]
    fn numbers_that_json_lacks_are_read_as_null() {
        let text = br#"{"predictions": {"p": [NaN, -Infinity, 1.0], "t": ["NaN \" Infinity"]}}"#;
        let expected = json!({"predictions": {"p": [null, null, 1.0], "t": ["NaN \" Infinity"]}});
        assert_eq!(parse(text).unwrap(), expected);
        assert!(parse(b"{\"predictions\": Nan}").is_err());
    }

    #[test]
    fn other_shapes_outputs_and_kinds_of_value_never_pass() {
        for (old, new) in [
            (json!({"p": [1.0]}), json!({"p": [1.0, 2.0]})),
            (json!({"p": [1.0]}), json!({"q": [1.0]})),
            (json!({"p": [1.0]}), json!({"p": ["1.0"]})),
            (json!({"p": [1.0]}), json!({"p": [null]})),
            (json!({"p": [1.0]}), json!([1.0])),
            (json!([{"a": 1.0}]), json!([{"b": 1.0}])),
        ] {
            for columns in [false, true] {
                let found = differences(old.clone(), new.clone(), columns);
                assert!(found.iter().any(|one| !one.passes()), "{old} {new}");
            }
        }
        let both = differences(json!({"p": [null]}), json!({"p": [null]}), false);
        assert!(both[0].passes(), "not a number on both sides");
    }
}
