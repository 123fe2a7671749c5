//! What a log says was predicted.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, TimestampMicrosecondType};
use arrow_array::{Array as _, ArrayRef};
use arrow_schema::DataType;
use serde_json::Value;

use super::super::export::is_output;
use super::super::read::LogFile;
use super::super::text::to_json;
use super::super::{PayloadError, partition};

/// One row of the log.
#[derive(Debug, Clone)]
pub(super) struct Predicted {
    pub(super) model: String,
    pub(super) request: String,
    pub(super) row: i64,
    /// Microseconds since 1970.
    pub(super) time: i64,
    pub(super) weight: f64,
    pub(super) said: Said,
}

/// What was said of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// A class, and the probabilities of all where there are some.
    Class(String, Option<Chances>),
    /// A number.
    Number(f64),
}

/// The probabilities of classes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chances {
    /// What the classes are called; empty when only their order is known.
    pub(super) names: Vec<String>,
    pub(super) values: Vec<f64>,
    /// The least probability that the type can hold apart from 0, to which scikit-learn cuts them.
    pub(super) least: f64,
}

impl Chances {
    /// The place of a class.
    pub(super) fn place(&self, class: &str) -> Option<usize> {
        if self.names.is_empty() {
            return class
                .parse()
                .ok()
                .filter(|place| *place < self.values.len());
        }
        self.names.iter().position(|name| name == class)
    }
}

/// The columns that hold what was predicted.
struct Outputs {
    class: Option<ArrayRef>,
    chances: Option<ArrayRef>,
    number: Option<ArrayRef>,
}

/// Adds the answered rows of a file; those of shadows are not what clients got.
pub(super) fn read(file: &LogFile, into: &mut Vec<Predicted>) -> Result<(), PayloadError> {
    let ids = file.texts("_request_id")?;
    let codes = file.texts("_error_code")?;
    let roles = file.texts("_role")?;
    let rows = file.integers("_row")?;
    let times = file.column("_time")?;
    let times = times.as_primitive_opt::<TimestampMicrosecondType>();
    let times = times.ok_or_else(|| {
        PayloadError::Unfit(format!("`{}` has no microseconds in `_time`", file.name))
    })?;
    let fractions = file
        .column("_sampling_fraction")?
        .as_primitive_opt::<Float64Type>();
    let models = match file.texts("_model") {
        Ok(models) => models,
        Err(_) => {
            let model = partition::model_of(&file.name).map(|name| name.to_string());
            vec![model; ids.len()]
        }
    };
    let outputs = outputs(file)?;
    for row in 0..ids.len() {
        let is_shadow = roles[row].as_deref() == Some("shadow");
        if codes[row].is_some() || is_shadow {
            continue;
        }
        let Some(said) = outputs.said(row) else {
            continue;
        };
        let fraction = fractions
            .filter(|fractions| !fractions.is_null(row))
            .map_or(1.0, |fractions| fractions.value(row));
        into.push(Predicted {
            model: models[row].clone().unwrap_or_default(),
            request: ids[row].clone().unwrap_or_default(),
            row: rows[row],
            time: times.value(row),
            weight: if fraction > 0.0 { 1.0 / fraction } else { 1.0 },
            said,
        });
    }
    Ok(())
}

/// Finds the class, the probabilities and the number among the columns of outputs.
fn outputs(file: &LogFile) -> Result<Outputs, PayloadError> {
    let schema = file.rows.schema();
    let names = schema.fields().iter().map(|field| field.name());
    let columns = names
        .filter(|name| is_output(name))
        .filter_map(|name| file.rows.column_by_name(name));
    let mut found = Outputs {
        class: None,
        chances: None,
        number: None,
    };
    for column in columns {
        let place = match column.data_type() {
            DataType::Float16 | DataType::Float32 | DataType::Float64 => &mut found.number,
            DataType::FixedSizeList(item, _) | DataType::List(item)
                if item.data_type().is_floating() =>
            {
                &mut found.chances
            }
            DataType::Struct(fields)
                if !fields.is_empty()
                    && fields.iter().all(|field| field.data_type().is_floating()) =>
            {
                &mut found.chances
            }
            kind if kind.is_integer() => &mut found.class,
            DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 => &mut found.class,
            _ => continue,
        };
        place.get_or_insert(column.clone());
    }
    if found.class.is_none() && found.chances.is_none() && found.number.is_none() {
        return Err(PayloadError::Unfit(format!(
            "`{}` holds no prediction that can be compared: expected a class, probabilities or a number in `prediction…`",
            file.name
        )));
    }
    Ok(found)
}

impl Outputs {
    fn said(&self, row: usize) -> Option<Said> {
        let chances = self
            .chances
            .as_ref()
            .and_then(|column| chances(column, row));
        if let Some(class) = &self.class {
            return Some(Said::Class(text(&to_json(class, row))?, chances));
        }
        if let Some(chances) = chances {
            // Without a class of its own the most likely one was predicted.
            let best = (0..chances.values.len())
                .rev()
                .max_by(|one, other| chances.values[*one].total_cmp(&chances.values[*other]))?;
            let class = chances
                .names
                .get(best)
                .cloned()
                .unwrap_or_else(|| best.to_string());
            return Some(Said::Class(class, Some(chances)));
        }
        number(&to_json(self.number.as_ref()?, row)).map(Said::Number)
    }
}

fn chances(column: &ArrayRef, row: usize) -> Option<Chances> {
    let (names, values, item) = match (column.data_type(), to_json(column, row)) {
        (DataType::Struct(fields), Value::Object(members)) => {
            let names = members.keys().cloned().collect();
            (
                names,
                members.values().map(number).collect::<Option<Vec<f64>>>()?,
                fields.first()?.data_type().clone(),
            )
        }
        (DataType::FixedSizeList(item, _) | DataType::List(item), Value::Array(items)) => (
            Vec::new(),
            items.iter().map(number).collect::<Option<Vec<f64>>>()?,
            item.data_type().clone(),
        ),
        _ => return None,
    };
    let least = match item {
        DataType::Float64 => f64::EPSILON,
        DataType::Float16 => f64::from(half::f16::EPSILON),
        _ => f64::from(f32::EPSILON),
    };
    Some(Chances {
        names,
        values,
        least,
    })
}

/// A class as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        value => Some(value.to_string()),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        // NaN and infinities.
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}
