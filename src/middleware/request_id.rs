//! `x-request-id`: taken from the client when it is short and safe, else made; on every answer.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) HeaderValue);

pub(super) fn take_or_make(request: &mut Request) -> RequestId {
    let given = request
        .headers()
        .get(HEADER)
        .filter(|value| is_safe(value.as_bytes()))
        .cloned();
    RequestId(given.unwrap_or_else(|| {
        let mut buffer = uuid::Uuid::encode_buffer();
        let id = uuid::Uuid::new_v4().hyphenated().encode_lower(&mut buffer);
        HeaderValue::from_str(id).expect("a UUID is ASCII")
    }))
}

/// At most 128 letters, digits and `-_.:/+=`: nothing that could forge a line of a log.
fn is_safe(value: &[u8]) -> bool {
    let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
    (1..=128).contains(&value.len()) && value.iter().all(safe)
}

#[cfg(test)]
mod tests {
    use super::is_safe;

    #[test]
    fn only_short_safe_ids_are_taken_over() {
        assert!(is_safe(b"req-1:2_3.4/5+6="));
        assert!(!is_safe(b""));
        assert!(!is_safe(b"a b"));
        assert!(!is_safe(b"a\nb"));
        assert!(!is_safe(&[b'a'; 129]));
    }
}
