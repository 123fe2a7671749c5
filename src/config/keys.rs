//! The one table of keys. Parsing, defaults, environment variables, flags, `--help` and the reference come from it.

use std::fmt::Write as _;

use super::value::{Kind, Value, likeness};
use super::{KeyPath, Raw};

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
    /// Whether this build does anything with it.
    pub built: bool,
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
        built: true,
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

    const fn later(self) -> Self {
        let built = false;
        Self { built, ..self }
    }
}

pub(super) const ENGINES: &[&str] = &["auto", "tract", "onnxruntime"];

/// Every key, by section; one row per line.
#[rustfmt::skip]
pub const KEYS: &[KeyDef] = &[
    key("server.host", Kind::Text, "Address to listen on").or("127.0.0.1").flag("host"),
    key("server.port", Kind::Port, "Port of HTTP; 0 is any free one").or("8080").flag("port").alias("http-port"),
    key("server.grpc_port", Kind::PortOrOff, "Port of gRPC; 0 is any free one, `off` is none").or("8081").flag("grpc-port"),
    key("server.grpc_on_http", Kind::Bool, "Whether the port of HTTP speaks gRPC as well").or("false").flag("grpc-on-http"),
    key("server.admin_port", Kind::Port, "Port of the management API; none without it, 0 is any free one").flag("admin-port"),
    key("server.admin_host", Kind::Text, "Address on which the management API listens").or("127.0.0.1").flag("admin-host"),
    key("server.admin_token_file", Kind::Path, "File with the token that requests to the management API must bear").flag("admin-token-file"),
    key("server.base_path", Kind::BasePath, "Path prefix of every URL").or("").flag("base-path"),
    key("server.health_route", Kind::Route, "Another path that tells whether the server is ready, as Vertex AI chooses one").flag("health-route"),
    key("server.predict_route", Kind::Route, "Another path that answers V1 predictions of the default model, as Vertex AI chooses one").flag("predict-route"),
    key("server.default_model", Kind::Text, "Model behind /invocations; the only one when there is one").flag("default-model"),
    key("server.ready_without_models", Kind::Bool, "Whether the server is ready while no model is wanted, or none that is for this server").or("true").flag("ready-without-models"),
    key("server.max_body", Kind::Size, "Largest request body").or("64MiB").flag("max-body"),
    key("server.request_timeout", Kind::Duration, "Longest time from a request's arrival to its answer").or("60s").flag("request-timeout"),
    key("server.shutdown_delay", Kind::Duration, "Time between turning unready and refusing connections, after SIGTERM").or("0s").flag("shutdown-delay"),
    key("server.drain_timeout", Kind::Duration, "Time that requests in flight have to finish").or("30s").flag("drain-timeout"),
    key("server.max_connection_age", Kind::Duration, "Time after which the client of a connection is asked to open another one, give or take a tenth; none without it").flag("max-connection-age"),
    key("server.cors_origins", Kind::Origins, "Web origins whose pages may send requests; repeatable").or("").flag("cors-origin"),
    key("server.nonfinite", Kind::Choice(&["null", "bare"]), "How NaN and infinities are written in JSON: as `null`, or bare (NaN, Infinity) as MLflow does").or("null").flag("nonfinite"),
    key("server.reload_interval", Kind::Duration, "Time between two looks at the files of certificates and callers; SIGHUP looks at once").or("10s").flag("reload-interval"),
    key("server.tls.cert_file", Kind::Path, "Certificate of this server (PEM), with those between it and the authority; with it every port speaks TLS only").flag("tls-cert-file"),
    key("server.tls.key_file", Kind::Path, "Private key of the certificate (PEM)").flag("tls-key-file"),
    key("server.tls.client_ca_file", Kind::Path, "Certificates (PEM) of the authorities of clients").flag("tls-client-ca-file"),
    key("server.tls.client_auth", Kind::Choice(&["none", "optional", "required"]), "Whether clients show certificates of their own").or("none").flag("tls-client-auth"),
    key("server.tls.min_version", Kind::Choice(&["1.2", "1.3"]), "Oldest version of TLS that is spoken").or("1.2").flag("tls-min-version"),
    key("server.tls.handshake_timeout", Kind::Duration, "Longest time from a connection to the end of its handshake").or("10s").flag("tls-handshake-timeout"),
    key("auth.callers_file", Kind::Path, "File of API keys and other callers, each with what it may do; with it callers are asked who they are").flag("callers-file"),
    key("auth.public_metrics", Kind::Bool, "Whether everybody may read the metrics").or("false").flag("public-metrics"),
    key("auth.jwt.jwks", Kind::Uri, "Address or file of the keys (JWKS) with which tokens are signed; with it callers are asked who they are").flag("jwt-jwks"),
    key("auth.jwt.issuer", Kind::Text, "Issuer (`iss`) that tokens must have").flag("jwt-issuer"),
    key("auth.jwt.audience", Kind::List, "Audience (`aud`) of which tokens must have one; repeatable").or("").flag("jwt-audience"),
    key("auth.jwt.algorithms", Kind::Algorithms, "Algorithms that tokens may be signed with").or("RS256,PS256,ES256,ES384,EdDSA").flag("jwt-algorithm"),
    key("auth.jwt.leeway", Kind::Duration, "By how much the clock of whoever makes tokens may differ").or("30s").flag("jwt-leeway"),
    key("auth.jwt.refresh_interval", Kind::Duration, "Time between two looks at the keys of tokens").or("5m").flag("jwt-refresh-interval"),
    key("limits.max_connections", Kind::Integer(1), "Most connections at a time, of HTTP and gRPC together; by default 10000, or three quarters of the files that may be open").flag("max-connections"),
    key("limits.client_connections", Kind::Integer(1), "Most connections at a time of one address; by default half of all, and 100 at least").flag("client-connections"),
    key("limits.header_timeout", Kind::Duration, "Longest time from the first byte of a request's head to the last, and from the beginning of a connection to its first byte").or("30s").flag("header-timeout"),
    key("limits.body_timeout", Kind::Duration, "Longest pause in the body of a request, and of a client that takes an answer").or("30s").flag("body-timeout"),
    key("limits.idle_timeout", Kind::Duration, "Longest time between two requests of a connection").or("2m").flag("idle-timeout"),
    key("limits.max_headers", Kind::Integer(1), "Most headers of a request").or("100").flag("max-headers"),
    key("limits.max_header_size", Kind::Size, "Largest size of all headers and the path of a request").or("32KiB").flag("max-header-size"),
    key("limits.max_streams", Kind::Integer(1), "Most requests at a time on one connection of HTTP/2").or("200").flag("max-streams"),
    key("limits.max_resets", Kind::Integer(1), "Requests that a connection of HTTP/2 may take back before they were looked at").or("20").flag("max-resets"),
    key("limits.memory", Kind::Size, "Memory that requests may hold together, from their first byte until their answers are taken; by default a fifth of what the cgroup, or the machine, has, at least five times `server.max_body` and at most half").flag("request-memory"),
    key("limits.max_rows", Kind::Integer(1), "Most rows of one request").flag("max-rows"),
    key("limits.client_rate", Kind::Integer(1), "Most requests a second of one client: of its name where it has proved one, else of its address").flag("client-rate"),
    key("limits.client_burst", Kind::Integer(1), "Most requests at once of a client that paused; by default as many as in a second").flag("client-burst"),
    key("limits.client_concurrency", Kind::Integer(1), "Most requests at a time of one client").flag("client-concurrency"),
    key("limits.client_streams", Kind::Integer(1), "Most streams of gRPC that one client keeps open").or("1000").flag("client-streams"),
    key("engine.default", Kind::Choice(ENGINES), "Engine: auto, tract or onnxruntime").or("auto").flag("engine"),
    key("engine.intra_op_threads", Kind::Integer(1), "Threads inside one operator").flag("intra-op-threads"),
    key("engine.inter_op_threads", Kind::Integer(1), "Threads across operators").flag("inter-op-threads"),
    key("engine.libonnxruntime", Kind::Path, "The ONNX Runtime library to load, instead of looking for one").flag("libonnxruntime"),
    key("engine.custom_operators", Kind::Libraries, "Libraries of custom operators for ONNX Runtime, each as PATH@sha256:HEX; repeatable").or("").flag("custom-operators"),
    key("engine.memory_budget", Kind::Size, "Memory that loaded models may take together; by default what the cgroup, or the machine, has beside `limits.memory` and a sixteenth (64 to 256 MiB) for the process").flag("memory-budget"),
    key("engine.load_timeout", Kind::Duration, "Longest time to verify, to compile or to warm up a version; what takes longer is left alone, and others load in its place").or("10m").flag("load-timeout"),
    key("batching.max_batch_size", Kind::Integer(1), "Most rows in one call of the engine; by default what was measured to pay").flag("max-batch-size"),
    key("batching.max_queue_delay", Kind::Duration, "Longest wait for more rows; none, unless the package asks for one").flag("max-queue-delay"),
    key("batching.max_queue_size", Kind::Integer(1), "Requests that may wait for one model; more are refused").or("1024").flag("max-queue-size"),
    key("batching.instances", Kind::Integer(1), "Most sessions of one model at a time; by default one for each CPU").flag("instances"),
    key("registry.uri", Kind::Uri, "Model registry: a directory, an MLflow server or an object store").flag("registry"),
    key("registry.fallback", Kind::Uri, "Registry to read when the first one cannot be reached").flag("registry-fallback"),
    key("registry.poll_interval", Kind::Duration, "Time between two looks at the registry").flag("poll-interval"),
    key("registry.follow", Kind::List, "Alias (`@champion`) or stage (`Production`) to serve of every model; repeatable").or("").flag("follow"),
    key("registry.filter", Kind::Text, "Which models to follow, by name pattern and tags").flag("filter"),
    key("registry.lazy", Kind::Bool, "Load a followed model on its first request, and unload it when others need the memory").or("false").flag("lazy"),
    key("registry.cache_dir", Kind::Path, "Where fetched packages are kept; by default `onstage` in the user's cache folder").flag("cache-dir"),
    key("registry.cache_size", Kind::Size, "Size of fetched packages above which those that nobody uses go").or("10GiB").flag("cache-size"),
    key("registry.local_artifacts", Kind::List, "Directories of this machine below which an MLflow server on another one may name files, and links of a registry of files may lead; repeatable").or("").flag("local-artifacts"),
    key("registry.artifact_hosts", Kind::List, "Further hosts (`HOST` or `HOST:PORT`, with `*` for any text) from which a registry may have files fetched, beside its own and the object stores of the large clouds; repeatable").or("").flag("artifact-host"),
    key("registry.unload_delay", Kind::Duration, "How long a version whose alias, stage or model has gone from the registry is served on; 0 unloads it at once; by default two polls").flag("unload-delay"),
    key("registry.fetch_timeout", Kind::Duration, "Longest time to fetch a package; what has come by then is kept for the next attempt").or("1h").flag("fetch-timeout"),
    key("registry.require_signature", Kind::Bool, "Whether a package must be signed by somebody in `trust` to go on stage; by default when there is a `trust`").flag("require-signature"),
    key("registry.trust", Kind::List, "Whose signatures to trust: a public key (`KEY.pem`), or whom an authority names so (`AUTHORITY.pem#IDENTITY`); repeatable").or("").flag("trust"),
    key("registry.webhook_secret_file", Kind::Path, "File with the secret of MLflow's webhooks").flag("webhook-secret-file"),
    key("registry.peers", Kind::List, "Other replicas, each as NAME:PORT, to which hints of MLflow's webhooks are passed on; a name may have many addresses, as that of a headless Service; repeatable").or("").flag("peer"),
    key("network.ca_file", Kind::Path, "Certificates (PEM) to trust in outgoing connections, beside those of the system").flag("ca-file"),
    key("models.*.source", Kind::Path, "Path of the package"),
    key("models.*.engine", Kind::Choice(ENGINES), "Engine of this model"),
    key("models.*.engine_quirks", Kind::Choice(&["refuse", "allow"]), "Whether a graph runs that its engine answers wrongly for some values: not, or on your word").or("refuse"),
    key("models.*.isolation", Kind::Choice(&["none", "process"]), "Where the engine of this model runs: in the server, or in a process of its own, whose crash ends no other model").or("none"),
    key("models.*.warmup", Kind::Bool, "Whether to run the package's input example before serving"),
    key("models.*.example", Kind::Choice(&["require", "warn"]), "Whether a version whose own input example fails in the engine is kept off, or served with a warning").or("require"),
    key("models.*.providers", Kind::List, "Execution providers of ONNX Runtime, best first"),
    key("models.*.max_queue_size", Kind::Integer(1), "Requests that may wait for this model"),
    key("models.*.request_timeout", Kind::Duration, "Longest time from a request's arrival to its answer"),
    key("models.*.required", Kind::Bool, "Whether the server is ready only when this model is"),
    key("models.*.max_body", Kind::Size, "Largest request body of this model").later(),
    key("models.*.max_concurrency", Kind::Integer(1), "Most requests of this model at a time; more are refused"),
    key("models.*.max_rows", Kind::Integer(1), "As `limits.max_rows`, for this model"),
    key("models.*.rows", Kind::Choice(&["proven", "independent"]), "When rows of several requests share a run: when the graph proves that no row depends on another, or always, on your word").or("proven"),
    key("models.*.batching.max_batch_size", Kind::Integer(1), "As `batching.max_batch_size`, for this model"),
    key("models.*.batching.max_queue_delay", Kind::Duration, "As `batching.max_queue_delay`, for this model"),
    key("models.*.batching.max_queue_size", Kind::Integer(1), "The same as `max_queue_size` of this model"),
    key("models.*.batching.instances", Kind::Integer(1), "As `batching.instances`, for this model"),
    key("models.*.evictable", Kind::Bool, "Whether this model may be unloaded to make room, until its next request; by default as `registry.lazy`"),
    key("models.*.keep_previous", Kind::Integer(0), "Versions to keep loaded after a swap").or("1"),
    key("models.*.swap", Kind::Choice(&["make-before-break", "break-before-make"]), "Order of loading the new version and unloading the old one").or("make-before-break"),
    key("models.*.signature_policy", Kind::Choice(&["compatible", "exact", "any"]), "Which changes of the signature a swap accepts: those that break no client, none, or all").or("compatible"),
    key("models.*.probation", Kind::Duration, "Time in which a new version may be taken back").or("60s"),
    key("models.*.response", Kind::Choice(&["mlflow-onnx", "predict", "predict_proba"]), "Answers of MLflow scoring: all outputs, or the labels or class probabilities alone as scikit-learn's predict and predict_proba return them").or("mlflow-onnx"),
    key("models.*.trust", Kind::List, "As `registry.trust`, for this model alone"),
    key("telemetry.log", Kind::Choice(&["text", "json"]), "Form of the log; by default text on a terminal, else json").flag("log"),
    key("telemetry.log_level", Kind::LogFilter, "Level, or directives such as info,onstage=debug").or("info").flag("log-level"),
    key("telemetry.access_log", Kind::AccessLog, "Requests to log: errors, all, or a share such as sampled:0.01; probes never").or("errors").flag("access-log"),
    key("telemetry.otlp_endpoint", Kind::Uri, "Collector of traces (OTLP), such as http://127.0.0.1:4318, or for gRPC http://127.0.0.1:4317").flag("otlp-endpoint"),
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

    pub(super) fn default_value(&self) -> Option<Value> {
        let raw = Raw::Text(self.default?.to_owned());
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
    let sections = KEYS.iter().map(|def| KeyPath::of(def.section()));
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
        let later = if def.built {
            ""
        } else {
            " (not in this build yet)"
        };
        let (path, variable) = (def.path.replace('*', "<name>"), def.variable());
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| `{path}` | `{variable}` | {flag} | {default} | {}{later} |",
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
        suggest(&KeyPath::of(dotted)).map(|path| path.to_string())
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
