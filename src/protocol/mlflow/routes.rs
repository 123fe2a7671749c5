//! The paths of MLflow's own server.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::codec::{ScoringCodec, content_type};
use super::error::ScoringError;
use super::feed::Form;
use crate::http::Surface;
use crate::http::body::{BodyError, Head, Received, held};
use crate::http::headers::{model_headers, timeout_header};
use crate::model::{Alias, IdError, ModelName, Pointer};
use crate::protocol::access::Access;
use crate::protocol::dispatch;
use crate::protocol::oip::rest;
use crate::protocol::openapi::{Answer, Operation};
use crate::protocol::route::Route;
use crate::protocol::state::Shared;
use crate::serving::{Selector, VersionSelector};
use crate::telemetry::Protocol;

/// The version of MLflow whose behaviour `/version` claims.
const MLFLOW_VERSION: &str = "3.17.2";

pub(crate) fn routes() -> Vec<Route> {
    let row = |path: &'static str, methods, operation| {
        Route::new(path, Surface::Mlflow, methods, vec![operation])
    };
    let described = |summary| Operation::get(Access::Public, summary, Answer::Empty);
    vec![
        row(
            "/ping",
            get(ping),
            described("readiness of the server").or_unready(),
        ),
        row(
            "/health",
            get(|| async { ok() }),
            described("whether the process lives"),
        ),
        row(
            "/version",
            get(|| async { ([(header::CONTENT_TYPE, JSON)], MLFLOW_VERSION) }),
            described("the version of MLflow whose answers these are"),
        ),
        row(
            "/invocations",
            post(invocations),
            Operation::scoring("the default model").of_default(),
        ),
        row(
            "/models/{name}/invocations",
            post(model_invocations),
            Operation::scoring("the version that serves"),
        ),
        row(
            "/models/{name}/versions/{version}/invocations",
            post(version_invocations),
            Operation::scoring("one version"),
        ),
        row(
            "/models/{name}/stages/{stage}/invocations",
            post(stage_invocations),
            Operation::scoring("the version in a stage"),
        ),
        row(
            "/models/{name}/aliases/{alias}/invocations",
            post(alias_invocations),
            Operation::scoring("the version of an alias"),
        ),
    ]
}

const JSON: &str = "application/json";

fn ok() -> Response {
    ([(header::CONTENT_TYPE, JSON)], "\n").into_response()
}

async fn ping(State(shared): State<Shared>) -> Response {
    if shared.is_ready() {
        ok()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, ok()).into_response()
    }
}

async fn invocations(State(shared): State<Shared>, received: Received) -> Response {
    let selector = Selector {
        model: None,
        version: VersionSelector::Default,
    };
    score(shared, &selector, received).await
}

pub(crate) async fn model_invocations(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    received: Received,
) -> Response {
    let version: Result<_, IdError> = Ok(VersionSelector::Default);
    score_selected(shared, name, version, received).await
}

async fn version_invocations(
    State(shared): State<Shared>,
    Path((name, version)): Path<(String, String)>,
    received: Received,
) -> Response {
    let version = version.parse().map(VersionSelector::Exactly);
    score_selected(shared, name, version, received).await
}

async fn stage_invocations(
    State(shared): State<Shared>,
    Path((name, stage)): Path<(String, String)>,
    received: Received,
) -> Response {
    let stage = stage.parse().map(Pointer::Stage);
    score_selected(shared, name, stage.map(VersionSelector::Pointer), received).await
}

async fn alias_invocations(
    State(shared): State<Shared>,
    Path((name, alias)): Path<(String, String)>,
    received: Received,
) -> Response {
    let alias = Alias::new(alias).map(Pointer::Alias);
    score_selected(shared, name, alias.map(VersionSelector::Pointer), received).await
}

async fn score_selected(
    shared: Shared,
    name: String,
    version: Result<VersionSelector, impl std::fmt::Display>,
    received: Received,
) -> Response {
    let model = ModelName::new(name).map_err(|error| error.to_string());
    let version = version.map_err(|error| error.to_string());
    match model.and_then(|model| Ok((model, version?))) {
        Ok((model, version)) => {
            let selector = Selector {
                model: Some(model),
                version,
            };
            score(shared, &selector, received).await
        }
        Err(message) => ScoringError::NotFound(message).into_response(),
    }
}

async fn score(shared: Shared, selector: &Selector, received: Received) -> Response {
    let Received {
        headers,
        body,
        allowance,
    } = received;
    let body = match body {
        Ok(body) => {
            match dispatch::framing(&shared, selector, &headers, &body, dispatch::SAGEMAKER) {
                Some(framing) => {
                    let head = Head {
                        headers: &headers,
                        allowance: &allowance,
                    };
                    return rest::infer_framed(&shared, selector, head, Ok(body), framing).await;
                }
                None => Ok(body),
            }
        }
        rejected => rejected,
    };
    let input = content_type(&headers).and_then(|content| {
        let body = body.map_err(|error| match error {
            BodyError::TooLarge(_) => ScoringError::TooLarge(error.to_string()),
            BodyError::Unreadable(_) => ScoringError::Invalid(error.to_string()),
            BodyError::OverBudget(over) => over.into(),
        })?;
        Ok((content, body))
    });
    let (timeout, input) = match timeout_header(&headers) {
        Ok(timeout) => (timeout, input),
        Err(error) => (None, Err(ScoringError::Invalid(error.to_string()))),
    };
    let bytes = input.as_ref().map_or(0, |(_, body)| body.len());
    shared.service().metrics().request_size(bytes);
    let codec = ScoringCodec {
        input: Some(input),
        non_finite: shared.non_finite(),
        form: Form::Lists,
        id: None,
        max_body: shared.body_limits().max_bytes,
        timeout,
        allowance: allowance.clone(),
    };
    let answered = shared
        .service()
        .infer(Protocol::Mlflow, selector, codec)
        .await;
    let mut response = match answered.result {
        Ok(body) => ([(header::CONTENT_TYPE, JSON)], body).into_response(),
        Err(error) => error.into_response(),
    };
    model_headers(&mut response, answered.model.as_ref());
    held(response, allowance)
}
