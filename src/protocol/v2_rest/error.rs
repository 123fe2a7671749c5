//! `{"error": "text"}`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::{ErrorKind, Kinded};
use crate::model::SignatureError;
use crate::protocol::json::JsonError;
use crate::serving::{LookupError, ServeError};
use crate::tensor::TensorError;

/// A v2 request that got no answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::protocol) enum V2Error {
    /// No JSON, or another form.
    #[error("{0}")]
    Invalid(String),
    /// A tensor's data does not fill its shape.
    #[error("input `{name}`: {error}")]
    Tensor {
        /// The input.
        name: String,
        /// What is wrong.
        error: TensorError,
    },
    /// The inputs contradict the model.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A part of the protocol that is not there.
    #[error("{0}")]
    Unsupported(String),
    /// The body is larger than the limit, in bytes.
    #[error("the body is larger than {0} bytes (`server.max_body`)")]
    TooLarge(usize),
    /// No such name or version.
    #[error("{0}")]
    NotFound(String),
    /// Catalog, queue, deadline or engine.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl From<JsonError> for V2Error {
    fn from(error: JsonError) -> Self {
        Self::Invalid(format!("the body is no JSON: {error}"))
    }
}

impl From<LookupError> for V2Error {
    fn from(error: LookupError) -> Self {
        Self::Serve(error.into())
    }
}

impl Kinded for V2Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::Tensor { error, .. } => error.kind(),
            Self::Signature(error) => error.kind(),
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::TooLarge(_) => ErrorKind::TooLarge,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Serve(error) => error.kind(),
        }
    }
}

impl IntoResponse for V2Error {
    fn into_response(self) -> Response {
        let kind = self.kind();
        let status =
            StatusCode::from_u16(kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let message = if kind == ErrorKind::Internal {
            // What went wrong inside is in the log; the client gets the request id.
            tracing::error!(error = %self, "inference failed");
            "the model failed to answer; the server's log has the reason under this request's x-request-id".to_owned()
        } else {
            self.to_string()
        };
        let body = format!("{{\"error\":{}}}", serde_json::Value::from(message));
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if let Some(seconds) = kind.retry_after() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
