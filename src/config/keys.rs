//! The one table of keys. Parsing, defaults, environment variables, flags, `--help` and the reference come from it.

use std::fmt::Write as _;

use super::KeyPath;
use super::value::{Kind, likeness};

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyDef {
    /// The key, with `*` for a model's name.
    pub path: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// The default as one would write it; `None` when there is none, or it depends on something else.
    pub default: Option<&'static str>,
    /// The flag, without `--`.
    pub flag: Option<&'static str>,
    /// Another name of the flag, which some platform expects.
    pub alias: Option<&'static str>,
    /// What it is for.
    pub help: &'static str,
}

const fn key(path: &'static str, kind: Kind, help: &'static str) -> KeyDef {
    KeyDef {
        path,
        kind,
        default: None,
        flag: None,
        alias: None,
        help,
    }
}

impl KeyDef {
    const fn or(self, default: &'static str) -> Self {
        let default = Some(default);
        Self { default, ..self }
    }

    const fn flag(self, flag: &'static str) -> Self {
        let flag = Some(flag);
        Self { flag, ..self }
    }

    const fn alias(self, alias: &'static str) -> Self {
        let alias = Some(alias);
        Self { alias, ..self }
    }
}

pub(super) const ENGINES: &[&str] = &["auto", "classic", "tract", "onnxruntime"];

/// Every key, by section; one row per line.
#[rustfmt::skip]
pub const KEYS: &[KeyDef] = &[
    key("server.host", Kind::Text, "Address to listen on").or("127.0.0.1").flag("host"),
    key("server.port", Kind::Port, "HTTP port; 0 picks a free one").or("8080").flag("port").alias("http-port"),
    key("server.grpc_port", Kind::PortOrOff, "gRPC port; 0 picks a free one, `off` disables it").or("8081").flag("grpc-port"),
    key("server.grpc_on_http", Kind::Bool, "Accept gRPC on the HTTP port too").or("false").flag("grpc-on-http"),
    key("server.admin_port", Kind::Port, "Port of the management API; off unless set, 0 picks a free one").flag("admin-port"),
    key("server.admin_host", Kind::Text, "Address of the management API").or("127.0.0.1").flag("admin-host"),
    key("server.admin_token_file", Kind::Path, "File with the bearer token for the management API").flag("admin-token-file"),
    key("server.base_path", Kind::BasePath, "Path prefix of every URL").or("").flag("base-path"),
    key("server.health_route", Kind::Route, "Additional readiness path, such as the one Vertex AI assigns").flag("health-route"),
    key("server.predict_route", Kind::Route, "Additional path for V1 predictions of the default model, such as the one Vertex AI assigns").flag("predict-route"),
    key("server.default_model", Kind::Text, "Model that answers /invocations; by default the only model").flag("default-model"),
    key("server.ready_without_models", Kind::Bool, "Report ready even if there is no model to serve").or("true").flag("ready-without-models"),
    key("server.max_body", Kind::Size, "Maximum size of a request body").or("64MiB").flag("max-body"),
    key("server.request_timeout", Kind::Duration, "Maximum time from a request's arrival to its response").or("60s").flag("request-timeout"),
    key("server.shutdown_delay", Kind::Duration, "After SIGTERM, how long to keep accepting requests while already reporting unready").or("0s").flag("shutdown-delay"),
    key("server.drain_timeout", Kind::Duration, "After the shutdown delay, maximum time for requests in flight to finish").or("30s").flag("drain-timeout"),
    key("server.max_connection_age", Kind::Duration, "Age at which a connection is closed gracefully, plus or minus a tenth; by default never").flag("max-connection-age"),
    key("server.cors_origins", Kind::Origins, "Web origin allowed by CORS; repeatable").or("").flag("cors-origin"),
    key("server.nonfinite", Kind::Choice(&["null", "bare"]), "How to write NaN and infinities in JSON: as `null`, or `bare` (NaN, Infinity) as MLflow does").or("null").flag("nonfinite"),
    key("server.reload_interval", Kind::Duration, "Interval for rereading certificates and callers; SIGHUP rereads at once").or("10s").flag("reload-interval"),
    key("server.tls.cert_file", Kind::Path, "Server certificate chain (PEM); turns on TLS for every port").flag("tls-cert-file"),
    key("server.tls.key_file", Kind::Path, "Private key of the server certificate (PEM)").flag("tls-key-file"),
    key("server.tls.client_ca_file", Kind::Path, "CA certificates (PEM) that verify client certificates").flag("tls-client-ca-file"),
    key("server.tls.client_auth", Kind::Choice(&["none", "optional", "required"]), "Client certificates: none, optional or required").or("none").flag("tls-client-auth"),
    key("server.tls.min_version", Kind::Choice(&["1.2", "1.3"]), "Minimum TLS version: 1.2 or 1.3").or("1.2").flag("tls-min-version"),
    key("server.tls.handshake_timeout", Kind::Duration, "Maximum time for the TLS handshake").or("10s").flag("tls-handshake-timeout"),
    key("auth.callers_file", Kind::Path, "File that lists callers (such as API keys) and their scopes; turns on authentication").flag("callers-file"),
    key("auth.public_metrics", Kind::Bool, "Serve metrics without authentication").or("false").flag("public-metrics"),
    key("auth.jwt.jwks", Kind::Uri, "URL or file of the JWKS that verifies tokens; turns on authentication").flag("jwt-jwks"),
    key("auth.jwt.issuer", Kind::Text, "Required issuer (`iss`) of tokens").flag("jwt-issuer"),
    key("auth.jwt.audience", Kind::List, "Accepted audience (`aud`) of tokens; repeatable").or("").flag("jwt-audience"),
    key("auth.jwt.algorithms", Kind::Algorithms, "Accepted signature algorithm of tokens; repeatable").or("RS256,PS256,ES256,ES384,EdDSA").flag("jwt-algorithm"),
    key("auth.jwt.leeway", Kind::Duration, "Allowed clock skew of token issuers").or("30s").flag("jwt-leeway"),
    key("auth.jwt.refresh_interval", Kind::Duration, "Interval for refreshing the JWKS").or("5m").flag("jwt-refresh-interval"),
    key("limits.max_connections", Kind::Integer(1), "Maximum number of HTTP and gRPC connections together; by default 10000, or three quarters of the open-file limit if that is less").flag("max-connections"),
    key("limits.client_connections", Kind::Integer(1), "Maximum number of connections per address; by default half of `limits.max_connections`, at least 100").flag("client-connections"),
    key("limits.header_timeout", Kind::Duration, "Maximum time to receive a request's headers, or the first byte of a new connection").or("30s").flag("header-timeout"),
    key("limits.body_timeout", Kind::Duration, "Maximum pause while receiving a body or sending a response").or("30s").flag("body-timeout"),
    key("limits.idle_timeout", Kind::Duration, "Maximum idle time of a connection").or("2m").flag("idle-timeout"),
    key("limits.max_headers", Kind::Integer(1), "Maximum number of headers per request").or("100").flag("max-headers"),
    key("limits.max_header_size", Kind::Size, "Maximum size of a request's path and headers").or("32KiB").flag("max-header-size"),
    key("limits.max_streams", Kind::Integer(1), "Maximum number of concurrent HTTP/2 streams per connection").or("200").flag("max-streams"),
    key("limits.max_resets", Kind::Integer(1), "Maximum number of HTTP/2 streams reset before processing").or("20").flag("max-resets"),
    key("limits.memory", Kind::Size, "Memory for all requests together, each from its first byte until its response is sent; by default a fifth of the memory of the cgroup or machine, at least five times `server.max_body`, at most half of the memory").flag("request-memory"),
    key("limits.max_rows", Kind::Integer(1), "Maximum number of rows per request").flag("max-rows"),
    key("limits.client_rate", Kind::Integer(1), "Maximum requests per second per client; a client is identified by its authenticated name, otherwise by its address").flag("client-rate"),
    key("limits.client_burst", Kind::Integer(1), "Burst size per client; by default one second of requests").flag("client-burst"),
    key("limits.client_concurrency", Kind::Integer(1), "Maximum number of concurrent requests per client").flag("client-concurrency"),
    key("limits.client_streams", Kind::Integer(1), "Maximum number of open gRPC streams per client").or("1000").flag("client-streams"),
    key("engine.default", Kind::Choice(ENGINES), "Engine: auto, classic, tract or onnxruntime").or("auto").flag("engine"),
    key("engine.intra_op_threads", Kind::Integer(1), "ONNX Runtime threads within one operator; by default the number of CPUs, or what the package sets").flag("intra-op-threads"),
    key("engine.inter_op_threads", Kind::Integer(1), "ONNX Runtime threads across operators; by default 1, or what the package sets").flag("inter-op-threads"),
    key("engine.libonnxruntime", Kind::Path, "Path of the ONNX Runtime library; by default onstage searches for it").flag("libonnxruntime"),
    key("engine.custom_operators", Kind::Libraries, "Custom operator library for ONNX Runtime, as PATH@sha256:HEX; repeatable").or("").flag("custom-operators"),
    key("engine.memory_budget", Kind::Size, "Memory for all loaded models together; by default the memory of the cgroup or machine, minus `limits.memory` and a sixteenth (64 to 256 MiB) for the process").flag("memory-budget"),
    key("engine.load_timeout", Kind::Duration, "Maximum time for each phase of loading a version (verify, compile, warm up); after that the version fails, and other models load").or("10m").flag("load-timeout"),
    key("batching.max_batch_size", Kind::Integer(1), "Maximum number of rows per batch; by default measured per model").flag("max-batch-size"),
    key("batching.max_queue_delay", Kind::Duration, "Maximum time to wait for a fuller batch; by default none, unless the package sets one").flag("max-queue-delay"),
    key("batching.max_queue_size", Kind::Integer(1), "Maximum queue length per model; further requests are refused").or("1024").flag("max-queue-size"),
    key("batching.instances", Kind::Integer(1), "Maximum number of concurrent runs per model; by default the number of CPUs").flag("instances"),
    key("registry.uri", Kind::Uri, "Model registry: a directory, an MLflow server or an object store").flag("registry"),
    key("registry.fallback", Kind::Uri, "Registry to use if `registry.uri` is unreachable at startup and its last known state is not cached").flag("registry-fallback"),
    key("registry.poll_interval", Kind::Duration, "Interval between polls of the registry; by default 5s, or 1s for a directory").flag("poll-interval"),
    key("registry.follow", Kind::List, "Serve the version behind this alias (`@champion`) or stage (`Production`), for every model; repeatable").or("").flag("follow"),
    key("registry.filter", Kind::Text, "Follow only models whose name and tags match, such as `fraud-*,tag.team=payments`").flag("filter"),
    key("registry.lazy", Kind::Bool, "Load followed models on their first request, and unload them when others need the memory").or("false").flag("lazy"),
    key("registry.cache_dir", Kind::Path, "Directory of the package cache; by default `onstage` in the user's cache directory").flag("cache-dir"),
    key("registry.cache_size", Kind::Size, "Cache size above which unused packages are deleted").or("10GiB").flag("cache-size"),
    key("registry.local_artifacts", Kind::List, "Local directory that a remote MLflow server, or links in a file registry, may point into; repeatable").or("").flag("local-artifacts"),
    key("registry.artifact_hosts", Kind::List, "Additional host (`HOST` or `HOST:PORT`, `*` matches any text) to fetch artifacts from, besides the registry's own and the large clouds' object stores; repeatable").or("").flag("artifact-host"),
    key("registry.unload_delay", Kind::Duration, "How long to keep serving a version after its alias, stage or model disappears from the registry; by default two polls, 0 unloads at once").flag("unload-delay"),
    key("registry.fetch_timeout", Kind::Duration, "Maximum time to download a package; the next attempt resumes the download").or("1h").flag("fetch-timeout"),
    key("registry.require_signature", Kind::Bool, "Serve only packages with a trusted signature; by default on when `trust` is set").flag("require-signature"),
    key("registry.trust", Kind::List, "Trusted signer: a public key (`KEY.pem`), or an identity certified by a CA (`AUTHORITY.pem#IDENTITY`); repeatable").or("").flag("trust"),
    key("registry.webhook_secret_file", Kind::Path, "File with the secret of MLflow's webhook; turns on /webhooks/mlflow").flag("webhook-secret-file"),
    key("registry.peers", Kind::List, "Replica (NAME:PORT) to pass each webhook on to; NAME may resolve to several addresses, such as a headless Service; repeatable").or("").flag("peer"),
    key("network.ca_file", Kind::Path, "Additional CA certificates (PEM) for outgoing connections").flag("ca-file"),
    key("models.*.source", Kind::Path, "Path of the package, or a registry URI such as `models:/fraud@champion`"),
    key("models.*.engine", Kind::Choice(ENGINES), "`engine.default` for this model"),
    key("models.*.engine_quirks", Kind::Choice(&["refuse", "allow"]), "Graphs that the engine is known to answer wrongly for some values: `refuse` or `allow` them").or("refuse"),
    key("models.*.isolation", Kind::Choice(&["none", "process"]), "Where to run this model: in the server (`none`), or in a separate process (`process`), whose crash affects no other model").or("none"),
    key("models.*.warmup", Kind::Bool, "Run the package's input example before serving; by default true, unless the package turns it off"),
    key("models.*.example", Kind::Choice(&["require", "warn"]), "If a version's input example fails, `require` rejects the version; `warn` logs a warning and serves it").or("require"),
    key("models.*.providers", Kind::List, "ONNX Runtime execution providers, in order of preference"),
    key("models.*.max_queue_size", Kind::Integer(1), "`batching.max_queue_size` for this model"),
    key("models.*.request_timeout", Kind::Duration, "`server.request_timeout` for this model"),
    key("models.*.required", Kind::Bool, "Exit if this model cannot be served at startup, and report ready only while it serves; by default true if the model has a `source`"),
    key("models.*.max_concurrency", Kind::Integer(1), "Maximum number of concurrent requests to this model; further requests are refused"),
    key("models.*.max_rows", Kind::Integer(1), "`limits.max_rows` for this model"),
    key("models.*.rows", Kind::Choice(&["proven", "independent"]), "Batch rows of different requests only if the graph proves that they are independent (`proven`), or always, on your word (`independent`)").or("proven"),
    key("models.*.batching.max_batch_size", Kind::Integer(1), "`batching.max_batch_size` for this model"),
    key("models.*.batching.max_queue_delay", Kind::Duration, "`batching.max_queue_delay` for this model"),
    key("models.*.batching.max_queue_size", Kind::Integer(1), "Same as this model's `max_queue_size`"),
    key("models.*.batching.instances", Kind::Integer(1), "`batching.instances` for this model"),
    key("models.*.evictable", Kind::Bool, "Unload this model, until its next request, when others need the memory; by default the value of `registry.lazy`"),
    key("models.*.keep_previous", Kind::Integer(0), "Number of previous versions to keep loaded after a swap").or("1"),
    key("models.*.swap", Kind::Choice(&["make-before-break", "break-before-make"]), "`make-before-break` loads the new version before unloading the old one; `break-before-make` unloads the old one first").or("make-before-break"),
    key("models.*.signature_policy", Kind::Choice(&["compatible", "exact", "any"]), "Signature changes that a swap accepts: `compatible` ones, none (`exact`), or `any`").or("compatible"),
    key("models.*.probation", Kind::Duration, "How long after a swap the new version can be rolled back automatically").or("60s"),
    key("models.*.response", Kind::Choice(&["mlflow-onnx", "predict", "predict_proba"]), "Response of MLflow scoring: all outputs (`mlflow-onnx`), or what scikit-learn's `predict` or `predict_proba` returns").or("mlflow-onnx"),
    key("models.*.trust", Kind::List, "`registry.trust` for this model only"),
    key("payload_log.uri", Kind::Uri, "Where to log what models saw and answered, as Parquet files: `file:///DIRECTORY`, or a place in S3 (`s3://`), GCS (`gs://`) or Azure (`az://`); off unless set").flag("payload-log"),
    key("payload_log.fraction", Kind::Fraction, "Share of requests to log, from 0 to 1, chosen by a hash of the request id").or("1").flag("payload-fraction"),
    key("payload_log.models", Kind::List, "Log only models whose name matches, `*` stands for any text; by default all; repeatable").or("").flag("payload-model"),
    key("payload_log.exclude", Kind::List, "Column to leave out of the log; repeatable").or("").flag("payload-exclude"),
    key("payload_log.hash", Kind::List, "Column to log as a keyed hash (HMAC-SHA256) instead of its value; repeatable").or("").flag("payload-hash"),
    key("payload_log.hash_key_file", Kind::Path, "File with the key of hashed columns, at least 16 bytes").flag("payload-hash-key-file"),
    key("payload_log.headers", Kind::List, "Request header to log; repeatable").or("").flag("payload-header"),
    key("payload_log.errors", Kind::Bool, "Also log the bodies of failed requests, up to 64 KiB each, below `errors/`").or("false").flag("payload-errors"),
    key("payload_log.tensors", Kind::Bool, "Log the values of tensors with more than two dimensions or more than 256 values per row; by default only their shape and a hash").or("false").flag("payload-tensors"),
    key("payload_log.roll", Kind::Duration, "Age at which a file is closed and sent; a crash loses at most this much").or("60s").flag("payload-roll"),
    key("payload_log.roll_size", Kind::Size, "Size at which a file is closed and sent").or("64MiB").flag("payload-roll-size"),
    key("payload_log.queue", Kind::Size, "Memory for rows that wait to be written; rows that find no room are dropped and counted").or("32MiB").flag("payload-queue"),
    key("payload_log.spool", Kind::Size, "Disk space below `registry.cache_dir` for files that wait to be sent; when it is full, rows are dropped and counted").or("1GiB").flag("payload-spool"),
    key("payload_log.keep", Kind::Duration, "Age at which files of the log are deleted; by default never").flag("payload-keep"),
    key("feedback.uri", Kind::Uri, "Where to keep the true outcomes that clients report, below `labels/`; by default `payload_log.uri`").flag("feedback-uri"),
    key("telemetry.log", Kind::Choice(&["text", "json"]), "Log format, text or json; by default text on a terminal, otherwise json").flag("log"),
    key("telemetry.log_level", Kind::LogFilter, "Log level, or directives such as info,onstage=debug").or("info").flag("log-level"),
    key("telemetry.access_log", Kind::AccessLog, "Requests to log: errors, all, or a share such as sampled:0.01; probes are never logged").or("errors").flag("access-log"),
    key("telemetry.otlp_endpoint", Kind::Uri, "OTLP endpoint for traces, such as http://127.0.0.1:4318 (HTTP) or http://127.0.0.1:4317 (gRPC)").flag("otlp-endpoint"),
];

impl KeyDef {
    /// The first part of the key.
    pub fn section(&self) -> &'static str {
        self.path.split('.').next().unwrap_or(self.path)
    }

    /// Whether it stands under a model's name.
    pub fn is_per_model(&self) -> bool {
        self.section() == "models"
    }

    /// The environment variable, with `<NAME>` for a model's name.
    pub fn variable(&self) -> String {
        let name = self.path.to_uppercase().replace('.', "__");
        format!("ONSTAGE_{}", name.replace('*', "<NAME>"))
    }

    /// The key with a model's name.
    pub(super) fn path_for(&self, model: &str) -> KeyPath {
        let part = |part: &str| if part == "*" { model } else { part }.to_owned();
        KeyPath::new(self.path.split('.').map(part).collect())
    }

    #[cfg(test)]
    fn default_value(&self) -> Option<super::value::Value> {
        let raw = super::value::Raw::Text(self.default?.to_owned());
        let value = self.kind.parse(&raw);
        Some(value.expect("a test parses every default"))
    }

    fn matches(&self, parts: &[String]) -> bool {
        self.path.split('.').count() == parts.len() && self.begins_with(parts)
    }

    fn begins_with(&self, parts: &[String]) -> bool {
        let mut pattern = self.path.split('.');
        parts.iter().all(|part| {
            let wanted = pattern.next();
            wanted == Some("*") || wanted == Some(part)
        })
    }
}

/// The row of `path`.
pub(super) fn find(path: &KeyPath) -> Option<&'static KeyDef> {
    KEYS.iter().find(|def| def.matches(path.parts()))
}

/// Whether keys stand under `path`.
pub(super) fn is_section(path: &KeyPath) -> bool {
    let parts = path.parts();
    KEYS.iter()
        .any(|def| def.begins_with(parts) && !def.matches(parts))
}

/// The key, or section, that `path` may have meant.
pub(super) fn suggest(path: &KeyPath) -> Option<KeyPath> {
    let model = path.parts().get(1).map_or("", String::as_str);
    let keys = KEYS.iter().map(|def| def.path_for(model));
    let sections = KEYS.iter().map(|def| KeyPath::parse(def.section()));
    let given = path.to_string().to_lowercase();
    let last = path.parts().last()?.to_lowercase();
    let scored = keys.chain(sections).map(|candidate| {
        let whole = likeness(&given, &candidate.to_string());
        let end = candidate.parts().last().map_or(0.0, |end| {
            // The right word in the wrong section; short words are like too many others.
            strsim::normalized_damerau_levenshtein(&last, end) * 0.95
        });
        let same_depth = candidate.parts().len() == path.parts().len();
        let depth = if same_depth { 0.0 } else { 0.02 };
        (whole.max(end) - depth, candidate)
    });
    scored
        .filter(|(score, _)| *score >= 0.7)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

/// The reference of all keys, as a Markdown table.
pub fn reference() -> String {
    let mut text =
        "| key | environment variable | flag | default | |\n|---|---|---|---|---|\n".to_owned();
    for def in KEYS {
        let flags = def.flag.into_iter().chain(def.alias);
        let flags: Vec<String> = flags.map(|flag| format!("`--{flag}`")).collect();
        let flag = flags.join(", ");
        let default = match def.default {
            None => String::new(),
            Some("") if def.kind.is_list() => "`[]`".to_owned(),
            Some("") => "`\"\"`".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        let (path, variable) = (def.path.replace('*', "<name>"), def.variable());
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| `{path}` | `{variable}` | {flag} | {default} | {} |",
            def.help
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn suggestion(dotted: &str) -> Option<String> {
        suggest(&KeyPath::parse(dotted)).map(|path| path.to_string())
    }

    #[test]
    fn keys_and_flags_are_unique_and_defaults_are_valid() {
        let paths: BTreeSet<_> = KEYS.iter().map(|def| def.path).collect();
        assert_eq!(paths.len(), KEYS.len());
        let flags: Vec<_> = KEYS.iter().filter_map(|def| def.flag).collect();
        assert_eq!(flags.iter().collect::<BTreeSet<_>>().len(), flags.len());
        for def in KEYS {
            assert_eq!(def.default_value().is_some(), def.default.is_some());
        }
    }

    #[test]
    fn every_key_outside_of_models_has_a_flag() {
        for def in KEYS {
            assert_eq!(def.flag.is_none(), def.is_per_model(), "{}", def.path);
        }
    }

    #[test]
    fn suggests_the_key_that_was_probably_meant() {
        let cases = [
            ("server.prot", "server.port"),
            ("sever", "server"),
            ("server.request_timout", "server.request_timeout"),
            ("port", "server.port"),
            ("log_level", "telemetry.log_level"),
            ("batching.max_delay", "batching.max_queue_delay"),
            ("models.fraud.enigne", "models.fraud.engine"),
            (
                "models.fraud.max_queue_delay",
                "models.fraud.batching.max_queue_delay",
            ),
        ];
        for (given, meant) in cases {
            assert_eq!(suggestion(given).as_deref(), Some(meant), "{given}");
        }
        assert_eq!(suggestion("quantum.flux"), None);
    }

    #[test]
    fn the_reference_is_stable() {
        insta::assert_snapshot!(reference());
    }
}
