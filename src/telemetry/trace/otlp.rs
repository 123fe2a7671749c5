//! The way to the collector: a bounded queue, a thread that sends, and a count of what was lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Bytes;
use axum::http::{Request, Response};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig,
    WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter,
    SpanProcessor,
};
use tokio::runtime::Handle;

use super::{Lost, TraceError, TraceOptions};

/// Spans that wait for the exporter; more are lost.
const QUEUE: usize = 4096;

/// The longest time for one HTTP request to the collector; the exporter's own bounds the attempts together.
const LONGEST: Duration = Duration::from_secs(10);

/// More than a collector has to say.
const LONGEST_ANSWER: usize = 1 << 20;

pub(super) fn provider(options: &TraceOptions) -> Result<SdkTracerProvider, TraceError> {
    let gate = Arc::new(Gate {
        waiting: AtomicUsize::new(0),
        failing: AtomicBool::new(false),
        lost: Arc::clone(&options.lost),
    });
    let exporter = Counting {
        inner: exporter(options)?,
        gate: Arc::clone(&gate),
    };
    let config = BatchConfigBuilder::default().with_max_queue_size(QUEUE);
    let inner = BatchSpanProcessor::builder(exporter)
        .with_batch_config(config.build())
        .build();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource(options))
        .with_span_processor(Gated { inner, gate });
    Ok(provider.build())
}

fn resource(options: &TraceOptions) -> Resource {
    let own = [
        KeyValue::new("service.name", "onstage"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()),
    ];
    let resource = Resource::builder_empty()
        .with_attributes(own)
        .with_detector(Box::new(EnvResourceDetector::new()));
    match &options.service_name {
        Some(name) => resource.with_service_name(name.clone()).build(),
        None => resource.build(),
    }
}

fn exporter(options: &TraceOptions) -> Result<OtlpExporter, TraceError> {
    let refused = |error: ExporterBuildError| TraceError::Exporter(error.to_string());
    if !options.grpc {
        let client = Client {
            client: options.client.clone(),
            runtime: Handle::current(),
        };
        return OtlpExporter::builder()
            .with_http()
            .with_endpoint(options.endpoint.as_str())
            .with_http_client(client)
            .build()
            .map_err(refused);
    }
    let mut builder = OtlpExporter::builder()
        .with_tonic()
        .with_endpoint(options.endpoint.as_str());
    if options.endpoint.scheme() == "https" {
        let mut tls = ClientTlsConfig::new().with_enabled_roots();
        if let Some(path) = &options.ca_file {
            let pem = std::fs::read(path).map_err(|source| TraceError::CaFile {
                path: path.clone(),
                source,
            })?;
            tls = tls.ca_certificate(Certificate::from_pem(pem));
        }
        builder = builder.with_tls_config(tls);
    }
    builder.build().map_err(refused)
}

/// How many spans wait, and how many were lost.
struct Gate {
    waiting: AtomicUsize,
    /// Whether the log has been told, until a batch goes through again.
    failing: AtomicBool,
    lost: Lost,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Gate {
    fn lose(&self, reason: &'static str, spans: usize, why: &str) {
        (self.lost)(reason, spans);
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                reason,
                error = why,
                "traces are lost, which disturbs nothing else; `onstage_trace_spans_lost_total` counts them"
            );
        }
    }
}

/// Lets as many spans wait as the queue holds, so that those that it would drop in silence are counted.
#[derive(Debug)]
struct Gated {
    inner: BatchSpanProcessor,
    gate: Arc<Gate>,
}

impl SpanProcessor for Gated {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.gate.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            self.gate.waiting.fetch_sub(1, Ordering::Relaxed);
            self.gate.lose("queue_full", 1, "the collector is too slow");
            return;
        }
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Counts what the collector does not take.
#[derive(Debug)]
struct Counting {
    inner: OtlpExporter,
    gate: Arc<Gate>,
}

impl SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        self.gate.waiting.fetch_sub(spans, Ordering::Relaxed);
        match &result {
            Ok(()) if self.gate.failing.swap(false, Ordering::Relaxed) => {
                tracing::info!("the collector takes traces again");
            }
            Ok(()) => {}
            Err(error) => self.gate.lose("export", spans, &error.to_string()),
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Sends on the server's runtime, with the same proxies and certificates as everything else; the thread of the exporter
/// has no runtime of its own.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            tokio::time::timeout(LONGEST, exchange(&client, request.try_into()?)).await?
        });
        sent.await?
    }
}

async fn exchange(
    client: &reqwest::Client,
    request: reqwest::Request,
) -> Result<Response<Bytes>, HttpError> {
    let mut response = client
        .execute(request)
        .await
        .map_err(reqwest::Error::without_url)?;
    let mut answer = Response::builder().status(response.status());
    for (name, value) in response.headers() {
        answer = answer.header(name, value);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Err("the collector's answer is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(answer.body(body.into())?)
}
