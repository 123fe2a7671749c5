//! Every metric: name, help and labels, in one place.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::init::lost_lines;
use super::memory::RequestMemory;

/// All families.
#[derive(Debug, Clone)]
pub(super) struct Families {
    pub(super) requests: RequestFamilies,
    pub(super) batches: BatchFamilies,
    pub(super) versions: VersionFamilies,
    pub(super) lifecycle: LifecycleFamilies,
    pub(super) clients: ClientFamilies,
    pub(super) trust: TrustFamilies,
    pub(super) process: ProcessFamilies,
}

/// The families of prediction requests.
#[derive(Debug, Clone)]
pub(super) struct RequestFamilies {
    pub(super) total: IntCounterVec,
    pub(super) duration: HistogramVec,
    pub(super) size: Histogram,
    pub(super) in_flight: IntGaugeVec,
    pub(super) rejected: IntCounterVec,
    pub(super) engine_errors: IntCounterVec,
    pub(super) replays: IntCounterVec,
}

/// The families of what waits for an engine and runs in it.
#[derive(Debug, Clone)]
pub(super) struct BatchFamilies {
    pub(super) queue_duration: HistogramVec,
    pub(super) queue_depth: IntGaugeVec,
    pub(super) inference_duration: HistogramVec,
    pub(super) batch_rows: HistogramVec,
    pub(super) rows_limit: IntGaugeVec,
    pub(super) rows: IntCounterVec,
    pub(super) nonfinite: IntCounterVec,
}

/// The families of versions that are loaded.
#[derive(Debug, Clone)]
pub(super) struct VersionFamilies {
    pub(super) info: IntGaugeVec,
    pub(super) state: IntGaugeVec,
    pub(super) memory: IntGaugeVec,
}

/// The families of the server itself and of what it leaves to others.
#[derive(Debug, Clone)]
pub(super) struct ProcessFamilies {
    pub(super) saturation: Gauge,
    pub(super) build_info: IntGaugeVec,
    pub(super) spans_lost: IntCounterVec,
    pub(super) payload_rows: IntCounterVec,
    pub(super) worker_restarts: IntCounterVec,
    pub(super) request_memory: RequestMemory,
    pub(super) abandoned_runs: IntCounterVec,
}

/// The families of connections and of clients that take too much.
#[derive(Debug, Clone)]
pub(super) struct ClientFamilies {
    pub(super) connections: IntGauge,
    pub(super) connections_refused: IntCounterVec,
    pub(super) refused: IntCounterVec,
}

/// The families of certificates and callers.
#[derive(Debug, Clone)]
pub(super) struct TrustFamilies {
    pub(super) refusals: IntCounterVec,
    pub(super) tls_reloads: IntCounterVec,
    /// Without labels, so that it is not there before there is a certificate.
    pub(super) tls_expiry: IntGaugeVec,
}

/// The families of swaps and of the registry.
#[derive(Debug, Clone)]
pub(super) struct LifecycleFamilies {
    pub(super) alias_info: IntGaugeVec,
    pub(super) out_of_sync: GaugeVec,
    pub(super) held: IntGaugeVec,
    pub(super) candidate_failures: IntCounterVec,
    pub(super) swaps: IntCounterVec,
    pub(super) swap_duration: HistogramVec,
    pub(super) registry_syncs: IntCounterVec,
    pub(super) registry_last_success: Gauge,
    pub(super) cache_bytes: IntGauge,
}

/// The log counts by itself, from before there are metrics; this looks when somebody asks.
#[derive(Clone)]
struct LostLines(IntCounter);

impl LostLines {
    fn new() -> Self {
        let name = "onstage_log_lines_lost_total";
        let help = "Log lines dropped because stderr was not read fast enough.";
        Self(IntCounter::new(name, help).expect("the name is a well-formed constant"))
    }
}

impl Collector for LostLines {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = Self::new();
        now.0.inc_by(lost_lines());
        now.0.collect()
    }
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

/// Seconds: a phase of a swap takes from a pointer's move to a download of minutes.
const PHASE_BUCKETS: [f64; 12] = [
    0.000_1, 0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0,
];

const MODEL: &[&str] = &["model"];
const VERSION: &[&str] = &["model", "version"];

impl Families {
    /// All families, registered; durations are counted into `durations`, in seconds.
    pub(super) fn register(registry: &Registry, durations: &[f64]) -> Self {
        let table = Table { registry };
        Self {
            requests: RequestFamilies::register(&table, durations),
            batches: BatchFamilies::register(&table, durations),
            versions: VersionFamilies::register(&table),
            lifecycle: LifecycleFamilies::register(&table),
            clients: ClientFamilies::register(&table),
            trust: TrustFamilies::register(&table),
            process: ProcessFamilies::register(&table),
        }
    }
}

impl RequestFamilies {
    fn register(table: &Table<'_>, durations: &[f64]) -> Self {
        Self {
            total: table.counter(
                "onstage_requests_total",
                "Prediction requests answered, by outcome (success, client_error, server_error, engine_error, rejected, cancelled).",
                &["model", "version", "protocol", "outcome"],
            ),
            duration: table.histogram(
                "onstage_request_duration_seconds",
                "Seconds from the arrival of a prediction request to its response.",
                &["model", "version", "protocol"],
                durations,
            ),
            size: table.size_histogram(),
            in_flight: table.gauge(
                "onstage_requests_in_flight",
                "Prediction requests accepted and not yet answered.",
                MODEL,
            ),
            rejected: table.counter(
                "onstage_requests_rejected_total",
                "Prediction requests refused before they ran, by reason.",
                &["model", "reason"],
            ),
            engine_errors: table.counter(
                "onstage_engine_errors_total",
                "Prediction requests that matched the signature and failed in the engine, by reason (run, panic, lost, timeout).",
                &["model", "version", "reason"],
            ),
            replays: table.counter(
                "onstage_replays_total",
                "Requests that failed on this version during its probation and were retried on the previous version, by outcome (answered, failed).",
                &["model", "version", "outcome"],
            ),
        }
    }
}

impl BatchFamilies {
    fn register(table: &Table<'_>, durations: &[f64]) -> Self {
        Self {
            queue_duration: table.histogram(
                "onstage_queue_duration_seconds",
                "Seconds that a request waited for a runner.",
                VERSION,
                durations,
            ),
            queue_depth: table.gauge(
                "onstage_queue_depth",
                "Requests waiting for a runner.",
                MODEL,
            ),
            inference_duration: table.histogram(
                "onstage_inference_duration_seconds",
                "Seconds that the engine ran one batch.",
                &["model", "version", "engine"],
                durations,
            ),
            batch_rows: table.histogram(
                "onstage_batch_rows",
                "Rows per batch.",
                VERSION,
                &ROW_BUCKETS,
            ),
            rows_limit: table.gauge(
                "onstage_batch_rows_limit",
                "Current maximum number of rows per batch, learned or configured; 1 without batching.",
                VERSION,
            ),
            rows: table.counter(
                "onstage_rows_total",
                "Rows run by the engine.",
                VERSION,
            ),
            nonfinite: table.counter(
                "onstage_outputs_nonfinite_total",
                "NaN and infinite numbers in outputs.",
                VERSION,
            ),
        }
    }
}

impl VersionFamilies {
    fn register(table: &Table<'_>) -> Self {
        Self {
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
                "Bytes of memory held by a loaded version, as reported or estimated by its engine.",
                VERSION,
            ),
        }
    }
}

impl ProcessFamilies {
    fn register(table: &Table<'_>) -> Self {
        table.registered(LostLines::new());
        Self {
            request_memory: table.registered(RequestMemory::new()),
            saturation: table.single_gauge(
                "onstage_saturation_ratio",
                "Saturation of the process from 0 to 1, over about ten seconds: its share of the available CPU, or the share of runner time spent in engines, whichever is greater.",
            ),
            build_info: table.gauge(
                "onstage_build_info",
                "Always 1: the version of this program.",
                &["version"],
            ),
            worker_restarts: table.counter(
                "onstage_worker_restarts_total",
                "Restarts of the worker process of an isolated model.",
                MODEL,
            ),
            abandoned_runs: table.counter(
                "onstage_abandoned_runs_total",
                "Cancelled runs that did not stop and were abandoned with their threads.",
                MODEL,
            ),
            payload_rows: table.counter(
                "onstage_payload_rows_total",
                "Rows of requests that the payload log sampled, by outcome (written, dropped, failed).",
                &["model", "outcome"],
            ),
            spans_lost: table.counter(
                "onstage_trace_spans_lost_total",
                "Spans that did not reach the collector, by reason (queue_full, export).",
                &["reason"],
            ),
        }
    }
}

impl ClientFamilies {
    fn register(table: &Table<'_>) -> Self {
        Self {
            connections: table.single("onstage_connections", "Connections that are open."),
            connections_refused: table.counter(
                "onstage_connections_refused_total",
                "Connections closed on arrival because `limits.max_connections` was reached.",
                &[],
            ),
            refused: table.counter(
                "onstage_clients_refused_total",
                "Requests refused because their client exceeded a limit, by limit.",
                &["reason"],
            ),
        }
    }
}

impl TrustFamilies {
    fn register(table: &Table<'_>) -> Self {
        Self {
            refusals: table.counter(
                "onstage_auth_refusals_total",
                "Requests refused by authentication or authorization, by reason (missing, unknown_key, invalid_token, expired_token, unknown_certificate, permission).",
                &["reason"],
            ),
            tls_reloads: table.counter(
                "onstage_tls_reloads_total",
                "Reloads of the certificate files, by outcome (success, failure).",
                &["outcome"],
            ),
            tls_expiry: table.gauge(
                "onstage_tls_certificate_expiry_timestamp_seconds",
                "Unix time at which the server certificate expires.",
                &[],
            ),
        }
    }
}

impl LifecycleFamilies {
    fn register(table: &Table<'_>) -> Self {
        Self {
            alias_info: table.gauge(
                "onstage_model_alias_info",
                "Always 1: the version that an alias (`@name`) or a stage points to.",
                &["model", "version", "alias"],
            ),
            out_of_sync: table.seconds(
                "onstage_model_out_of_sync_seconds",
                "Seconds that the desired version has not been serving; 0 while it serves.",
                MODEL,
            ),
            held: table.gauge(
                "onstage_model_held",
                "1 while a manual hold overrides the registry.",
                MODEL,
            ),
            candidate_failures: table.counter(
                "onstage_candidate_failures_total",
                "Versions that failed to load or were rolled back, by reason.",
                &["model", "reason"],
            ),
            swaps: table.counter(
                "onstage_swaps_total",
                "Version changes of a model, by outcome (published, rolled_back, failed, unloaded).",
                &["model", "outcome"],
            ),
            swap_duration: table.histogram(
                "onstage_swap_duration_seconds",
                "Seconds that each phase of a swap took (fetch, verify, compile, warm_up, publish, drain).",
                &["phase"],
                &PHASE_BUCKETS,
            ),
            registry_syncs: table.counter(
                "onstage_registry_syncs_total",
                "Polls of the registry, by outcome (success, failure).",
                &["outcome"],
            ),
            registry_last_success: table.single_gauge(
                "onstage_registry_last_success_timestamp_seconds",
                "Unix time of the last successful poll of the registry; 0 before the first.",
            ),
            cache_bytes: table.single(
                "onstage_cache_bytes",
                "Bytes of packages in the local cache.",
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

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        let made = GaugeVec::new(Opts::new(name, help), labels);
        self.registered(made.expect("the name and the labels are well-formed constants"))
    }

    fn single(&self, name: &str, help: &str) -> IntGauge {
        let made = IntGauge::new(name, help);
        self.registered(made.expect("the name is a well-formed constant"))
    }

    fn single_gauge(&self, name: &str, help: &str) -> Gauge {
        let made = Gauge::new(name, help);
        self.registered(made.expect("the name is a well-formed constant"))
    }

    fn histogram(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let made = HistogramVec::new(options, labels);
        self.registered(made.expect("the name and the labels are well-formed constants"))
    }

    fn size_histogram(&self) -> Histogram {
        let options = HistogramOpts::new(
            "onstage_request_size_bytes",
            "Body size of a prediction request in bytes.",
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
