//! Errors in the form that the clients of a path know.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::ErrorKind;
use crate::middleware::auth::Refusal;

/// Whose error bodies a path answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surface {
    /// `{"detail": …}`, as MLflow's server.
    Mlflow,
    /// `{"error": …}`.
    V1,
    /// `{"error": …}`.
    V2,
}

impl Surface {
    /// Of a path below `base_path`; of one that is not, as if it were.
    pub(crate) fn below(base_path: &str, path: &str) -> Self {
        Self::from_path(path.strip_prefix(base_path).unwrap_or(path))
    }

    /// Of a path below the base path.
    pub(crate) fn from_path(path: &str) -> Self {
        if path.starts_with("/v1") {
            Self::V1
        } else if path.starts_with("/v2") {
            Self::V2
        } else {
            Self::Mlflow
        }
    }

    /// The answer to a method that the path does not have.
    pub(crate) fn method_not_allowed(self) -> Response {
        self.plain_error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
    }

    /// An error that has nothing but a message.
    pub(crate) fn plain_error(self, status: StatusCode, message: &str) -> Response {
        let key = match self {
            Self::Mlflow => "detail",
            Self::V1 | Self::V2 => "error",
        };
        let message = serde_json::Value::from(message);
        self.json_error(status, format!("{{\"{key}\":{message}}}"))
    }

    /// An error with this JSON as its body.
    pub(crate) fn json_error(self, status: StatusCode, body: String) -> Response {
        json(status, body.into_bytes())
    }

    /// The answer to a caller that may not do what it asked for.
    pub(crate) fn refused(self, refusal: Refusal) -> Response {
        let status = StatusCode::from_u16(refusal.kind.http_status());
        let status = status.unwrap_or(StatusCode::FORBIDDEN);
        let mut response = match self {
            Self::Mlflow => {
                let code = match refusal.kind {
                    ErrorKind::Unauthenticated => "UNAUTHENTICATED",
                    _ => "PERMISSION_DENIED",
                };
                let body = serde_json::json!({ "error_code": code, "message": refusal.message });
                self.json_error(status, body.to_string())
            }
            Self::V1 | Self::V2 => self.plain_error(status, &refusal.message),
        };
        let challenge = HeaderValue::from_static(refusal.challenge);
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
        response
    }
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
