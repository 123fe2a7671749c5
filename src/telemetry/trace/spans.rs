//! Spans, by OpenTelemetry's own library.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Attribute, TraceError, TraceOptions, otlp};

tokio::task_local! {
    static CURRENT: Trace;
}

/// The trace that this task works for.
pub fn current() -> Option<Trace> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Makes traces, when there is a collector for them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Exporting>>);

#[derive(Debug)]
struct Exporting {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
}

impl Tracer {
    /// A tracer that sends to a collector, which need not be there yet. Within a runtime.
    ///
    /// # Errors
    /// [`TraceError`], when a setting is wrong.
    pub fn start(options: &TraceOptions) -> Result<Self, TraceError> {
        let provider = otlp::provider(options)?;
        Ok(Self::new(provider))
    }

    fn new(provider: SdkTracerProvider) -> Self {
        let tracer = provider.tracer("onstage");
        let propagator = TraceContextPropagator::new();
        Self(Some(Arc::new(Exporting {
            provider,
            tracer,
            propagator,
        })))
    }

    /// Whether there is a collector.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The trace of a request, as part of the client's where its headers name one. `None` when it is not sampled.
    pub fn serve(&self, name: String, headers: &HeaderMap) -> Option<Trace> {
        let exporting = self.0.as_deref()?;
        let carrier = Carrier(headers);
        let parent = exporting
            .propagator
            .extract_with_context(&Context::new(), &carrier);
        let builder = exporting.tracer.span_builder(name);
        exporting.begin(builder.with_kind(SpanKind::Server), &parent)
    }

    /// A trace of something that no request asked for. `None` when it is not sampled.
    pub fn begin(&self, name: &'static str) -> Option<Trace> {
        let exporting = self.0.as_deref()?;
        let builder = exporting.tracer.span_builder(name);
        exporting.begin(builder.with_kind(SpanKind::Internal), &Context::new())
    }

    /// Sends what is left, for at most this long.
    pub async fn stop(&self, longest: Duration) {
        let Some(exporting) = self.0.clone() else {
            return;
        };
        let (done, stopped) = oneshot::channel();
        // Its own thread: the exporter may need this one.
        let spawned = std::thread::Builder::new()
            .name("traces-stop".to_owned())
            .spawn(move || drop(done.send(exporting.provider.shutdown_with_timeout(longest))));
        let stopped = tokio::time::timeout(longest + Duration::from_millis(100), stopped);
        if spawned.is_ok() && !matches!(stopped.await, Ok(Ok(Ok(())))) {
            tracing::warn!("the collector did not take the last traces in time");
        }
    }
}

impl Exporting {
    fn begin(&self, builder: opentelemetry::trace::SpanBuilder, parent: &Context) -> Option<Trace> {
        let span = self.tracer.build_with_context(builder, parent);
        let context = parent.with_span(span);
        let sampled = context.span().span_context().is_sampled();
        sampled.then(|| Trace {
            tracer: self.tracer.clone(),
            context,
        })
    }
}

/// One span of a trace, and the way to make more below it. Cheap to clone; ends with [`Trace::end`], else when the last
/// clone goes.
#[derive(Debug, Clone)]
pub struct Trace {
    tracer: SdkTracer,
    context: Context,
}

impl Trace {
    /// The trace's id, as 32 hexadecimal digits.
    pub fn id(&self) -> String {
        self.context.span().span_context().trace_id().to_string()
    }

    /// Runs `work` as part of this trace, its log lines included.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        use tracing::Instrument as _;
        let span = tracing::info_span!("request", trace_id = self.id());
        CURRENT.scope(self, work.instrument(span)).await
    }

    /// Says something about the span.
    pub fn set(&self, key: &'static str, value: impl Into<Attribute>) {
        let value = match value.into() {
            Attribute::Word(word) => Value::from(word),
            Attribute::Text(text) => Value::from(text),
            Attribute::Number(number) => Value::from(number),
        };
        self.context.span().set_attribute(KeyValue::new(key, value));
    }

    /// Another name for the span.
    pub fn rename(&self, name: String) {
        self.context.span().update_name(name);
    }

    /// What the span is about has failed, for this reason.
    pub fn fail(&self, reason: &'static str) {
        self.set("error.type", reason);
        self.context.span().set_status(Status::error(""));
    }

    /// The span ends now.
    pub fn end(&self) {
        self.context.span().end();
    }

    /// A span below this one.
    #[must_use]
    pub fn child(&self, name: &'static str, since: Instant) -> Self {
        let builder = self.tracer.span_builder(name).with_start_time(time(since));
        let span = self.tracer.build_with_context(builder, &self.context);
        Self {
            tracer: self.tracer.clone(),
            context: self.context.with_span(span),
        }
    }

    /// The span ended then.
    pub fn end_at(&self, at: Instant) {
        self.context.span().end_with_timestamp(time(at));
    }
}

/// The time of day of an instant that is not long ago.
fn time(instant: Instant) -> SystemTime {
    SystemTime::now() - instant.elapsed()
}

struct Carrier<'a>(&'a HeaderMap);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{Sampler, SpanData, SpanExporter};
    use parking_lot::Mutex;

    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().extend(batch);
            Ok(())
        }
    }

    fn tracer() -> (Tracer, Kept) {
        let exporter = Kept::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .build();
        (Tracer::new(provider), exporter)
    }

    fn headers(sampled: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let flags = if sampled { "01" } else { "00" };
        let parent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        headers.insert("traceparent", parent.parse().unwrap());
        headers
    }

    #[tokio::test(start_paused = true)]
    async fn spans_of_a_request_are_below_the_span_of_its_client() {
        let (tracer, exporter) = tracer();
        let trace = tracer.serve("POST".to_owned(), &headers(true)).unwrap();
        assert_eq!(trace.id(), "0af7651916cd43dd8448eb211c80319c");
        assert!(current().is_none());
        let started = Instant::now();
        trace
            .clone()
            .scope(async {
                tokio::time::advance(Duration::from_millis(5)).await;
                let child = current().unwrap().child("queue", started);
                child.end_at(Instant::now());
            })
            .await;
        trace.rename("POST /v2/models/{model}/infer".to_owned());
        trace.end();
        let spans = exporter.0.lock().clone();
        let [queue, request] = spans.as_slice() else {
            panic!("{spans:?}");
        };
        assert_eq!(request.name, "POST /v2/models/{model}/infer");
        assert_eq!(request.parent_span_id.to_string(), "b7ad6b7169203331");
        assert_eq!(queue.parent_span_id, request.span_context.span_id());
        let took = queue.end_time.duration_since(queue.start_time).unwrap();
        assert!(took >= Duration::from_millis(4), "{took:?}");
    }

    #[tokio::test]
    async fn what_a_client_does_not_sample_has_no_trace() {
        let (tracer, exporter) = tracer();
        assert!(tracer.serve("POST".to_owned(), &headers(false)).is_none());
        assert!(
            Tracer::default()
                .serve("POST".to_owned(), &headers(true))
                .is_none()
        );
        assert_eq!(exporter.0.lock().len(), 0);
    }

    #[tokio::test]
    async fn a_span_that_nobody_ends_ends_with_its_last_holder() {
        let (tracer, exporter) = tracer();
        let trace = tracer.begin("swap").unwrap();
        let other = trace.clone();
        drop(trace);
        assert_eq!(exporter.0.lock().len(), 0);
        drop(other);
        assert_eq!(exporter.0.lock().len(), 1);
    }
}
