//! The same rules for gRPC: a call's own deadline, and failures told as gRPC statuses.

use std::time::Duration;

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use tonic::{Code, Status};

use crate::error::ErrorKind;

/// So that the answer of whoever knows the model wins, which also says what happened.
const LATER: Duration = Duration::from_millis(250);

/// How long a call may take, by its header `grpc-timeout`: at most eight digits and a unit. What is none is passed
/// over, as other servers do.
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Ends a call whose answer has not begun in time; of a stream that is its first part.
pub(super) async fn deadline(longest: Duration, request: Request, next: Next) -> Response {
    let own = grpc_timeout(request.headers()).map(|own| own + LATER);
    let timeout = own.map_or(longest, |own| own.min(longest));
    match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => told(
            ErrorKind::DeadlineExceeded,
            "the request took longer than its `grpc-timeout`, or than `server.request_timeout`",
        ),
    }
}

/// The answer to a call whose handler panicked.
pub(super) fn panicked() -> Response {
    tracing::error!("a request handler panicked");
    told(ErrorKind::Internal, "internal error; see the server's log")
}

/// The status that an answer begins with, when it has nothing but a status.
pub(super) fn status(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn told(kind: ErrorKind, message: &str) -> Response {
    Status::new(Code::from_i32(kind.grpc_code()), message).into_http()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        grpc_timeout(&headers)
    }

    #[test]
    fn a_timeout_is_up_to_eight_digits_and_a_unit() {
        assert_eq!(timeout("2S"), Some(Duration::from_secs(2)));
        assert_eq!(
            timeout("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        assert_eq!(timeout("1M"), Some(Duration::from_secs(60)));
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("7u"), Some(Duration::from_micros(7)));
        assert_eq!(timeout("0n"), Some(Duration::ZERO));
        for text in [
            "",
            "S",
            "5",
            "123456789S",
            "+5S",
            "-5S",
            "1.5S",
            "5s",
            "5 S",
        ] {
            assert_eq!(timeout(text), None, "{text}");
        }
        assert_eq!(grpc_timeout(&HeaderMap::new()), None);
    }

    #[test]
    fn failures_are_statuses_without_a_message() {
        let response = panicked();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert_eq!(status(response.headers()), Some(13));
    }
}
