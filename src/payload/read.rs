//! Logs and labels, read back.

use std::path::Path;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Array as _, ArrayRef, RecordBatch};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::PayloadError;
use super::partition::{ERRORS, LABELS};
use super::sink::Sink;
use super::writer::HASHED;
use crate::registry::ObjectAccess;

/// Parquet files in a place, in the order of their paths.
#[derive(Debug, Clone)]
pub struct LogFiles {
    pub(super) sink: Sink,
    paths: Vec<String>,
}

/// Folders beside the log that hold something else.
const BESIDE: [&str; 2] = [LABELS, ERRORS];

impl LogFiles {
    /// The files of a log: a file, a folder, or a place in an object store. `labels/` and `errors/` in it are left out.
    ///
    /// # Errors
    /// When nothing is there, or it cannot be listed.
    pub async fn open(place: &str, access: &ObjectAccess) -> Result<Self, PayloadError> {
        let files = Self::all(place, access).await?;
        let is_beside = |path: &String| {
            let first = path.split('/').next().unwrap_or_default();
            BESIDE.contains(&first)
        };
        let paths = files
            .paths
            .into_iter()
            .filter(|path| !is_beside(path))
            .collect();
        Self { paths, ..files }.checked(place)
    }

    /// Every Parquet file in a place.
    ///
    /// # Errors
    /// When nothing is there, or it cannot be listed.
    pub async fn all(place: &str, access: &ObjectAccess) -> Result<Self, PayloadError> {
        let path = Path::new(place);
        let is_uri = place.contains("://") || place.starts_with("file:");
        if !is_uri && path.is_file() {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let parent = path.parent().unwrap_or(Path::new("")).to_owned();
            return Ok(Self {
                sink: Sink::directory(parent),
                paths: vec![name],
            });
        }
        let sink = if is_uri {
            Sink::open(place, access)?
        } else {
            Sink::directory(path.to_owned())
        };
        let listed = sink.list().await?.into_iter();
        let paths = listed.filter(|path| path.ends_with(".parquet")).collect();
        Self { sink, paths }.checked(place)
    }

    fn checked(self, place: &str) -> Result<Self, PayloadError> {
        if self.paths.is_empty() {
            return Err(PayloadError::Unfit(format!(
                "`{place}` holds no Parquet files: expected a file of a log, or a folder with some"
            )));
        }
        Ok(self)
    }

    /// Their paths below the place.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// One of them.
    ///
    /// # Errors
    /// When it cannot be read, or is no Parquet.
    pub async fn read(&self, path: &str) -> Result<LogFile, PayloadError> {
        LogFile::parse(path, self.sink.get(path).await?)
    }
}

/// The rows of one file.
#[derive(Debug, Clone)]
pub struct LogFile {
    /// For messages.
    pub name: String,
    /// Its rows.
    pub rows: RecordBatch,
    /// The columns that are keyed hashes.
    pub hashed: Vec<String>,
}

impl LogFile {
    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// When they are no Parquet.
    pub fn parse(name: &str, bytes: Bytes) -> Result<Self, PayloadError> {
        let builder =
            ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(PayloadError::file(name))?;
        let metadata = builder.metadata().file_metadata();
        let entries = metadata.key_value_metadata().into_iter().flatten();
        let hashed = entries
            .filter(|entry| entry.key == HASHED)
            .find_map(|entry| serde_json::from_str(entry.value.as_deref()?).ok());
        let rows = usize::try_from(metadata.num_rows()).unwrap_or(0);
        let schema = builder.schema().clone();
        let mut reader = builder
            .with_batch_size(rows.max(1))
            .build()
            .map_err(PayloadError::file(name))?;
        let first = reader
            .next()
            .transpose()
            .map_err(PayloadError::file(name))?;
        let rows = first.unwrap_or_else(|| RecordBatch::new_empty(schema));
        Ok(Self {
            name: name.to_owned(),
            rows,
            hashed: hashed.unwrap_or_default(),
        })
    }

    /// A column.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn column(&self, name: &str) -> Result<&ArrayRef, PayloadError> {
        self.rows
            .column_by_name(name)
            .ok_or_else(|| PayloadError::File {
                file: self.name.clone(),
                reason: format!("has no column `{name}`: is it a file of a payload log?"),
            })
    }

    /// The texts of a column; `None` where one is null.
    ///
    /// # Errors
    /// When there is none of this name, or it holds no text.
    pub fn texts(&self, name: &str) -> Result<Vec<Option<String>>, PayloadError> {
        let column = self.column(name)?;
        let texts = texts(column).ok_or_else(|| self.unfit(name, column, "text"))?;
        Ok(texts)
    }

    /// The whole numbers of a column.
    ///
    /// # Errors
    /// When there is none of this name, or it holds others.
    pub fn integers(&self, name: &str) -> Result<Vec<i64>, PayloadError> {
        let column = self.column(name)?;
        let numbers = column.as_primitive_opt::<Int64Type>();
        let numbers = numbers.ok_or_else(|| self.unfit(name, column, "whole numbers"))?;
        Ok(numbers.values().to_vec())
    }

    pub(super) fn unfit(&self, name: &str, column: &ArrayRef, expected: &str) -> PayloadError {
        PayloadError::File {
            file: self.name.clone(),
            reason: format!(
                "has `{}` in column `{name}`, expected {expected}",
                column.data_type()
            ),
        }
    }

    /// The requests that were answered, as ranges of rows.
    ///
    /// # Errors
    /// When a column of the log is missing.
    pub fn requests(&self) -> Result<Vec<std::ops::Range<usize>>, PayloadError> {
        let ids = self.texts("_request_id")?;
        let numbers = self.integers("_row")?;
        let codes = self.texts("_error_code")?;
        let mut found: Vec<std::ops::Range<usize>> = Vec::new();
        for row in 0..ids.len() {
            if codes[row].is_some() {
                continue;
            }
            let continues = row > 0
                && numbers[row] > 0
                && ids[row] == ids[row - 1]
                && numbers[row] == numbers[row - 1] + 1;
            match found.last_mut() {
                Some(last) if continues && last.end == row => last.end += 1,
                _ => found.push(row..row + 1),
            }
        }
        Ok(found)
    }
}

/// The texts of a column of any kind of text.
pub(super) fn texts(column: &ArrayRef) -> Option<Vec<Option<String>>> {
    let own = |text: Option<&str>| text.map(str::to_owned);
    if let Some(texts) = column.as_string_opt::<i32>() {
        return Some(texts.iter().map(own).collect());
    }
    if let Some(texts) = column.as_string_opt::<i64>() {
        return Some(texts.iter().map(own).collect());
    }
    if let Some(texts) = column.as_string_view_opt() {
        return Some(texts.iter().map(own).collect());
    }
    // Of a column that is null in every row some tools forget the type.
    (column.null_count() == column.len()).then(|| vec![None; column.len()])
}
