//! What happens to every HTTP request before and after its protocol: an id, a deadline, the access log.
//!
//! One service around the whole router, not layers on it: axum puts a layer around each route, boxed, and copies the box
//! for each request, which for small models costs more than the model.

mod access_log;
mod request_id;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tower::{BoxError, Service, ServiceExt};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use self::access_log::Watch;
use crate::telemetry::AccessLog;

/// What the operator chose for every request.
#[derive(Debug, Clone)]
pub struct MiddlewareOptions {
    /// From the first byte of a request to its answer, slow uploads included.
    pub request_timeout: Duration,
    /// Which requests are logged.
    pub access_log: AccessLog,
    /// Origins whose pages may call this server; `*` is all.
    pub cors_origins: Vec<String>,
}

/// A router with everything around it; cheap to clone.
#[derive(Debug, Clone)]
pub struct Layered(Arc<Around>);

#[derive(Debug)]
struct Around {
    router: Router,
    timeout: Duration,
    access_log: AccessLog,
}

/// Puts everything around `router`.
pub fn layered(router: Router, options: MiddlewareOptions) -> Layered {
    let router = if options.cors_origins.is_empty() {
        router
    } else {
        router.layer(cors(&options.cors_origins))
    };
    Layered(Arc::new(Around {
        router,
        timeout: options.request_timeout,
        access_log: options.access_log,
    }))
}

impl<B> Service<Request<B>> for Layered
where
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

impl Around {
    async fn answer(&self, mut request: Request) -> Response {
        let id = request_id::take_or_make(&mut request);
        let watch = Watch::begin(self.access_log, &request, &id);
        let is_mlflow = request.uri().path().ends_with("/invocations");
        let answer = AssertUnwindSafe(self.router.clone().oneshot(request)).catch_unwind();
        let mut response = match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(Ok(response))) => response,
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(_)) => internal_error(),
            Err(_) => late(is_mlflow),
        };
        response.headers_mut().insert(request_id::HEADER, id.0);
        if let Some(watch) = watch {
            watch.end(&response);
        }
        response
    }
}

fn late(is_mlflow: bool) -> Response {
    let body = if is_mlflow {
        // What MLflow's server answers, word for word.
        "Request processing time exceeded limit"
    } else {
        r#"{"error":"the request took longer than `server.request_timeout`"}"#
    };
    let json = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::GATEWAY_TIMEOUT, json, body).into_response()
}

fn internal_error() -> Response {
    tracing::error!("a request handler panicked");
    let json = [(header::CONTENT_TYPE, "application/json")];
    let body = r#"{"error_code": "INTERNAL_ERROR", "message": "internal error; see the server's log", "error": "internal error"}"#;
    (StatusCode::INTERNAL_SERVER_ERROR, json, body).into_response()
}

fn cors(origins: &[String]) -> CorsLayer {
    let layer = CorsLayer::new().allow_methods(Any).allow_headers(Any);
    if origins.iter().any(|origin| origin == "*") {
        return layer.allow_origin(Any);
    }
    let origins = origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok());
    layer.allow_origin(AllowOrigin::list(origins))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;

    fn options(timeout: Duration) -> MiddlewareOptions {
        MiddlewareOptions {
            request_timeout: timeout,
            access_log: AccessLog::Errors,
            cors_origins: Vec::new(),
        }
    }

    async fn status(layered: &Layered, path: &str) -> (StatusCode, bool) {
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
}
