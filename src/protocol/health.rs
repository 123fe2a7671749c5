//! Operations: `/metrics`.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{Route, Shared, Surface};
use crate::telemetry::CONTENT_TYPE;

pub(super) fn routes() -> Vec<Route> {
    vec![Route {
        path: "/metrics".into(),
        surface: Surface::V2,
        methods: get(metrics),
    }]
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let text = shared.service().metrics().render();
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}
