//! The pieces of a request's way, one by one: `cargo bench --bench pieces`.
//!
//! Each is measured without the others and without a network; `benches/serve.rs` measures the whole.

#![expect(
    clippy::unwrap_used,
    reason = "a bench may stop on a surprise, and the groups have no readers"
)]

#[allow(dead_code)]
#[path = "../tests/it/support/onnx.rs"]
mod onnx;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use onstage::batching::{QueueView, WorkConserving, split_outputs};
use onstage::config::Settings;
use onstage::engine::{Chosen, Engine, Tract};
use onstage::model::{Batch, ModelName, Package, Version};
use onstage::protocol;
use onstage::scoring::offline::Offline;
use onstage::serving::{
    Catalog, ModelEntry, Selector, VersionEntry, VersionSelector, VersionState,
};
use onstage::tensor::{Tensor, Value};
use tokio::time::Instant;

/// The numbers of a 224×224 picture, in rows of two.
const ROWS: usize = 224 * 224 / 2;

fn iris() -> Offline {
    load(&Package::open("model-examples/iris".as_ref()).unwrap())
}

/// A model that gives back what it gets: its run costs nearly nothing.
fn echo() -> Offline {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("echo.onnx");
    onnx::save(&onnx::echo(&[("FP32", 1)]), &file);
    load(&Package::open(&file).unwrap())
}

fn load(package: &Package) -> Offline {
    let tract: Arc<dyn Engine> = Arc::new(Tract);
    let chosen = Chosen::new(&tract, package).unwrap();
    Offline::load(package, chosen, &Settings::default()).unwrap()
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|n| (n as f32 * 0.618_034).fract()).collect()
}

fn body(rows: usize) -> Vec<u8> {
    let values = numbers(rows * 2);
    let rows: Vec<&[f32]> = values.chunks(2).collect();
    serde_json::json!({ "inputs": rows })
        .to_string()
        .into_bytes()
}

fn json(criterion: &mut Criterion) {
    let (echo, iris) = (echo(), iris());
    let body = body(ROWS);
    let mut group = criterion.benchmark_group("json");
    group.throughput(Throughput::Elements(2 * ROWS as u64));
    group.bench_function("read 50,176 numbers", |bencher| {
        let servable = echo.servable();
        let read = |body| protocol::example_batch(&servable, body).unwrap();
        bencher.iter_batched(|| body.clone(), read, BatchSize::LargeInput);
    });
    group.bench_function("the same by serde_json into vectors", |bencher| {
        bencher.iter(|| {
            let parsed: BTreeMap<&str, Vec<Vec<f32>>> = serde_json::from_slice(&body).unwrap();
            black_box(parsed.len())
        });
    });
    group.bench_function("read, echo and write 50,176 numbers", |bencher| {
        let score = |body| echo.score("application/json", body).unwrap();
        bencher.iter_batched(|| body.clone(), score, BatchSize::LargeInput);
    });
    group.throughput(Throughput::Elements(1));
    let small = br#"{"inputs": [[5.1, 3.5, 1.4, 0.2]]}"#.to_vec();
    group.bench_function("read a request for iris", |bencher| {
        let servable = iris.servable();
        let read = |body| protocol::example_batch(&servable, body).unwrap();
        bencher.iter_batched(|| small.clone(), read, BatchSize::SmallInput);
    });
    group.finish();
}

fn batches(criterion: &mut Criterion) {
    let policy = WorkConserving::default();
    let now = Instant::now();
    let view = QueueView {
        rows: 3,
        limit: 8,
        oldest: Some(now - Duration::from_millis(1)),
        last: None,
    };
    let mut group = criterion.benchmark_group("batches");
    group.bench_function("decide", |bencher| {
        bencher.iter(|| policy.decide(black_box(&view), now));
    });
    let iris = iris();
    let servable = iris.servable();
    let row = || br#"{"inputs": [[5.1, 3.5, 1.4, 0.2]]}"#.to_vec();
    let requests: Vec<Batch> = (0..32)
        .map(|_| protocol::example_batch(&servable, row()).unwrap())
        .collect();
    let parts: Vec<&Batch> = requests.iter().collect();
    group.bench_function("join 32 requests of one row", |bencher| {
        bencher.iter(|| Batch::join(black_box(&parts)));
    });
    let outputs = vec![Value::Tensor(
        Tensor::from_vec(vec![32, 3], numbers(96)).unwrap(),
    )];
    group.bench_function("split the outputs of 32 rows", |bencher| {
        bencher.iter(|| split_outputs(black_box(&outputs), &[1; 32]));
    });
    group.finish();
}

fn catalog(criterion: &mut Criterion) {
    let servable = iris().servable();
    let mut group = criterion.benchmark_group("catalog");
    for models in [1, 1000] {
        let catalog = Catalog::default();
        catalog.update(|snapshot| {
            snapshot.known = true;
            for model in 0..models {
                let entry = VersionEntry {
                    state: VersionState::Ready,
                    servable: Some(servable.clone()),
                };
                let entry = ModelEntry {
                    versions: BTreeMap::from([(Version(1), entry)]),
                    ..ModelEntry::default()
                };
                let name = ModelName::new(format!("model-{model}")).unwrap();
                snapshot.models.insert(name, entry);
            }
        });
        let selector = Selector {
            model: Some(ModelName::new(format!("model-{}", models / 2)).unwrap()),
            version: VersionSelector::Default,
        };
        group.bench_function(format!("look-up among {models}"), |bencher| {
            bencher.iter(|| catalog.lookup(black_box(&selector)).unwrap());
        });
    }
    group.finish();
}

criterion_group!(pieces, json, batches, catalog);
criterion_main!(pieces);
