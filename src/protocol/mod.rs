//! Wire protocols: codecs between bytes and tensors, and the one route table that routing and error answers read.
//!
//! A protocol is one file (or folder) with a `routes()` function and one row in [`router`].

mod access;
mod admin;
mod body;
mod cloud_events;
mod entry;
mod foreign;
mod health;
mod inflate;
mod json;
mod meter;
mod mlflow;
mod oip;
mod openapi;
mod path;
mod platforms;
mod refused;
mod sagemaker;
mod sample;
mod size;
mod v1;
mod v2_grpc;
mod v2_rest;

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower::util::MapRequestLayer;

pub use access::{AccessRow, access_table};
pub use admin::{AdminSlot, admin_router};
pub use entry::{Entry, entry};
pub use json::NonFinite;
pub use sample::{SampleProtocol, SampleRequest, sample_request};
pub use v2_grpc::{Grpc, HEALTH_NAMES, inference};

use self::access::Access;
use self::openapi::{Documentation, Operation};

use crate::budget::{Allowance, Budget};
use crate::error::ErrorKind;
use crate::middleware::auth::Guard;
use crate::model::{Batch, ModelId};
use crate::serving::{Aside, ExampleError, InferenceService, ModelHost, Servable};
use crate::telemetry::{Tracer, trace};

/// One row of the route table.
struct Route {
    path: Cow<'static, str>,
    surface: Surface,
    methods: MethodRouter<Shared>,
    /// What is told of it in `/openapi.json`: one for each method.
    operations: Vec<Operation>,
}

impl Route {
    fn new(
        path: impl Into<Cow<'static, str>>,
        surface: Surface,
        methods: MethodRouter<Shared>,
        operations: Vec<Operation>,
    ) -> Self {
        Self {
            path: path.into(),
            surface,
            methods,
            operations,
        }
    }

    /// Who may use each of its methods.
    fn decisions(&self) -> Vec<(Method, Access)> {
        let decision = |operation: &Operation| {
            let method = operation.method.to_uppercase();
            let method = Method::from_bytes(method.as_bytes()).ok()?;
            Some((method, operation.access))
        };
        self.operations.iter().filter_map(decision).collect()
    }
}

/// Whose error bodies a path answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Surface {
    /// `{"detail": …}`, as MLflow's server.
    Mlflow,
    /// `{"error": …}`.
    V1,
    /// `{"error": …}`.
    V2,
}

/// What every handler may use; cheap to clone.
#[derive(Clone)]
pub struct Shared(Arc<SharedState>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

struct SharedState {
    service: InferenceService,
    options: ProtocolOptions,
    draining: Arc<AtomicBool>,
    host: OnceLock<Arc<dyn ModelHost>>,
    documentation: Documentation,
    streams_end: CancellationToken,
    /// One at a time: with a thousand models a page takes long.
    scrapes: Aside,
}

/// What the operator chose for all protocols.
#[derive(Debug, Clone, Default)]
pub struct ProtocolOptions {
    /// How NaN and infinities are written in JSON.
    pub non_finite: NonFinite,
    /// Bytes of the largest body.
    pub max_body: usize,
    /// The longest pause that a client may make in a body; `None` is any.
    pub body_timeout: Option<Duration>,
    /// A path in front of every other, such as `/models-api`; empty for none.
    pub base_path: String,
    /// Another path that tells whether the server is ready.
    pub health_route: Option<String>,
    /// Another path that answers V1 predictions of the default model.
    pub predict_route: Option<String>,
    /// Whether models come and go by request.
    pub multi_model: bool,
    /// Who decides whether a caller may do what it asks for; `None` where everybody may.
    pub guard: Option<Guard>,
    /// Whether everybody may read the metrics.
    pub public_metrics: bool,
    /// What requests may hold together.
    pub budget: Budget,
    /// Where requests and loads are traced.
    pub tracer: Tracer,
}

impl Shared {
    /// The state of a server over `service`.
    pub fn new(service: InferenceService, options: ProtocolOptions) -> Self {
        Self(Arc::new(SharedState {
            service,
            options,
            draining: Arc::default(),
            host: OnceLock::new(),
            documentation: Documentation::default(),
            streams_end: CancellationToken::new(),
            scrapes: Aside::new(1),
        }))
    }

    /// The way to the models.
    pub fn service(&self) -> &InferenceService {
        &self.0.service
    }

    /// Whether the server wants new requests: each wanted model serves or has settled, and no stop was asked for.
    pub fn is_ready(&self) -> bool {
        !self.0.draining.load(Ordering::Relaxed) && self.service().catalog().snapshot().is_ready()
    }

    /// Where requests and loads are traced.
    pub fn tracer(&self) -> &Tracer {
        &self.0.options.tracer
    }

    /// Turns true once a stop was asked for.
    pub fn draining(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0.draining)
    }

    /// Turns readiness off for good; requests are still answered.
    pub fn start_draining(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// From here on models come and go by request.
    pub fn host_models(&self, host: Arc<dyn ModelHost>) {
        // There is one, once.
        let _ = self.0.host.set(host);
    }

    /// Whoever lets models come and go; `None` until it runs.
    fn host(&self) -> Option<&Arc<dyn ModelHost>> {
        self.0.host.get()
    }

    /// Reads no more from streams that their clients keep open; what they have asked for is answered.
    pub fn end_streams(&self) {
        self.0.streams_end.cancel();
    }

    /// Resolves when open streams shall end.
    async fn streams_end(&self) {
        self.0.streams_end.cancelled().await;
    }

    /// Who decides whether a caller may do what it asks for.
    fn guard(&self) -> Option<&Guard> {
        self.0.options.guard.as_ref()
    }

    fn non_finite(&self) -> NonFinite {
        self.0.options.non_finite
    }

    fn body_timeout(&self) -> Option<Duration> {
        self.0.options.body_timeout
    }

    fn max_body(&self) -> usize {
        self.0.options.max_body
    }

    /// What all requests may hold, and what their runs take.
    pub fn budget(&self) -> &Budget {
        &self.0.options.budget
    }

    /// What one request may hold; nothing is charged yet.
    fn allowance(&self) -> Allowance {
        let options = &self.0.options;
        options.budget.of_request(options.max_body)
    }
}

/// The route table: every path of the main listener.
fn table() -> impl Iterator<Item = Route> {
    let table = [
        mlflow::routes(),
        v2_rest::routes(),
        v1::routes(),
        health::routes(),
        openapi::routes(),
    ];
    table.into_iter().flatten()
}

/// The router of every protocol; [`entry`] goes in front of it.
pub fn router(shared: &Shared) -> Router {
    let options = &shared.0.options;
    let mut table: Vec<Route> = table()
        .chain(sagemaker::routes(options.multi_model))
        .collect();
    let more = platforms::routes(options, &table);
    table.extend(more);
    shared.0.documentation.remember(&table);
    let mut router: Router<Shared> = Router::new();
    for route in table {
        let surface = route.surface;
        let methods = access::guarded(&route, shared)
            .fallback(move |uri: Uri| async move { surface.method_not_allowed_at(uri.path()) });
        router = router.route(&route.path, methods);
    }
    if options.tracer.is_on() {
        router = router.route_layer(MapRequestLayer::new(name_route));
    }
    let router = router.fallback(path::not_found).with_state(shared.clone());
    // What has no route may have one in lower case; all else is not slowed down by looking.
    let again = router.clone();
    let router = router.fallback(move |request: Request| again.oneshot(normalized(request)));
    match shared.0.options.base_path.as_str() {
        "" => router,
        base_path => Router::new()
            .nest(base_path, router)
            .fallback(path::not_found),
    }
}

/// Names the trace after the pattern of the route.
fn name_route(request: Request) -> Request {
    let matched = request.extensions().get::<MatchedPath>();
    if let Some((matched, trace)) = matched.zip(trace::current()) {
        trace.rename(format!("{} {}", request.method(), matched.as_str()));
        trace.set("http.route", matched.as_str().to_owned());
    }
    request
}

/// The request with the path that the table knows.
fn normalized(request: Request) -> Request {
    let (mut parts, body) = request.into_parts();
    parts.uri = v1::normalized(parts.uri);
    Request::from_parts(parts, body)
}

impl Surface {
    /// Of a path below `base_path`; of one that is not, as if it were.
    fn below(base_path: &str, path: &str) -> Self {
        Self::of(path.strip_prefix(base_path).unwrap_or(path))
    }

    fn of(path: &str) -> Self {
        if path.starts_with("/v1") {
            Self::V1
        } else if path.starts_with("/v2") {
            Self::V2
        } else {
            Self::Mlflow
        }
    }

    fn method_not_allowed(self) -> Response {
        self.plain_error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
    }

    /// The same of a path below the base path, with the methods that it has where its route alone does not tell them.
    fn method_not_allowed_at(self, path: &str) -> Response {
        let refusal = self.method_not_allowed();
        match v1::allowed(path).filter(|_| self == Self::V1) {
            Some(allowed) => ([(header::ALLOW, allowed)], refusal).into_response(),
            None => refusal,
        }
    }

    fn plain_error(self, status: StatusCode, message: &str) -> Response {
        let key = match self {
            Self::Mlflow => "detail",
            Self::V1 | Self::V2 => "error",
        };
        let message = serde_json::Value::from(message);
        self.json_error(status, format!("{{\"{key}\":{message}}}"))
    }

    fn json_error(self, status: StatusCode, body: String) -> Response {
        (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
const MODEL_NAME: HeaderName = HeaderName::from_static("x-model-name");
const MODEL_VERSION: HeaderName = HeaderName::from_static("x-model-version");

/// How long the client of a request waits: the header `x-request-timeout`, a duration such as `250ms`.
///
/// # Errors
/// What is wrong with the header.
fn timeout_header(headers: &HeaderMap) -> Result<Option<Duration>, String> {
    let Some(value) = headers.get(REQUEST_TIMEOUT) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("?");
    let timeout = humantime::parse_duration(text)
        .ok()
        .filter(|timeout| !timeout.is_zero());
    timeout.map(Some).ok_or_else(|| {
        format!("invalid header `x-request-timeout: {text}`: expected a duration such as `250ms` or `2s`")
    })
}

/// Says which version answered.
fn model_headers(response: &mut Response, model: Option<&ModelId>) {
    set_model_headers(response.headers_mut(), model);
}

/// Likewise, in the metadata of gRPC too.
fn set_model_headers(headers: &mut HeaderMap, model: Option<&ModelId>) {
    let Some(id) = model else { return };
    let encoded: Cow<'_, str> =
        percent_encoding::utf8_percent_encode(id.name.as_str(), percent_encoding::CONTROLS).into();
    if let Ok(name) = HeaderValue::from_str(&encoded) {
        headers.insert(MODEL_NAME, name);
    }
    headers.insert(MODEL_VERSION, HeaderValue::from(id.version.0));
}

/// Runs a package's own example (an MLflow scoring body) through a servable.
///
/// # Errors
/// The kind of failure and its message.
pub async fn score_example(
    servable: &Servable,
    body: Vec<u8>,
) -> Result<Vec<u8>, (ErrorKind, String)> {
    score(servable, "application/json", body, NonFinite::Null).await
}

/// The same for the sake of its outputs: how many numbers in them are NaN or infinite, and which tensors were sent.
///
/// # Errors
/// [`ExampleError`]: whether it reached the engine.
pub async fn check_example(
    servable: &Servable,
    body: Vec<u8>,
) -> Result<(usize, Batch), ExampleError> {
    mlflow::check(servable, body).await
}

/// Answers a scoring body of this content type as `/invocations` would, byte by byte.
///
/// # Errors
/// The kind of failure and MLflow's message.
pub async fn score(
    servable: &Servable,
    content_type: &str,
    body: Vec<u8>,
    non_finite: NonFinite,
) -> Result<Vec<u8>, (ErrorKind, String)> {
    mlflow::score_once(servable, content_type, body, non_finite).await
}

/// The scoring answer to tensors that no request brought.
///
/// # Errors
/// The kind of failure and its message.
pub async fn score_batch(
    servable: &Servable,
    batch: Batch,
) -> Result<Vec<u8>, (ErrorKind, String)> {
    mlflow::score_batch(servable, batch).await
}

/// The tensors of a package's own example, as [`score_example`] sends them to the model.
///
/// # Errors
/// The kind of failure and its message.
pub fn example_batch(servable: &Servable, body: Vec<u8>) -> Result<Batch, (ErrorKind, String)> {
    mlflow::batch_of(servable, body)
}
