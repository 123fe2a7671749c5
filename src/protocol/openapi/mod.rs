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
mod documentation;
pub(crate) mod example;
mod models;
mod operation;
mod page;
mod reference;
mod routes;
mod schema;
mod shared_schemas;

pub(crate) use self::document::Row;
pub(crate) use self::documentation::Documentation;
pub(crate) use self::operation::{Answer, Operation, RequestBody};
pub(crate) use self::routes::routes;
