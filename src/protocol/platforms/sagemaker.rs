//! SageMaker's multi-model endpoints: `/models…`, by which the platform loads, lists, asks and unloads models.

use std::fmt::Display;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::http::body::{Received, object};
use crate::http::refused::Refused;
use crate::http::{self, Surface};
use crate::middleware::auth::{Caller, Scope};
use crate::model::ModelName;
use crate::protocol::access::Access;
use crate::protocol::openapi::{Answer, Operation, RequestBody};
use crate::protocol::route::Route;
use crate::protocol::state::Shared;
use crate::protocol::{gate, mlflow};
use crate::serving::{HostError, HostedModel};

/// Models in one answer.
const PAGE: usize = 100;

/// The rows, where the operator wants models to come and go.
pub(crate) fn routes(wanted: bool) -> Vec<Route> {
    let row = |path: &'static str, methods, operations| {
        Route::new(path, Surface::V1, methods, operations)
    };
    if !wanted {
        return Vec::new();
    }
    vec![
        row(
            "/models",
            get(list).post(load),
            vec![
                Operation::get(
                    Access::Every(Scope::Read),
                    "the loaded models",
                    Answer::Json("HostedModels"),
                )
                .fails(&[400, 503]),
                Operation::post(
                    // The model is named in the body.
                    Access::Every(Scope::Admin),
                    "load a model",
                    RequestBody::Json("ModelToLoad"),
                    Answer::Json("HostedModel"),
                )
                .fails(&[400, 409, 500, 503, 504, 507]),
            ],
        ),
        row(
            "/models/{name}",
            get(describe).delete(unload),
            vec![
                Operation::get(
                    Access::Model(Scope::Read),
                    "a loaded model",
                    Answer::Json("HostedModel"),
                )
                .fails(&[404, 503]),
                Operation::delete(
                    Access::Model(Scope::Admin),
                    "unload a model",
                    Answer::Json("Any"),
                )
                .fails(&[404, 500, 503, 504]),
            ],
        ),
        row(
            "/models/{name}/invoke",
            post(mlflow::model_invocations),
            vec![Operation::scoring("a loaded model")],
        ),
    ]
}

fn answer(status: StatusCode, value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).unwrap_or_default();
    http::json(status, body)
}

/// The body of a load; what else is in it is of no concern.
#[derive(Debug, Deserialize)]
struct Wanted {
    model_name: String,
    url: String,
}

async fn load(
    State(shared): State<Shared>,
    caller: Option<Extension<Caller>>,
    received: Received,
) -> Result<Response, Refused> {
    let expected = |what: String| {
        Refused::invalid(format!(
            "{what}; expected `{{\"model_name\": \"...\", \"url\": \"/opt/ml/models/.../model\"}}`"
        ))
    };
    let body = received.body.map_err(|error| expected(error.to_string()))?;
    let wanted: Wanted = object(&body)
        .map_err(|error| expected(format!("the body does not name a model: {error}")))?;
    let name = ModelName::new(wanted.model_name);
    let name = name.map_err(|error| Refused::invalid(error.to_string()))?;
    let host = shared.host().ok_or_else(Refused::starting)?;
    let added = host.add(&name, &wanted.url).await;
    let failed = added.as_ref().err().map(|error| error as &dyn Display);
    gate::record(caller.as_deref(), name.as_str(), "load", failed);
    added?;
    let url = wanted.url;
    Ok(answer(
        StatusCode::OK,
        &described(&HostedModel { name, url }),
    ))
}

fn described(model: &HostedModel) -> serde_json::Value {
    json!({ "modelName": model.name.as_str(), "modelUrl": model.url })
}

/// Which page of the list is wanted: the models after this name.
#[derive(Debug, Deserialize)]
struct Page {
    next_page_token: Option<String>,
}

async fn list(
    State(shared): State<Shared>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(page) = page.map_err(|error| Refused::invalid(error.to_string()))?;
    let models = shared.host().ok_or_else(Refused::starting)?.models();
    let after = page.next_page_token.as_deref();
    let body = page_of(&models, after, PAGE);
    Ok(answer(StatusCode::OK, &body))
}

fn page_of(models: &[HostedModel], after: Option<&str>, size: usize) -> serde_json::Value {
    let rest = models
        .iter()
        .filter(|model| after.is_none_or(|after| model.name.as_str() > after));
    let mut shown: Vec<&HostedModel> = rest.take(size + 1).collect();
    let more = shown.len() > size;
    shown.truncate(size);
    let listed: Vec<_> = shown.iter().map(|model| described(model)).collect();
    let mut body = json!({ "models": listed });
    if let Some(last) = shown.last().filter(|_| more) {
        body["nextPageToken"] = last.name.as_str().into();
    }
    body
}

async fn describe(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    let name = model_name(name)?;
    let models = shared.host().ok_or_else(Refused::starting)?.models();
    let found = models.iter().find(|model| model.name == name);
    let found = found.ok_or(HostError::NotFound(name))?;
    Ok(answer(StatusCode::OK, &described(found)))
}

async fn unload(
    State(shared): State<Shared>,
    caller: Option<Extension<Caller>>,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    let name = model_name(name)?;
    let host = shared.host().ok_or_else(Refused::starting)?;
    let removed = host.remove(&name).await;
    let failed = removed.as_ref().err().map(|error| error as &dyn Display);
    gate::record(caller.as_deref(), name.as_str(), "unload", failed);
    removed?;
    Ok(answer(StatusCode::OK, &json!({})))
}

fn model_name(name: String) -> Result<ModelName, Refused> {
    ModelName::new(name).map_err(|error| Refused::not_found(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_in_pages() {
        let model = |name: &str| HostedModel {
            name: ModelName::new(name).unwrap(),
            url: format!("/opt/ml/models/{name}/model"),
        };
        let models = ["a", "b", "c"].map(model);
        let names = |body: &serde_json::Value| -> Vec<String> {
            let models = body["models"].as_array().unwrap();
            let name = |model: &serde_json::Value| model["modelName"].as_str().unwrap().to_owned();
            models.iter().map(name).collect()
        };
        let first = page_of(&models, None, 2);
        assert_eq!(names(&first), ["a", "b"]);
        let token = first["nextPageToken"].as_str().unwrap();
        let second = page_of(&models, Some(token), 2);
        assert_eq!(names(&second), ["c"]);
        assert!(second.get("nextPageToken").is_none());
        assert_eq!(page_of(&[], None, 2), json!({ "models": [] }));
    }
}
