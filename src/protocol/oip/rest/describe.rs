//! What the server and its models tell about themselves: metadata, configuration, statistics.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use serde::Serialize;
use tokio::time::Instant;

use super::json;
use crate::http::Surface;
use crate::middleware::auth::Scope;
use crate::protocol::access::Access;
use crate::protocol::oip::error::OipError;
use crate::protocol::oip::selector::select;
use crate::protocol::oip::{config, metadata, statistics};
use crate::protocol::openapi::{Answer, Operation};
use crate::protocol::route::Route;
use crate::protocol::state::Shared;
use crate::serving::{CatalogSnapshot, Selector, Servable, ServableHandle};

pub(crate) fn routes() -> Vec<Route> {
    let mut rows = vec![
        row(
            "/v2",
            get(|| async { answer(&metadata::server()) }),
            documented(
                Access::Server(Scope::Read),
                "the server and its extensions",
                "ServerMetadata",
            ),
        ),
        row(
            "/v2/models",
            get(models),
            documented(
                Access::Every(Scope::Read),
                "the names of the models",
                "ModelNames",
            ),
        ),
        row(
            "/v2/models/{model}",
            get(model_metadata),
            found("what a model takes and gives", "ModelMetadata"),
        ),
        row(
            "/v2/models/{model}/versions/{version}",
            get(version_metadata),
            found("what a version takes and gives", "ModelMetadata"),
        ),
        row(
            "/v2/models/{model}/config",
            get(model_config),
            found("the configuration of a model", "ModelConfig"),
        ),
        row(
            "/v2/models/{model}/versions/{version}/config",
            get(version_config),
            found("the configuration of a version", "ModelConfig"),
        ),
    ];
    rows.extend(statistics_routes());
    rows
}

fn statistics_routes() -> [Route; 3] {
    [
        row(
            "/v2/models/stats",
            get(all_statistics),
            documented(
                Access::Every(Scope::Read),
                "what all models did",
                "Statistics",
            ),
        ),
        row(
            "/v2/models/{model}/stats",
            get(model_statistics),
            found("what a model did", "Statistics"),
        ),
        row(
            "/v2/models/{model}/versions/{version}/stats",
            get(version_statistics),
            found("what a version did", "Statistics"),
        ),
    ]
}

fn row(path: &'static str, methods: MethodRouter<Shared>, operation: Operation) -> Route {
    Route::new(path, Surface::V2, methods, vec![operation])
}

fn documented(access: Access, summary: &'static str, schema: &'static str) -> Operation {
    Operation::get(access, summary, Answer::Json(schema))
}

/// The description of a model, which may have to be loaded first.
fn found(summary: &'static str, schema: &'static str) -> Operation {
    documented(Access::Model(Scope::Read), summary, schema).fails(&[404, 500, 503, 504])
}

pub(crate) fn answer(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => json(StatusCode::OK, body),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// As KServe's server has it.
#[derive(Serialize)]
struct Models<'s> {
    models: Vec<&'s str>,
}

async fn models(State(shared): State<Shared>) -> Response {
    let snapshot = shared.service().catalog().snapshot();
    let models = snapshot.models.keys().map(|name| name.as_str()).collect();
    answer(&Models { models })
}

type Versioned = Path<(String, String)>;

async fn model_metadata(State(shared): State<Shared>, Path(model): Path<String>) -> Response {
    described(&shared, select(model, None), metadata::model).await
}

async fn version_metadata(
    State(shared): State<Shared>,
    Path((model, version)): Versioned,
) -> Response {
    described(&shared, select(model, Some(&version)), metadata::model).await
}

async fn model_config(State(shared): State<Shared>, Path(model): Path<String>) -> Response {
    described(&shared, select(model, None), config::model).await
}

async fn version_config(
    State(shared): State<Shared>,
    Path((model, version)): Versioned,
) -> Response {
    described(&shared, select(model, Some(&version)), config::model).await
}

async fn described<D: Serialize>(
    shared: &Shared,
    selector: Result<Selector, OipError>,
    describe: fn(&CatalogSnapshot, &Servable) -> D,
) -> Response {
    let found = async {
        let service = shared.service();
        Ok::<ServableHandle, OipError>(service.find(&selector?, Instant::now()).await?)
    };
    match found.await {
        Ok(servable) => {
            let snapshot = shared.service().catalog().snapshot();
            answer(&describe(&snapshot, &servable))
        }
        Err(error) => error.into_response(),
    }
}

async fn all_statistics(State(shared): State<Shared>) -> Response {
    answer(&statistics::all(&shared.service().catalog().snapshot()))
}

async fn model_statistics(State(shared): State<Shared>, Path(model): Path<String>) -> Response {
    statistics_of(&shared, select(model, None))
}

async fn version_statistics(
    State(shared): State<Shared>,
    Path((model, version)): Versioned,
) -> Response {
    statistics_of(&shared, select(model, Some(&version)))
}

fn statistics_of(shared: &Shared, selector: Result<Selector, OipError>) -> Response {
    let snapshot = shared.service().catalog().snapshot();
    let documented = selector.and_then(|selector| statistics::selected(&snapshot, &selector));
    match documented {
        Ok(statistics) => answer(&statistics),
        Err(error) => error.into_response(),
    }
}
