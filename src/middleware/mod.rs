//! What happens to every request before and after its protocol: an id, a deadline, the access log.
//!
//! One service around the whole router, not layers on it: axum puts a layer around each route, boxed, and copies the box
//! for each request, which for small models costs more than the model.

mod access_log;
pub mod auth;
mod clients;
mod grpc;
mod request_id;
mod streams;
mod traced;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use serde_json::json;
use tower::{BoxError, Service, ServiceExt};
use tower_http::cors::{AllowHeaders, AllowOrigin, Any, CorsLayer};

use self::access_log::Watch;
use self::auth::{Authenticator, Caller};
use self::clients::{Admitted, TooMuch};
pub use self::clients::{ClientAddress, ClientLimits, ClientName, Clients};
pub use self::grpc::grpc_timeout;
pub use self::streams::Streams;
use self::traced::Traced;
use crate::error::ErrorKind;
use crate::serving::{self, RawParts, RequestContext, RequestId};
use crate::telemetry::{AccessLog, Tracer};

/// What the operator chose for every request.
#[derive(Debug, Clone)]
pub struct MiddlewareOptions {
    /// From the first byte of a request to its answer, slow uploads included.
    pub request_timeout: Duration,
    /// Which requests are logged.
    pub access_log: AccessLog,
    /// What authenticates requests; `None` without authentication.
    pub authenticator: Option<Authenticator>,
    /// Where requests are traced.
    pub tracer: Tracer,
    /// True once the server is about to stop: clients that keep connections are told to let them go.
    pub draining: Arc<AtomicBool>,
    /// What is refused before anybody looks at it.
    pub limits: RequestLimits,
    /// What is kept of requests as they come.
    pub raw: RawOptions,
}

/// What is kept of requests as they come.
#[derive(Debug, Clone, Default)]
pub struct RawOptions {
    /// Headers.
    pub headers: Vec<HeaderName>,
    /// Whether bodies are.
    pub bodies: bool,
}

impl RawOptions {
    fn parts(&self, request: &Request) -> Option<Arc<RawParts>> {
        if self.headers.is_empty() && !self.bodies {
            return None;
        }
        let value = |name: &HeaderName| {
            let value = request.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let headers = self.headers.iter().map(value).collect();
        Some(Arc::new(RawParts::new(headers, self.bodies)))
    }
}

/// What one request, and one client, may send.
#[derive(Debug, Clone)]
pub struct RequestLimits {
    /// Most headers.
    pub headers: usize,
    /// Bytes of all headers and the path.
    pub header_bytes: usize,
    /// Who sends how much; `None` when everybody may send all they can.
    pub clients: Option<Arc<Clients>>,
    /// Who keeps how many streams open; `None` when everybody may open all they can.
    pub streams: Option<Streams>,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            headers: 100,
            header_bytes: 32 << 10,
            clients: None,
            streams: None,
        }
    }
}

impl RequestLimits {
    /// Whether the head is within them.
    fn hold(&self, request: &Request) -> bool {
        let headers = request.headers();
        let path = request.uri().path_and_query();
        let path = path.map_or(0, |path| path.as_str().len());
        let sizes = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len());
        headers.len() <= self.headers && path + sizes.sum::<usize>() <= self.header_bytes
    }

    /// Has the requests of a caller that proved its name counted together, from wherever they come.
    fn name(&self, request: &mut Request) {
        if self.clients.is_none() && !streams::is_stream(request.uri().path()) {
            return;
        }
        let caller = request.extensions().get::<Caller>();
        if let Some(Ok(identity)) = caller.map(|caller| &caller.who) {
            let name = ClientName(identity.id().into());
            request.extensions_mut().insert(name);
        }
    }

    /// Lets the request of a client in, for as long as the answer is held.
    fn admit(&self, request: &Request) -> Result<Option<Admitted<'_>>, TooMuch> {
        match &self.clients {
            // Whoever asks how the server is must be answered.
            Some(clients) if !access_log::is_probe(request.uri().path()) => {
                clients.admit(request.extensions()).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// What answers requests, with everything around it; cheap to clone.
#[derive(Debug, Clone)]
pub struct Layered<S>(Arc<Around<S>>);

#[derive(Debug, Clone)]
struct Around<S> {
    http: Option<S>,
    grpc: Option<Router>,
    options: MiddlewareOptions,
}

/// Puts everything around what answers HTTP: a router, or a service in front of one.
pub fn layered<S: Inner>(http: S, options: MiddlewareOptions) -> Layered<S> {
    Layered(Arc::new(Around {
        http: Some(http),
        grpc: None,
        options,
    }))
}

/// The same around a router of gRPC services, whose failures are gRPC statuses.
pub fn layered_grpc(router: Router, options: &MiddlewareOptions) -> Layered<Router> {
    Layered(Arc::new(Around {
        http: None,
        grpc: Some(router),
        options: options.clone(),
    }))
}

impl<S: Inner> Layered<S> {
    /// The same, for a port that speaks gRPC as well: it says so in its content type.
    #[must_use]
    pub fn with_grpc(self, router: Router) -> Self {
        let mut around = Around::clone(&self.0);
        around.grpc = Some(router);
        Self(Arc::new(around))
    }
}

/// What [`layered`] may be put around.
pub trait Inner:
    Service<Request, Response = Response, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Inner for S where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

impl<S, B> Service<Request<B>> for Layered<S>
where
    S: Inner,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let around = Arc::clone(&self.0);
        Box::pin(async move { Ok(around.answer(request.map(Body::new)).await) })
    }
}

/// `off` keeps a request out of what is logged of its data.
const LOG: HeaderName = HeaderName::from_static("x-onstage-log");

/// In the extensions of an answer: its client has proved who it is.
#[derive(Debug, Clone, Copy)]
pub struct IsKnown;

/// The form of errors that occur outside a request's handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Mlflow,
    Grpc,
}

impl<S: Inner> Around<S> {
    async fn answer(&self, request: Request) -> Response {
        let id = request_id::take_or_make(&request);
        let form = self.form(&request);
        let version = request.version();
        let mut response = match Traced::begin(&self.options.tracer, form, &request, &id) {
            None => self.attend(form, request, id).await,
            // In a place of its own, as all that few requests need: the future of each request is moved, and is as large as
            // the largest way through it.
            Some(traced) => Box::pin(traced.around(self.attend(form, request, id))).await,
        };
        // HTTP/2 has a frame of its own for this.
        if version < Version::HTTP_2 && self.options.draining.load(Ordering::Relaxed) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }

    async fn attend(&self, form: Form, request: Request, id: RequestId) -> Response {
        let watch = Watch::begin(self.options.access_log, &request, &id);
        let timeout = match form {
            Form::Grpc => grpc::longest(request.headers(), self.options.request_timeout),
            Form::Json | Form::Mlflow => self.options.request_timeout,
        };
        let answer = AssertUnwindSafe(self.let_in(form, request, &id)).catch_unwind();
        let mut response = match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => internal_error(form),
            Err(_) => late(form),
        };
        let header = id.header().clone();
        response.headers_mut().insert(request_id::HEADER, header);
        let is_known = response.extensions().get::<IsKnown>().is_some();
        if let Some(watch) = watch {
            watch.end(&response, is_known);
        }
        response
    }

    fn form(&self, request: &Request) -> Form {
        let both = self.http.is_some() && self.grpc.is_some();
        if self.http.is_none() || (both && grpc::is_meant(request.headers())) {
            Form::Grpc
        } else if request.uri().path().ends_with("/invocations") {
            Form::Mlflow
        } else {
            Form::Json
        }
    }

    async fn let_in(&self, form: Form, mut request: Request, id: &RequestId) -> Response {
        if !self.options.limits.hold(&request) {
            return large_head(form);
        }
        if let Some(authenticator) = &self.options.authenticator {
            Box::pin(authenticator.identify(&mut request, id.header())).await;
            self.options.limits.name(&mut request);
        }
        let caller = request.extensions().get::<Caller>();
        let is_known = caller.is_some_and(|caller| caller.who.is_ok());
        let stream = match self.options.limits.streams.as_ref() {
            Some(streams) => streams.open(&request),
            None => Ok(None),
        };
        let admitted = self.options.limits.admit(&request);
        let mut response = match admitted.and_then(|admitted| Ok((admitted, stream?))) {
            Ok((_admitted, stream)) => {
                let context = context(&request, id, &self.options.raw);
                let answer = context.scope(self.ask(form, request)).await;
                match stream {
                    Some(stream) => stream.until_end(answer),
                    None => answer,
                }
            }
            Err(too_much) => refusal(form, &too_much),
        };
        if is_known {
            response.extensions_mut().insert(IsKnown);
        }
        response
    }

    async fn ask(&self, form: Form, request: Request) -> Response {
        let answer = match (form, &self.http, &self.grpc) {
            (Form::Json | Form::Mlflow, Some(http), _) => http.clone().oneshot(request).await,
            (_, _, Some(grpc)) => Box::pin(grpc.clone().oneshot(request)).await,
            (_, _, None) => return StatusCode::NOT_FOUND.into_response(),
        };
        match answer {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Who sends a request: the name that it proved, and where it comes from; and what it asks of those who watch.
fn context(request: &Request, id: &RequestId, raw: &RawOptions) -> RequestContext {
    let extensions = request.extensions();
    let address = extensions.get::<ClientAddress>();
    let caller = extensions.get::<Caller>();
    let identity = caller.and_then(|caller| caller.who.as_ref().ok());
    let caller = serving::Caller::new(
        identity.map(|identity| identity.id()),
        address.map(|address| address.network()),
        address.map(|address| address.0),
    );
    let log = request.headers().get(LOG);
    RequestContext {
        caller,
        id: id.clone(),
        name: identity.map(|identity| identity.name.as_str().into()),
        is_private: log.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"off")),
        raw: raw.parts(request),
    }
}

fn late(form: Form) -> Response {
    let body = match form {
        // What MLflow's server answers, word for word.
        Form::Mlflow => "Request processing time exceeded limit",
        Form::Json => r#"{"error":"the request took longer than `server.request_timeout`"}"#,
        Form::Grpc => return grpc::late(),
    };
    let json = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::GATEWAY_TIMEOUT, json, body).into_response()
}

fn large_head(form: Form) -> Response {
    const MESSAGE: &str =
        "the headers are more than `limits.max_headers`, or larger than `limits.max_header_size`";
    if form == Form::Grpc {
        return grpc::refusal(ErrorKind::InvalidArgument, MESSAGE);
    }
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    error(form, status, "BAD_REQUEST", MESSAGE)
}

fn refusal(form: Form, too_much: &TooMuch) -> Response {
    let seconds = too_much.wait.as_secs_f64().ceil().max(1.0);
    let mut response = match form {
        Form::Grpc => grpc::refusal(ErrorKind::Overloaded, &too_much.to_string()),
        Form::Json | Form::Mlflow => {
            let status = StatusCode::TOO_MANY_REQUESTS;
            error(
                form,
                status,
                "REQUEST_LIMIT_EXCEEDED",
                &too_much.to_string(),
            )
        }
    };
    let (name, value) = match form {
        Form::Grpc => ("grpc-retry-pushback-ms", seconds * 1e3),
        Form::Json | Form::Mlflow => ("retry-after", seconds),
    };
    if let Ok(value) = HeaderValue::from_str(&format!("{value:.0}")) {
        response.headers_mut().insert(name, value);
    }
    response
}

fn error(form: Form, status: StatusCode, code: &str, message: &str) -> Response {
    let body = match form {
        Form::Mlflow => json!({ "error_code": code, "message": message }),
        Form::Json | Form::Grpc => json!({ "error": message }),
    };
    let json = [(header::CONTENT_TYPE, "application/json")];
    (status, json, body.to_string()).into_response()
}

fn internal_error(form: Form) -> Response {
    tracing::error!("a request handler panicked");
    if form == Form::Grpc {
        return grpc::internal_error();
    }
    let json = [(header::CONTENT_TYPE, "application/json")];
    let body = r#"{"error_code": "INTERNAL_ERROR", "message": "internal error; see the server's log", "error": "internal error"}"#;
    (StatusCode::INTERNAL_SERVER_ERROR, json, body).into_response()
}

/// Lets pages of these origins call the routes; `*` is all.
pub fn cors(router: Router, origins: &[String]) -> Router {
    if origins.is_empty() {
        return router;
    }
    // `*` would not mean `Authorization`.
    let layer = CorsLayer::new()
        .allow_methods(Any)
        .allow_headers(AllowHeaders::mirror_request());
    if origins.iter().any(|origin| origin == "*") {
        return router.layer(layer.allow_origin(Any));
    }
    let origins = origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok());
    router.layer(layer.allow_origin(AllowOrigin::list(origins)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;

    fn options(timeout: Duration) -> MiddlewareOptions {
        MiddlewareOptions {
            request_timeout: timeout,
            access_log: AccessLog::Errors,
            authenticator: None,
            tracer: Tracer::default(),
            draining: Arc::default(),
            limits: RequestLimits::default(),
            raw: RawOptions::default(),
        }
    }

    async fn status(layered: &Layered<Router>, path: &str) -> (StatusCode, bool) {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = layered.clone().oneshot(request).await.unwrap();
        let has_id = response.headers().contains_key(request_id::HEADER);
        (response.status(), has_id)
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_panics_or_never_ends_is_answered_and_has_an_id() {
        let router = Router::new()
            .route("/panics", get(async || -> &str { panic!("on purpose") }))
            .route("/waits", get(std::future::pending::<&str>));
        let layered = layered(router, options(Duration::from_secs(5)));
        let panicked = (StatusCode::INTERNAL_SERVER_ERROR, true);
        assert_eq!(status(&layered, "/panics").await, panicked);
        let late = (StatusCode::GATEWAY_TIMEOUT, true);
        assert_eq!(status(&layered, "/waits").await, late);
        assert_eq!(status(&layered, "/").await, (StatusCode::NOT_FOUND, true));
    }

    async fn grpc_status(layered: &Layered<Router>, path: &str, timeout: &str) -> Option<i32> {
        let request = Request::builder().uri(path).header("grpc-timeout", timeout);
        let request = request.header("content-type", "application/grpc+proto");
        let request = request.body(Body::empty()).unwrap();
        let response = layered.clone().oneshot(request).await.unwrap();
        assert!(response.headers().contains_key(request_id::HEADER));
        grpc::status(response.headers())
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_grpc_are_statuses_also_on_the_port_of_http() {
        let services = Router::new()
            .route("/panics", get(async || -> &str { panic!("on purpose") }))
            .route("/waits", get(std::future::pending::<&str>));
        let options = options(Duration::from_secs(5));
        let alone = layered_grpc(services.clone(), &options);
        let both = layered(Router::new(), options).with_grpc(services);
        for layered in [alone, both.clone()] {
            assert_eq!(grpc_status(&layered, "/panics", "1S").await, Some(13));
            for timeout in ["1S", "1H", "x"] {
                let started = tokio::time::Instant::now();
                assert_eq!(grpc_status(&layered, "/waits", timeout).await, Some(4));
                let own = timeout == "1S";
                assert_eq!(started.elapsed() < Duration::from_secs(2), own, "{timeout}");
            }
        }
        assert_eq!(status(&both, "/waits").await, (StatusCode::NOT_FOUND, true));
    }
}
