//! What a package wishes of its server: `metadata.onstage` of the manifest.

use std::path::{Component, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::{ManifestProblem, brief};

/// Wishes of a package about its own requests. The operator's settings win; threads, providers and memory are not for a
/// package to say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hints {
    /// The most rows of one call of the engine.
    pub max_batch_size: Option<usize>,
    /// The longest wait for more rows.
    pub max_queue_delay: Option<Duration>,
    /// Requests that may wait; never more than the operator allows.
    pub max_queue_size: Option<usize>,
    /// Whether the package's example is run before it serves.
    pub warmup: Option<bool>,
    /// What its data looked like in training: a file of the package.
    pub baseline: Option<PathBuf>,
    /// Keys that mean nothing here, such as those of a later version.
    pub unknown: Vec<String>,
}

/// Reads the value of `metadata.onstage`.
///
/// # Errors
/// [`ManifestProblem::Value`] when a known key has a value of another kind.
pub(super) fn parse(value: Option<&Value>) -> Result<Hints, ManifestProblem> {
    let mut hints = Hints::default();
    let Some(value) = value else {
        return Ok(hints);
    };
    for (key, value) in mapping("metadata.onstage", value)? {
        let path = format!("metadata.onstage.{key}");
        match key.as_str() {
            "batching" => batching(&mut hints, mapping(&path, value)?)?,
            "warmup" => {
                let wanted = value.as_bool();
                hints.warmup = Some(wanted.ok_or_else(|| wrong(path, value, "true or false"))?);
            }
            "baseline" => hints.baseline = Some(file(path, value)?),
            _ => hints.unknown.push(path),
        }
    }
    Ok(hints)
}

fn batching(hints: &mut Hints, values: &Map<String, Value>) -> Result<(), ManifestProblem> {
    for (key, value) in values {
        let path = format!("metadata.onstage.batching.{key}");
        match key.as_str() {
            "max_batch_size" => hints.max_batch_size = Some(count(path, value)?),
            "max_queue_size" => hints.max_queue_size = Some(count(path, value)?),
            "max_queue_delay" => hints.max_queue_delay = Some(duration(path, value)?),
            _ => hints.unknown.push(path),
        }
    }
    Ok(())
}

fn mapping<'v>(key: &str, value: &'v Value) -> Result<&'v Map<String, Value>, ManifestProblem> {
    let mapping = value.as_object();
    mapping.ok_or_else(|| wrong(key.to_owned(), value, "a mapping"))
}

fn count(key: String, value: &Value) -> Result<usize, ManifestProblem> {
    let number = value.as_u64().filter(|number| *number > 0);
    let number = number.and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| wrong(key, value, "a whole number from 1 up"))
}

/// A file of the package, not one outside.
fn file(key: String, value: &Value) -> Result<PathBuf, ManifestProblem> {
    let path = value
        .as_str()
        .filter(|text| !text.is_empty())
        .map(PathBuf::from);
    let is_inside = |path: &PathBuf| {
        let mut parts = path.components();
        parts.all(|part| matches!(part, Component::Normal(_)))
    };
    let path = path.filter(is_inside);
    path.ok_or_else(|| wrong(key, value, "the path of a file inside the package"))
}

fn duration(key: String, value: &Value) -> Result<Duration, ManifestProblem> {
    let text = value.as_str();
    let duration = text.and_then(|text| humantime::parse_duration(text).ok());
    duration.ok_or_else(|| wrong(key, value, "a duration such as `5ms`"))
}

fn wrong(key: String, value: &Value, expected: &'static str) -> ManifestProblem {
    ManifestProblem::Value {
        key,
        found: brief(value),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn wishes_are_read_and_unknown_ones_are_kept_for_a_notice() {
        let hints = parse(Some(&json!({
            "batching": {"max_batch_size": 8, "max_queue_delay": "2ms", "max_queue_size": 64, "instances": 9},
            "warmup": false,
            "baseline": "baseline.json",
            "intra_op_threads": 64,
        })));
        let expected = Hints {
            max_batch_size: Some(8),
            max_queue_delay: Some(Duration::from_millis(2)),
            max_queue_size: Some(64),
            warmup: Some(false),
            baseline: Some("baseline.json".into()),
            unknown: vec![
                "metadata.onstage.batching.instances".to_owned(),
                "metadata.onstage.intra_op_threads".to_owned(),
            ],
        };
        assert_eq!(hints.unwrap(), expected);
        assert_eq!(parse(None).unwrap(), Hints::default());
    }

    #[test]
    fn a_wish_of_the_wrong_kind_names_its_key_and_what_would_fit() {
        let cases = [
            (
                json!([]),
                "a list for `metadata.onstage`; expected a mapping",
            ),
            (
                json!({"warmup": "yes"}),
                "`\"yes\"` for `metadata.onstage.warmup`; expected true or false",
            ),
            (
                json!({"baseline": "../b.json"}),
                "`\"../b.json\"` for `metadata.onstage.baseline`; expected the path of a file inside the package",
            ),
            (
                json!({"batching": {"max_batch_size": 0}}),
                "`0` for `metadata.onstage.batching.max_batch_size`; expected a whole number from 1 up",
            ),
            (
                json!({"batching": {"max_queue_delay": 5}}),
                "`5` for `metadata.onstage.batching.max_queue_delay`; expected a duration such as `5ms`",
            ),
        ];
        for (value, message) in cases {
            let error = parse(Some(&value)).unwrap_err();
            assert_eq!(error.to_string(), format!("has {message}"));
        }
    }
}
