//! Headers that several protocols have.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;

use crate::model::ModelId;

/// The header with the length of the JSON, of requests and answers.
pub(crate) const LENGTH_HEADER: HeaderName =
    HeaderName::from_static("inference-header-content-length");

const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
pub(crate) const MODEL_NAME: HeaderName = HeaderName::from_static("x-model-name");
const MODEL_VERSION: HeaderName = HeaderName::from_static("x-model-version");

/// A header `x-request-timeout` that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid header `x-request-timeout: {0}`: expected a duration such as `250ms` or `2s`")]
pub(crate) struct TimeoutError(String);

/// How long the client of a request waits: the header `x-request-timeout`, a duration such as `250ms`.
///
/// # Errors
/// [`TimeoutError`].
pub(crate) fn timeout_header(headers: &HeaderMap) -> Result<Option<Duration>, TimeoutError> {
    let Some(value) = headers.get(REQUEST_TIMEOUT) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("?");
    let timeout = humantime::parse_duration(text)
        .ok()
        .filter(|timeout| !timeout.is_zero());
    timeout
        .map(Some)
        .ok_or_else(|| TimeoutError(text.to_owned()))
}

/// Says which version answered.
pub(crate) fn model_headers(response: &mut Response, model: Option<&ModelId>) {
    set_model_headers(response.headers_mut(), model);
}

/// Likewise, in the metadata of gRPC too.
pub(crate) fn set_model_headers(headers: &mut HeaderMap, model: Option<&ModelId>) {
    let Some(id) = model else { return };
    let encoded: Cow<'_, str> =
        percent_encoding::utf8_percent_encode(id.name.as_str(), percent_encoding::CONTROLS).into();
    if let Ok(name) = HeaderValue::from_str(&encoded) {
        headers.insert(MODEL_NAME, name);
    }
    headers.insert(MODEL_VERSION, HeaderValue::from(id.version.0));
}
