//! Metrics in the Prometheus text format.
//!
//! One [`Metrics`] per server, no globals. A version's series are resolved once, when it is loaded, so that a request
//! touches atomics only; they leave with [`VersionMetrics::remove`].

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{Histogram, IntCounter, Registry, TextEncoder};

use super::families::Families;
use super::labels::{EngineFailure, Outcome, Protocol, REPLAYS, UNKNOWN};
use super::overview::ModelOverview;
use super::statistics::Statistics;
use super::version_metrics::VersionMetrics;
use crate::error::ErrorKind;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the duration histograms, in seconds.
pub const DURATION_BUCKETS: [f64; 14] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0,
    10.0,
];

/// All metrics of a server. Cloning shares them.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) registry: Registry,
    pub(super) families: Families,
    pub(super) unknown: ByProtocol,
    /// The holders of each (model, version), newest last: one that leaves late must not take the series of another away.
    pub(super) holders: Mutex<HashMap<(String, String), Vec<Holder>>>,
    pub(super) next_holder: AtomicU64,
    pub(super) engine_nanoseconds: AtomicU64,
    pub(super) described: Mutex<HashMap<String, ModelOverview>>,
}

/// Whose the series of a version are: of those who loaded it, the last one that has not left.
pub(super) struct Holder {
    pub(super) number: u64,
    pub(super) engine: String,
    pub(super) digest: String,
}

/// The series of one protocol, made when the first request by it arrives: most servers see one protocol, and a
/// thousand models times four protocols would be a page of zeros.
pub(super) type ByProtocol = [OnceLock<RequestSeries>; Protocol::ALL.len()];

pub(super) struct RequestSeries {
    pub(super) outcomes: [IntCounter; Outcome::ALL.len()],
    pub(super) duration: Histogram,
}

impl RequestSeries {
    pub(super) fn new(families: &Families, model: &str, version: &str, protocol: Protocol) -> Self {
        let protocol = protocol.label();
        Self {
            outcomes: Outcome::ALL.map(|outcome| {
                let labels = [model, version, protocol, outcome.label()];
                families.requests.total.with_label_values(&labels)
            }),
            duration: families
                .requests
                .duration
                .with_label_values(&[model, version, protocol]),
        }
    }

    pub(super) fn observe(&self, outcome: Outcome, took: Duration) {
        self.outcomes[outcome as usize].inc();
        self.duration.observe(took.as_secs_f64());
    }
}

impl Metrics {
    /// All families, empty. Durations are counted into `durations`: upper bounds in seconds, ascending; see
    /// [`DURATION_BUCKETS`].
    ///
    /// # Panics
    /// When `durations` do not ascend.
    pub fn new(durations: &[f64]) -> Self {
        let registry = Registry::new();
        let families = Families::register(&registry, durations);
        families
            .process
            .build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(
                prometheus::process_collector::ProcessCollector::for_self(),
            ))
            .expect("nothing else registers `process_*`");
        Self {
            shared: Arc::new(Shared {
                registry,
                families,
                unknown: ByProtocol::default(),
                holders: Mutex::new(HashMap::new()),
                next_holder: AtomicU64::new(0),
                engine_nanoseconds: AtomicU64::new(0),
                described: Mutex::new(HashMap::new()),
            }),
        }
    }

    /// The process of a model ended and is started again.
    pub fn worker_restarted(&self, model: &str) {
        let restarts = &self.shared.families.process.worker_restarts;
        restarts.with_label_values(&[model]).inc();
    }

    /// So many spans of traces were lost.
    pub fn spans_lost(&self, reason: &'static str, spans: usize) {
        let lost = &self.shared.families.process.spans_lost;
        lost.with_label_values(&[reason]).inc_by(spans as u64);
    }

    /// Counts rows of the payload log: `written`, `dropped` or `failed`.
    pub fn payload_rows(&self, model: &str, outcome: &'static str, rows: u64) {
        let counted = &self.shared.families.process.payload_rows;
        counted.with_label_values(&[model, outcome]).inc_by(rows);
    }

    /// Counts connections that were opened, or closed when it is negative.
    pub fn connections(&self, change: i64) {
        self.shared.families.clients.connections.add(change);
    }

    /// Counts a connection for which there was no place.
    pub fn connection_refused(&self) {
        let refused = &self.shared.families.clients.connections_refused;
        refused.with_label_values(&[""; 0]).inc();
    }

    /// Counts a request that was refused for what its client sends otherwise.
    pub fn client_refused(&self, reason: &'static str) {
        let refused = &self.shared.families.clients.refused;
        refused.with_label_values(&[reason]).inc();
    }

    /// The series of a version that is being loaded.
    ///
    /// Loading the same version again gives the same series, which then leave with the newest holder.
    pub fn version(
        &self,
        model: &str,
        version: &str,
        engine: &str,
        digest: &str,
    ) -> Arc<VersionMetrics> {
        let number = self.shared.next_holder.fetch_add(1, Ordering::Relaxed);
        let holder = Holder {
            number,
            engine: engine.to_owned(),
            digest: digest.to_owned(),
        };
        let mut holders = self.shared.holders.lock();
        let holders = holders
            .entry((model.to_owned(), version.to_owned()))
            .or_default();
        let Families {
            requests,
            batches,
            versions,
            ..
        } = &self.shared.families;
        if let Some(old) = holders.last() {
            let labels = [model, version, &old.engine, &old.digest];
            // Fails only when it is gone already.
            let _ = versions.info.remove_label_values(&labels);
        }
        holders.push(holder);
        let info = [model, version, engine, digest];
        versions.info.with_label_values(&info).set(1);
        let of_version = [model, version];
        let metrics = VersionMetrics {
            shared: Arc::clone(&self.shared),
            number,
            model: model.to_owned(),
            version: version.to_owned(),
            requests: ByProtocol::default(),
            queue_duration: batches.queue_duration.with_label_values(&of_version),
            inference_duration: batches
                .inference_duration
                .with_label_values(&[model, version, engine]),
            batch_rows: batches.batch_rows.with_label_values(&of_version),
            batch_rows_limit: batches.rows_limit.with_label_values(&of_version),
            rows: batches.rows.with_label_values(&of_version),
            nonfinite: batches.nonfinite.with_label_values(&of_version),
            engine_errors: EngineFailure::ALL.map(|reason| {
                let labels = [model, version, reason.label()];
                requests.engine_errors.with_label_values(&labels)
            }),
            replays: REPLAYS.map(|outcome| {
                let labels = [model, version, outcome];
                requests.replays.with_label_values(&labels)
            }),
            memory: versions.memory.with_label_values(&of_version),
            in_flight: requests.in_flight.with_label_values(&[model]),
            queue_depth: batches.queue_depth.with_label_values(&[model]),
            own_queue_depth: AtomicI64::new(0),
            statistics: Statistics::default(),
        };
        Arc::new(metrics)
    }

    /// Counts a request for a model or version that is not served.
    pub fn unknown_request(&self, protocol: Protocol, failure: Option<ErrorKind>, took: Duration) {
        self.shared.unknown[protocol as usize]
            .get_or_init(|| RequestSeries::new(&self.shared.families, UNKNOWN, UNKNOWN, protocol))
            .observe(failure.into(), took);
    }

    /// Counts the body of a prediction request.
    #[expect(clippy::cast_precision_loss, reason = "a histogram of sizes")]
    pub fn request_size(&self, bytes: usize) {
        self.shared.families.requests.size.observe(bytes as f64);
    }

    /// The time that engines worked for all versions together, those that left included.
    pub fn engine_time(&self) -> Duration {
        Duration::from_nanos(self.shared.engine_nanoseconds.load(Ordering::Relaxed))
    }

    /// Reports what requests hold of this budget from here on.
    pub fn watch_memory(&self, budget: crate::budget::Budget) {
        self.shared.families.process.request_memory.watch(budget);
    }

    /// Tells how busy the process is, from 0 to 1.
    pub fn set_saturation(&self, ratio: f64) {
        self.shared.families.process.saturation.set(ratio);
    }

    pub(super) fn families(&self) -> &Families {
        &self.shared.families
    }

    /// What was last told of each model; see [`Metrics::describe_model`].
    pub(super) fn described(&self) -> &Mutex<HashMap<String, ModelOverview>> {
        &self.shared.described
    }

    /// Every series in the text format; see [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        let families = self.shared.registry.gather();
        TextEncoder::new()
            .encode_to_string(&families)
            .expect("a gathered family has samples, and writing to a string cannot fail")
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(&DURATION_BUCKETS)
    }

    fn touch(version: &VersionMetrics) {
        let took = Duration::from_micros(300);
        version.observe_request(Protocol::Mlflow, Outcome::Success, took);
        version.observe_request(Protocol::V2Rest, Outcome::Rejected, took);
        version.observe_queue(took);
        version.observe_run(3, took);
        version.rejected("queue_full");
        version.nonfinite(2);
        version.set_memory(4096);
        version.set_queue_depth(5);
    }

    /// The value of the sample that starts with `series`.
    fn sample(metrics: &Metrics, series: &str) -> Option<String> {
        let text = metrics.render();
        let line = text.lines().find(|line| {
            line.strip_prefix(series)
                .is_some_and(|rest| rest.starts_with(' '))
        })?;
        Some(line[series.len() + 1..].to_owned())
    }

    #[test]
    fn names_types_help_and_labels_are_stable() {
        let metrics = metrics();
        touch(&metrics.version("iris", "1", "tract", "sha256:abc"));
        metrics.unknown_request(Protocol::V1, Some(ErrorKind::NotFound), Duration::ZERO);
        metrics.request_size(100);
        let text = metrics.render();
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| line.starts_with("# ") && !line.contains(" process_"))
            .map(str::to_owned)
            .collect();
        lines.extend(
            text.lines()
                .filter(|line| line.starts_with("onstage_") && !line.contains("_bucket"))
                .map(|line| {
                    let labels_end = line.rfind(' ').unwrap();
                    line[..labels_end].replace(env!("CARGO_PKG_VERSION"), "VERSION")
                }),
        );
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn tells_about_the_process() {
        assert!(sample(&metrics(), "process_resident_memory_bytes").is_some());
    }

    #[test]
    fn counts_requests_by_protocol_and_outcome() {
        let metrics = metrics();
        touch(&metrics.version("iris", "1", "tract", "d"));
        let requests = |protocol, outcome| {
            let labels = format!(
                r#"onstage_requests_total{{model="iris",outcome="{outcome}",protocol="{protocol}",version="1"}}"#
            );
            sample(&metrics, &labels)
        };
        assert_eq!(requests("mlflow", "success").as_deref(), Some("1"));
        assert_eq!(requests("mlflow", "rejected").as_deref(), Some("0"));
        assert_eq!(requests("v2_rest", "rejected").as_deref(), Some("1"));
        assert_eq!(requests("v1", "success"), None, "nobody spoke V1");
    }

    #[test]
    fn durations_have_at_most_14_buckets_from_50_microseconds_to_10_seconds() {
        assert_eq!(DURATION_BUCKETS.len(), 14);
        assert_eq!(DURATION_BUCKETS[0], 50e-6);
        assert_eq!(DURATION_BUCKETS[13], 10.0);
        assert!(DURATION_BUCKETS.is_sorted());
    }

    #[test]
    fn a_removed_version_leaves_no_series_and_the_model_goes_with_its_last_version() {
        let metrics = metrics();
        let first = metrics.version("iris", "1", "tract", "d1");
        let second = metrics.version("iris", "2", "tract", "d2");
        touch(&first);
        touch(&second);
        first.remove();
        first.observe_request(Protocol::V1, Outcome::Success, Duration::ZERO);
        let text = metrics.render();
        assert!(!text.contains(r#"version="1""#), "{text}");
        assert!(
            text.contains(r#"onstage_queue_depth{model="iris"} 5"#),
            "{text}"
        );
        second.remove();
        second.remove();
        assert!(!metrics.render().contains("iris"), "{}", metrics.render());
    }

    #[test]
    fn a_version_loaded_again_keeps_its_series_when_the_old_one_leaves() {
        let metrics = metrics();
        let old = metrics.version("iris", "1", "tract", "d1");
        let new = metrics.version("iris", "1", "onnxruntime", "d2");
        touch(&old);
        touch(&new);
        old.remove();
        let text = metrics.render();
        assert!(
            text.contains(r#"digest="d2""#) && !text.contains(r#"digest="d1""#),
            "{text}"
        );
        new.remove();
        assert!(!metrics.render().contains("iris"));
    }

    #[test]
    fn a_load_that_comes_to_nothing_leaves_the_series_of_an_earlier_one_as_they_were() {
        let metrics = metrics();
        let served = metrics.version("iris", "1", "tract", "d1");
        touch(&served);
        let before = metrics.render();
        let failed = metrics.version("iris", "1", "onnxruntime", "d2");
        failed.remove();
        failed.remove();
        let series = |text: &str| {
            let ours = |line: &&str| line.contains("iris") && !line.contains("onnxruntime");
            let others = text.lines().filter(ours);
            others.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(series(&metrics.render()), series(&before));
        assert!(metrics.render().contains(r#"digest="d1""#));
        assert!(!metrics.render().contains(r#"digest="d2""#));
        served.remove();
        assert!(!metrics.render().contains(r#"digest="d1""#));
        let first = metrics.version("iris", "2", "tract", "d3");
        first.remove();
        assert!(!metrics.render().contains(r#"version="2""#));
    }

    #[test]
    fn of_two_loads_of_a_version_the_last_one_that_leaves_takes_the_series() {
        let metrics = metrics();
        for newest_first in [false, true] {
            let old = metrics.version("iris", "1", "tract", "d1");
            let new = metrics.version("iris", "1", "tract", "d2");
            let (first, last) = if newest_first { (new, old) } else { (old, new) };
            first.remove();
            assert!(metrics.render().contains("iris"));
            last.remove();
            assert!(!metrics.render().contains("iris"));
        }
    }

    #[test]
    fn a_request_is_in_flight_until_its_guard_is_dropped() {
        let metrics = metrics();
        let version = metrics.version("iris", "1", "tract", "d");
        let series = r#"onstage_requests_in_flight{model="iris"}"#;
        let guard = version.in_flight();
        assert_eq!(sample(&metrics, series).as_deref(), Some("1"));
        drop(guard);
        assert_eq!(sample(&metrics, series).as_deref(), Some("0"));
    }

    #[test]
    fn the_queue_depth_of_a_model_is_the_sum_over_its_versions() {
        let metrics = metrics();
        let first = metrics.version("iris", "1", "tract", "d1");
        let second = metrics.version("iris", "2", "tract", "d2");
        first.set_queue_depth(3);
        second.set_queue_depth(4);
        first.set_queue_depth(1);
        let series = r#"onstage_queue_depth{model="iris"}"#;
        assert_eq!(sample(&metrics, series).as_deref(), Some("5"));
    }

    #[test]
    fn servers_in_one_process_do_not_share_metrics() {
        let (one, other) = (metrics(), metrics());
        one.version("iris", "1", "tract", "d");
        assert!(!other.render().contains("iris"));
    }
}
