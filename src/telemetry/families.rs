//! Every metric: name, help and labels, in one place.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
};

/// The families with a `model` label, and the few without any.
#[derive(Debug, Clone)]
pub(super) struct Families {
    pub(super) requests: IntCounterVec,
    pub(super) request_duration: HistogramVec,
    pub(super) queue_duration: HistogramVec,
    pub(super) inference_duration: HistogramVec,
    pub(super) batch_rows: HistogramVec,
    pub(super) rows: IntCounterVec,
    pub(super) request_size: Histogram,
    pub(super) in_flight: IntGaugeVec,
    pub(super) queue_depth: IntGaugeVec,
    pub(super) rejected: IntCounterVec,
    pub(super) nonfinite: IntCounterVec,
    pub(super) info: IntGaugeVec,
    pub(super) state: IntGaugeVec,
    pub(super) memory: IntGaugeVec,
    pub(super) build_info: IntGaugeVec,
}

/// 1, 2, 4 … 1024 rows.
const ROW_BUCKETS: [f64; 11] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];

/// 256 B, 1 KiB, 4 KiB … 64 MiB.
const SIZE_BUCKETS: [f64; 10] = [
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

const MODEL: &[&str] = &["model"];
const VERSION: &[&str] = &["model", "version"];

impl Families {
    /// All families, registered; durations are counted into `durations`, in seconds.
    pub(super) fn register(registry: &Registry, durations: &[f64]) -> Self {
        let table = Table { registry };
        Self {
            requests: table.counter(
                "onstage_requests_total",
                "Prediction requests answered, by outcome (success, client_error, server_error, rejected, cancelled).",
                &["model", "version", "protocol", "outcome"],
            ),
            request_duration: table.histogram(
                "onstage_request_duration_seconds",
                "Seconds from the arrival of a prediction request to its answer.",
                &["model", "version", "protocol"],
                durations,
            ),
            queue_duration: table.histogram(
                "onstage_queue_duration_seconds",
                "Seconds that a request waited for a runner.",
                VERSION,
                durations,
            ),
            inference_duration: table.histogram(
                "onstage_inference_duration_seconds",
                "Seconds that the engine took for one batch.",
                &["model", "version", "engine"],
                durations,
            ),
            batch_rows: table.histogram(
                "onstage_batch_rows",
                "Rows in a batch given to the engine.",
                VERSION,
                &ROW_BUCKETS,
            ),
            rows: table.counter(
                "onstage_rows_total",
                "Rows given to the engine.",
                VERSION,
            ),
            request_size: table.size_histogram(),
            in_flight: table.gauge(
                "onstage_requests_in_flight",
                "Prediction requests accepted and not yet answered.",
                MODEL,
            ),
            queue_depth: table.gauge(
                "onstage_queue_depth",
                "Requests that wait for a runner.",
                MODEL,
            ),
            rejected: table.counter(
                "onstage_requests_rejected_total",
                "Prediction requests refused before they ran, by reason.",
                &["model", "reason"],
            ),
            nonfinite: table.counter(
                "onstage_outputs_nonfinite_total",
                "NaN and infinite numbers in outputs.",
                VERSION,
            ),
            info: table.gauge(
                "onstage_model_info",
                "Always 1: the engine and the digest of a loaded version.",
                &["model", "version", "engine", "digest"],
            ),
            state: table.gauge(
                "onstage_model_state",
                "1 for the state that a version is in, 0 for the others.",
                &["model", "version", "state"],
            ),
            memory: table.gauge(
                "onstage_model_memory_bytes",
                "Bytes of memory that a loaded version holds, as its engine reports or estimates.",
                VERSION,
            ),
            build_info: table.gauge(
                "onstage_build_info",
                "Always 1: the version of this program.",
                &["version"],
            ),
        }
    }
}

/// Makes and registers families. The names are constants of this file, so neither step can fail; a test makes all.
struct Table<'a> {
    registry: &'a Registry,
}

impl Table<'_> {
    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let made = IntCounterVec::new(Opts::new(name, help), labels);
        self.registered(made.expect("the name and the labels are well-formed constants"))
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let made = IntGaugeVec::new(Opts::new(name, help), labels);
        self.registered(made.expect("the name and the labels are well-formed constants"))
    }

    fn histogram(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let made = HistogramVec::new(options, labels);
        self.registered(made.expect("the name and the labels are well-formed constants"))
    }

    fn size_histogram(&self) -> Histogram {
        let options = HistogramOpts::new(
            "onstage_request_size_bytes",
            "Bytes in the body of a prediction request.",
        );
        let made = Histogram::with_opts(options.buckets(SIZE_BUCKETS.to_vec()));
        self.registered(made.expect("the name and the buckets are well-formed constants"))
    }

    fn registered<C: Collector + Clone + 'static>(&self, family: C) -> C {
        self.registry
            .register(Box::new(family.clone()))
            .expect("each name is registered once");
        family
    }
}
