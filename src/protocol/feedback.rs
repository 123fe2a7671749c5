//! `POST /models/{name}/feedback`: what was true, from those who know it.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::post;

use super::access::Access;
use super::openapi::{Answer, Operation, RequestBody};
use super::route::Route;
use super::state::Shared;
use crate::error::ErrorKind;
use crate::http::body::{BodyError, Received};
use crate::http::refused::Refused;
use crate::http::{Surface, json};
use crate::middleware::auth::{Caller, Scope};
use crate::model::ModelName;
use crate::payload::parse_labels;

/// The media types of lines of JSON.
const MEDIA_TYPES: [&str; 4] = [
    "application/x-ndjson",
    "application/jsonl",
    "application/json-lines",
    "application/json",
];

pub(crate) fn routes() -> Vec<Route> {
    let row = |path: &'static str, methods, access, summary| {
        let body = RequestBody::Lines("FeedbackLine");
        let operation = Operation::post(access, summary, body, Answer::Accepted("FeedbackTaken"));
        let operation = operation.fails(&[400, 404, 409, 413, 415, 429]);
        Route::new(path, Surface::V2, methods, vec![operation])
    };
    vec![
        row(
            "/feedback",
            post(of_default),
            Access::Default(Scope::Feedback),
            "true outcomes of predictions of the default model",
        ),
        row(
            "/models/{name}/feedback",
            post(of_model),
            Access::Model(Scope::Feedback),
            "true outcomes of predictions",
        ),
    ]
}

async fn of_default(
    State(shared): State<Shared>,
    caller: Option<Extension<Caller>>,
    received: Received,
) -> Result<Response, Refused> {
    let snapshot = shared.service().catalog().snapshot();
    let name = snapshot.default_name()?.clone();
    take(&shared, &name, caller, received)
}

async fn of_model(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    caller: Option<Extension<Caller>>,
    received: Received,
) -> Result<Response, Refused> {
    let name = ModelName::new(name).map_err(|error| Refused::not_found(error.to_string()))?;
    let snapshot = shared.service().catalog().snapshot();
    if !snapshot.models.contains_key(&name) {
        return Err(Refused::not_found(format!("no model named `{name}`")));
    }
    take(&shared, &name, caller, received)
}

fn take(
    shared: &Shared,
    model: &ModelName,
    caller: Option<Extension<Caller>>,
    received: Received,
) -> Result<Response, Refused> {
    let feedback = shared.feedback().ok_or_else(|| {
        let reason =
            "this server has no place for labels: set `feedback.uri`, or `payload_log.uri`";
        Refused::new(ErrorKind::Conflict, reason)
    })?;
    check_media_type(&received.headers)?;
    let body = received.body.map_err(|error| match error {
        BodyError::TooLarge(_) => Refused::new(ErrorKind::TooLarge, error.to_string()),
        BodyError::Unreadable(_) => Refused::invalid(error.to_string()),
        BodyError::OverBudget(_) => Refused::new(ErrorKind::Overloaded, error.to_string()),
    })?;
    let labels = parse_labels(&body, SystemTime::now())?;
    let taken = labels.len();
    let name = caller.and_then(|Extension(caller)| {
        let identity = caller.who.as_ref().ok()?;
        Some(Arc::from(identity.name.as_str()))
    });
    feedback.take(model, labels, name)?;
    let answer = serde_json::json!({ "accepted": taken });
    Ok(json(StatusCode::ACCEPTED, answer.to_string().into_bytes()))
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Refused> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let text = value.to_str().unwrap_or_default();
    let media_type = text.split(';').next().unwrap_or_default().trim();
    if MEDIA_TYPES
        .iter()
        .any(|known| media_type.eq_ignore_ascii_case(known))
    {
        return Ok(());
    }
    let reason = format!(
        "content type `{media_type}` is not supported: send lines of JSON as `application/x-ndjson`"
    );
    Err(Refused::new(ErrorKind::Unsupported, reason))
}
