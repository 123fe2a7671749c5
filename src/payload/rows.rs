//! Records as one batch of rows.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow_array::{
    Array, ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};

use super::cells::{self, Cells};
use super::layout::{Column, FIXED, Kind, Plan, Source};
use super::options::ColumnOptions;
use super::record::{Kept, Record};
use super::text;
use crate::tensor::Tensor;

/// The zone of `_time`.
const ZONE: &str = "UTC";

/// The schema of the rows of a version.
pub(super) fn schema(plan: &Plan, headers: &[String]) -> SchemaRef {
    let fixed = FIXED.iter().map(|name| {
        let kind = match *name {
            "_row" | "_version" => DataType::Int64,
            "_status" => DataType::Int32,
            "_time" => DataType::Timestamp(TimeUnit::Microsecond, Some(ZONE.into())),
            "_duration_ms" | "_sampling_fraction" => DataType::Float64,
            _ => DataType::Utf8,
        };
        Field::new(*name, kind, true)
    });
    let headers = headers
        .iter()
        .map(|name| Field::new(header_column(name), DataType::Utf8, true));
    let columns = plan
        .columns
        .iter()
        .map(|column| Field::new(&column.name, data_type(column), true));
    Arc::new(Schema::new(
        fixed.chain(headers).chain(columns).collect::<Vec<_>>(),
    ))
}

/// The column of a header: `x-user-id` is in `_header_x_user_id`.
pub(super) fn header_column(header: &str) -> String {
    format!("_header_{}", header.replace('-', "_"))
}

fn data_type(column: &Column) -> DataType {
    if column.is_hashed {
        return DataType::Utf8;
    }
    match &column.kind {
        Kind::Scalar => cells::arrow_type(column.dtype),
        // Of fixed size in fact, not in type: pyarrow reads no null in a column of that type.
        Kind::List(_) => DataType::List(cells::item(column.dtype)),
        Kind::Tensor => DataType::Struct(cells::tensor_fields(column.dtype)),
        Kind::Map(labels) => DataType::Struct(cells::map_fields(labels)),
    }
}

/// The rows of records of one version, in their order.
///
/// # Errors
/// Arrow's, when a column does not have the form of the plan.
pub(super) fn batch(
    records: &[Record],
    plan: &Plan,
    options: &ColumnOptions,
    schema: &SchemaRef,
) -> Result<RecordBatch, ArrowError> {
    let mut arrays = fixed(records);
    let headers = schema.fields().len() - FIXED.len() - plan.columns.len();
    arrays.extend((0..headers).map(|header| {
        texts(records, |record| {
            record
                .headers
                .get(header)
                .and_then(|value| value.as_deref())
        })
    }));
    for column in &plan.columns {
        let cells: Vec<Cells<'_>> = records
            .iter()
            .map(|record| cells(record, column, plan))
            .collect();
        let array = values(column, &cells)?;
        arrays.push(match (&options.key, column.is_hashed) {
            (Some(key), true) => hashed(&array, |text| key.hash(text)),
            // There is no hash without a key: better nothing than the value.
            (None, true) => arrow_array::new_null_array(&DataType::Utf8, array.len()),
            (_, false) => array,
        });
    }
    RecordBatch::try_new(Arc::clone(schema), arrays)
}

fn values(column: &Column, cells: &[Cells<'_>]) -> Result<ArrayRef, ArrowError> {
    match &column.kind {
        Kind::Scalar => Ok(cells::scalars(column.dtype, cells)),
        Kind::List(_) => cells::lists(column.dtype, cells),
        Kind::Tensor => cells::tensors(column.dtype, cells),
        Kind::Map(labels) => cells::maps(labels, cells),
    }
}

fn hashed(array: &ArrayRef, hash: impl Fn(&str) -> String) -> ArrayRef {
    let text = |row: usize| (!array.is_null(row)).then(|| hash(&text::of_cell(array, row)));
    Arc::new((0..array.len()).map(text).collect::<StringArray>())
}

/// The columns that each row has.
fn fixed(records: &[Record]) -> Vec<ArrayRef> {
    let rows = || {
        records
            .iter()
            .flat_map(|record| std::iter::repeat_n(record, record.rows()))
    };
    let time = |record: &Record| {
        let since = record.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    };
    let numbers = records.iter().flat_map(|record| 0..record.rows() as i64);
    let times: TimestampMicrosecondArray = rows().map(|record| Some(time(record))).collect();
    let version = |record: &Record| i64::try_from(record.model.version.0).unwrap_or(i64::MAX);
    vec![
        texts(records, |record| Some(&record.request_id)),
        Arc::new(numbers.collect::<Int64Array>()),
        Arc::new(times.with_timezone(ZONE)),
        texts(records, |record| Some(record.model.name.as_str())),
        Arc::new(rows().map(version).collect::<Int64Array>()),
        texts(records, |record| record.alias.as_deref()),
        texts(records, |record| Some(record.role.label())),
        Arc::new(
            rows()
                .map(|record| i32::from(record.status))
                .collect::<Int32Array>(),
        ),
        texts(records, |record| record.error_code),
        Arc::new(
            rows()
                .map(|record| record.duration.as_secs_f64() * 1e3)
                .collect::<Float64Array>(),
        ),
        Arc::new(
            rows()
                .map(|record| record.fraction)
                .collect::<Float64Array>(),
        ),
        texts(records, |record| record.caller.as_deref()),
    ]
}

/// A text of each record, for each of its rows.
fn texts<'r>(records: &'r [Record], text: impl Fn(&'r Record) -> Option<&'r str>) -> ArrayRef {
    let texts = records
        .iter()
        .flat_map(|record| std::iter::repeat_n(text(record), record.rows()));
    Arc::new(texts.collect::<StringArray>())
}

/// What a record brings to a column.
fn cells<'r>(record: &'r Record, column: &Column, plan: &Plan) -> Cells<'r> {
    let Some(seen) = &record.seen else {
        return Cells::Missing(1);
    };
    let rows = seen.rows;
    let (kept, carries) = match column.source {
        Source::Input(index) => (seen.inputs.get(index), plan.carries[index]),
        Source::Part { input, column, of } => {
            return match seen.inputs.get(input) {
                Some(Kept::Values(tensor)) if tensor.len() == rows * of => Cells::Values {
                    tensor,
                    rows,
                    start: column,
                    stride: of,
                    width: 1,
                },
                _ => Cells::Missing(rows),
            };
        }
        Source::Output(index) => (seen.outputs.get(index), true),
    };
    match kept {
        Some(Kept::Values(tensor)) => whole(tensor, rows, carries && tensor.rows() == Some(rows)),
        Some(Kept::Digest { shape, hashes }) => Cells::Digest {
            shape,
            hashes,
            rows,
        },
        Some(Kept::Maps(_, scores)) => whole(scores, rows, true),
        None => Cells::Missing(rows),
    }
}

/// All values of a tensor; one without an axis of rows is the same for each of them.
fn whole(tensor: &Tensor, rows: usize, has_rows: bool) -> Cells<'_> {
    let width = if has_rows {
        tensor.len() / rows.max(1)
    } else {
        tensor.len()
    };
    Cells::Values {
        tensor,
        rows,
        start: 0,
        stride: if has_rows { width } else { 0 },
        width,
    }
}
