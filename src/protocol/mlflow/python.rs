//! Python's `int()`, `float()`, `bool()` and `str()` on a JSON value.
//!
//! MLflow converts request data with them (through numpy and pandas), so they decide which answer a client gets for
//! `"1.5"`, `true` or `null`.

use std::fmt::Write;

use super::digits;
use crate::protocol::json::{Cells, Json, python_float};

/// A Python exception: what MLflow's messages print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct PyError {
    class: &'static str,
    message: String,
}

impl PyError {
    pub(super) fn value(message: impl Into<String>) -> Self {
        Self {
            class: "ValueError",
            message: message.into(),
        }
    }

    pub(super) fn kind(message: impl Into<String>) -> Self {
        Self {
            class: "TypeError",
            message: message.into(),
        }
    }

    pub(super) fn overflow(message: impl Into<String>) -> Self {
        Self {
            class: "OverflowError",
            message: message.into(),
        }
    }

    /// MLflow's own exception.
    pub(super) fn mlflow(message: impl Into<String>) -> Self {
        Self {
            class: "MlflowException",
            message: message.into(),
        }
    }

    /// Python's `repr` of the exception.
    pub(super) fn repr(&self) -> String {
        format!("{}({})", self.class, quoted(&self.message))
    }
}

/// `int(value)`, as far as 64 bits go, signed or not.
pub(super) fn int(value: &Json) -> Result<i128, PyError> {
    match value {
        Json::Int(int) => Ok(i128::from(*int)),
        Json::Bool(bool) => Ok(i128::from(*bool)),
        Json::Float(float) => int_of_float(*float),
        Json::Big(digits) => digits.parse().map_err(|_| too_large()),
        Json::Text(text) => int_of_text(text),
        other => Err(PyError::kind(format!(
            "int() argument must be a string, a bytes-like object or a real number, not '{}'",
            type_name(other)
        ))),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn int_of_float(float: f64) -> Result<i128, PyError> {
    if float.is_nan() {
        return Err(PyError::value("cannot convert float NaN to integer"));
    }
    if float.is_infinite() {
        return Err(PyError::overflow(
            "cannot convert float infinity to integer",
        ));
    }
    if float.abs() < 1.9e19 {
        Ok(float as i128)
    } else {
        Err(too_large())
    }
}

fn int_of_text(text: &str) -> Result<i128, PyError> {
    let invalid = || {
        PyError::value(format!(
            "invalid literal for int() with base 10: {}",
            quoted(text)
        ))
    };
    let ascii = digits::in_ascii(text);
    let trimmed = ascii.trim();
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    let well_formed = without_underscores(digits)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let digits = well_formed
        .filter(|digits| !digits.is_empty())
        .ok_or_else(invalid)?;
    let magnitude: i128 = digits.parse().map_err(|_| too_large())?;
    Ok(if trimmed.starts_with('-') {
        -magnitude
    } else {
        magnitude
    })
}

fn too_large() -> PyError {
    PyError::overflow("Python int too large to convert to C long")
}

/// `float(value)`, with numpy's `None` → NaN.
#[expect(clippy::cast_precision_loss, reason = "Python rounds in the same way")]
pub(super) fn float(value: &Json) -> Result<f64, PyError> {
    match value {
        Json::Null => Ok(f64::NAN),
        Json::Int(int) => Ok(*int as f64),
        Json::Bool(bool) => Ok(f64::from(u8::from(*bool))),
        Json::Float(float) => Ok(*float),
        Json::Big(digits) => digits.parse().map_err(|_| too_large()),
        Json::Text(text) => float_of_text(&digits::in_ascii(text)),
        Json::Array(_) | Json::List(_) => {
            Err(PyError::value("setting an array element with a sequence."))
        }
        Json::Object(_) => Err(PyError::kind(
            "float() argument must be a string or a real number, not 'dict'",
        )),
    }
}

pub(super) fn float_of_text(text: &str) -> Result<f64, PyError> {
    let invalid = || {
        PyError::value(format!(
            "could not convert string to float: {}",
            quoted(text)
        ))
    };
    let digits = without_underscores(text.trim()).ok_or_else(invalid)?;
    // Rust reads what Python reads: nan, inf and infinity in any case, and no hexadecimal.
    digits.parse().map_err(|_| invalid())
}

/// Python lets single underscores stand between digits.
fn without_underscores(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let between_digits = |index: usize| {
        index > 0
            && bytes[index - 1].is_ascii_digit()
            && bytes.get(index + 1).is_some_and(u8::is_ascii_digit)
    };
    let fine = (0..bytes.len()).all(|index| bytes[index] != b'_' || between_digits(index));
    fine.then(|| text.replace('_', ""))
}

/// `bool(value)`.
pub(super) fn truthy(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Bool(bool) => *bool,
        Json::Int(int) => *int != 0,
        Json::Big(_) => true,
        Json::Float(float) => *float != 0.0,
        Json::Text(text) => !text.is_empty(),
        Json::Array(flat) => flat.shape.first().is_some_and(|&len| len > 0),
        Json::List(items) => !items.is_empty(),
        Json::Object(entries) => !entries.is_empty(),
    }
}

/// `str(value)`.
pub(super) fn text(value: &Json) -> String {
    match value {
        Json::Text(text) => text.clone(),
        other => repr(other),
    }
}

/// `repr(value)`.
pub(super) fn repr(value: &Json) -> String {
    let mut out = String::new();
    write_repr(&mut out, value);
    out
}

fn write_repr(out: &mut String, value: &Json) {
    match value {
        Json::Null => out.push_str("None"),
        Json::Bool(true) => out.push_str("True"),
        Json::Bool(false) => out.push_str("False"),
        Json::Int(int) => out.push_str(itoa::Buffer::new().format(*int)),
        Json::Big(digits) => out.push_str(digits),
        Json::Float(float) => out.push_str(&float_text(*float)),
        Json::Text(text) => out.push_str(&quoted(text)),
        Json::Array(flat) => {
            let mut cells = flat.cells.clone().into_iter();
            write_nested(out, &flat.shape, &mut cells);
        }
        Json::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_repr(out, item);
            }
            out.push(']');
        }
        Json::Object(entries) => {
            out.push('{');
            for (index, (key, item)) in entries.iter().enumerate() {
                let _ = write!(
                    out,
                    "{}{}: ",
                    if index > 0 { ", " } else { "" },
                    quoted(key)
                );
                write_repr(out, item);
            }
            out.push('}');
        }
    }
}

fn write_nested(out: &mut String, shape: &[usize], cells: &mut dyn Iterator<Item = Json>) {
    let Some((&count, inner)) = shape.split_first() else {
        cells.take(1).for_each(|cell| write_repr(out, &cell));
        return;
    };
    out.push('[');
    for index in 0..count {
        out.push_str(if index > 0 { ", " } else { "" });
        write_nested(out, inner, cells);
    }
    out.push(']');
}

/// `str` of a float, NaN and infinities included.
pub(super) fn float_text(float: f64) -> String {
    if float.is_finite() {
        return python_float(float);
    }
    let text = if float.is_nan() {
        "nan"
    } else if float > 0.0 {
        "inf"
    } else {
        "-inf"
    };
    text.to_owned()
}

/// A string in the quotes that Python chooses.
pub(super) fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            '\'' if quote == '\'' => out.push_str("\\'"),
            control if control.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push(quote);
    out
}

/// The name of the value's Python type.
pub(super) fn type_name(value: &Json) -> &'static str {
    match value {
        Json::Null => "NoneType",
        Json::Bool(_) => "bool",
        Json::Int(_) | Json::Big(_) => "int",
        Json::Float(_) => "float",
        Json::Text(_) => "str",
        Json::Array(_) | Json::List(_) => "list",
        Json::Object(_) => "dict",
    }
}

/// Whether the value is neither a list nor an object.
pub(super) fn is_scalar(value: &Json) -> bool {
    !matches!(value, Json::Array(_) | Json::List(_) | Json::Object(_))
}

/// The values of a list, one by one; `None` for what is no list.
pub(super) fn items(value: &Json) -> Option<Vec<Json>> {
    match value {
        Json::List(items) => Some(items.clone()),
        Json::Array(flat) => Some(rows_of(flat.shape.clone(), flat.cells.clone())),
        _ => None,
    }
}

/// The elements of the outermost dimension.
fn rows_of(shape: Vec<usize>, cells: Cells) -> Vec<Json> {
    let Some((&count, inner)) = shape.split_first() else {
        return Vec::new();
    };
    if inner.is_empty() {
        return cells.into_iter().collect();
    }
    let width: usize = inner.iter().product();
    let mut cells = cells.into_iter();
    (0..count)
        .map(|_| {
            let mut row = Cells::default();
            cells.by_ref().take(width).for_each(|cell| row.push(cell));
            Json::Array(Box::new(crate::protocol::json::Flat {
                shape: inner.to_vec(),
                cells: row,
            }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(text: &str) -> Json {
        Json::Text(text.to_owned())
    }

    #[test]
    fn integers_are_read_as_python_reads_them() {
        let reads = [
            (Json::Float(-1.9), -1),
            (t(" 7 "), 7),
            (t("1_000"), 1000),
            (t("-3"), -3),
            (Json::Bool(true), 1),
        ];
        for (value, expected) in reads {
            assert_eq!(int(&value), Ok(expected), "{value:?}");
        }
        let refused = [
            (t("1.9"), "invalid literal for int() with base 10: '1.9'"),
            (t(""), "invalid literal for int() with base 10: ''"),
            (t("1__0"), "invalid literal for int() with base 10: '1__0'"),
            (Json::Float(f64::NAN), "cannot convert float NaN to integer"),
            (
                Json::Float(1e20),
                "Python int too large to convert to C long",
            ),
            (
                Json::Null,
                "int() argument must be a string, a bytes-like object or a real number, not 'NoneType'",
            ),
        ];
        for (value, message) in refused {
            assert_eq!(int(&value).unwrap_err().to_string(), message, "{value:?}");
        }
    }

    #[test]
    fn floats_are_read_as_python_reads_them() {
        for (value, expected) in [
            (t("1.5"), 1.5),
            (t(" inf"), f64::INFINITY),
            (t("1_0.5"), 10.5),
            (t(".5"), 0.5),
        ] {
            assert_eq!(float(&value), Ok(expected), "{value:?}");
        }
        assert!(float(&Json::Null).unwrap().is_nan());
        assert!(float(&t("NaN")).unwrap().is_nan());
        for text in ["", "abc", "0x10", "1,5", "_1"] {
            let message = format!("could not convert string to float: '{text}'");
            assert_eq!(float(&t(text)).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn text_is_what_str_gives() {
        let nested = Json::List(vec![
            Json::Int(1),
            t("it's"),
            Json::Object(vec![("k".to_owned(), Json::Null)]),
        ]);
        assert_eq!(text(&nested), "[1, \"it's\", {'k': None}]");
        assert_eq!(text(&Json::Float(1e16)), "1e+16");
        assert_eq!(text(&Json::Bool(true)), "True");
        assert_eq!(
            PyError::value("could not: 'a'").repr(),
            "ValueError(\"could not: 'a'\")"
        );
    }
}
