//! Datetime columns: validated as `pd.to_datetime` does. ONNX has no such tensor, so only validity matters.

use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;

use super::array::{Array, Opaque, objects};
use super::frame::{cells_of, into_cells};
use super::python::{self, PyError};
use crate::protocol::json::Json;
use crate::protocol::meter::Meter;

/// The forms that pandas recognises in a first cell, without a time zone.
const FORMS: [&str; 16] = [
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S",
    "%m/%d/%Y",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%Y%m%d",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%Y-%m-%d %I:%M %p",
];

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parsed {
    Naive,
    Zoned,
}

/// `pd.to_datetime(column)`: a text that comes first fixes the form of all others. A zoned column comes back as objects, which
/// enforcement refuses.
pub(crate) fn column(data: Array, meter: &Meter) -> Result<Array, PyError> {
    read(data, true, meter)
}

/// `column.astype("datetime64[ns]")`: as [`column`], but each text has a form of its own.
pub(crate) fn each(data: Array, meter: &Meter) -> Result<Array, PyError> {
    read(data, false, meter)
}

fn read(data: Array, alike: bool, meter: &Meter) -> Result<Array, PyError> {
    if let Array::Opaque(Opaque::Datetime, _) = data {
        return Ok(data);
    }
    let first = cells_of(&data).find(|cell| !is_missing(cell));
    let is_fixed = alike && first.is_some_and(|first| matches!(*first, Json::Text(_)));
    let mut form: Option<&str> = None;
    let mut zoned = false;
    for cell in cells_of(&data) {
        let text = match &*cell {
            Json::Null | Json::Int(_) | Json::Float(_) => continue,
            Json::Text(text) if is_missing_cell(text) => continue,
            Json::Text(text) => text.as_str(),
            other => {
                let message = format!("{} is not convertible to datetime", python::repr(other));
                return Err(PyError::kind(message));
            }
        };
        let (naive, parsed) = split_zone(text);
        let fits = |form: &&str| has_form(naive, form);
        let found = match form {
            Some(form) => Some(form).filter(fits),
            None => FORMS.into_iter().find(fits),
        };
        let Some(found) = found else {
            let quoted = python::shown(text);
            return Err(PyError::value(format!(
                "time data {quoted} doesn't match the format of a datetime column"
            )));
        };
        form = Some(found).filter(|_| is_fixed);
        zoned |= parsed == Parsed::Zoned;
    }
    let shape = data.shape().to_vec();
    Ok(if zoned {
        objects(shape, into_cells(data, meter)?)
    } else {
        Array::Opaque(Opaque::Datetime, shape)
    })
}

/// `np.array(data, "datetime64[ns]")`: ISO 8601, whole numbers, booleans, null; a zone is taken and ignored.
pub(crate) fn array(data: &Json, meter: &Meter) -> Result<Array, PyError> {
    let Some(count) = python::length(data) else {
        check_iso(data)?;
        return Ok(Array::Opaque(Opaque::Datetime, vec![]));
    };
    if let Some(checked) = python::try_each_item(data, meter, check_iso) {
        checked?;
    }
    Ok(Array::Opaque(Opaque::Datetime, vec![count]))
}

fn check_iso(cell: &Json) -> Result<(), PyError> {
    let valid = match cell {
        Json::Null | Json::Int(_) | Json::Bool(_) => true,
        Json::Text(text) if text.is_empty() || text.eq_ignore_ascii_case("NaT") => true,
        Json::Text(text) => FORMS[..5]
            .iter()
            .any(|form| has_form(split_zone(text).0, form)),
        _ => false,
    };
    if valid {
        return Ok(());
    }
    Err(PyError::value(format!(
        "Error parsing datetime string {}",
        python::repr(cell)
    )))
}

fn is_missing(cell: &Json) -> bool {
    matches!(cell, Json::Null) || matches!(cell, Json::Float(float) if float.is_nan())
}

/// What pandas takes for no time.
fn is_missing_cell(text: &str) -> bool {
    matches!(text, "" | "NaT" | "nat" | "NAT" | "nan" | "NaN" | "NAN")
}

fn has_form(text: &str, form: &str) -> bool {
    let parsed = BrokenDownTime::parse(form, text);
    parsed.is_ok_and(|time| time.to_datetime().is_ok() || time.to_date().is_ok())
}

/// The text without its time zone.
fn split_zone(text: &str) -> (&str, Parsed) {
    if let Some(naive) = text.strip_suffix('Z') {
        return (naive, Parsed::Zoned);
    }
    let time = text.find(['T', ' ']).unwrap_or(text.len());
    match text[time..].rfind(['+', '-']) {
        Some(sign) if is_offset(&text[time + sign + 1..]) => {
            (text[..time + sign].trim_end(), Parsed::Zoned)
        }
        _ => (text, Parsed::Naive),
    }
}

fn is_offset(text: &str) -> bool {
    let digits = || text.bytes().filter(|&byte| byte != b':');
    matches!(digits().count(), 2 | 4) && digits().all(|byte| byte.is_ascii_digit())
}

/// Whether a parameter's text is a date or a datetime (`np.datetime64(text)`).
pub(crate) fn is_datetime(text: &str) -> bool {
    text.parse::<DateTime>().is_ok()
        || FORMS[..5]
            .iter()
            .any(|form| has_form(split_zone(text).0, form))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::pandas::array::texts;

    fn check(cells: &[&str]) -> Result<&'static str, PyError> {
        let cells: Vec<String> = cells.iter().map(|&cell| cell.to_owned()).collect();
        let array = Array::Tensor(texts(vec![cells.len()], cells));
        column(array, &Meter::unlimited()).map(|array| array.dtype_name())
    }

    #[test]
    fn the_first_cell_fixes_the_form() {
        assert_eq!(check(&["2024-05-01", "2024-05-02"]), Ok("datetime64[ns]"));
        assert_eq!(check(&["2024-05-01T12:00:00.25"]), Ok("datetime64[ns]"));
        assert_eq!(check(&["05/01/2024"]), Ok("datetime64[ns]"));
        assert!(check(&["2024-05-01T12:00:00", "2024-05-02"]).is_err());
        assert_eq!(check(&["2024-05-01", "NaN", ""]), Ok("datetime64[ns]"));
        assert!(check(&["nope"]).is_err());
        assert!(check(&["None"]).is_err());
        assert!(check(&["2024-13-01"]).is_err());
    }

    #[test]
    fn a_time_zone_makes_the_column_one_of_objects() {
        assert_eq!(check(&["2024-05-01T12:00:00Z"]), Ok("object"));
        assert_eq!(check(&["2024-05-01T12:00:00+02:00"]), Ok("object"));
    }
}
