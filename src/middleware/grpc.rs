//! The same rules for gRPC: a call's own deadline, and failures told as gRPC statuses.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, header};
use axum::response::Response;
use tonic::{Code, Status};

use crate::error::ErrorKind;

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// So that the answer of whoever knows the model wins, which also says what happened.
const LATER: Duration = Duration::from_millis(250);

/// How long a call may take, by its header `grpc-timeout`: at most eight digits and a unit. What is none is passed
/// over, as other servers do.
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
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

/// How long the answer of a call may take to begin; of a stream that is its first part.
pub(super) fn longest(headers: &HeaderMap, longest: Duration) -> Duration {
    let own = grpc_timeout(headers).map(|own| own + LATER);
    own.map_or(longest, |own| own.min(longest))
}

/// Whether a request on a port that speaks more is a call.
pub(super) fn is_meant(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.map_or(&b""[..], |value| value.as_bytes());
    content_type.starts_with(b"application/grpc")
}

/// The answer to a call that took too long.
pub(super) fn late() -> Response {
    refusal(
        ErrorKind::DeadlineExceeded,
        "the request took longer than its `grpc-timeout`, or than `server.request_timeout`",
    )
}

/// The answer to a call whose handler panicked.
pub(super) fn internal_error() -> Response {
    refusal(ErrorKind::Internal, "internal error; see the server's log")
}

/// The status that an answer begins with, when it has nothing but a status.
pub(super) fn status(headers: &HeaderMap) -> Option<i32> {
    headers.get(STATUS)?.to_str().ok()?.parse().ok()
}

pub(super) fn refusal(kind: ErrorKind, message: &str) -> Response {
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
        let response = internal_error();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert_eq!(status(response.headers()), Some(13));
    }
}
