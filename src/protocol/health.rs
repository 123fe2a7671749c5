//! Operations: `/metrics`.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::access::Access;
use super::openapi::{Answer, Operation};
use super::{Route, Shared, Surface};
use crate::telemetry::CONTENT_TYPE;

pub(super) fn routes() -> Vec<Route> {
    let told = Operation::get(
        Access::Metrics,
        "the metrics of Prometheus",
        Answer::Media("text/plain"),
    );
    vec![Route::new(
        "/metrics",
        Surface::V2,
        get(metrics),
        vec![told],
    )]
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let scrapes = shared.0.scrapes.clone();
    let text = scrapes.run(move || shared.service().metrics().render());
    let text = text.await;
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}
