//! Why a request that manages models is refused, on the admin listener and by the paths of a platform.

use std::fmt::Display;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::json;
use crate::error::{ErrorKind, Kinded};

/// An error as `{"error": …}` with the status of its kind, made from any error that knows its kind.
#[derive(Debug)]
pub(crate) struct Refused {
    kind: ErrorKind,
    message: String,
}

impl Refused {
    /// An error of this kind.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// What was sent cannot be understood.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::InvalidArgument,
            message: message.into(),
        }
    }

    /// There is nothing of this name.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::NotFound,
            message: message.into(),
        }
    }

    /// Whoever manages the models does not run yet.
    pub(crate) fn starting() -> Self {
        Self {
            kind: ErrorKind::NotReady,
            message: "the server is starting: its models cannot be managed yet".to_owned(),
        }
    }
}

impl<E: Kinded + Display> From<E> for Refused {
    fn from(error: E) -> Self {
        Self {
            kind: error.kind(),
            message: error.to_string(),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.kind.http_status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::json!({ "error": self.message }).to_string();
        json(status, body.into_bytes())
    }
}
