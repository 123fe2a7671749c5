//! Bodies on their way in and out: content encodings, and the limit of the size.
//!
//! Every protocol over HTTP has them; a handler sees plain bytes.

use std::future::ready;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tower::Service;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::compression::{Compression, CompressionLevel};

use super::inflate::{Coding, InflateError, inflate};
use super::{Shared, Surface};

/// The encodings that are understood, in requests and answers.
const ENCODINGS: &str = "gzip, deflate";

/// Answers shorter than this fit one packet as they are.
const WORTH_COMPRESSING: u64 = 1024;

/// Why a body was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    /// It is larger than the limit, as it came or when inflated.
    #[error("the body is larger than {0} bytes (`server.max_body`)")]
    TooLarge(usize),
    /// The connection broke, or the encoding is not what the header says.
    #[error("the body could not be read: {0}")]
    Unreadable(String),
}

/// The whole body, inflated.
///
/// # Errors
/// [`BodyError`].
pub(super) fn read(
    shared: &Shared,
    body: Result<Bytes, BytesRejection>,
) -> Result<Bytes, BodyError> {
    body.map_err(|rejection| {
        let too_large = BodyError::TooLarge(shared.max_body());
        match inflate_error(&rejection) {
            Some(InflateError::TooLarge) => too_large,
            Some(InflateError::Broken(reason)) => {
                BodyError::Unreadable(format!("it is not compressed as it says: {reason}"))
            }
            None if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => too_large,
            None => BodyError::Unreadable(rejection.body_text()),
        }
    })
}

fn inflate_error(rejection: &BytesRejection) -> Option<&InflateError> {
    let first: &(dyn std::error::Error + 'static) = rejection;
    let mut causes = std::iter::successors(Some(first), |error| error.source());
    causes.find_map(|cause| cause.downcast_ref())
}

/// Inflates bodies that say that they are compressed, while they are read and no further than the limit; compresses
/// answers for clients that ask for it. Costs nothing when neither is the case.
pub(super) async fn encodings(
    State(shared): State<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    match coding(request.headers()) {
        Ok(None) => {}
        Ok(Some(coding)) => request = inflated(request, coding, shared.max_body()).await,
        Err(coding) => return unsupported(request.uri().path(), &coding),
    }
    if wants_compression(request.headers()) {
        compressed(request, next).await
    } else {
        next.run(request).await
    }
}

async fn inflated(request: Request, coding: Coding, limit: usize) -> Request {
    let (mut parts, body) = request.into_parts();
    let headers = &mut parts.headers;
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    let body = match inflate(body, coding, limit).await {
        Ok(bytes) => Body::from(bytes),
        // For the handler, which answers in the form of its protocol.
        Err(error) => Body::from_stream(stream::once(ready(Err::<Bytes, _>(error)))),
    };
    Request::from_parts(parts, body)
}

async fn compressed(request: Request, next: Next) -> Response {
    // Of gRPC the messages are compressed, not the body.
    let predicate = SizeAbove::new(WORTH_COMPRESSING).and(NotForContentType::GRPC);
    let mut compression = Compression::new(next)
        .quality(CompressionLevel::Fastest)
        .compress_when(predicate);
    match compression.call(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

/// The encoding of a body; `None` when it is plain.
///
/// # Errors
/// The name of one that is not understood.
fn coding(headers: &HeaderMap) -> Result<Option<Coding>, String> {
    let mut named = headers.get_all(header::CONTENT_ENCODING).into_iter();
    let Some(value) = named.next() else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("?").trim();
    match text.to_ascii_lowercase().as_str() {
        _ if named.next().is_some() => Err(format!("{text}, …")),
        "" | "identity" => Ok(None),
        "gzip" | "x-gzip" => Ok(Some(Coding::Gzip)),
        "deflate" => Ok(Some(Coding::Deflate)),
        _ => Err(text.to_owned()),
    }
}

fn wants_compression(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT_ENCODING).into_iter();
    accepted.any(|value| {
        let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
        value.contains("gzip") || value.contains("deflate") || value.contains('*')
    })
}

fn unsupported(path: &str, coding: &str) -> Response {
    let message = format!(
        "the content encoding `{coding}` is not understood: expected `gzip`, `deflate` or none"
    );
    let accept = [(header::ACCEPT_ENCODING, ENCODINGS)];
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    (accept, Surface::of(path).plain_error(status, &message)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn an_encoding_is_known_in_any_case_and_only_alone() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            coding(&headers)
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["identity"]), Ok(None));
        assert_eq!(of(&["GZip"]), Ok(Some(Coding::Gzip)));
        assert_eq!(of(&["x-gzip"]), Ok(Some(Coding::Gzip)));
        assert_eq!(of(&["deflate"]), Ok(Some(Coding::Deflate)));
        for refused in [&["br"][..], &["gzip, gzip"], &["gzip", "gzip"]] {
            assert!(of(refused).is_err(), "{refused:?}");
        }
    }
}
