//! The log in the forms of other platforms: one JSON object a line.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use arrow_array::Array as _;
use serde_json::{Map, Value, json};

use super::PayloadError;
use super::read::LogFile;
use super::text::to_json;

/// A form of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportForm {
    /// Inference tables of Databricks.
    Databricks,
    /// Data capture of Amazon SageMaker.
    SageMaker,
    /// Events of KServe's logger.
    CloudEvents,
}

impl ExportForm {
    const ALL: [(Self, &str); 3] = [
        (Self::Databricks, "databricks"),
        (Self::SageMaker, "sagemaker"),
        (Self::CloudEvents, "cloudevents"),
    ];
}

impl FromStr for ExportForm {
    type Err = UnknownForm;

    fn from_str(text: &str) -> Result<Self, UnknownForm> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found
            .map(|(form, _)| *form)
            .ok_or_else(|| UnknownForm(text.to_owned()))
    }
}

/// Not the name of a form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown form `{0}`: expected `databricks`, `sagemaker` or `cloudevents`")]
pub struct UnknownForm(String);

/// Lines, and how many failed requests the form has no line for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exported {
    /// The lines.
    pub lines: Vec<Value>,
    /// Requests that were left out.
    pub left_out: usize,
}

/// The requests of a file in a form, in their order.
///
/// # Errors
/// When it is no file of a log.
pub fn export(file: &LogFile, form: ExportForm) -> Result<Exported, PayloadError> {
    let mut exported = Exported::default();
    let codes = file.texts("_error_code")?;
    let mut answered = file.requests()?.into_iter().peekable();
    let mut row = 0;
    while row < file.rows.num_rows() {
        let rows = match answered.peek() {
            Some(next) if next.start == row => answered.next().unwrap_or(row..row + 1),
            _ => row..row + 1,
        };
        let request = Request {
            file,
            failed: codes[row].is_some(),
            rows: rows.clone(),
        };
        match form {
            ExportForm::Databricks => exported.lines.push(request.databricks()),
            _ if request.failed => exported.left_out += 1,
            ExportForm::SageMaker => exported.lines.push(request.sagemaker()),
            ExportForm::CloudEvents => exported.lines.extend(request.cloud_events()),
        }
        row = rows.end;
    }
    Ok(exported)
}

/// The rows of one request.
struct Request<'f> {
    file: &'f LogFile,
    failed: bool,
    rows: Range<usize>,
}

impl Request<'_> {
    fn fixed(&self, name: &str) -> Value {
        let column = self.file.rows.column_by_name(name);
        column.map_or(Value::Null, |column| to_json(column, self.rows.start))
    }

    fn text(&self, name: &str) -> String {
        match self.fixed(name) {
            Value::String(text) => text,
            Value::Null => String::new(),
            value => value.to_string(),
        }
    }

    /// Names of the columns of inputs, or of those of outputs.
    fn names(&self, outputs: bool) -> Vec<String> {
        let schema = self.file.rows.schema();
        let names = schema.fields().iter().map(|field| field.name().clone());
        names
            .filter(|name| !name.starts_with('_') && is_output(name) == outputs)
            .collect()
    }

    fn cell(&self, name: &str, row: usize) -> Value {
        let column = self.file.rows.column_by_name(name);
        column
            .filter(|column| row < column.len())
            .map_or(Value::Null, |column| to_json(column, row))
    }

    fn records(&self, names: &[String]) -> Vec<Value> {
        let record = |row| {
            let members = names
                .iter()
                .map(|name| (name.clone(), self.cell(name, row)));
            Value::Object(members.collect::<Map<_, _>>())
        };
        self.rows.clone().map(record).collect()
    }

    /// As `/invocations` takes it.
    fn request(&self) -> Value {
        let names = self.names(false);
        let row = |row: usize| {
            names
                .iter()
                .map(|name| self.cell(name, row))
                .collect::<Value>()
        };
        let data: Value = self.rows.clone().map(row).collect();
        json!({ "dataframe_split": { "columns": names, "data": data } })
    }

    fn predictions(&self) -> Value {
        let names = self.names(true);
        match names.as_slice() {
            [only] => self.rows.clone().map(|row| self.cell(only, row)).collect(),
            names => self.records(names).into(),
        }
    }

    fn response(&self) -> Value {
        json!({ "predictions": self.predictions() })
    }

    fn databricks(&self) -> Value {
        let body = |value: Value| {
            if self.failed {
                Value::Null
            } else {
                value.to_string().into()
            }
        };
        let time = self.text("_time");
        let duration = self.fixed("_duration_ms").as_f64().unwrap_or(0.0);
        json!({
            "databricks_request_id": self.text("_request_id"),
            "client_request_id": self.text("_request_id"),
            "request_date": time.get(..10),
            "request_time": time,
            "status_code": self.fixed("_status"),
            "sampling_fraction": self.fixed("_sampling_fraction"),
            "execution_duration_ms": duration.round() as i64,
            "request": body(self.request()),
            "response": body(self.response()),
            "logging_error_codes": [],
            "served_entity_id": format!("{}-{}", self.text("_model"), self.text("_version")),
            "requester": self.fixed("_caller"),
        })
    }

    fn sagemaker(&self) -> Value {
        let side = |mode: &str, value: Value| {
            json!({
                "observedContentType": "application/json",
                "mode": mode,
                "data": value.to_string(),
                "encoding": "JSON",
            })
        };
        let id = self.text("_request_id");
        json!({
            "captureData": {
                "endpointInput": side("INPUT", self.request()),
                "endpointOutput": side("OUTPUT", self.response()),
            },
            "eventMetadata": {
                "eventId": id,
                "inferenceId": id,
                "inferenceTime": self.text("_time"),
            },
            "eventVersion": "0",
        })
    }

    fn cloud_events(&self) -> [Value; 2] {
        let model = self.text("_model");
        let event = |kind: &str, data: Value| {
            json!({
                "specversion": "1.0",
                "id": self.text("_request_id"),
                "source": format!("/models/{model}/versions/{}", self.text("_version")),
                "type": format!("org.kubeflow.serving.inference.{kind}"),
                "time": self.text("_time"),
                "datacontenttype": "application/json",
                "inferenceservicename": model,
                "namespace": "default",
                "component": "predictor",
                "endpoint": "default",
                "data": data,
            })
        };
        let instances = self.records(&self.names(false));
        [
            event("request", json!({ "instances": instances })),
            event("response", self.response()),
        ]
    }
}

/// Whether a column is that of an output.
pub(super) fn is_output(name: &str) -> bool {
    name == "prediction" || name.starts_with("prediction_")
}

impl fmt::Display for ExportForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(form, _)| form == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}
