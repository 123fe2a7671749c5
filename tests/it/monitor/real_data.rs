//! Real data with and without drift, under a clock that stands still between requests. What is said of it is calculated again by
//! `tests/drift/oracle.py`, with NumPy, SciPy and pandas.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use onstage::config::Settings;
use onstage::model::{ModelName, Package};
use onstage::monitor::{Drift, Export, Limits, MonitorOptions, Monitors, WindowDrift};
use onstage::protocol::labelled_batch;
use onstage::scoring::offline::Offline;
use onstage::scoring::table;
use onstage::serving::{
    Arrival, Caller, Observable, Observed, Observer, Observers, RequestContext, RequestId,
};
use onstage::telemetry::{Monitored, Protocol};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, advance};

use crate::support::mlflow_server::python;
use crate::support::server::{onnxruntime, project};

/// Rows of one request.
const ROWS: usize = 500;

/// Time between two requests: a year of the employment data is a day.
const PAUSE: Duration = Duration::from_mins(10);

/// The tables and graphs of `tests/drift/data.py`, made once for each test.
fn data() -> TempDir {
    let out = tempfile::tempdir().unwrap();
    let wheel = wheel();
    let script = project().join("tests/drift/data.py");
    let status = Command::new(python())
        .arg(script)
        .args([&*wheel, out.path()])
        .status();
    assert!(status.unwrap().success());
    out
}

fn wheel() -> PathBuf {
    let python = python();
    let environment = python.parent().and_then(Path::parent).unwrap();
    let wheel = environment.join("nannyml-0.13.1");
    assert!(
        wheel.is_dir(),
        "`{}` is not there: run `make venv`",
        wheel.display()
    );
    wheel
}

/// One model under watch, and what it runs on.
struct Scene {
    data: TempDir,
    name: &'static str,
    model: &'static Offline,
    monitors: Arc<Monitors>,
    observer: Arc<dyn Observer>,
    requests: u64,
}

impl Scene {
    /// With a baseline made by `onstage baseline` of the table `NAME_reference.csv`, whose last column is the label.
    fn new(data: TempDir, name: &'static str, label: &str) -> Self {
        let path = |suffix: &str| data.path().join(format!("{name}{suffix}"));
        let text = |suffix: &str| path(suffix).to_str().unwrap().to_owned();
        let library = onnxruntime();
        let arguments = [
            "baseline",
            &text("_reference.csv"),
            &text(".onnx"),
            "--label",
            label,
            "--output",
            &text(".json"),
            "--engine",
            "onnxruntime",
            "--libonnxruntime",
            &library,
        ];
        // Whoever waits under a clock that stands still sees every time-out pass.
        let made = Command::new(env!("CARGO_BIN_EXE_onstage"))
            .args(arguments)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{stderr}");
        let package = Package::open(&path(".onnx")).unwrap();
        let mut settings = Settings::default();
        settings.engine.libonnxruntime = Some(library.into());
        let engine = Some("onnxruntime".parse().unwrap());
        // It has a runtime of its own, which cannot be dropped inside of another one.
        let model = std::thread::spawn(move || Offline::choose(&package, engine, &settings));
        let model: &Offline = Box::leak(Box::new(model.join().unwrap().unwrap()));
        let monitors = Arc::new(Monitors::new(MonitorOptions {
            enabled: true,
            interval: Duration::from_mins(5),
            limits: Limits {
                features: 50,
                rows_per_second: 0,
            },
            export: Export::Bins,
            baselines: vec![(ModelName::new(name).unwrap(), path(".json"))],
        }));
        let servable = model.servable();
        let observer = monitors.observer(&Observable {
            package: servable.package(),
            signature: servable.signature(),
            response: servable.response(),
        });
        Self {
            data,
            name,
            observer: observer.unwrap(),
            model,
            monitors,
            requests: 0,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    /// Sends a table, some rows a request and some time between two.
    async fn serve(&mut self, table: &str) {
        for part in table::parts(&self.path(table), ROWS).unwrap() {
            let part = part.unwrap();
            let seen = self.answered(part.0, part.1);
            let arrival = Arrival {
                id: &seen.id,
                is_private: false,
                rows: seen.inputs.as_ref().map(onstage::model::Batch::rows),
                at: seen.started,
            };
            let share = self.observer.wants(&arrival).unwrap();
            assert!(
                (share - 1.0).abs() < f64::EPSILON,
                "without a cap all rows count"
            );
            self.observer.observe(Arc::new(seen), share);
            self.requests += 1;
            tokio::task::yield_now().await;
            self.wait().await;
        }
        // Two evaluations of all of it.
        self.wait().await;
        self.wait().await;
    }

    /// Lets time pass, in which there is an evaluation.
    async fn wait(&self) {
        advance(PAUSE).await;
        tokio::task::yield_now().await;
    }

    fn answered(&self, content: &str, body: Vec<u8>) -> Observed {
        let model = self.model;
        let content = content.to_owned();
        // Outside of this runtime, as it blocks on one of its own.
        let ran = std::thread::spawn(move || {
            let servable = model.servable();
            let read = labelled_batch(&servable, (&content, body), None).unwrap();
            let outputs = model.run(read.batch.clone()).unwrap();
            (read.batch, outputs)
        });
        let (inputs, outputs) = ran.join().unwrap();
        Observed {
            context: RequestContext::from(Caller::default()),
            id: RequestId::make(),
            protocol: Protocol::Mlflow,
            pointer: None,
            started: Instant::now(),
            took: Duration::ZERO,
            inputs: Some(inputs),
            outputs: Some(outputs),
            failure: None,
        }
    }

    fn drift(&self) -> Drift {
        self.monitors
            .drift(&ModelName::new(self.name).unwrap())
            .unwrap()
    }

    /// Has everything calculated again; `before` are counters of windows that are over.
    fn check(&self, table: &str, before: &BTreeMap<String, BTreeMap<String, f64>>) {
        let drift = self.drift();
        let mut counters = self.counters();
        for (feature, bins) in &mut counters {
            for (bin, count) in bins {
                *count -= before
                    .get(feature)
                    .and_then(|bins| bins.get(bin))
                    .unwrap_or(&0.0);
            }
        }
        let version = &drift.versions[0];
        let report = json!({
            "features": version.windows.day.features,
            "estimated_accuracy": version.estimated_accuracy,
            "counters": counters,
        });
        let file = self.path("report.json");
        std::fs::write(&file, report.to_string()).unwrap();
        let oracle = Command::new(python())
            .arg(project().join("tests/drift/oracle.py"))
            .arg(self.path(&format!("{}.json", self.name)))
            .arg(self.path(&format!("{}_reference.csv", self.name)))
            .arg(self.path(table))
            .arg(file)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&oracle.stderr);
        assert!(oracle.status.success(), "{table}: {stderr}");
    }

    fn counters(&self) -> BTreeMap<String, BTreeMap<String, f64>> {
        let versions = self.monitors.versions();
        let features = versions[0].features.iter();
        let bins = |feature: &onstage::telemetry::MonitoredFeature| {
            let bins = feature.bins.iter();
            bins.map(|bin| (bin.label.clone(), bin.count)).collect()
        };
        features
            .map(|feature| (feature.name.clone(), bins(feature)))
            .collect()
    }
}

fn drifted(window: &WindowDrift) -> BTreeSet<&str> {
    let features = window.features.iter();
    let drifted = features.filter(|feature| feature.verdict == "drifted");
    drifted.map(|feature| feature.feature.as_str()).collect()
}

/// Evaluations go on while nothing comes.
fn evaluating(monitors: &Arc<Monitors>) -> tokio::task::JoinHandle<()> {
    let monitors = Arc::clone(monitors);
    tokio::spawn(async move { monitors.run().await })
}

#[tokio::test(start_paused = true)]
async fn car_loans_drift_in_their_second_half_and_nowhere_else() {
    let mut scene = Scene::new(data(), "car_loan", "repaid");
    let evaluations = evaluating(&scene.monitors);
    scene.serve("car_loan_first.csv").await;
    let first = scene.drift();
    assert_eq!(first.versions[0].reference, Some("setting"));
    assert_eq!(first.versions[0].rows, 25_000);
    assert_eq!(drifted(&first.versions[0].windows.day), BTreeSet::new());
    scene.check("car_loan_first.csv", &BTreeMap::new());
    let before = scene.counters();
    // A day without a request, after which the window holds the second half alone.
    advance(Duration::from_hours(25)).await;
    scene.serve("car_loan_last.csv").await;
    let last = scene.drift();
    let expected = [
        "car_value",
        "salary_range",
        "loan_length",
        "repaid_loan_on_prev_car",
        // The score: what the graph gets and gives back.
        "y_pred_proba",
        "prediction",
    ];
    assert_eq!(drifted(&last.versions[0].windows.day), expected.into());
    scene.check("car_loan_last.csv", &before);
    let accuracy = last.versions[0].estimated_accuracy.unwrap();
    // It is 0.948 in the baseline, and was 0.916 in truth.
    assert!((accuracy - 0.9225).abs() < 0.002, "{accuracy}");
    evaluations.abort();
}

#[tokio::test(start_paused = true)]
async fn employment_does_not_drift_in_three_years() {
    let mut scene = Scene::new(data(), "employment", "employed");
    let evaluations = evaluating(&scene.monitors);
    for year in 2016..=2018 {
        let table = format!("employment_{year}.csv");
        let before = scene.counters();
        scene.serve(&table).await;
        let drift = scene.drift();
        let window = &drift.versions[0].windows.day;
        assert_eq!(drifted(window), BTreeSet::new(), "{year}");
        scene.check(&table, &before);
        advance(Duration::from_hours(25)).await;
    }
    evaluations.abort();
}

/// What the figures are made of is not made up here.
#[tokio::test]
async fn a_baseline_has_the_form_of_sagemaker() {
    let scene = Scene::new(data(), "car_loan", "repaid");
    let text = std::fs::read(scene.path("car_loan.json")).unwrap();
    let file: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(file["dataset"]["item_count"], 50_000);
    let value = &file["features"][0];
    assert_eq!(value["name"], "car_value");
    assert_eq!(
        value["numerical_statistics"]["common"]["num_present"],
        50_000
    );
    let buckets = &value["numerical_statistics"]["distribution"]["kll"]["buckets"];
    assert_eq!(buckets.as_array().unwrap().len(), 10);
    assert!(buckets[0]["lower_bound"].is_number() && buckets[0]["count"].is_number());
    let range = &file["features"][1]["string_statistics"];
    assert_eq!(range["distinct_count"], 4.0);
    let values = &range["distribution"]["categorical"]["buckets"];
    assert_eq!(values.as_array().unwrap().len(), 4);
}
