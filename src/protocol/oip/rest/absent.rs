//! Parts of Triton's protocol that this server does not have, answered so that its clients know; see
//! [`oip::absent`](crate::protocol::oip::absent).

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use super::describe::answer;
use super::{Route, Shared, Surface, json, select};
use crate::middleware::auth::Scope;
use crate::protocol::access::Access;
use crate::protocol::oip::absent::{self, LOGGING, REPOSITORY, SHARED_MEMORY, TRACE};
use crate::protocol::oip::error::OipError;
use crate::protocol::openapi::{Answer, Operation, RequestBody};
use crate::serving::LookupError;

pub(crate) fn routes() -> Vec<Route> {
    let settings = |(read, change), summary, errors| {
        let described = Operation::get(read, summary, Answer::Json("Settings")).fails(errors);
        vec![
            described,
            Operation::refused(change, "not by a request", &[501]),
        ]
    };
    let of_server = (Access::Server(Scope::Read), Access::Server(Scope::Admin));
    let of_model = (Access::Model(Scope::Read), Access::Model(Scope::Admin));
    let mut rows = vec![
        row(
            "/v2/logging",
            get(logging).post(|| refuse(LOGGING)),
            settings(of_server, "how the log is written", &[]),
        ),
        row(
            "/v2/trace/setting",
            get(trace).post(|| refuse(TRACE)),
            settings(of_server, "there are no traces", &[]),
        ),
        row(
            "/v2/models/{model}/trace/setting",
            get(model_trace).post(|| refuse(TRACE)),
            settings(of_model, "there are no traces", &[404, 503]),
        ),
    ];
    rows.extend(repository_routes());
    for path in GENERATE {
        rows.push(row(
            path,
            post(|| refuse(NO_GENERATE)),
            no(Access::Model(Scope::Predict), "no text is generated"),
        ));
    }
    rows.extend(MEMORY.into_iter().flat_map(memory_routes));
    rows
}

fn repository_routes() -> [Route; 5] {
    let managed = || vec![Operation::refused(ADMIN, "on the admin listener", &[403])];
    [
        row(
            "/v2/repository/models/{model}/load",
            post(manage),
            managed(),
        ),
        row(
            "/v2/repository/models/{model}/unload",
            post(manage),
            managed(),
        ),
        row(
            "/v2/repository/{repository}/index",
            post(|| refuse(REPOSITORY)),
            no(
                Access::Server(Scope::Admin),
                "there are no named repositories",
            ),
        ),
        row(
            "/v2/repository/{repository}/models/{model}/load",
            post(|| refuse(REPOSITORY)),
            no(ADMIN, "there are no named repositories"),
        ),
        row(
            "/v2/repository/{repository}/models/{model}/unload",
            post(|| refuse(REPOSITORY)),
            no(ADMIN, "there are no named repositories"),
        ),
    ]
}

fn memory_routes(paths: [&'static str; 5]) -> [Route; 5] {
    let [status, region_status, register, unregister, unregister_all] = paths;
    let none = Operation::get(
        Access::Server(Scope::Read),
        "there are no regions",
        Answer::Json("Regions"),
    );
    let not_one = Operation::get(
        Access::Server(Scope::Read),
        "there is no region",
        Answer::Never,
    )
    .fails(&[404]);
    let nothing = Operation::post(PREDICT, "nothing to do", RequestBody::None, Answer::Empty);
    let done = || post(|| async { StatusCode::OK });
    [
        row(status, get(no_regions), vec![none]),
        row(region_status, get(no_region), vec![not_one]),
        row(
            register,
            post(|| refuse(SHARED_MEMORY)),
            no(PREDICT, "there is no shared memory"),
        ),
        row(unregister, done(), vec![nothing]),
        row(unregister_all, done(), vec![nothing]),
    ]
}

fn row(path: &'static str, methods: MethodRouter<Shared>, operations: Vec<Operation>) -> Route {
    Route::new(path, Surface::V2, methods, operations)
}

fn no(access: Access, summary: &'static str) -> Vec<Operation> {
    vec![Operation::refused(access, summary, &[501])]
}

const ADMIN: Access = Access::Model(Scope::Admin);

/// Clients tidy up and try it before they ask for predictions.
const PREDICT: Access = Access::Server(Scope::Predict);

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
