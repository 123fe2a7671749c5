//! What was true: lines of JSON that clients send when they know it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{ErrorKind, Kinded};

/// Texts of clients are short.
const LONGEST_ID: usize = 256;
const LONGEST_LABEL: usize = 4096;

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// The request whose prediction it is about.
    pub request_id: String,
    /// The row in that request.
    pub row: i64,
    /// What was true, as text.
    pub label: String,
    /// When that was known, in microseconds since 1970.
    pub time: i64,
    /// What the client says was predicted.
    pub prediction: Option<String>,
}

/// What is wrong with a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// A line.
    #[error(
        "line {line}: {reason}; expected `{{\"request_id\": \"…\", \"row\": 0, \"label\": …, \"time\": \"2026-01-31T12:00:00Z\"}}`"
    )]
    Line {
        /// Its number, from 1 on.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There are no lines.
    #[error("the body has no lines")]
    Empty,
    /// It is no text.
    #[error("the body is not UTF-8")]
    NotText,
}

impl Kinded for LabelError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    request_id: String,
    #[serde(default)]
    row: u32,
    label: Value,
    time: Option<Value>,
    prediction: Option<Value>,
}

/// The labels of a body; one bad line refuses all of it.
///
/// # Errors
/// [`LabelError`], with the number of the line.
pub fn parse(body: &[u8], now: SystemTime) -> Result<Vec<Label>, LabelError> {
    let text = std::str::from_utf8(body).map_err(|_| LabelError::NotText)?;
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let labels = lines.map(|(number, line)| {
        parse_line(line, now).map_err(|reason| LabelError::Line {
            line: number + 1,
            reason,
        })
    });
    let labels = labels.collect::<Result<Vec<Label>, _>>()?;
    if labels.is_empty() {
        return Err(LabelError::Empty);
    }
    Ok(labels)
}

fn parse_line(line: &str, now: SystemTime) -> Result<Label, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if line.request_id.is_empty() || line.request_id.len() > LONGEST_ID {
        return Err(format!("`request_id` must have 1 to {LONGEST_ID} bytes"));
    }
    let label = scalar("label", &line.label)?;
    let prediction = line.prediction.as_ref().filter(|value| !value.is_null());
    Ok(Label {
        request_id: line.request_id,
        row: i64::from(line.row),
        label,
        time: time(line.time.as_ref(), now)?,
        prediction: prediction
            .map(|value| scalar("prediction", value))
            .transpose()?,
    })
}

/// Text, a number or a boolean, as text.
fn scalar(name: &str, value: &Value) -> Result<String, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            return Err(format!("`{name}` must be text, a number or a boolean"));
        }
    };
    if text.len() > LONGEST_LABEL {
        return Err(format!("`{name}` has more than {LONGEST_LABEL} bytes"));
    }
    Ok(text)
}

/// RFC 3339, or seconds since 1970; without a time it is known now.
fn time(value: Option<&Value>, now: SystemTime) -> Result<i64, String> {
    let invalid = || {
        "`time` must be RFC 3339 such as `2026-01-31T12:00:00Z`, or seconds since 1970".to_owned()
    };
    match value {
        None | Some(Value::Null) => {
            let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
            Ok(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
        }
        Some(Value::String(text)) => {
            let time: Timestamp = text.parse().map_err(|_| invalid())?;
            Ok(time.as_microsecond())
        }
        Some(Value::Number(number)) => {
            let seconds = number
                .as_f64()
                .filter(|seconds| seconds.abs() < 1e11)
                .ok_or_else(invalid)?;
            Ok((seconds * 1e6).round() as i64)
        }
        Some(_) => Err(invalid()),
    }
}

/// A label, and who sent it.
pub(super) type Sent = (Label, Option<Arc<str>>);

/// Labels as rows.
///
/// # Errors
/// Arrow's; there is no case.
pub(super) fn batch(labels: &[Sent]) -> Result<RecordBatch, ArrowError> {
    let zone: Arc<str> = "UTC".into();
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::clone(&zone)));
    let field = |name: &str, kind: DataType| Field::new(name, kind, true);
    let schema = Schema::new(vec![
        field("request_id", DataType::Utf8),
        field("row", DataType::Int64),
        field("label", DataType::Utf8),
        field("time", time),
        field("prediction", DataType::Utf8),
        field("_caller", DataType::Utf8),
    ]);
    let of = |text: fn(&Label) -> Option<&str>| -> ArrayRef {
        Arc::new(
            labels
                .iter()
                .map(|(label, _)| text(label))
                .collect::<StringArray>(),
        )
    };
    let times: TimestampMicrosecondArray =
        labels.iter().map(|(label, _)| Some(label.time)).collect();
    let callers: StringArray = labels.iter().map(|(_, caller)| caller.as_deref()).collect();
    RecordBatch::try_new(
        Arc::new(schema),
        vec![
            of(|label| Some(&label.request_id)),
            Arc::new(
                labels
                    .iter()
                    .map(|(label, _)| label.row)
                    .collect::<Int64Array>(),
            ),
            of(|label| Some(&label.label)),
            Arc::new(times.with_timezone(zone)),
            of(|label| label.prediction.as_deref()),
            Arc::new(callers),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Vec<Label>, LabelError> {
        super::parse(
            body.as_bytes(),
            UNIX_EPOCH + std::time::Duration::from_secs(7),
        )
    }

    #[test]
    fn lines_are_labels() {
        let labels = parse(
            "{\"request_id\": \"a\", \"row\": 2, \"label\": 1, \"time\": \"1970-01-01T00:00:01Z\"}\n\n\
             {\"request_id\": \"b\", \"label\": true, \"time\": 1.5, \"prediction\": \"x\"}\r\n\
             {\"request_id\": \"c\", \"label\": \"gone\"}",
        );
        let labels = labels.unwrap();
        let shown: Vec<_> = labels
            .iter()
            .map(|label| (label.row, label.label.as_str(), label.time))
            .collect();
        assert_eq!(
            shown,
            [
                (2, "1", 1_000_000),
                (0, "true", 1_500_000),
                (0, "gone", 7_000_000)
            ]
        );
        assert_eq!(labels[1].prediction.as_deref(), Some("x"));
    }

    #[test]
    fn one_bad_line_refuses_the_body_and_is_named() {
        let good = "{\"request_id\": \"a\", \"label\": 1}\n";
        for bad in [
            "{}",
            "[]",
            "{\"request_id\": \"a\"}",
            "{\"request_id\": \"\", \"label\": 1}",
            "{\"request_id\": \"a\", \"label\": null}",
            "{\"request_id\": \"a\", \"label\": [1]}",
            "{\"request_id\": \"a\", \"label\": 1, \"row\": -1}",
            "{\"request_id\": \"a\", \"label\": 1, \"time\": \"tomorrow\"}",
            "{\"request_id\": \"a\", \"label\": 1, \"rows\": 1}",
            "{\"request_id\": \"a\", \"label\": 1",
        ] {
            let error = parse(&format!("{good}{bad}\n{good}"))
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("line 2: "), "{bad}: {error}");
        }
        assert_eq!(parse("\n"), Err(LabelError::Empty));
        assert_eq!(super::parse(&[0xff], UNIX_EPOCH), Err(LabelError::NotText));
    }
}
