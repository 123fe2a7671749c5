//! `/openapi.json`, the document of every path, and `/docs`, a page to try them.
//!
//! The document is made of the route table, which cannot have a row without its [`Operation`]s, and of the models that
//! answer now: each has paths of its own, with schemas of its signature and its example.
//!
//! It is plain `serde_json`: a path of a model is the general one with other schemas, which is one assignment there, and
//! would be a rebuilt tree of closed types with the builders of `utoipa`.
//!
//! ```text
//! route table ─► document (paths, shared schemas) ─┐
//! catalog ─► models ─► schema, example ────────────┴─► kept until the catalog changes
//! ```

mod document;
pub(super) mod example;
mod models;
mod operation;
mod page;
mod schema;
mod shared_schemas;

use std::sync::{Arc, OnceLock, Weak};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Mutex;

use self::document::Row;
pub(super) use self::operation::{Answer, Operation, RequestBody};
use super::access::Access;
use super::{Route, Shared, Surface};
use crate::middleware::auth::Scope;
use crate::serving::CatalogSnapshot;

pub(super) fn routes() -> Vec<Route> {
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

/// The last document, with the catalog that it describes, which may go: it would keep models in memory.
type Last = Option<(Weak<CatalogSnapshot>, Bytes)>;

/// What the document is made of, and the last one.
#[derive(Debug, Default)]
pub(super) struct Documentation {
    rows: OnceLock<Vec<Row>>,
    last: Arc<Mutex<Last>>,
}

impl Documentation {
    /// Remembers the rows of the main listener; there is one table, once.
    pub(super) fn remember(&self, table: &[Route]) {
        self.rows
            .get_or_init(|| table.iter().map(Row::of).collect());
    }

    fn write(&self, snapshot: &CatalogSnapshot, shared: &Shared) -> Result<Bytes, String> {
        let rows = self.rows.get().map(Vec::as_slice).unwrap_or_default();
        let mut document = document::write(rows, snapshot, &shared.0.options.base_path);
        if shared.guard().is_some() {
            document::secure(&mut document, rows);
        }
        let text = serde_json::to_vec(&document).map_err(|error| error.to_string())?;
        Ok(text.into())
    }
}

async fn document(State(shared): State<Shared>) -> Response {
    let last = Arc::clone(&shared.0.documentation.last);
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
        let document = shared.0.documentation.write(&snapshot, &shared)?;
        *last = Some((Arc::downgrade(&snapshot), document.clone()));
        Ok(document)
    });
    let made = made.await.map_err(|error| error.to_string());
    match made.and_then(|made: Result<Bytes, String>| made) {
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
