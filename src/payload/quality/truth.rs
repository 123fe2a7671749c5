//! What labels say was true.

use std::collections::HashMap;

use arrow_array::Array as _;
use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use serde::Deserialize;

use super::super::labels::parse;
use super::super::read::LogFile;
use super::super::text::to_json;
use super::super::{PayloadError, partition};

/// The labels, one for each row that has some.
#[derive(Debug, Default)]
pub(super) struct Truth {
    labels: HashMap<(String, i64), Vec<Entry>>,
    /// Labels of all files.
    pub(super) total: usize,
    /// Those that a later one of the same row has replaced.
    pub(super) duplicates: usize,
    /// Those that bring a prediction of the client's.
    pub(super) client: usize,
}

#[derive(Debug)]
struct Entry {
    /// The model, where the file says it.
    model: Option<String>,
    time: i64,
    label: String,
}

impl Truth {
    /// The label of a row.
    pub(super) fn find(&self, model: &str, request: &str, row: i64) -> Option<&str> {
        let entries = self.labels.get(&(request.to_owned(), row))?;
        let is_of = |entry: &&Entry| entry.model.as_deref().is_none_or(|own| own == model);
        let latest = entries.iter().filter(is_of).max_by_key(|entry| entry.time);
        latest.map(|entry| entry.label.as_str())
    }

    fn add(&mut self, (request, row): (String, i64), entry: Entry) {
        self.total += 1;
        let entries = self.labels.entry((request, row)).or_default();
        match entries.iter_mut().find(|other| other.model == entry.model) {
            Some(other) => {
                self.duplicates += 1;
                // Of two at the same time the one that was read last counts.
                if entry.time >= other.time {
                    *other = entry;
                }
            }
            None => entries.push(entry),
        }
    }

    /// Adds the labels of a Parquet file.
    pub(super) fn add_file(&mut self, file: &LogFile) -> Result<(), PayloadError> {
        let model = partition::model_of(&file.name).map(|name| name.to_string());
        let ids = file.texts("request_id")?;
        let labels = file.column("label")?;
        let rows = match file.column("row") {
            Ok(_) => file.integers("row")?,
            Err(_) => vec![0; ids.len()],
        };
        let times = file.column("time").ok().and_then(|times| {
            times
                .as_primitive_opt::<TimestampMicrosecondType>()
                .cloned()
        });
        let predictions = file.texts("prediction").unwrap_or_default();
        self.client += predictions.iter().flatten().count();
        for (row, id) in ids.into_iter().enumerate() {
            let (Some(id), false) = (id, labels.is_null(row)) else {
                continue;
            };
            let label = match to_json(labels, row) {
                serde_json::Value::String(text) => text,
                value => value.to_string(),
            };
            let time = times.as_ref().map_or(0, |times| times.value(row));
            let entry = Entry {
                model: model.clone(),
                time,
                label,
            };
            self.add((id, rows[row]), entry);
        }
        Ok(())
    }

    /// Adds lines of JSON: as `/feedback` takes them, or SageMaker's ground truth.
    pub(super) fn add_lines(&mut self, name: &str, text: &str) -> Result<(), PayloadError> {
        let first = text
            .lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or_default();
        if serde_json::from_str::<GroundTruth>(first).is_ok() {
            return self.add_ground_truth(name, text);
        }
        let labels = parse(text.as_bytes(), std::time::UNIX_EPOCH);
        for label in labels.map_err(|error| PayloadError::Unfit(format!("`{name}`: {error}")))? {
            self.client += usize::from(label.prediction.is_some());
            let entry = Entry {
                model: None,
                time: label.time,
                label: label.label,
            };
            self.add((label.request_id, label.row), entry);
        }
        Ok(())
    }

    fn add_ground_truth(&mut self, name: &str, text: &str) -> Result<(), PayloadError> {
        for (number, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let truth: GroundTruth = serde_json::from_str(line).map_err(|error| {
                PayloadError::Unfit(format!("`{name}`, line {}: {error}", number + 1))
            })?;
            let entry = Entry {
                model: None,
                time: 0,
                label: truth.data.data.trim().to_owned(),
            };
            self.add((truth.metadata.event_id, 0), entry);
        }
        Ok(())
    }
}

/// A line of SageMaker's ground truth.
#[derive(Deserialize)]
struct GroundTruth {
    #[serde(rename = "groundTruthData")]
    data: GroundTruthData,
    #[serde(rename = "eventMetadata")]
    metadata: EventMetadata,
}

#[derive(Deserialize)]
struct GroundTruthData {
    data: String,
}

#[derive(Deserialize)]
struct EventMetadata {
    #[serde(rename = "eventId")]
    event_id: String,
}
