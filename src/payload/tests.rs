//! From tensors to a file and back.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use half::{bf16, f16};
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;

use super::layout::Plan;
use super::options::{ColumnOptions, PayloadOptions};
use super::queue::Queue;
use super::read::{LogFile, LogFiles};
use super::record::{Record, Role, Seen};
use super::replay::Replay;
use super::spool::Spool;
use super::tally::Tally;
use super::writer::Writer;
use super::{rows, text};
use crate::model::{
    Batch, Dim, InputSpec, ModelId, ModelName, OutputKind, OutputSpec, Signature, Version,
};
use crate::telemetry::{DURATION_BUCKETS, Metrics};
use crate::tensor::{DType, Labels, MapSequence, Storage, Tensor, Value};

const DTYPES: [DType; 13] = [
    DType::Bool,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::F16,
    DType::Bf16,
    DType::F32,
    DType::F64,
];

fn signature(dtype: DType, inner: &[usize]) -> Signature {
    let rows = [Dim::Any(None)];
    let shape: Vec<Dim> = rows
        .into_iter()
        .chain(inner.iter().map(|size| Dim::Fixed(*size)))
        .collect();
    Signature {
        inputs: vec![InputSpec {
            name: "x".to_owned(),
            dtype,
            shape: Some(shape.clone()),
            default: None,
        }],
        outputs: vec![OutputSpec {
            name: "y".to_owned(),
            kind: OutputKind::Tensor { dtype, shape: None },
        }],
        reshapes: Default::default(),
    }
}

fn record(
    signature: &Signature,
    options: &ColumnOptions,
    batch: &Batch,
    outputs: &[Value],
) -> Record {
    Record {
        request_id: "request".to_owned(),
        time: UNIX_EPOCH + Duration::from_micros(1_764_583_199_000_007),
        model: ModelId {
            name: ModelName::new("m").unwrap(),
            version: Version(3),
        },
        alias: None,
        role: Role::Serving,
        status: 200,
        error_code: None,
        duration: Duration::from_micros(1500),
        caller: None,
        headers: Vec::new(),
        fraction: 1.0,
        body: None,
        plan: Arc::new(Plan::of_signature(signature, None, options)),
        seen: Some(Seen::capture(signature, batch, outputs, options.tensors)),
    }
}

/// The file of some records.
fn file(records: &[Record], options: &ColumnOptions) -> LogFile {
    let mut plan = (*records[0].plan).clone();
    for record in records {
        if let Some(seen) = &record.seen {
            plan.fit(seen);
        }
    }
    let schema = rows::schema(&plan, &[]);
    let batch = rows::batch(records, &plan, options, &schema).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    LogFile::parse("f", bytes.into()).unwrap()
}

fn tensor(dtype: DType, shape: &[usize], bytes: &[u8]) -> Tensor {
    let size = shape.iter().product::<usize>() * dtype.width().unwrap();
    let mut bytes: Vec<u8> = bytes.iter().copied().cycle().take(size).collect();
    if dtype == DType::Bool {
        bytes.iter_mut().for_each(|byte| *byte %= 2);
    }
    Tensor::from_storage(dtype, shape.to_vec(), Storage::Shared(bytes.into())).unwrap()
}

proptest! {
    #[test]
    fn every_tensor_comes_back_to_the_bit(
        kind in 0..DTYPES.len(),
        inner in prop_oneof![Just(vec![]), Just(vec![1]), Just(vec![5]), Just(vec![2, 3]), Just(vec![300])],
        requests in 1_usize..4,
        bytes in prop::collection::vec(any::<u8>(), 1..64),
    ) {
        let dtype = DTYPES[kind];
        let options = ColumnOptions { tensors: true, ..ColumnOptions::default() };
        let signature = signature(dtype, &inner);
        let mut batches = Vec::new();
        for request in 0..requests {
            let shape = [&[request + 1], inner.as_slice()].concat();
            let tensor = tensor(dtype, &shape, &bytes[request % bytes.len()..]);
            batches.push(signature.bind(vec![("x".to_owned(), tensor)]).unwrap());
        }
        let answer = |batch: &Batch| vec![Value::Tensor(batch.inputs()[0].clone())];
        let records: Vec<Record> = batches.iter().map(|batch| record(&signature, &options, batch, &answer(batch))).collect();
        let file = file(&records, &options);
        let replay = Replay::of_signature(signature);
        let found = file.requests().unwrap();
        prop_assert_eq!(found.len(), requests);
        for (rows, batch) in found.into_iter().zip(&batches) {
            let again = replay.batch(&file, rows).unwrap();
            let (was, is) = (&batch.inputs()[0], &again.inputs()[0]);
            prop_assert_eq!(was.shape(), is.shape());
            if dtype == DType::Bf16 {
                // NaN of another payload is the same number: it went through a single.
                for (was, is) in was.to_vec::<bf16>().unwrap().iter().zip(is.to_vec::<bf16>().unwrap()) {
                    prop_assert!(was.to_bits() == is.to_bits() || was.is_nan() && is.is_nan());
                }
            } else {
                prop_assert_eq!(was.bytes(), is.bytes());
            }
        }
    }
}

#[test]
fn texts_maps_and_failures_are_rows() {
    let mut signature = signature(DType::String, &[]);
    signature.outputs[0].kind = OutputKind::Maps { text_labels: true };
    let options = ColumnOptions::default();
    let words = Tensor::from_strings(vec![2], vec!["a".to_owned(), String::new()]).unwrap();
    let batch = signature.bind(vec![("x".to_owned(), words)]).unwrap();
    let scores = Tensor::from_vec(vec![2, 2], vec![0.25_f32, 0.75, 1.0, 0.0]).unwrap();
    let labels = Labels::String(vec!["no".to_owned(), "yes".to_owned()]);
    let answered = record(
        &signature,
        &options,
        &batch,
        &[Value::Maps(MapSequence { labels, scores })],
    );
    let failed = Record {
        status: 400,
        error_code: Some("invalid_argument"),
        seen: None,
        ..record(&signature, &options, &batch, &[])
    };
    let file = file(&[answered, failed], &options);
    let cells = |name: &str| {
        let column = file.column(name).unwrap();
        (0..3)
            .map(|row| text::to_json(column, row).to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(cells("x"), ["\"a\"", "\"\"", "null"]);
    assert_eq!(
        cells("prediction"),
        [
            "{\"no\":0.25,\"yes\":0.75}",
            "{\"no\":1.0,\"yes\":0.0}",
            "null"
        ]
    );
    assert_eq!(cells("_row"), ["0", "1", "0"]);
    assert_eq!(cells("_status"), ["200", "200", "400"]);
    assert_eq!(cells("_time")[0], "\"2025-12-01T09:59:59.000007Z\"");
    assert_eq!(cells("_duration_ms")[0], "1.5");
    let replay = Replay::of_signature(signature);
    assert_eq!(file.requests().unwrap().first(), Some(&(0..2)));
    assert_eq!(file.requests().unwrap().len(), 1);
    let again = replay.batch(&file, 0..2).unwrap();
    assert_eq!(
        again.inputs()[0].as_strings(),
        batch.inputs()[0].as_strings()
    );
}

#[test]
fn wide_tensors_are_shapes_and_hashes_and_outputs_that_change_their_form_still_fit() {
    let signature = signature(DType::F32, &[2, 3]);
    let options = ColumnOptions::default();
    let of = |first: f32, output: Vec<usize>| {
        let mut values = vec![0.0_f32; 6];
        values[0] = first;
        let input = Tensor::from_vec(vec![1, 2, 3], values).unwrap();
        let batch = signature.bind(vec![("x".to_owned(), input)]).unwrap();
        let count = output.iter().product();
        let output = Tensor::from_vec(output, vec![1.0_f32; count]).unwrap();
        record(&signature, &options, &batch, &[Value::Tensor(output)])
    };
    let file = file(
        &[
            of(1.0, vec![1]),
            of(1.0, vec![1, 4]),
            of(2.0, vec![1, 2, 2]),
        ],
        &options,
    );
    let cell = |name: &str, row: usize| text::to_json(file.column(name).unwrap(), row);
    assert_eq!(cell("x", 0)["shape"], serde_json::json!([2, 3]));
    assert_eq!(cell("x", 0)["values"], serde_json::Value::Null);
    assert_eq!(cell("x", 0), cell("x", 1));
    assert_ne!(cell("x", 0)["hash"], cell("x", 2)["hash"]);
    assert_eq!(cell("prediction", 1)["shape"], serde_json::json!([4]));
    assert_eq!(
        cell("prediction", 1)["values"],
        serde_json::json!([1.0, 1.0, 1.0, 1.0])
    );
    let error = Replay::of_signature(signature)
        .batch(&file, 0..1)
        .unwrap_err()
        .to_string();
    assert!(error.contains("`payload_log.tensors = true`"), "{error}");
}

#[test]
fn half_precision_is_kept() {
    let signature = signature(DType::F16, &[]);
    let values = Tensor::from_vec(vec![2], vec![f16::from_f32(0.1), f16::NAN]).unwrap();
    let batch = signature.bind(vec![("x".to_owned(), values)]).unwrap();
    let record = record(&signature, &ColumnOptions::default(), &batch, &[]);
    assert_eq!(record.rows(), 2);
}

fn small_record() -> Record {
    let signature = signature(DType::F32, &[]);
    let input = Tensor::from_vec(vec![1], vec![1.0_f32]).unwrap();
    let batch = signature
        .bind(vec![("x".to_owned(), input.clone())])
        .unwrap();
    record(
        &signature,
        &ColumnOptions::default(),
        &batch,
        &[Value::Tensor(input)],
    )
}

#[test]
fn a_full_queue_gives_records_back_and_takes_more_when_it_was_emptied() {
    let size = small_record().size();
    let queue = Queue::new(3 * size);
    for _ in 0..3 {
        assert!(queue.push(small_record()));
    }
    assert!(!queue.push(small_record()));
    assert_eq!(queue.take(Duration::ZERO).records.len(), 3);
    assert!(queue.push(small_record()));
    queue.block(true);
    assert!(!queue.push(small_record()));
    queue.block(false);
    queue.close();
    assert!(!queue.push(small_record()));
    let last = queue.take(Duration::ZERO);
    assert!(last.is_last && last.records.len() == 1);
}

fn options() -> PayloadOptions {
    PayloadOptions {
        fraction: 1.0,
        models: vec!["m*".to_owned()],
        columns: ColumnOptions::default(),
        headers: Vec::new(),
        errors: false,
        roll: Duration::from_secs(60),
        roll_size: 1 << 20,
        queue: 1 << 20,
        spool: 1 << 30,
        keep: None,
    }
}

/// Writes some records into a spool.
fn written(
    root: &std::path::Path,
    options: PayloadOptions,
    records: usize,
) -> (Arc<Spool>, String) {
    let options = Arc::new(options);
    let spool = Arc::new(Spool::open(root, "replica").unwrap());
    let queue = Arc::new(Queue::new(options.queue));
    let metrics = Arc::new(Metrics::new(&DURATION_BUCKETS));
    for _ in 0..records {
        assert!(queue.push(small_record()));
    }
    queue.close();
    let tally = Tally::new(Arc::clone(&metrics));
    Writer::new(options, queue, Arc::clone(&spool), tally).run();
    (spool, metrics.render())
}

#[tokio::test]
async fn the_spool_of_a_process_that_is_gone_is_taken_over_under_the_same_names() {
    let root = tempfile::tempdir().unwrap();
    let (spool, _) = written(root.path(), options(), 5);
    let waiting = spool.waiting();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].1.rows, 5);
    assert!(
        waiting[0]
            .0
            .starts_with("model=m/version=3/date=2025-12-01/hour=09/replica-"),
        "{waiting:?}"
    );
    // As long as it lives, nobody takes it.
    let other = Spool::open(root.path(), "replica").unwrap();
    assert_eq!(other.waiting().len(), 0);
    drop(spool);
    let next = Spool::open(root.path(), "replica").unwrap();
    assert_eq!(next.waiting()[0].0, waiting[0].0);
    assert_eq!(next.waiting()[0].1.rows, 5);
    drop((other, next));
    let files = LogFiles::all(&root.path().display().to_string(), &access())
        .await
        .unwrap();
    assert_eq!(files.paths().len(), 1);
}

fn access() -> crate::registry::ObjectAccess {
    crate::network::install_provider();
    crate::registry::ObjectAccess::new(reqwest::Client::new(), Arc::default())
}

#[test]
fn what_the_disk_refuses_has_failed_and_what_finds_a_full_spool_is_dropped() {
    let root = tempfile::tempdir().unwrap();
    let (_, metrics) = written(
        root.path(),
        PayloadOptions {
            spool: 0,
            ..options()
        },
        7,
    );
    assert!(
        metrics.contains("onstage_payload_rows_total{model=\"m\",outcome=\"dropped\"} 7"),
        "{metrics}"
    );
}

#[tokio::test]
async fn only_files_of_the_log_that_are_old_enough_are_deleted() {
    let root = tempfile::tempdir().unwrap();
    let file = |path: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    };
    file("model=m/version=1/date=2025-01-01/hour=09/a.parquet");
    file("model=m/version=1/date=2025-01-31/hour=09/b.parquet");
    file("labels/model=m/date=2025-01-01/hour=09/c.parquet");
    file("errors/model=m/version=1/date=2025-01-01/hour=09/d.parquet");
    file("date=2025-01-01/hour=09/somebody-else.parquet");
    let sink = super::Sink::directory(root.path().to_owned());
    let now = UNIX_EPOCH + Duration::from_secs(1_738_368_000);
    super::sender::delete_older(&sink, Duration::from_secs(24 * 3600 * 7), now)
        .await
        .unwrap();
    let left = sink.list().await.unwrap();
    assert_eq!(
        left,
        [
            "date=2025-01-01/hour=09/somebody-else.parquet",
            "labels/model=m/date=2025-01-01/hour=09/c.parquet",
            "model=m/version=1/date=2025-01-31/hour=09/b.parquet",
        ]
    );
}
