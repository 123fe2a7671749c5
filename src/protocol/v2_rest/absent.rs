//! Parts of Triton's protocol that this server does not have, answered so that its clients know; see
//! [`oip::absent`](crate::protocol::oip::absent).

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::describe::answer;
use super::{Route, Shared, Surface, json, select};
use crate::protocol::oip::absent::{self, LOGGING, REPOSITORY, SHARED_MEMORY, TRACE};
use crate::protocol::oip::error::OipError;
use crate::serving::LookupError;

pub(super) fn routes() -> Vec<Route> {
    let row = |path: &'static str, methods| Route {
        path: path.into(),
        surface: Surface::V2,
        methods,
    };
    let mut rows = vec![
        row("/v2/logging", get(logging).post(|| refuse(LOGGING))),
        row("/v2/trace/setting", get(trace).post(|| refuse(TRACE))),
        row(
            "/v2/models/{model}/trace/setting",
            get(model_trace).post(|| refuse(TRACE)),
        ),
        row("/v2/repository/models/{model}/load", post(manage)),
        row("/v2/repository/models/{model}/unload", post(manage)),
        row(
            "/v2/repository/{repository}/index",
            post(|| refuse(REPOSITORY)),
        ),
        row(
            "/v2/repository/{repository}/models/{model}/load",
            post(|| refuse(REPOSITORY)),
        ),
        row(
            "/v2/repository/{repository}/models/{model}/unload",
            post(|| refuse(REPOSITORY)),
        ),
    ];
    for path in GENERATE {
        rows.push(row(path, post(|| refuse(NO_GENERATE))));
    }
    for [status, region_status, register, unregister, unregister_all] in MEMORY {
        rows.push(row(status, get(no_regions)));
        rows.push(row(region_status, get(no_region)));
        rows.push(row(register, post(|| refuse(SHARED_MEMORY))));
        rows.push(row(unregister, post(|| async { StatusCode::OK })));
        rows.push(row(unregister_all, post(|| async { StatusCode::OK })));
    }
    rows
}

const NO_GENERATE: &str = "generating text is not offered: send tensors to `…/infer`";
const GENERATE: [&str; 4] = [
    "/v2/models/{model}/generate",
    "/v2/models/{model}/generate_stream",
    "/v2/models/{model}/versions/{version}/generate",
    "/v2/models/{model}/versions/{version}/generate_stream",
];

/// Status of all, status of one, register, unregister one, unregister all.
const MEMORY: [[&str; 5]; 2] = [
    [
        "/v2/systemsharedmemory/status",
        "/v2/systemsharedmemory/region/{region}/status",
        "/v2/systemsharedmemory/region/{region}/register",
        "/v2/systemsharedmemory/region/{region}/unregister",
        "/v2/systemsharedmemory/unregister",
    ],
    [
        "/v2/cudasharedmemory/status",
        "/v2/cudasharedmemory/region/{region}/status",
        "/v2/cudasharedmemory/region/{region}/register",
        "/v2/cudasharedmemory/region/{region}/unregister",
        "/v2/cudasharedmemory/unregister",
    ],
];

async fn refuse(reason: &'static str) -> OipError {
    absent::refused(reason)
}

async fn manage() -> OipError {
    absent::only_for_operators()
}

async fn no_regions() -> Response {
    json(StatusCode::OK, b"[]".to_vec())
}

async fn no_region(Path(region): Path<String>) -> OipError {
    absent::no_region(&region)
}

async fn logging() -> Response {
    answer(&absent::logging())
}

async fn trace() -> Response {
    answer(&absent::tracing())
}

async fn model_trace(State(shared): State<Shared>, Path(model): Path<String>) -> Response {
    let found = select(model, None).and_then(|selector| {
        match shared.service().catalog().lookup(&selector) {
            Ok(_) | Err(LookupError::Asleep { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    });
    match found {
        Ok(()) => trace().await,
        Err(error) => error.into_response(),
    }
}
