//! Versions that come and go, under a clock that stands still.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, advance};

use super::{Drift, Export, Limits, MonitorOptions, Monitors};
use crate::engine::fake;
use crate::model::{Batch, ModelName, Package, ResponseOutput};
use crate::serving::{
    Arrival, Caller, Observable, Observed, Observer, Observers, RequestContext, RequestId,
};
use crate::telemetry::{DURATION_BUCKETS, Metrics, Monitored as _, Protocol};
use crate::tensor::{Absent, DType, Tensor, Value};

fn monitors(baselines: Vec<(ModelName, PathBuf)>, rows_per_second: u32) -> Monitors {
    Monitors::new(MonitorOptions {
        enabled: true,
        interval: Duration::from_mins(5),
        limits: Limits {
            features: 50,
            rows_per_second,
        },
        export: Export::Bins,
        baselines,
    })
}

fn name() -> ModelName {
    ModelName::new("m").unwrap()
}

fn package(version: u64) -> Package {
    let mut package = fake::package("m", version, &[("x", DType::F32)]);
    package.digest = format!("sha256:{version}");
    package
}

fn observer(monitors: &Monitors, package: &Package) -> Arc<dyn Observer> {
    let signature = package.signature();
    let version = Observable {
        package,
        signature: &signature,
        response: ResponseOutput::default(),
    };
    monitors.observer(&version).unwrap()
}

fn seen(inputs: Batch, outputs: Vec<Value>) -> Observed {
    Observed {
        context: RequestContext::from(Caller::default()),
        id: RequestId::make(),
        protocol: Protocol::V1,
        pointer: None,
        started: Instant::now(),
        took: Duration::ZERO,
        inputs: Some(inputs),
        outputs: Some(outputs),
        failure: None,
    }
}

/// One request with these values, which come back.
async fn send(observer: &Arc<dyn Observer>, package: &Package, values: &[f32]) {
    let tensor = Tensor::from_vec(vec![values.len(), 1], values.to_vec()).unwrap();
    let inputs = vec![("x".to_owned(), tensor.clone())];
    let batch = package.signature().bind(inputs).unwrap();
    let seen = seen(batch, vec![Value::Tensor(tensor)]);
    let arrival = Arrival {
        id: &seen.id,
        is_private: false,
        rows: Some(values.len()),
        at: seen.started,
    };
    if let Some(share) = observer.wants(&arrival) {
        observer.observe(Arc::new(seen), share);
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// So many requests of ten rows each, around `middle`.
async fn traffic(observer: &Arc<dyn Observer>, package: &Package, (requests, middle): (u16, f32)) {
    for request in 0..requests {
        let value = |row: u16| middle + f32::from((request * 10 + row) % 97) / 97.0;
        let values: Vec<f32> = (0..10).map(value).collect();
        send(observer, package, &values).await;
    }
}

fn verdict(drift: &Drift, version: usize, feature: &str) -> (&'static str, f64) {
    let features = &drift.versions[version].windows.day.features;
    let found = features.iter().find(|found| found.feature == feature);
    let found = found.unwrap();
    (found.verdict, found.psi)
}

/// A file with the baseline of numbers from 0 to 1.
fn baseline() -> (tempfile::NamedTempFile, Vec<(ModelName, PathBuf)>) {
    let buckets: Vec<_> = (0..10)
        .map(|bin| {
            let bound = |bin: i32| f64::from(bin) / 10.0;
            serde_json::json!({"lower_bound": bound(bin), "upper_bound": bound(bin + 1), "count": 1000})
        })
        .collect();
    let file = serde_json::json!({
        "dataset": {"item_count": 10_000},
        "features": [{
            "name": "x",
            "numerical_statistics": {
                "common": {"num_present": 10_000, "num_missing": 0},
                "distribution": {"kll": {"buckets": buckets}},
            },
        }],
    });
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), file.to_string()).unwrap();
    let baselines = vec![(name(), path.path().to_owned())];
    (path, baselines)
}

#[tokio::test(start_paused = true)]
async fn a_feature_has_drifted_in_the_second_evaluation_that_says_so() {
    let (_file, baselines) = baseline();
    let (monitors, package) = (monitors(baselines, 0), package(1));
    let observer = observer(&monitors, &package);
    traffic(&observer, &package, (60, 0.5)).await;
    monitors.evaluate();
    let drift = monitors.drift(&name()).unwrap();
    let (first, psi) = verdict(&drift, 0, "x");
    assert!(first == "warning" && psi > 0.2, "{first} {psi}");
    monitors.evaluate();
    let drift = monitors.drift(&name()).unwrap();
    assert_eq!(verdict(&drift, 0, "x").0, "drifted");
    assert_eq!(monitors.versions()[0].drifted, [("1h", 1.0), ("24h", 1.0)]);
    // A day later nothing of it is left.
    advance(Duration::from_hours(25)).await;
    monitors.evaluate();
    let drift = monitors.drift(&name()).unwrap();
    assert_eq!(verdict(&drift, 0, "x"), ("stable", 0.0));
}

#[tokio::test(start_paused = true)]
async fn few_rows_and_rows_of_few_requests_say_nothing() {
    let (_file, baselines) = baseline();
    let (monitors, package) = (monitors(baselines, 0), package(1));
    let observer = observer(&monitors, &package);
    traffic(&observer, &package, (40, 0.5)).await;
    send(&observer, &package, &[0.9; 2000]).await;
    for _ in 0..3 {
        monitors.evaluate();
    }
    let drift = monitors.drift(&name()).unwrap();
    let (found, psi) = verdict(&drift, 0, "x");
    assert!(found == "stable" && psi > 0.2, "{found} {psi}");
    let scraped = monitors.versions();
    assert!(scraped[0].features[0].psi.is_empty());
    assert_eq!(scraped[0].rows, 2400);
}

#[tokio::test(start_paused = true)]
async fn a_missing_cell_is_told_from_nan_and_what_lies_outside() {
    let (_file, baselines) = baseline();
    let (monitors, package) = (monitors(baselines, 0), package(1));
    let observer = observer(&monitors, &package);
    let odd = [Absent::F32, f32::NAN, -1.0, 2.0, f32::INFINITY, 1.0, 0.0];
    send(&observer, &package, &odd).await;
    let scraped = monitors.versions();
    let bins = &scraped[0].features[0].bins;
    let count = |label: &str| bins.iter().find(|bin| bin.label == label).unwrap().count;
    let counts = ["missing", "nan", "below", "above", "9", "0"].map(count);
    assert_eq!(counts, [1.0, 1.0, 1.0, 2.0, 1.0, 1.0]);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_comes_back_goes_on_with_what_it_has_counted() {
    let (_file, baselines) = baseline();
    let (monitors, one, two) = (monitors(baselines, 0), package(1), package(2));
    let before = observer(&monitors, &one);
    traffic(&before, &one, (60, 0.5)).await;
    drop(before);
    assert!(monitors.loaded().is_empty(), "its series are gone");
    let _other = observer(&monitors, &two);
    advance(Duration::from_hours(1)).await;
    let _again = observer(&monitors, &one);
    let drift = monitors.drift(&name()).unwrap();
    assert_eq!(drift.versions[0].rows, 600);
    // The same number with other files is another version.
    let mut altered = package(1);
    altered.digest = "sha256:other".to_owned();
    let _altered = observer(&monitors, &altered);
    assert_eq!(monitors.drift(&name()).unwrap().versions[0].rows, 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_baseline_the_version_before_is_the_reference() {
    let (monitors, one, two) = (monitors(vec![], 0), package(1), package(2));
    let before = observer(&monitors, &one);
    // It learns from 5,000 rows, and serves as many.
    traffic(&before, &one, (1100, 0.0)).await;
    let drift = monitors.drift(&name()).unwrap();
    assert_eq!(drift.versions[0].reference, Some("self"));
    let after = observer(&monitors, &two);
    traffic(&after, &two, (60, 0.5)).await;
    let drift = monitors.drift(&name()).unwrap();
    assert_eq!(drift.versions[1].reference, Some("self"));
    let (_, psi) = verdict(&drift, 1, "x");
    assert!(psi > 0.2, "{psi}");
    assert!(monitors.versions()[1].drifted.is_empty(), "no alert of it");
}

#[tokio::test(start_paused = true)]
async fn rows_stand_for_those_that_are_not_looked_at() {
    let (_file, baselines) = baseline();
    let (monitors, package) = (monitors(baselines, 50), package(1));
    let observer = observer(&monitors, &package);
    for _ in 0..60 {
        advance(Duration::from_secs(1)).await;
        traffic(&observer, &package, (20, 0.0)).await;
    }
    let scraped = monitors.versions();
    let rows = scraped[0].rows;
    assert!((2_000..7_500).contains(&rows), "{rows}");
    let weights: f64 = scraped[0].features[0]
        .bins
        .iter()
        .map(|bin| bin.count)
        .sum();
    assert!((weights - 12_000.0).abs() < 1_500.0, "{weights}");
    let drift = monitors.drift(&name()).unwrap();
    let n = drift.versions[0].windows.day.features[0].n;
    #[expect(clippy::cast_precision_loss, reason = "a few rows")]
    let most = rows as f64;
    assert!(n <= most + 1e-6, "{n} of {most}");
}

/// The series of 50 columns of two versions, with all windows full.
async fn series(export: Export) -> usize {
    let names: Vec<String> = (0..50).map(|column| format!("c{column}")).collect();
    let columns: Vec<(&str, DType)> = names
        .iter()
        .map(|name| (name.as_str(), DType::F32))
        .collect();
    let feature = |name: &String| {
        let bucket = |bin: u8| serde_json::json!({"lower_bound": bin, "upper_bound": bin + 1, "count": 1000});
        let buckets: Vec<_> = (0..10).map(bucket).collect();
        serde_json::json!({"name": name, "numerical_statistics": {"distribution": {"kll": {"buckets": buckets}}}})
    };
    let features: Vec<_> = names.iter().map(feature).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        serde_json::json!({"features": features}).to_string(),
    )
    .unwrap();
    let mut monitors = monitors(vec![(name(), file.path().to_owned())], 0);
    monitors.options.export = export;
    let monitors = Arc::new(monitors);
    let mut observers = Vec::new();
    for version in 1..=2 {
        let mut package = fake::package("m", version, &columns);
        package.digest = format!("sha256:{version}");
        let observer = observer(&monitors, &package);
        for _ in 0..60 {
            let tensor = Tensor::from_vec(vec![10, 1], vec![0.5_f32; 10]).unwrap();
            let named = names.iter().map(|name| (name.clone(), tensor.clone()));
            let batch = package.signature().bind(named.collect()).unwrap();
            let seen = seen(batch, vec![]);
            observer.observe(Arc::new(seen), 1.0);
            tokio::task::yield_now().await;
        }
        observers.push(observer);
    }
    let metrics = Metrics::new(&DURATION_BUCKETS);
    metrics.watch_models(Arc::clone(&monitors) as _);
    let text = metrics.render();
    assert!(
        text.contains("onstage_feature_psi{"),
        "the windows are full"
    );
    text.lines()
        .filter(|line| line.contains("model=\"m\""))
        .count()
}

#[tokio::test(start_paused = true)]
async fn the_series_of_two_versions_with_fifty_features_are_few() {
    let scores = series(Export::Scores).await;
    assert!((200..=300).contains(&scores), "{scores}");
    let bins = series(Export::Bins).await;
    assert!((2_800..=3_500).contains(&bins), "{bins}");
}
