//! Compares JSON values as a client would: floating-point numbers nearly, everything else exactly.

use serde_json::{Number, Value};

/// Stands for a bare `NaN`, `Infinity` or `-Infinity`; no real text begins like this.
const BARE: &str = "\u{0}bare ";

/// How far apart two floating-point numbers may be; one of the two must hold.
#[derive(Clone, Copy)]
pub(crate) struct Tolerance {
    pub(crate) relative: f64,
    pub(crate) absolute: f64,
}

/// Of the recorded cases.
pub(crate) const RECORDED: Tolerance = Tolerance {
    relative: 1e-5,
    absolute: 1e-6,
};

/// Parses JSON in which bare `NaN`, `Infinity` and `-Infinity` may occur, as Python writes them.
pub(crate) fn parse(text: &str) -> Result<Value, serde_json::Error> {
    let mut quoted = String::with_capacity(text.len());
    let (mut in_text, mut escaped) = (false, false);
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let bare = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .find(|token| !in_text && rest.starts_with(token));
        if let Some(token) = bare {
            quoted.push_str(&format!("\"\\u0000bare {token}\""));
            rest = &rest[token.len()..];
            continue;
        }
        in_text ^= next == '"' && !escaped;
        escaped = in_text && next == '\\' && !escaped;
        quoted.push(next);
        rest = &rest[next.len_utf8()..];
    }
    serde_json::from_str(&quoted)
}

/// The first difference, if there is one.
pub(crate) fn difference(want: &Value, got: &Value, tolerance: Tolerance) -> Option<String> {
    compare("$", want, got, tolerance)
}

fn compare(path: &str, want: &Value, got: &Value, tolerance: Tolerance) -> Option<String> {
    match (want, got) {
        (Value::Object(wanted), Value::Object(given)) => {
            if wanted.len() != given.len() || wanted.keys().any(|key| !given.contains_key(key)) {
                let (wanted, given): (Vec<_>, Vec<_>) =
                    (wanted.keys().collect(), given.keys().collect());
                return Some(format!("{path}: want keys {wanted:?}, got {given:?}"));
            }
            wanted.iter().find_map(|(key, value)| {
                compare(&format!("{path}.{key}"), value, &given[key], tolerance)
            })
        }
        (Value::Array(wanted), Value::Array(given)) => {
            if wanted.len() != given.len() {
                return Some(format!(
                    "{path}: want {} items, got {}",
                    wanted.len(),
                    given.len()
                ));
            }
            let mut pairs = wanted.iter().zip(given).enumerate();
            pairs.find_map(|(index, (want, got))| {
                compare(&format!("{path}[{index}]"), want, got, tolerance)
            })
        }
        (Value::Number(wanted), Value::Number(given)) if same_number(wanted, given, tolerance) => {
            None
        }
        // A server that writes legal JSON has `null` for what is no number.
        (Value::String(bare), Value::Null) if bare.starts_with(BARE) => None,
        _ if want == got && !want.is_number() => None,
        _ => Some(format!("{path}: want {}, got {}", short(want), short(got))),
    }
}

/// Whole numbers exactly, and 2 is not 2.0.
fn same_number(want: &Number, got: &Number, tolerance: Tolerance) -> bool {
    if !want.is_f64() || !got.is_f64() {
        return want == got;
    }
    let (Some(want), Some(got)) = (want.as_f64(), got.as_f64()) else {
        return false;
    };
    let apart = (want - got).abs();
    apart <= tolerance.absolute || apart <= tolerance.relative * want.abs().max(got.abs())
}

/// A value for a message, cut where it is long.
pub(crate) fn short(value: &Value) -> String {
    cut(&value.to_string(), 160)
}

/// The beginning of a text.
pub(crate) fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[test]
fn finds_every_kind_of_difference() {
    let agree =
        |want, got| difference(&parse(want).unwrap(), &parse(got).unwrap(), RECORDED).is_none();
    assert!(agree(
        r#"{"a": [1, 2.0, "x", null, true]}"#,
        r#"{"a": [1, 2.000001, "x", null, true]}"#
    ));
    assert!(agree("[NaN, -Infinity, \"NaN\"]", "[NaN, null, \"NaN\"]"));
    for (want, got) in [
        ("2", "2.0"),
        ("2.0", "2"),
        ("1.0", "1.001"),
        ("[1]", "[1, 2]"),
        (r#"{"a": 1}"#, r#"{"b": 1}"#),
        (r#"{"a": 1}"#, r#"{"a": 1, "b": 1}"#),
        ("null", "0.0"),
        ("\"NaN\"", "null"),
        ("NaN", "Infinity"),
        ("NaN", "0.0"),
        ("9007199254740993", "9007199254740992"),
        ("true", "1"),
    ] {
        assert!(!agree(want, got), "{want} and {got}");
    }
}
