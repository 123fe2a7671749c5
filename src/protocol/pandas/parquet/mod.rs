//! Parquet bodies, read as `pandas.read_parquet` reads them.
//!
//! ```text
//! bytes ─► guard (schema, sizes of pages) ─► leaf (values) ─► column ─► Frame
//! ```

mod column;
mod guard;
mod leaf;
mod text;
mod thrift;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use serde::Deserialize;
use serde::de::IgnoredAny;

use self::guard::Budget;
use super::frame::{Column, Frame};
use crate::budget::OverBudget;
use crate::protocol::json::Json;
use crate::protocol::meter::Meter;

/// What a column takes beside its values: its name, its shape, the books of its storage.
const COLUMN: usize = 256;

/// What a list of small values in JSON takes for each of its bytes, at most.
const LISTED: usize = 16;

/// Why a body is no table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParquetError {
    /// No Parquet, or broken.
    #[error("{0}")]
    Malformed(String),
    /// It, or a part of it, is larger than a body may be.
    #[error("{0} would be larger than a body may be (`server.max_body`)")]
    TooLarge(&'static str),
    /// It takes more memory than there is for the request.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

impl From<parquet::errors::ParquetError> for ParquetError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Self::Malformed(error.to_string())
    }
}

fn broken(what: &str) -> ParquetError {
    ParquetError::Malformed(what.to_owned())
}

/// Reads the table in `body`, whose pages may take `limit` bytes when inflated.
///
/// # Errors
/// [`ParquetError`].
pub(crate) fn read(body: &Bytes, limit: usize, meter: &Meter) -> Result<Frame, ParquetError> {
    // The library trusts files in places; what makes it panic is a broken file, not a broken server.
    let read = catch_unwind(AssertUnwindSafe(|| read_table(body, limit, meter)));
    read.unwrap_or_else(|_| Err(broken("it cannot be read")))
}

fn read_table(body: &Bytes, limit: usize, meter: &Meter) -> Result<Frame, ParquetError> {
    let before = meter.held();
    let metadata = guard::metadata(body, limit, meter)?;
    let mut budget = Budget::new(limit, meter);
    let mut kept = 0;
    let rows = row_count(&metadata)?;
    let schema = metadata.file_metadata().schema_descr();
    let index = index_columns(metadata.file_metadata().key_value_metadata(), meter)?;
    let mut columns = Vec::new();
    let mut leaf = 0;
    for field in schema.root_schema().get_fields() {
        let leaves = leaf..leaf + leaves(field);
        leaf = leaves.end;
        if index.contains(field.name()) {
            continue;
        }
        let held = meter.held();
        let data = column::read(body, (&metadata, leaves), rows, &mut budget)?;
        let heap = data.heap() + COLUMN + field.name().len();
        meter.hold(held + heap)?;
        kept += heap;
        let name = Json::Text(field.name().to_owned());
        columns.push(Column { name, data });
    }
    if columns.is_empty() {
        meter.charge_many::<u64>(rows)?;
    }
    drop(metadata);
    meter.hold(before + kept)?;
    Ok(Frame { columns, rows })
}

fn row_count(metadata: &ParquetMetaData) -> Result<usize, ParquetError> {
    let groups = metadata.row_groups().iter();
    let rows = groups.map(|group| usize::try_from(group.num_rows()).ok());
    let total = rows.reduce(|total, rows| total?.checked_add(rows?));
    total
        .unwrap_or(Some(0))
        .ok_or_else(|| broken("the number of rows is none"))
}

fn leaves(field: &parquet::schema::types::Type) -> usize {
    if field.is_primitive() {
        return 1;
    }
    field.get_fields().iter().map(|field| leaves(field)).sum()
}

/// What pandas adds to a file.
#[derive(Deserialize)]
struct Pandas {
    #[serde(default)]
    index_columns: Vec<IndexColumn>,
}

/// An index is the name of a column, or the description of a range.
#[derive(Deserialize)]
#[serde(untagged)]
enum IndexColumn {
    Name(String),
    Range(IgnoredAny),
}

/// The columns that are the index of the frame.
fn index_columns(
    entries: Option<&Vec<KeyValue>>,
    meter: &Meter,
) -> Result<HashSet<String>, OverBudget> {
    let mut entries = entries.into_iter().flatten();
    let text = entries
        .find(|entry| entry.key == "pandas")
        .and_then(|entry| entry.value.as_deref())
        .unwrap_or_default();
    meter.charge(text.len().saturating_mul(LISTED))?;
    let pandas = serde_json::from_str::<Pandas>(text).ok();
    let columns = pandas
        .map(|pandas| pandas.index_columns)
        .unwrap_or_default();
    let name = |column| match column {
        IndexColumn::Name(name) => Some(name),
        IndexColumn::Range(_) => None,
    };
    Ok(columns.into_iter().filter_map(name).collect())
}

#[cfg(test)]
mod tests;
