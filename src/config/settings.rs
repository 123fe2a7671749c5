//! The settings as the program uses them. Their keys, kinds and defaults are in the table of keys.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::payload_log::{FeedbackSettings, PayloadLogSettings};
use super::trust::{AuthSettings, TlsSettings};
use super::value::Value;
use super::{Entry, KeyPath};
use crate::engine::EngineChoice;
use crate::lifecycle::RowPolicy;
use crate::model::ResponseForm;
use crate::network::NetworkConfig;
use crate::protocol::NonFinite;
use crate::telemetry::{AccessLog, LogFormat};

/// All settings. [`Settings::default`] has the defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The listeners and their limits.
    pub server: ServerSettings,
    /// Who may ask for what.
    pub auth: AuthSettings,
    /// What one client may take.
    pub limits: LimitSettings,
    /// The engines.
    pub engine: EngineSettings,
    /// Queues and batches, for every model.
    pub batching: BatchingSettings,
    /// The model registry.
    pub registry: RegistrySettings,
    /// Outgoing connections.
    #[serde(default)]
    pub network: NetworkSettings,
    /// Single models, by name.
    #[serde(default)]
    pub models: BTreeMap<String, ModelSettings>,
    /// What models saw and answered.
    pub payload_log: PayloadLogSettings,
    /// What was true.
    #[serde(default)]
    pub feedback: FeedbackSettings,
    /// Logs and traces.
    pub telemetry: TelemetrySettings,
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// The address to listen on.
    pub host: String,
    /// The port of HTTP, 0 for any free one.
    pub port: u16,
    /// The port of gRPC, 0 for any free one; `None` when it is off.
    pub grpc_port: Option<u16>,
    /// Whether the port of HTTP speaks gRPC as well.
    pub grpc_on_http: bool,
    /// The port of the management API.
    pub admin_port: Option<u16>,
    /// The address on which the management API listens.
    pub admin_host: String,
    /// The file with its token.
    pub admin_token_file: Option<PathBuf>,
    /// Empty, or a path with a slash in front and none behind.
    pub base_path: String,
    /// Another path that tells whether the server is ready.
    pub health_route: Option<String>,
    /// Another path that answers V1 predictions.
    pub predict_route: Option<String>,
    /// The model behind `/invocations`.
    pub default_model: Option<String>,
    /// Whether the server is ready while no model is wanted.
    pub ready_without_models: bool,
    /// The largest request body, in bytes.
    pub max_body: u64,
    /// The longest time from a request's arrival to its answer.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// The time between turning unready and refusing connections.
    #[serde(with = "humantime_serde")]
    pub shutdown_delay: Duration,
    /// The time that requests in flight have to finish.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// Time after which the client of a connection is asked to open another one.
    #[serde(default, with = "humantime_serde")]
    pub max_connection_age: Option<Duration>,
    /// Web origins whose pages may send requests; `*` is any.
    pub cors_origins: Vec<String>,
    /// How NaN and infinities are written in JSON.
    pub nonfinite: NonFinite,
    /// The time between two looks at the files of certificates and callers.
    #[serde(with = "humantime_serde")]
    pub reload_interval: Duration,
    /// Certificates.
    pub tls: TlsSettings,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// Most connections at a time; `None` depends on how many files may be open.
    pub max_connections: Option<usize>,
    /// Most connections at a time of one address; `None` depends on how many there may be.
    pub client_connections: Option<usize>,
    /// The longest time from the first byte of a request's head to the last.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// The longest pause in a body, and of a client that takes an answer.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// The longest time between two requests of a connection.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// Most headers of a request.
    pub max_headers: usize,
    /// Bytes of all headers and the path of a request.
    pub max_header_size: u64,
    /// Most requests at a time on one connection of HTTP/2.
    pub max_streams: u32,
    /// Requests that a connection of HTTP/2 may have taken back and that are still being cleaned up.
    pub max_resets: usize,
    /// Bytes that all requests may hold together; `None` depends on the memory that there is.
    pub memory: Option<u64>,
    /// Most rows of one request.
    pub max_rows: Option<usize>,
    /// Most requests a second of one client.
    pub client_rate: Option<u32>,
    /// Most requests of one client at once, after a pause.
    pub client_burst: Option<u32>,
    /// Most requests of one client at a time.
    pub client_concurrency: Option<usize>,
    /// Most streams that one client keeps open.
    pub client_streams: usize,
}

/// `[engine]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSettings {
    /// The engine of models that name none.
    pub default: EngineChoice,
    /// Threads inside one operator.
    pub intra_op_threads: Option<usize>,
    /// Threads across operators.
    pub inter_op_threads: Option<usize>,
    /// The ONNX Runtime library.
    pub libonnxruntime: Option<PathBuf>,
    /// Libraries of custom operators, each with its digest.
    pub custom_operators: Vec<String>,
    /// Bytes that loaded models may take together.
    pub memory_budget: Option<u64>,
    /// The longest time of each phase of a load after the fetch.
    #[serde(with = "humantime_serde")]
    pub load_timeout: Duration,
}

/// `[batching]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchingSettings {
    /// Most rows in one call of the engine.
    pub max_batch_size: Option<usize>,
    /// The longest wait for more rows.
    #[serde(default, with = "humantime_serde")]
    pub max_queue_delay: Option<Duration>,
    /// Requests that may wait for one model.
    pub max_queue_size: usize,
    /// Most sessions of one model at a time.
    pub instances: Option<usize>,
}

/// `[registry]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrySettings {
    /// Where it is.
    pub uri: Option<String>,
    /// What to read when it cannot be reached.
    pub fallback: Option<String>,
    /// The time between two looks.
    #[serde(default, with = "humantime_serde")]
    pub poll_interval: Option<Duration>,
    /// Aliases and stages to serve.
    pub follow: Vec<String>,
    /// Which models to follow.
    pub filter: Option<String>,
    /// Whether a model is loaded on its first request.
    pub lazy: bool,
    /// Where fetched packages are kept.
    pub cache_dir: Option<PathBuf>,
    /// Bytes of packages to keep.
    pub cache_size: u64,
    /// Directories of this machine that a registry elsewhere may name, and links may lead to.
    pub local_artifacts: Vec<String>,
    /// Hosts from which it may have files fetched.
    pub artifact_hosts: Vec<String>,
    /// How long what has gone from it is served on.
    #[serde(default, with = "humantime_serde")]
    pub unload_delay: Option<Duration>,
    /// The longest time to fetch a package.
    #[serde(with = "humantime_serde")]
    pub fetch_timeout: Duration,
    /// Whether every package must be signed; `None` leaves that to whether there is somebody to trust.
    pub require_signature: Option<bool>,
    /// Whose signatures to trust: `KEY.pem`, or `AUTHORITY.pem#IDENTITY`.
    pub trust: Vec<String>,
    /// The file with the secret of MLflow's webhooks.
    pub webhook_secret_file: Option<PathBuf>,
    /// Other replicas.
    pub peers: Vec<String>,
}

/// `[network]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSettings {
    /// Certificates to trust.
    pub ca_file: Option<PathBuf>,
}

impl NetworkSettings {
    /// How other servers are called.
    pub(crate) fn config(&self) -> NetworkConfig {
        NetworkConfig {
            ca_file: self.ca_file.clone(),
        }
    }
}

/// `[models.<name>]`: what is `None` is as for every model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// Where its package is.
    pub source: Option<PathBuf>,
    /// Its engine.
    pub engine: Option<EngineChoice>,
    /// What it means that its engine answers wrongly for some values.
    pub engine_quirks: Option<Quirks>,
    /// Where its engine runs.
    pub isolation: Option<Isolation>,
    /// Whether to run the package's input example before serving.
    pub warmup: Option<bool>,
    /// What it means that the package's own example fails in the engine.
    pub example: Option<ExamplePolicy>,
    /// Execution providers, best first.
    pub providers: Option<Vec<String>>,
    /// Requests that may wait; see [`ModelSettings::queue_size`].
    pub max_queue_size: Option<usize>,
    /// The longest time from a request's arrival to its answer.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Option<Duration>,
    /// Whether the server is ready only when this model is.
    pub required: Option<bool>,
    /// Most requests at a time.
    pub max_concurrency: Option<usize>,
    /// Most rows of one request.
    pub max_rows: Option<usize>,
    /// When rows of several requests may share a run.
    pub rows: Option<RowPolicy>,
    /// Its queue and batches.
    pub batching: ModelBatchingSettings,
    /// Whether it may be unloaded to make room.
    pub evictable: Option<bool>,
    /// Versions to keep loaded after a swap.
    pub keep_previous: Option<usize>,
    /// The order of loading the new version and unloading the old one.
    pub swap: Option<SwapOrder>,
    /// Which changes of the signature a swap accepts.
    pub signature_policy: Option<SignaturePolicy>,
    /// The time in which a new version may be taken back.
    #[serde(with = "humantime_serde")]
    pub probation: Option<Duration>,
    /// The shape of the answers of MLflow scoring.
    pub response: Option<ResponseForm>,
    /// Whose signatures to trust, instead of those of every model.
    pub trust: Option<Vec<String>>,
}

/// `[models.<name>.batching]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelBatchingSettings {
    /// Most rows in one call of the engine.
    pub max_batch_size: Option<usize>,
    /// The longest wait for more rows.
    #[serde(with = "humantime_serde")]
    pub max_queue_delay: Option<Duration>,
    /// Requests that may wait; see [`ModelSettings::queue_size`].
    pub max_queue_size: Option<usize>,
    /// Most sessions at a time.
    pub instances: Option<usize>,
}

/// What it means that a package's own example fails in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExamplePolicy {
    /// The version cannot be served.
    #[default]
    Require,
    /// A warning.
    Warn,
}

/// Where the engine of a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// In the server.
    None,
    /// In a process of its own.
    Process,
}

/// What it means that an engine answers wrongly for some values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quirks {
    /// The model is not loaded.
    Refuse,
    /// It is, on the operator's word.
    Allow,
}

/// The order of a swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwapOrder {
    /// The new version is ready before the old one leaves.
    MakeBeforeBreak,
    /// The old version leaves first, where memory holds only one.
    BreakBeforeMake,
}

/// Which changes of the signature a swap accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignaturePolicy {
    /// Those that break no client.
    #[default]
    Compatible,
    /// None.
    Exact,
    /// All.
    Any,
}

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    /// The form of the log; `None` is text on a terminal, else JSON.
    pub log: Option<LogFormat>,
    /// A level, or directives.
    pub log_level: String,
    /// Which requests are logged.
    pub access_log: AccessLog,
    /// Where traces go.
    pub otlp_endpoint: Option<String>,
}

impl ModelSettings {
    /// Requests that may wait for this model, when it has a setting of its own.
    pub fn queue_size(&self) -> Option<usize> {
        self.max_queue_size.or(self.batching.max_queue_size)
    }
}

/// The settings of checked values. Total: each value is of the kind that its row says, and a test compares the rows
/// with the fields.
pub(super) fn build(entries: &BTreeMap<KeyPath, (Entry, Value)>) -> Settings {
    let mut root = serde_json::Value::Object(serde_json::Map::new());
    for (path, (_, value)) in entries {
        let mut node = &mut root;
        for part in path.parts() {
            if !node.is_object() {
                *node = serde_json::Value::Object(serde_json::Map::new());
            }
            node = &mut node[part.as_str()];
        }
        *node = value.to_json();
    }
    serde_json::from_value(root).expect("each row of the table has a field of its kind")
}
