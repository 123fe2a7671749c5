//! Python's `int()`, `float()`, `bool()` and `str()` on a JSON value.
//!
//! MLflow converts request data with them (through numpy and pandas), so they decide which answer a client gets for
//! `"1.5"`, `true` or `null`.

use std::borrow::Cow;
use std::fmt::{self, Write};

use super::digits;
use crate::budget::OverBudget;
use crate::protocol::json::{Cells, Flat, Json, python_float};
use crate::protocol::meter::{Meter, block_of};
use crate::tensor::Absent;

/// Characters of a value that a message shows.
const SHOWN: usize = 1_000;

/// A Python exception: what MLflow's messages print. Or what MLflow does not have: too little memory for the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PyError {
    /// An exception.
    #[error("{message}")]
    Raised {
        class: &'static str,
        message: String,
    },
    /// The request takes more memory than there is for it.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

impl PyError {
    pub(crate) fn value(message: impl Into<String>) -> Self {
        Self::Raised {
            class: "ValueError",
            message: message.into(),
        }
    }

    pub(crate) fn kind(message: impl Into<String>) -> Self {
        Self::Raised {
            class: "TypeError",
            message: message.into(),
        }
    }

    pub(crate) fn overflow(message: impl Into<String>) -> Self {
        Self::Raised {
            class: "OverflowError",
            message: message.into(),
        }
    }

    /// MLflow's own exception.
    pub(crate) fn mlflow(message: impl Into<String>) -> Self {
        Self::Raised {
            class: "MlflowException",
            message: message.into(),
        }
    }

    /// Python's `repr` of the exception.
    pub(crate) fn repr(&self) -> String {
        match self {
            Self::Raised { class, message } => format!("{class}({})", quoted(message)),
            Self::OverBudget(over) => over.to_string(),
        }
    }
}

/// `int(value)`, as far as 64 bits go, signed or not.
pub(crate) fn int(value: &Json) -> Result<i128, PyError> {
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
            shown(text)
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
pub(crate) fn float(value: &Json) -> Result<f64, PyError> {
    match value {
        Json::Null => Ok(Absent::F64),
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

pub(crate) fn float_of_text(text: &str) -> Result<f64, PyError> {
    let invalid = || {
        PyError::value(format!(
            "could not convert string to float: {}",
            shown(text)
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
pub(crate) fn truthy(value: &Json) -> bool {
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
///
/// # Errors
/// [`OverBudget`].
pub(crate) fn text(value: &Json, meter: &Meter) -> Result<String, OverBudget> {
    if let Json::Text(text) = value {
        return meter.text(text);
    }
    let mut length = Length(0);
    // It takes any text.
    let _ = write_repr(&mut length, value);
    meter.charge(block_of::<u8>(length.0))?;
    let mut out = String::with_capacity(length.0);
    let _ = write_repr(&mut out, value);
    Ok(out)
}

/// `str(value)` of a name, which is a text or a number.
pub(crate) fn name(value: &Json) -> Cow<'_, str> {
    match value {
        Json::Text(text) => Cow::Borrowed(text),
        other => Cow::Owned(repr(other)),
    }
}

/// `repr(value)` for a message: the beginning of it, when it is long.
pub(crate) fn repr(value: &Json) -> String {
    let mut beginning = Beginning::default();
    if write_repr(&mut beginning, value).is_err() {
        beginning.text.push('…');
    }
    beginning.text
}

/// `str(value)` for a message, likewise.
pub(crate) fn brief(value: &Json) -> String {
    match value {
        Json::Text(text) => clipped(text).into_owned(),
        other => repr(other),
    }
}

/// The beginning of a text that is long.
fn clipped(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// A text in quotes for a message: the beginning of it, when it is long.
pub(crate) fn shown(text: &str) -> String {
    quoted(&clipped(text))
}

/// Counts what is written.
struct Length(usize);

impl Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

/// Keeps the beginning of what is written, and fails behind it.
#[derive(Default)]
struct Beginning {
    text: String,
    count: usize,
}

impl Write for Beginning {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.count == SHOWN {
                return Err(fmt::Error);
            }
            self.count += 1;
            self.text.push(character);
        }
        Ok(())
    }
}

fn write_repr(out: &mut impl Write, value: &Json) -> fmt::Result {
    match value {
        Json::Null => out.write_str("None"),
        Json::Bool(true) => out.write_str("True"),
        Json::Bool(false) => out.write_str("False"),
        Json::Int(int) => out.write_str(itoa::Buffer::new().format(*int)),
        Json::Big(digits) => out.write_str(digits),
        Json::Float(float) => out.write_str(&float_text(*float)),
        Json::Text(text) => write_quoted(out, text),
        Json::Array(flat) => write_nested(out, &flat.shape, (&flat.cells, &mut 0)),
        Json::List(items) => {
            out.write_char('[')?;
            for (index, item) in items.iter().enumerate() {
                out.write_str(if index > 0 { ", " } else { "" })?;
                write_repr(out, item)?;
            }
            out.write_char(']')
        }
        Json::Object(entries) => {
            out.write_char('{')?;
            for (index, (key, item)) in entries.iter().enumerate() {
                out.write_str(if index > 0 { ", " } else { "" })?;
                write_quoted(out, key)?;
                out.write_str(": ")?;
                write_repr(out, item)?;
            }
            out.write_char('}')
        }
    }
}

fn write_nested(
    out: &mut impl Write,
    shape: &[usize],
    (cells, next): (&Cells, &mut usize),
) -> fmt::Result {
    let Some((&count, inner)) = shape.split_first() else {
        *next += 1;
        let cell = cells.get(*next - 1);
        return cell.map_or(Ok(()), |cell| write_repr(out, &cell));
    };
    out.write_char('[')?;
    for index in 0..count {
        out.write_str(if index > 0 { ", " } else { "" })?;
        write_nested(out, inner, (cells, &mut *next))?;
    }
    out.write_char(']')
}

/// `str` of a float, NaN and infinities included.
pub(crate) fn float_text(float: f64) -> String {
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
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    // A string takes any text.
    let _ = write_quoted(&mut out, text);
    out
}

fn write_quoted(out: &mut impl Write, text: &str) -> fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.write_char(quote)?;
    for character in text.chars() {
        match character {
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\\' => out.write_str("\\\\")?,
            '\'' if quote == '\'' => out.write_str("\\'")?,
            control if control.is_control() => write!(out, "\\x{:02x}", u32::from(control))?,
            other => out.write_char(other)?,
        }
    }
    out.write_char(quote)
}

/// The name of the value's Python type.
pub(crate) fn type_name(value: &Json) -> &'static str {
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
pub(crate) fn is_scalar(value: &Json) -> bool {
    !matches!(value, Json::Array(_) | Json::List(_) | Json::Object(_))
}

/// How many items a list has; `None` for what is no list.
pub(crate) fn length(value: &Json) -> Option<usize> {
    match value {
        Json::List(items) => Some(items.len()),
        Json::Array(flat) => flat.shape.first().copied(),
        _ => None,
    }
}

/// The item of a list at this place: that itself, or a copy.
///
/// # Errors
/// [`OverBudget`].
pub(crate) fn item<'v>(
    value: &'v Json,
    index: usize,
    meter: &Meter,
) -> Result<Cow<'v, Json>, OverBudget> {
    let flat = match value {
        Json::List(items) => {
            return Ok(items
                .get(index)
                .map_or(Cow::Owned(Json::Null), Cow::Borrowed));
        }
        Json::Array(flat) => flat,
        _ => return Ok(Cow::Owned(Json::Null)),
    };
    let inner = flat.shape.get(1..).unwrap_or_default();
    let cell = |at: usize| flat.cells.get(at).unwrap_or(Json::Null);
    if inner.is_empty() {
        return Ok(Cow::Owned(cell(index)));
    }
    let width: usize = inner.iter().product();
    let mut cells = Cells::default();
    for at in index * width..(index + 1) * width {
        let cell = cell(at);
        meter.charge(cell.heap())?;
        cells.push(cell, meter)?;
    }
    meter.charge(block_of::<usize>(inner.len()))?;
    Json::array(inner.to_vec(), cells, meter).map(Cow::Owned)
}

/// The items of a list one by one, each freed before the next; `None` for what is no list.
///
/// # Errors
/// [`OverBudget`], and what `visit` gives.
pub(crate) fn try_each_item(
    value: &Json,
    meter: &Meter,
    mut visit: impl FnMut(&Json) -> Result<(), PyError>,
) -> Option<Result<(), PyError>> {
    let count = length(value)?;
    let mut visited = || {
        for index in 0..count {
            let held = meter.held();
            let item = item(value, index, meter)?;
            let text = match &item {
                Cow::Owned(Json::Text(text)) => text.capacity(),
                _ => 0,
            };
            meter.charge(text)?;
            visit(&item)?;
            drop(item);
            meter.settle(held, 0);
        }
        Ok(())
    };
    Some(visited())
}

/// The items of a list; `None` for what is no list.
///
/// # Errors
/// [`OverBudget`].
pub(crate) fn into_items(value: Json, meter: &Meter) -> Result<Option<Vec<Json>>, OverBudget> {
    let flat = match value {
        Json::List(items) => return Ok(Some(items)),
        Json::Array(flat) => *flat,
        _ => return Ok(None),
    };
    let Flat { shape, cells } = flat;
    let Some(&count) = shape.first() else {
        return Ok(None);
    };
    let mut items = meter.vec(count)?;
    if shape.len() == 1 {
        items.extend(cells.into_iter());
        return Ok(Some(items));
    }
    let whole = Json::array(shape, cells, meter)?;
    for index in 0..count {
        items.push(item(&whole, index, meter)?.into_owned());
    }
    Ok(Some(items))
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
        let text = |value: &Json| text(value, &Meter::unlimited()).unwrap();
        assert_eq!(text(&nested), "[1, \"it's\", {'k': None}]");
        assert_eq!(text(&Json::Float(1e16)), "1e+16");
        assert_eq!(text(&Json::Bool(true)), "True");
        let long = t(&"x".repeat(2 * SHOWN));
        assert_eq!(text(&long).len(), 2 * SHOWN);
        for message in [repr(&long), brief(&long), shown(&"x".repeat(2 * SHOWN))] {
            assert!(message.chars().count() <= SHOWN + 3, "{message}");
            assert!(message.contains('…'));
        }
        assert_eq!(
            PyError::value("could not: 'a'").repr(),
            "ValueError(\"could not: 'a'\")"
        );
    }
}
