//! The families of what models see and say. They are counted elsewhere; this looks when somebody asks.

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, GaugeVec, IntCounterVec, Opts};

/// Who counts.
pub trait Monitored: Send + Sync {
    /// All versions that are watched.
    fn versions(&self) -> Vec<MonitoredVersion>;
}

/// A version that is watched.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MonitoredVersion {
    /// The model.
    pub model: String,
    /// The version.
    pub version: String,
    /// Rows that were looked at.
    pub rows: u64,
    /// How many features have drifted, by window.
    pub drifted: Vec<(&'static str, f64)>,
    /// The share of right answers that the scores let expect.
    pub accuracy: Option<f64>,
    /// Its columns and outputs.
    pub features: Vec<MonitoredFeature>,
}

/// One feature.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MonitoredFeature {
    /// Its name.
    pub name: String,
    /// Its stability index, by window.
    pub psi: Vec<(&'static str, f64)>,
    /// Its bins, where they are shown.
    pub bins: Vec<MonitoredBin>,
}

/// One bin.
#[derive(Debug, Clone, PartialEq)]
pub struct MonitoredBin {
    /// Its number or word.
    pub label: String,
    /// What the rows in it weigh.
    pub count: f64,
    /// Its share in the baseline.
    pub share: f64,
}

/// The collector.
#[derive(Clone)]
pub(super) struct MonitoredFamilies {
    source: Arc<OnceLock<Arc<dyn Monitored>>>,
    /// Empty, for their names.
    described: Families,
}

#[derive(Clone)]
struct Families {
    values: CounterVec,
    ratio: GaugeVec,
    psi: GaugeVec,
    drifted: GaugeVec,
    rows: IntCounterVec,
    accuracy: GaugeVec,
}

impl Families {
    fn new() -> Self {
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let made = GaugeVec::new(Opts::new(name, help), labels);
            made.expect("the name and the labels are well-formed constants")
        };
        let bin = ["model", "version", "feature", "bin"];
        let values = Opts::new(
            "onstage_feature_values_total",
            "Values of a column or output seen, by bin of the baseline; those of rows that were not looked at are estimated from the others.",
        );
        let rows = Opts::new(
            "onstage_monitored_rows_total",
            "Rows whose columns and outputs were looked at.",
        );
        Self {
            values: CounterVec::new(values, &bin).expect("well-formed constants"),
            ratio: gauge(
                "onstage_feature_baseline_ratio",
                "Share of the values of a column or output in a bin of the baseline.",
                &bin,
            ),
            psi: gauge(
                "onstage_feature_psi",
                "Population stability index of a column or output against its baseline, by window (1h, 24h); absent below 500 rows or 50 requests.",
                &["model", "version", "feature", "window"],
            ),
            drifted: gauge(
                "onstage_drifted_features",
                "Columns and outputs that have drifted from the baseline, by window (1h, 24h); absent for a version without one.",
                &["model", "version", "window"],
            ),
            rows: IntCounterVec::new(rows, &["model", "version"]).expect("well-formed constants"),
            accuracy: gauge(
                "onstage_quality_estimated_accuracy",
                "Share of right answers expected from the scores of the last 24 hours and the labels of the baseline.",
                &["model", "version"],
            ),
        }
    }

    fn fill(&self, version: &MonitoredVersion) {
        let labels = [version.model.as_str(), version.version.as_str()];
        let [model, number] = labels;
        self.rows.with_label_values(&labels).inc_by(version.rows);
        for (window, drifted) in &version.drifted {
            let drifted_in = self.drifted.with_label_values(&[model, number, window]);
            drifted_in.set(*drifted);
        }
        if let Some(accuracy) = version.accuracy {
            self.accuracy.with_label_values(&labels).set(accuracy);
        }
        for feature in &version.features {
            let name = feature.name.as_str();
            for (window, psi) in &feature.psi {
                let index = self.psi.with_label_values(&[model, number, name, window]);
                index.set(*psi);
            }
            for bin in &feature.bins {
                let labels = [model, number, name, bin.label.as_str()];
                self.values.with_label_values(&labels).inc_by(bin.count);
                self.ratio.with_label_values(&labels).set(bin.share);
            }
        }
    }

    fn collectors(&self) -> [&dyn Collector; 6] {
        [
            &self.values,
            &self.ratio,
            &self.psi,
            &self.drifted,
            &self.rows,
            &self.accuracy,
        ]
    }
}

impl MonitoredFamilies {
    pub(super) fn new() -> Self {
        Self {
            source: Arc::default(),
            described: Families::new(),
        }
    }

    /// Looks there from here on.
    pub(super) fn watch(&self, source: Arc<dyn Monitored>) {
        // A server has one.
        let _ = self.source.set(source);
    }
}

impl fmt::Debug for MonitoredFamilies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MonitoredFamilies").finish_non_exhaustive()
    }
}

impl Collector for MonitoredFamilies {
    fn desc(&self) -> Vec<&Desc> {
        let collectors = self.described.collectors().into_iter();
        collectors.flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = Families::new();
        for version in self
            .source
            .get()
            .iter()
            .flat_map(|source| source.versions())
        {
            now.fill(&version);
        }
        let collectors = now.collectors().into_iter();
        collectors.flat_map(Collector::collect).collect()
    }
}
