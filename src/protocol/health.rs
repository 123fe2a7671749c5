//! Operations: `/metrics`.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::access::Access;
use super::openapi::{Answer, Operation};
use crate::http::Surface;
use crate::protocol::route::Route;
use crate::protocol::state::Shared;
use crate::serving::Caller;
use crate::telemetry::CONTENT_TYPE;

pub(crate) fn routes() -> Vec<Route> {
    let described = Operation::get(
        Access::Metrics,
        "the metrics of Prometheus",
        Answer::Media("text/plain"),
    );
    vec![Route::new(
        "/metrics",
        Surface::V2,
        get(metrics),
        vec![described],
    )]
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let scrapes = shared.scrapes().clone();
    let text = scrapes.run(Caller::current().turn(), move || {
        shared.service().metrics().render()
    });
    let text = text.await;
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}
