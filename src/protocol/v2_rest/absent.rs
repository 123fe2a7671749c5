//! Parts of Triton's protocol that this server does not have, answered so that its clients know.
//!
//! What asks for a state is told the state: no regions, no trace. What would change it is refused. Unregistering all
//! regions succeeds, as there are none; measuring tools begin with it.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tracing::level_filters::LevelFilter;

use super::{Route, Shared, Surface, json as answer, select};
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

const LOGGING: &str =
    "log settings cannot be changed by a request: set `telemetry.log_level` and start again";
const TRACE: &str = "traces are not offered";
const REPOSITORY: &str = "there are no named repositories: use `/v2/repository/index`, and `/v2/repository/models/…` on the admin listener";
const NO_GENERATE: &str = "generating text is not offered: send tensors to `…/infer`";
const SHARED_MEMORY: &str =
    "shared memory is not offered: send tensors in the request, as binary data";

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
    OipError::NotImplemented(reason.to_owned())
}

/// Loading and unloading is for operators.
async fn manage() -> OipError {
    OipError::PermissionDenied(
        "models are loaded and unloaded on the admin listener (`--admin-port`), not on this one"
            .to_owned(),
    )
}

async fn no_regions() -> Response {
    answer(StatusCode::OK, b"[]".to_vec())
}

async fn no_region(Path(region): Path<String>) -> OipError {
    let region = region.escape_debug();
    OipError::NotFound(format!(
        "no shared memory region `{region}`; {SHARED_MEMORY}"
    ))
}

/// As the log is written now.
async fn logging() -> Response {
    let level = LevelFilter::current();
    let verbose = match level {
        LevelFilter::TRACE => 2,
        LevelFilter::DEBUG => 1,
        _ => 0,
    };
    let settings = json!({
        "log_file": "",
        "log_info": level >= LevelFilter::INFO,
        "log_warning": level >= LevelFilter::WARN,
        "log_error": level >= LevelFilter::ERROR,
        "log_verbose_level": verbose,
        "log_format": "ISO8601",
    });
    answer(StatusCode::OK, settings.to_string().into_bytes())
}

async fn trace() -> Response {
    let settings = json!({
        "trace_file": "",
        "trace_level": ["OFF"],
        "trace_rate": "1000",
        "trace_count": "-1",
        "log_frequency": "0",
        "trace_mode": "triton",
    });
    answer(StatusCode::OK, settings.to_string().into_bytes())
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
