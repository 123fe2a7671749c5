//! `{"error": "text"}`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::Kinded;
use crate::protocol::oip::error::OipError;

impl IntoResponse for OipError {
    fn into_response(self) -> Response {
        let kind = self.kind();
        let status =
            StatusCode::from_u16(kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let message = serde_json::Value::from(self.public_message());
        let json = [(header::CONTENT_TYPE, "application/json")];
        let mut response = (status, json, format!("{{\"error\":{message}}}")).into_response();
        if let Some(seconds) = kind.retry_after() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
