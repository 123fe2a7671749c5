//! What happens to every request before and after its protocol: an id, a deadline, the access log.

mod access_log;
mod grpc;
mod request_id;

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

pub use grpc::grpc_timeout;

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

/// Puts the layers around `router`.
pub fn layered(router: Router, options: MiddlewareOptions) -> Router {
    let timeout = options.request_timeout;
    let policy = options.access_log;
    let mut router = router
        .layer(CatchPanicLayer::custom(
            |_: Box<dyn std::any::Any + Send>| internal_error(),
        ))
        .layer(from_fn(move |request: Request, next: Next| {
            deadline(timeout, request, next)
        }));
    if !options.cors_origins.is_empty() {
        router = router.layer(cors(&options.cors_origins));
    }
    observed(router, policy)
}

/// The same around a router of gRPC services, whose failures are gRPC statuses.
pub fn layered_grpc(router: Router, options: &MiddlewareOptions) -> Router {
    let timeout = options.request_timeout;
    let router = router
        .layer(CatchPanicLayer::custom(
            |_: Box<dyn std::any::Any + Send>| grpc::panicked(),
        ))
        .layer(from_fn(move |request: Request, next: Next| {
            grpc::deadline(timeout, request, next)
        }));
    observed(router, options.access_log)
}

fn observed(router: Router, policy: AccessLog) -> Router {
    router
        .layer(from_fn(move |request: Request, next: Next| {
            access_log::log(policy, request, next)
        }))
        .layer(from_fn(request_id::set))
}

async fn deadline(timeout: Duration, request: Request, next: Next) -> Response {
    let is_mlflow = request.uri().path().ends_with("/invocations");
    match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let body = if is_mlflow {
                // What MLflow's server answers, word for word.
                "Request processing time exceeded limit"
            } else {
                r#"{"error":"the request took longer than `server.request_timeout`"}"#
            };
            let json = [(header::CONTENT_TYPE, "application/json")];
            (StatusCode::GATEWAY_TIMEOUT, json, body).into_response()
        }
    }
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
