//! Whether traces are exported, and where to: by the configuration, else by OpenTelemetry's own variables.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use url::Url;

use crate::config::Settings;
use crate::network::{self};
use crate::registry::Environment;
use crate::telemetry::trace::{TraceError, check_endpoint};
use crate::telemetry::{Metrics, TraceOptions, Tracer};

/// How long the last spans may take to reach the collector.
pub(crate) const LAST_SPANS: Duration = Duration::from_secs(2);

/// The port on which collectors take gRPC; that of HTTP is 4318.
const GRPC_PORT: u16 = 4317;

/// Where HTTP takes traces, below an address that is for all signals.
const PATH: &str = "v1/traces";

/// The tracer of this server, which makes nothing when there is no collector.
///
/// # Errors
/// What is wrong with the settings of traces.
pub(crate) fn start(
    settings: &Settings,
    environment: &Environment,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Tracer> {
    let configured = settings.telemetry.otlp_endpoint.as_deref();
    let Some(found) = found(configured, environment) else {
        return Ok(Tracer::default());
    };
    let checked = check_endpoint(&found.endpoint);
    let base = match checked {
        Err(error @ TraceError::Feature) if configured.is_none() => {
            // Set for every container of a cluster, perhaps.
            tracing::warn!(variable = found.origin, "{error}");
            return Ok(Tracer::default());
        }
        checked => checked.with_context(|| format!("invalid `{}`", found.origin))?,
    };
    let grpc = speaks_grpc(&base, environment);
    let network = settings.network.config();
    let metrics = Arc::clone(metrics);
    let tracer = Tracer::start(&TraceOptions {
        endpoint: if grpc { base } else { found.complete(base) },
        grpc,
        service_name: environment.get("OTEL_SERVICE_NAME").map(str::to_owned),
        ca_file: network.ca_file.clone(),
        client: network::client(&network)?,
        lost: Arc::new(move |reason, spans| metrics.spans_lost(reason, spans)),
    })?;
    tracing::info!(
        protocol = if grpc { "grpc" } else { "http/protobuf" },
        origin = found.origin,
        "traces are exported"
    );
    Ok(tracer)
}

/// An address, and what named it.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    endpoint: String,
    origin: &'static str,
    /// Whether it is that of traces, and not of all signals.
    is_whole: bool,
}

impl Found {
    fn complete(&self, mut url: Url) -> Url {
        let path = url.path().trim_end_matches('/').to_owned();
        if !self.is_whole && !path.ends_with(PATH) {
            url.set_path(&format!("{path}/{PATH}"));
        }
        url
    }
}

fn found(configured: Option<&str>, environment: &Environment) -> Option<Found> {
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let found = |endpoint: &str, origin, is_whole| Found {
        endpoint: endpoint.to_owned(),
        origin,
        is_whole,
    };
    if let Some(endpoint) = configured {
        return Some(found(endpoint, "telemetry.otlp_endpoint", false));
    }
    let off = environment.is_true("OTEL_SDK_DISABLED")
        || environment.get("OTEL_TRACES_EXPORTER") == Some("none");
    if off {
        return None;
    }
    let traces = environment.get(TRACES).map(|url| found(url, TRACES, true));
    traces.or_else(|| environment.get(ALL).map(|url| found(url, ALL, false)))
}

fn speaks_grpc(endpoint: &Url, environment: &Environment) -> bool {
    let of_traces = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL");
    match of_traces.or_else(|| environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")) {
        Some(protocol) => protocol == "grpc",
        None => endpoint.port() == Some(GRPC_PORT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let variables = variables.iter();
        let variables: Vec<_> = variables
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        Environment::new(&variables)
    }

    fn target(configured: Option<&str>, variables: &[(&str, &str)]) -> Option<(String, bool)> {
        let environment = environment(variables);
        let found = found(configured, &environment)?;
        let url: Url = found.endpoint.parse().unwrap();
        let grpc = speaks_grpc(&url, &environment);
        let url = if grpc { url } else { found.complete(url) };
        Some((url.to_string(), grpc))
    }

    #[test]
    fn the_configuration_goes_before_the_variables() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318");
        let traces = (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "http://traces:4318/in",
        );
        let http = |url: &str| Some((url.to_owned(), false));
        assert_eq!(target(None, &[]), None);
        assert_eq!(target(None, &[all]), http("http://all:4318/v1/traces"));
        assert_eq!(target(None, &[all, traces]), http("http://traces:4318/in"));
        let own = Some("http://own:4318/otlp/");
        assert_eq!(target(own, &[all]), http("http://own:4318/otlp/v1/traces"));
        let whole = Some("http://own/v1/traces");
        assert_eq!(target(whole, &[]), http("http://own/v1/traces"));
        for off in [
            ("OTEL_SDK_DISABLED", "true"),
            ("OTEL_TRACES_EXPORTER", "none"),
        ] {
            assert_eq!(target(None, &[all, off]), None);
        }
    }

    #[test]
    fn the_protocol_is_named_or_that_of_the_port() {
        let grpc = |url: &str| Some((url.to_owned(), true));
        assert_eq!(target(Some("http://a:4317"), &[]), grpc("http://a:4317/"));
        let variable = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        assert_eq!(target(Some("http://a:9"), &[variable]), grpc("http://a:9/"));
        let http = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        let (url, is_grpc) = target(Some("http://a:4317"), &[http]).unwrap();
        assert_eq!((&*url, is_grpc), ("http://a:4317/v1/traces", false));
    }
}
