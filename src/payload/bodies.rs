//! Bodies of failed requests, as files below `errors/`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow_array::{
    BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use tokio::time::Instant;

use super::options::PayloadOptions;
use super::partition::{ERRORS, Partition};
use super::spool::Spool;
use crate::model::ModelId;

/// The longest body that is kept.
pub(super) const LONGEST: usize = 64 << 10;

/// Bytes of bodies that wait for a file.
const GATHERED: usize = 4 << 20;

/// The body of a failed request.
#[derive(Debug)]
pub(super) struct FailedBody {
    pub(super) request_id: String,
    pub(super) time: SystemTime,
    pub(super) status: u16,
    pub(super) error_code: &'static str,
    pub(super) bytes: Bytes,
}

/// Bodies that wait for a file.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    waiting: BTreeMap<(ModelId, Partition), Vec<FailedBody>>,
    bytes: usize,
    since: Option<Instant>,
}

impl Bodies {
    pub(super) fn add(&mut self, id: &ModelId, body: FailedBody) {
        self.bytes += body.bytes.len();
        self.since.get_or_insert_with(Instant::now);
        let key = (id.clone(), Partition::of(body.time));
        self.waiting.entry(key).or_default().push(body);
    }

    /// Whether they have waited for long enough, or are too many to wait.
    pub(super) fn is_due(&self, options: &PayloadOptions) -> bool {
        let is_old = self
            .since
            .is_some_and(|since| since.elapsed() >= options.roll);
        is_old || self.bytes >= GATHERED
    }

    /// Writes a file for each version and hour.
    pub(super) fn write(&mut self, spool: &Spool) -> Result<(), ParquetError> {
        let Self { waiting, .. } = std::mem::take(self);
        for ((id, partition), bodies) in waiting {
            let name = spool.name();
            let file = spool.open_path(&name);
            let path = format!("{ERRORS}/{}/{name}", partition.directory(Some(&id)));
            let written = write_file(&file, &id, &bodies)
                .and_then(|()| Ok(spool.admit(&file, &path, bodies.len() as u64)?));
            if written.is_err() {
                let _ = fs::remove_file(&file);
                return written;
            }
        }
        Ok(())
    }
}

fn write_file(file: &Path, id: &ModelId, bodies: &[FailedBody]) -> Result<(), ParquetError> {
    let zone: Arc<str> = "UTC".into();
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::clone(&zone)));
    let field = |name: &str, kind: DataType| Field::new(name, kind, true);
    let schema = Arc::new(Schema::new(vec![
        field("_request_id", DataType::Utf8),
        field("_time", time),
        field("_model", DataType::Utf8),
        field("_version", DataType::Int64),
        field("_status", DataType::Int32),
        field("_error_code", DataType::Utf8),
        field("body", DataType::Binary),
    ]));
    let micros = |body: &FailedBody| {
        let since = body.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    };
    let times: TimestampMicrosecondArray = bodies.iter().map(micros).collect();
    let version = i64::try_from(id.version.0).unwrap_or(i64::MAX);
    let count = bodies.len();
    let texts = |text: fn(&FailedBody) -> &str| {
        Arc::new(
            bodies
                .iter()
                .map(|body| Some(text(body)))
                .collect::<StringArray>(),
        )
    };
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            texts(|body| &body.request_id),
            Arc::new(times.with_timezone(zone)),
            Arc::new(std::iter::repeat_n(Some(id.name.as_str()), count).collect::<StringArray>()),
            Arc::new(Int64Array::from_value(version, count)),
            Arc::new(
                bodies
                    .iter()
                    .map(|body| i32::from(body.status))
                    .collect::<Int32Array>(),
            ),
            texts(|body| body.error_code),
            Arc::new(
                bodies
                    .iter()
                    .map(|body| Some(&body.bytes[..]))
                    .collect::<BinaryArray>(),
            ),
        ],
    )?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .build();
    let mut writer = ArrowWriter::try_new(File::create_new(file)?, schema, Some(properties))?;
    writer.write(&batch)?;
    writer.into_inner()?.sync_all()?;
    Ok(())
}
