//! The paths of the document and of the page.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::operation::{Answer, Operation};
use super::page;
use crate::http::Surface;
use crate::middleware::auth::Scope;
use crate::protocol::access::Access;
use crate::protocol::route::Route;
use crate::protocol::state::Shared;

pub(crate) fn routes() -> Vec<Route> {
    let row = |path: &'static str, methods, operation| {
        Route::new(path, Surface::Mlflow, methods, vec![operation])
    };
    let html = Answer::Media("text/html");
    vec![
        row(
            "/openapi.json",
            get(document),
            Operation::get(
                Access::Every(Scope::Read),
                "this document",
                Answer::Json("Any"),
            )
            .fails(&[500]),
        ),
        row(
            "/docs",
            get(page::page),
            Operation::get(Access::Server(Scope::Read), "a page to try the paths", html),
        ),
        row(
            "/docs/{file}",
            get(page::file),
            Operation::get(
                Access::Server(Scope::Read),
                "a part of that page",
                Answer::Empty,
            )
            .fails(&[404]),
        ),
    ]
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
enum DocumentError {
    #[error("{0}")]
    Panicked(tokio::task::JoinError),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

async fn document(State(shared): State<Shared>) -> Response {
    let last = Arc::clone(&shared.documentation().last);
    let mut last = last.lock_owned().await;
    let snapshot = shared.service().catalog().snapshot();
    if let Some((known, document)) = last.as_ref()
        && std::ptr::eq(known.as_ptr(), Arc::as_ptr(&snapshot))
    {
        return answer(document.clone());
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "examples are read from disk, by one at a time: whoever has the lock"
    )]
    let made = tokio::task::spawn_blocking(move || {
        let document = shared.documentation().write(
            &snapshot,
            shared.base_path(),
            shared.guard().is_some(),
        )?;
        *last = Some((Arc::downgrade(&snapshot), document.clone()));
        Ok(document)
    });
    let made = made.await.map_err(DocumentError::Panicked);
    match made.and_then(|made: serde_json::Result<Bytes>| Ok(made?)) {
        Ok(document) => answer(document),
        Err(reason) => {
            tracing::error!(%reason, "no description of the paths");
            let message = "the description could not be made";
            Surface::Mlflow.plain_error(StatusCode::INTERNAL_SERVER_ERROR, message)
        }
    }
}

fn answer(document: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}
