//! Open Inference Protocol v2 over REST, with the extensions that Triton's clients use.
//!
//! <https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol>; data is accepted flat or
//! nested and answered flat.
//!
//! ```text
//! body ─► binary (where the JSON ends) ─► request (JSON) ─► elements ─┐
//!                                └─► oip::raw ────────────────────────┴─► Signature::bind ─► engine ─► response
//! ```

mod absent;
mod binary;
mod describe;
mod elements;
mod error;
mod infer;
mod repository;
mod request;
mod response;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

pub(crate) use self::binary::Framing;
use self::infer::{InferCodec, Received};
pub(crate) use self::repository::{index as repository_index, refuse_overrides};
use crate::budget::Allowance;
use crate::http::body::{self, BodyError};
use crate::http::headers::{model_headers, timeout_header};
use crate::http::{Surface, json};
use crate::middleware::auth::Scope;
use crate::protocol::access::Access;
use crate::protocol::json::NonFinite;
use crate::protocol::oip::error::OipError;
use crate::protocol::oip::selector::select;
use crate::protocol::openapi::{Answer, Operation, RequestBody};
use crate::protocol::platforms::cloud_events;
use crate::protocol::route::Route;
use crate::protocol::state::Shared;
use crate::serving::{Codec, LookupError, Selector};
use crate::telemetry::Protocol;

/// What reads a body of which this many bytes are JSON, and writes its answer.
pub(crate) fn codec(body: Vec<u8>, json: usize) -> impl Codec {
    let received = Received {
        json: Some(json),
        timeout: None,
        body: body.into(),
    };
    InferCodec::new(Ok(received), NonFinite::Null, Allowance::unlimited())
}

pub(crate) fn routes() -> Vec<Route> {
    let row = |path: &'static str, methods, operation| {
        Route::new(path, Surface::V2, methods, vec![operation])
    };
    let described = |access, summary, schema| Operation::get(access, summary, Answer::Json(schema));
    let read = Access::Model(Scope::Read);
    let mut rows = vec![
        row(
            "/v2/health/live",
            get(|| async { json(StatusCode::OK, r#"{"live":true}"#.into()) }),
            described(Access::Public, "whether the process lives", "Live"),
        ),
        row(
            "/v2/health/ready",
            get(ready),
            described(Access::Public, "readiness of the server", "Ready").or_unready(),
        ),
        row("/v2/repository/index", post(list_repository), INDEX),
        row(
            "/v2/models/{model}/ready",
            get(model_ready),
            described(read, "whether a model answers", "Ready").fails(&[404, 503]),
        ),
        row(
            "/v2/models/{model}/versions/{version}/ready",
            get(version_ready),
            described(read, "whether a version answers", "Ready").fails(&[404, 503]),
        ),
        row(
            "/v2/models/{model}/infer",
            post(model_infer),
            Operation::infer("the version that serves"),
        ),
        row(
            "/v2/models/{model}/versions/{version}/infer",
            post(version_infer),
            Operation::infer("one version"),
        ),
    ];
    rows.extend(describe::routes());
    rows.extend(absent::routes());
    rows
}

const INDEX: Operation = Operation::post(
    Access::Every(Scope::Read),
    "models, their versions and where each stands",
    RequestBody::Optional("RepositoryFilter"),
    Answer::Json("RepositoryIndex"),
)
.fails(&[400, 413]);

pub(crate) async fn ready(State(shared): State<Shared>) -> Response {
    let ready = shared.is_ready();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(status, format!("{{\"ready\":{ready}}}").into_bytes())
}

async fn list_repository(State(shared): State<Shared>, received: body::Received) -> Response {
    let snapshot = shared.service().catalog().snapshot();
    let listed = received
        .body
        .map_err(OipError::from)
        .and_then(|body| repository_index(&snapshot, &body));
    match listed {
        Ok(list) => json(StatusCode::OK, list),
        Err(error) => error.into_response(),
    }
}

async fn model_ready(State(shared): State<Shared>, Path(model): Path<String>) -> Response {
    ready_of(&shared, select(model, None))
}

async fn version_ready(
    State(shared): State<Shared>,
    Path((model, version)): Path<(String, String)>,
) -> Response {
    ready_of(&shared, select(model, Some(&version)))
}

fn ready_of(shared: &Shared, selector: Result<Selector, OipError>) -> Response {
    let found = selector.and_then(|selector| {
        match shared.service().catalog().lookup(&selector) {
            Ok(servable) => Ok(servable.id().name.clone()),
            // A request would be answered.
            Err(LookupError::Asleep { name, .. }) => Ok(name),
            Err(error) => Err(error.into()),
        }
    });
    match found {
        Ok(name) => {
            let name = serde_json::Value::from(name.as_str());
            json(
                StatusCode::OK,
                format!("{{\"name\":{name},\"ready\":true}}").into_bytes(),
            )
        }
        Err(error) => error.into_response(),
    }
}

async fn model_infer(
    State(shared): State<Shared>,
    Path(model): Path<String>,
    received: body::Received,
) -> Response {
    infer(&shared, select(model, None), received).await
}

async fn version_infer(
    State(shared): State<Shared>,
    Path((model, version)): Path<(String, String)>,
    received: body::Received,
) -> Response {
    infer(&shared, select(model, Some(&version)), received).await
}

async fn infer(
    shared: &Shared,
    selector: Result<Selector, OipError>,
    received: body::Received,
) -> Response {
    match selector {
        Ok(selector) => {
            let body::Received {
                headers,
                body,
                allowance,
            } = received;
            let head = body::Head {
                headers: &headers,
                allowance: &allowance,
            };
            let framing = Framing::from_headers(&headers);
            let answer = |body| infer_framed(shared, &selector, head, body, framing);
            cloud_events::around(shared, &headers, (body, &allowance), answer).await
        }
        Err(error) => error.into_response(),
    }
}

/// Answers an infer request whose JSON ends where `framing` says.
pub(crate) async fn infer_framed(
    shared: &Shared,
    selector: &Selector,
    head: body::Head<'_>,
    body: Result<Bytes, BodyError>,
    framing: Framing,
) -> Response {
    let Framing { json, alias } = framing;
    let body = body.map_err(OipError::from);
    let bytes = body.as_ref().map_or(0, Bytes::len);
    shared.service().metrics().request_size(bytes);
    let received = timeout_header(head.headers)
        .map_err(|error| OipError::Invalid(error.to_string()))
        .and_then(|timeout| {
            Ok(Received {
                body: body?,
                json: json?,
                timeout,
            })
        });
    let codec = InferCodec::new(received, shared.non_finite(), head.allowance.clone());
    let answered = shared
        .service()
        .infer(Protocol::V2Rest, selector, codec)
        .await;
    let mut response = match answered.result {
        Ok(answer) => answer.into_response(alias),
        Err(error) => error.into_response(),
    };
    model_headers(&mut response, answered.model.as_ref());
    body::held(response, head.allowance.clone())
}
