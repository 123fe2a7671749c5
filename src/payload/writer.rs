//! The thread that writes: records into open files, open files into the spool.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use tokio::time::Instant;

use super::bodies::{Bodies, FailedBody};
use super::layout::Plan;
use super::options::PayloadOptions;
use super::partition::Partition;
use super::queue::Queue;
use super::record::Record;
use super::rows;
use super::spool::Spool;
use super::tally::{Outcome, Tally};
use crate::error::panic_text;
use crate::model::ModelId;

/// Files that are written at a time; each takes some memory for each of its columns.
const MOST_OPEN: usize = 32;

/// Bytes of rows that an open file holds in memory at most.
const BUFFERED: usize = 4 << 20;

/// Failed requests that wait for the first answer of their version.
const MOST_FAILURES: usize = 1000;

/// The longest sleep of the writer.
const NAP: Duration = Duration::from_secs(1);

/// Metadata of a file: the columns that are keyed hashes.
pub(super) const HASHED: &str = "onstage.hashed";

/// See the module.
pub(super) struct Writer {
    options: Arc<PayloadOptions>,
    queue: Arc<Queue>,
    spool: Arc<Spool>,
    tally: Tally,
    plans: BTreeMap<ModelId, Plan>,
    open: BTreeMap<Key, OpenFile>,
    /// Of versions that have not answered yet.
    failures: Vec<Record>,
    bodies: Bodies,
}

/// A file has the rows of one version and one hour.
type Key = (ModelId, Partition);

struct OpenFile {
    writer: ArrowWriter<File>,
    name: String,
    file: PathBuf,
    schema: SchemaRef,
    rows: u64,
    since: Instant,
}

impl Writer {
    pub(super) fn new(
        options: Arc<PayloadOptions>,
        queue: Arc<Queue>,
        spool: Arc<Spool>,
        tally: Tally,
    ) -> Self {
        Self {
            options,
            queue,
            spool,
            tally,
            plans: BTreeMap::new(),
            open: BTreeMap::new(),
            failures: Vec::new(),
            bodies: Bodies::default(),
        }
    }

    /// Writes until the queue is closed and empty.
    pub(super) fn run(mut self) {
        loop {
            let mut taken = self.queue.take(self.patience());
            self.take_bodies(&mut taken.records);
            for (key, records) in grouped(taken.records) {
                self.write(key, records);
            }
            self.roll();
            self.queue.block(self.is_full());
            if taken.is_last {
                return self.close_all();
            }
        }
    }

    fn take_bodies(&mut self, records: &mut [Record]) {
        for record in records {
            if let Some((bytes, error_code)) = record.body.take().zip(record.error_code) {
                let body = FailedBody {
                    request_id: record.request_id.clone(),
                    time: record.time,
                    status: record.status,
                    error_code,
                    bytes,
                };
                self.bodies.add(&record.model, body);
            }
        }
    }

    fn write_bodies(&mut self) {
        if self.is_full() {
            self.bodies = Bodies::default();
        } else if let Err(error) = self.bodies.write(&self.spool) {
            self.tally.failed(&error);
        }
    }

    /// Until the next file is due.
    fn patience(&self) -> Duration {
        let due = self.open.values().map(|open| {
            let age = open.since.elapsed();
            self.options.roll.saturating_sub(age)
        });
        due.min()
            .unwrap_or(NAP)
            .clamp(Duration::from_millis(1), NAP)
    }

    fn is_full(&self) -> bool {
        let open: usize = self
            .open
            .values()
            .map(|open| open.writer.bytes_written())
            .sum();
        self.spool.bytes().saturating_add(open as u64) >= self.options.spool
    }

    /// Writes records. Failed requests wait for the first answer of their version, which shows what its columns are: a
    /// file without them would be another table to most readers.
    fn write(&mut self, key: Key, mut records: Vec<Record>) {
        let is_known =
            self.plans.contains_key(&key.0) || records.iter().any(|record| record.seen.is_some());
        if !is_known && self.failures.len() + records.len() <= MOST_FAILURES {
            self.failures.append(&mut records);
            return;
        }
        if is_known {
            let (of_version, others) = std::mem::take(&mut self.failures)
                .into_iter()
                .partition(|record| record.model == key.0 && Partition::of(record.time) == key.1);
            self.failures = others;
            records.splice(0..0, of_version);
        }
        self.write_all(key, records);
    }

    fn write_all(&mut self, key: Key, records: Vec<Record>) {
        let rows: usize = records.iter().map(Record::rows).sum();
        if self.is_full() {
            return self.tally.count(&key.0.name, Outcome::Dropped, rows as u64);
        }
        let model = key.0.name.clone();
        // What would be a fault of ours must not end the log.
        let appended = catch_unwind(AssertUnwindSafe(|| {
            self.append(&key, &records, rows as u64)
        }));
        let appended = appended
            .unwrap_or_else(|panic| Err(ParquetError::General(panic_text(&*panic).to_owned())));
        if let Err(error) = appended {
            self.tally.failed(&error);
            self.tally.count(&model, Outcome::Failed, rows as u64);
            // What is in the file cannot be completed.
            if let Some(open) = self.open.remove(&key) {
                let _ = fs::remove_file(&open.file);
                self.tally.count(&model, Outcome::Failed, open.rows);
            }
        }
    }

    fn append(&mut self, key: &Key, records: &[Record], rows: u64) -> Result<(), ParquetError> {
        let (plan, has_changed) = self.plan(key, records);
        if has_changed {
            self.close(key);
        }
        let schema = rows::schema(&plan, &self.options.headers);
        if !self.open.contains_key(key) {
            self.make_place();
            let open = OpenFile::create(&self.spool, schema, &plan)?;
            self.open.insert(key.clone(), open);
        }
        let Some(open) = self.open.get_mut(key) else {
            return Ok(());
        };
        let batch = rows::batch(records, &plan, &self.options.columns, &open.schema)?;
        open.writer.write(&batch)?;
        open.rows += rows;
        if open.writer.in_progress_size() > BUFFERED {
            open.writer.flush()?;
        }
        let size = open.writer.bytes_written() + open.writer.in_progress_size();
        if size as u64 >= self.options.roll_size {
            self.close(key);
        }
        Ok(())
    }

    /// The columns of a version, as these records show them; whether they are others than before.
    fn plan(&mut self, key: &Key, records: &[Record]) -> (Plan, bool) {
        let mut has_changed = false;
        let begun = |record: &Record| (*record.plan).clone();
        let Some(first) = records.first() else {
            return (Plan::default(), false);
        };
        let plan = self
            .plans
            .entry(key.0.clone())
            .or_insert_with(|| begun(first));
        if !plan.is_of(&first.plan) {
            // The same version was loaded again, from another package.
            *plan = begun(first);
            has_changed = true;
        }
        for seen in records.iter().filter_map(|record| record.seen.as_ref()) {
            has_changed |= plan.fit(seen);
        }
        (plan.clone(), has_changed)
    }

    /// Closes the oldest file when too many are open.
    fn make_place(&mut self) {
        if self.open.len() < MOST_OPEN {
            return;
        }
        let oldest = self.open.iter().min_by_key(|(_, open)| open.since);
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.close(&key);
        }
    }

    /// Closes the files that are old enough, or whose hour is over.
    fn roll(&mut self) {
        let due = self
            .open
            .iter()
            .filter(|(_, open)| open.since.elapsed() >= self.options.roll);
        let due: Vec<Key> = due.map(|(key, _)| key.clone()).collect();
        for key in due {
            self.close(&key);
        }
        if self.bodies.is_due(&self.options) {
            self.write_bodies();
        }
        let waited = |record: &Record| {
            record
                .time
                .elapsed()
                .is_ok_and(|age| age >= self.options.roll)
        };
        if self.failures.iter().any(waited) {
            self.write_failures();
        }
        if self.plans.len() > 4 * MOST_OPEN {
            // Versions come and go; what is needed is learned again.
            self.plans.clear();
        }
    }

    /// Writes the failed requests of versions that answer nothing.
    fn write_failures(&mut self) {
        for (key, records) in grouped(std::mem::take(&mut self.failures)) {
            self.write_all(key, records);
        }
    }

    fn close_all(&mut self) {
        self.write_failures();
        self.write_bodies();
        let keys: Vec<Key> = self.open.keys().cloned().collect();
        for key in keys {
            self.close(&key);
        }
    }

    fn close(&mut self, key: &Key) {
        let Some(open) = self.open.remove(key) else {
            return;
        };
        let (rows, file) = (open.rows, open.file.clone());
        if let Err(error) = open.close(&self.spool, key) {
            self.tally.failed(&error);
            self.tally.count(&key.0.name, Outcome::Failed, rows);
            let _ = fs::remove_file(file);
        } else {
            self.tally.went_well();
        }
    }
}

impl OpenFile {
    fn create(spool: &Spool, schema: SchemaRef, plan: &Plan) -> Result<Self, ParquetError> {
        let name = spool.name();
        let file = spool.open_path(&name);
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("onstage ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_key_value_metadata(Some(vec![KeyValue::new(HASHED.to_owned(), plan.hashed())]))
            .build();
        let created = File::create_new(&file)?;
        let writer = ArrowWriter::try_new(created, Arc::clone(&schema), Some(properties))?;
        Ok(Self {
            writer,
            name,
            file,
            schema,
            rows: 0,
            since: Instant::now(),
        })
    }

    /// Onto the disk, then into the spool.
    fn close(self, spool: &Spool, (id, partition): &Key) -> Result<(), ParquetError> {
        let file = self.writer.into_inner()?;
        file.sync_all()?;
        let path = format!("{}/{}", partition.directory(Some(id)), self.name);
        spool.admit(&self.file, &path, self.rows)?;
        Ok(())
    }
}

/// Records by version and hour, in the order in which they came.
fn grouped(records: Vec<Record>) -> BTreeMap<Key, Vec<Record>> {
    let mut groups: BTreeMap<Key, Vec<Record>> = BTreeMap::new();
    for record in records {
        let key = (record.model.clone(), Partition::of(record.time));
        groups.entry(key).or_default().push(record);
    }
    groups
}
