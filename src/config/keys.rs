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

pub(super) const ENGINES: &[&str] = &["auto", "tract", "onnxruntime"];

/// Every key, by section; one row per line.
#[rustfmt::skip]
pub const KEYS: &[KeyDef] = &[
    key("server.host", Kind::Text, "Address to listen on").or("127.0.0.1").flag("host"),
    key("server.port", Kind::Port, "HTTP port; 0 picks a free one").or("8080").flag("port").alias("http-port"),
    key("server.grpc_port", Kind::PortOrOff, "gRPC port; 0 picks a free one, `off` disables it").or("8081").flag("grpc-port"),
    key("server.grpc_on_http", Kind::Bool, "Accept gRPC on the HTTP port too").or("false").flag("grpc-on-http"),
    key("server.admin_port", Kind::Port, "Port of the management API; without it the API is off, 0 picks a free port").flag("admin-port"),
    key("server.admin_host", Kind::Text, "Address of the management API").or("127.0.0.1").flag("admin-host"),
    key("server.admin_token_file", Kind::Path, "File with the bearer token for the management API").flag("admin-token-file"),
    key("server.base_path", Kind::BasePath, "Path prefix of every URL").or("").flag("base-path"),
    key("server.health_route", Kind::Route, "Additional readiness path, such as the one Vertex AI assigns").flag("health-route"),
    key("server.predict_route", Kind::Route, "Additional path for V1 predictions of the default model, such as the one Vertex AI assigns").flag("predict-route"),
    key("server.default_model", Kind::Text, "Model that answers /invocations; by default the only model").flag("default-model"),
    key("server.ready_without_models", Kind::Bool, "Report ready while there is no model to serve").or("true").flag("ready-without-models"),
    key("server.max_body", Kind::Size, "Maximum size of a request body").or("64MiB").flag("max-body"),
    key("server.request_timeout", Kind::Duration, "Maximum time from a request's arrival to its response").or("60s").flag("request-timeout"),
    key("server.shutdown_delay", Kind::Duration, "After SIGTERM, time between reporting unready and refusing connections").or("0s").flag("shutdown-delay"),
    key("server.drain_timeout", Kind::Duration, "After SIGTERM, maximum time for requests in flight").or("30s").flag("drain-timeout"),
    key("server.max_connection_age", Kind::Duration, "Age, plus or minus a tenth, at which a connection is closed gracefully; by default never").flag("max-connection-age"),
    key("server.cors_origins", Kind::Origins, "Web origins allowed by CORS; repeatable").or("").flag("cors-origin"),
    key("server.nonfinite", Kind::Choice(&["null", "bare"]), "NaN and infinities in JSON: `null`, or bare (NaN, Infinity) as MLflow writes them").or("null").flag("nonfinite"),
    key("server.reload_interval", Kind::Duration, "Interval for rereading certificates and callers; SIGHUP rereads at once").or("10s").flag("reload-interval"),
    key("server.tls.cert_file", Kind::Path, "Server certificate chain (PEM); turns on TLS for every port").flag("tls-cert-file"),
    key("server.tls.key_file", Kind::Path, "Private key of the server certificate (PEM)").flag("tls-key-file"),
    key("server.tls.client_ca_file", Kind::Path, "CA certificates (PEM) that sign client certificates").flag("tls-client-ca-file"),
    key("server.tls.client_auth", Kind::Choice(&["none", "optional", "required"]), "Client certificates").or("none").flag("tls-client-auth"),
    key("server.tls.min_version", Kind::Choice(&["1.2", "1.3"]), "Minimum TLS version").or("1.2").flag("tls-min-version"),
    key("server.tls.handshake_timeout", Kind::Duration, "Maximum time for the TLS handshake").or("10s").flag("tls-handshake-timeout"),
    key("auth.callers_file", Kind::Path, "File of API keys and other callers with their scopes; turns on authentication").flag("callers-file"),
    key("auth.public_metrics", Kind::Bool, "Serve metrics without authentication").or("false").flag("public-metrics"),
    key("auth.jwt.jwks", Kind::Uri, "URL or file of the JWKS that verifies tokens; turns on authentication").flag("jwt-jwks"),
    key("auth.jwt.issuer", Kind::Text, "Required issuer (`iss`) of tokens").flag("jwt-issuer"),
    key("auth.jwt.audience", Kind::List, "Accepted audience (`aud`) of tokens; repeatable").or("").flag("jwt-audience"),
    key("auth.jwt.algorithms", Kind::Algorithms, "Accepted signature algorithms of tokens").or("RS256,PS256,ES256,ES384,EdDSA").flag("jwt-algorithm"),
    key("auth.jwt.leeway", Kind::Duration, "Allowed clock skew of token issuers").or("30s").flag("jwt-leeway"),
    key("auth.jwt.refresh_interval", Kind::Duration, "Interval for refreshing the JWKS").or("5m").flag("jwt-refresh-interval"),
    key("limits.max_connections", Kind::Integer(1), "Maximum number of connections, HTTP and gRPC together; by default 10000, or three quarters of the open-file limit").flag("max-connections"),
    key("limits.client_connections", Kind::Integer(1), "Maximum number of connections per address; by default half of all, at least 100").flag("client-connections"),
    key("limits.header_timeout", Kind::Duration, "Maximum time for a request's headers, and for the first byte of a new connection").or("30s").flag("header-timeout"),
    key("limits.body_timeout", Kind::Duration, "Maximum pause while a body is received, or a response is sent").or("30s").flag("body-timeout"),
    key("limits.idle_timeout", Kind::Duration, "Maximum idle time of a connection").or("2m").flag("idle-timeout"),
    key("limits.max_headers", Kind::Integer(1), "Maximum number of headers per request").or("100").flag("max-headers"),
    key("limits.max_header_size", Kind::Size, "Maximum size of a request's path and headers").or("32KiB").flag("max-header-size"),
    key("limits.max_streams", Kind::Integer(1), "Maximum number of concurrent HTTP/2 streams per connection").or("200").flag("max-streams"),
    key("limits.max_resets", Kind::Integer(1), "Maximum number of HTTP/2 streams reset before processing").or("20").flag("max-resets"),
    key("limits.memory", Kind::Size, "Memory for all requests, from their first byte until their response is sent; by default a fifth of the cgroup's or machine's memory, at least five times `server.max_body`, at most half").flag("request-memory"),
    key("limits.max_rows", Kind::Integer(1), "Maximum number of rows per request").flag("max-rows"),
    key("limits.client_rate", Kind::Integer(1), "Maximum requests per second per client; a client is its authenticated name, otherwise its address").flag("client-rate"),
    key("limits.client_burst", Kind::Integer(1), "Burst size per client; by default one second of requests").flag("client-burst"),
    key("limits.client_concurrency", Kind::Integer(1), "Maximum number of concurrent requests per client").flag("client-concurrency"),
    key("limits.client_streams", Kind::Integer(1), "Maximum number of open gRPC streams per client").or("1000").flag("client-streams"),
    key("engine.default", Kind::Choice(ENGINES), "Engine: auto, tract or onnxruntime").or("auto").flag("engine"),
    key("engine.intra_op_threads", Kind::Integer(1), "Threads inside one operator").flag("intra-op-threads"),
    key("engine.inter_op_threads", Kind::Integer(1), "Threads across operators").flag("inter-op-threads"),
    key("engine.libonnxruntime", Kind::Path, "Path of the ONNX Runtime library; by default onstage searches for it").flag("libonnxruntime"),
    key("engine.custom_operators", Kind::Libraries, "Libraries of custom operators for ONNX Runtime, each as PATH@sha256:HEX; repeatable").or("").flag("custom-operators"),
    key("engine.memory_budget", Kind::Size, "Memory for all loaded models; by default the cgroup's or machine's memory minus `limits.memory` and a sixteenth (64 to 256 MiB) for the process").flag("memory-budget"),
    key("engine.load_timeout", Kind::Duration, "Maximum time to verify, compile or warm up a version; after that other models load in its place").or("10m").flag("load-timeout"),
    key("batching.max_batch_size", Kind::Integer(1), "Maximum number of rows per batch; by default measured per model").flag("max-batch-size"),
    key("batching.max_queue_delay", Kind::Duration, "Maximum time to wait for a fuller batch; by default none, unless the package sets one").flag("max-queue-delay"),
    key("batching.max_queue_size", Kind::Integer(1), "Maximum queue length per model; further requests are refused").or("1024").flag("max-queue-size"),
    key("batching.instances", Kind::Integer(1), "Maximum number of concurrent runs per model; by default the number of CPUs").flag("instances"),
    key("registry.uri", Kind::Uri, "Model registry: a directory, an MLflow server or an object store").flag("registry"),
    key("registry.fallback", Kind::Uri, "Registry to use while the first one is unreachable").flag("registry-fallback"),
    key("registry.poll_interval", Kind::Duration, "Interval for polling the registry").flag("poll-interval"),
    key("registry.follow", Kind::List, "Alias (`@champion`) or stage (`Production`) to serve for every model; repeatable").or("").flag("follow"),
    key("registry.filter", Kind::Text, "Which models to follow, by name pattern and tags").flag("filter"),
    key("registry.lazy", Kind::Bool, "Load followed models on their first request, and unload them when others need the memory").or("false").flag("lazy"),
    key("registry.cache_dir", Kind::Path, "Directory of the package cache; by default `onstage` in the user's cache directory").flag("cache-dir"),
    key("registry.cache_size", Kind::Size, "Cache size above which unused packages are deleted").or("10GiB").flag("cache-size"),
    key("registry.local_artifacts", Kind::List, "Local directories from which a remote MLflow server, or links in a file registry, may take files; repeatable").or("").flag("local-artifacts"),
    key("registry.artifact_hosts", Kind::List, "Additional hosts (`HOST` or `HOST:PORT`, `*` matches any text) for artifacts, besides the registry's own and the large clouds' object stores; repeatable").or("").flag("artifact-host"),
    key("registry.unload_delay", Kind::Duration, "How long to keep serving a version whose alias, stage or model was removed from the registry; by default two polls, 0 unloads at once").flag("unload-delay"),
    key("registry.fetch_timeout", Kind::Duration, "Maximum time to download a package; the next attempt resumes the download").or("1h").flag("fetch-timeout"),
    key("registry.require_signature", Kind::Bool, "Serve only packages with a trusted signature; by default on when `trust` is set").flag("require-signature"),
    key("registry.trust", Kind::List, "Trusted signer: a public key (`KEY.pem`), or an identity certified by a CA (`AUTHORITY.pem#IDENTITY`); repeatable").or("").flag("trust"),
    key("registry.webhook_secret_file", Kind::Path, "File with the secret of the MLflow webhook").flag("webhook-secret-file"),
    key("registry.peers", Kind::List, "Other replicas (NAME:PORT) that receive a copy of each webhook; NAME may resolve to many addresses, such as a headless Service; repeatable").or("").flag("peer"),
    key("network.ca_file", Kind::Path, "Additional CA certificates (PEM) for outgoing connections").flag("ca-file"),
    key("models.*.source", Kind::Path, "Path of the package"),
    key("models.*.engine", Kind::Choice(ENGINES), "Engine of this model"),
    key("models.*.engine_quirks", Kind::Choice(&["refuse", "allow"]), "Whether to run a graph that the engine is known to answer wrongly for some values").or("refuse"),
    key("models.*.isolation", Kind::Choice(&["none", "process"]), "Run this model in the server, or in its own process, so that a crash affects no other model").or("none"),
    key("models.*.warmup", Kind::Bool, "Run the package's input example before serving"),
    key("models.*.example", Kind::Choice(&["require", "warn"]), "If the input example of a version fails: reject the version, or warn and serve it").or("require"),
    key("models.*.providers", Kind::List, "Execution providers of ONNX Runtime, best first"),
    key("models.*.max_queue_size", Kind::Integer(1), "Maximum queue length of this model"),
    key("models.*.request_timeout", Kind::Duration, "Maximum time from a request's arrival to its response"),
    key("models.*.required", Kind::Bool, "Report ready only when this model is ready"),
    key("models.*.max_concurrency", Kind::Integer(1), "Maximum number of concurrent requests to this model; further requests are refused"),
    key("models.*.max_rows", Kind::Integer(1), "`limits.max_rows` for this model"),
    key("models.*.rows", Kind::Choice(&["proven", "independent"]), "Batch rows of different requests if the graph proves them independent, or always because you know that they are").or("proven"),
    key("models.*.batching.max_batch_size", Kind::Integer(1), "`batching.max_batch_size` for this model"),
    key("models.*.batching.max_queue_delay", Kind::Duration, "`batching.max_queue_delay` for this model"),
    key("models.*.batching.max_queue_size", Kind::Integer(1), "Same as this model's `max_queue_size`"),
    key("models.*.batching.instances", Kind::Integer(1), "`batching.instances` for this model"),
    key("models.*.evictable", Kind::Bool, "Allow unloading this model until its next request when others need the memory; by default `registry.lazy`"),
    key("models.*.keep_previous", Kind::Integer(0), "Number of previous versions to keep loaded after a swap").or("1"),
    key("models.*.swap", Kind::Choice(&["make-before-break", "break-before-make"]), "Load the new version before unloading the old one, or after").or("make-before-break"),
    key("models.*.signature_policy", Kind::Choice(&["compatible", "exact", "any"]), "Signature changes that a swap accepts: compatible ones, none, or any").or("compatible"),
    key("models.*.probation", Kind::Duration, "Time during which a new version can be rolled back automatically").or("60s"),
    key("models.*.response", Kind::Choice(&["mlflow-onnx", "predict", "predict_proba"]), "Response of MLflow scoring: all outputs, or only labels or probabilities, like scikit-learn's predict and predict_proba").or("mlflow-onnx"),
    key("models.*.trust", Kind::List, "`registry.trust` for this model only"),
    key("telemetry.log", Kind::Choice(&["text", "json"]), "Log format; by default text on a terminal, otherwise json").flag("log"),
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
