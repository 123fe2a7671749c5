//! What a path means, the same for every protocol: exactly what the route table says, or nothing.
//!
//! The words of a path are compared as they stand: in lower case, not percent-encoded, with single slashes. Only the names
//! in it (of models, versions, aliases) are decoded, once, after the route was chosen, and then checked. So no second
//! spelling of a path reaches a handler, and whoever decides by the path, here or in a proxy, decides about all of it. V1
//! alone is read in any case, as its clients may write it; its paths are put into lower case before anything else.

use axum::extract::{OriginalUri, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use super::Surface;

/// A path with a slash too many is redirected, as MLflow's server does; anything else does not exist.
pub(crate) async fn not_found(OriginalUri(original): OriginalUri, request: Request) -> Response {
    if let Some(trimmed) = without_last_slash(original.path()) {
        let query = original.query().map(|query| format!("?{query}"));
        let target = format!("{trimmed}{}", query.unwrap_or_default());
        return Redirect::temporary(&target).into_response();
    }
    Surface::from_path(request.uri().path()).plain_error(StatusCode::NOT_FOUND, "Not Found")
}

/// The path in front of its last slash, when that is a path of this server.
fn without_last_slash(path: &str) -> Option<&str> {
    let trimmed = path.strip_suffix('/')?;
    // `//host` and `/\host` are no paths to a browser but other servers.
    let is_ours = !trimmed.is_empty() && !trimmed.contains("//") && !trimmed.contains('\\');
    (is_ours && !trimmed.ends_with('/')).then_some(trimmed)
}

/// No name is empty, and none is not UTF-8: handlers could not read the path.
pub(crate) fn is_well_formed(path: &str) -> bool {
    let decode = percent_encoding::percent_decode_str;
    !path.contains("//") && (!path.contains('%') || decode(path).decode_utf8().is_ok())
}
