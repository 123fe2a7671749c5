//! Bodies on their way in and out: content encodings, and the limit of the size.
//!
//! Every protocol over HTTP has them; a handler sees plain bytes.

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{LengthLimitError, Limited};
use tower::{Service, service_fn};
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::compression::{Compression, CompressionLevel};
use tower_http::decompression::RequestDecompression;

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
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE || is_limit(&rejection) {
            return BodyError::TooLarge(shared.max_body());
        }
        BodyError::Unreadable(rejection.body_text())
    })
}

/// Whether a limit stopped the bytes before they were inflated.
fn is_limit(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| cause.is::<LengthLimitError>())
}

/// Inflates bodies that say that they are compressed, while they are read and no further than the limit; compresses
/// answers for clients that ask for it. Costs nothing when neither is the case.
pub(super) async fn encodings(
    State(shared): State<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    let coding = match coding(request.headers()) {
        Ok(coding) => coding,
        Err(coding) => return unsupported(request.uri().path(), &coding),
    };
    let compress = wants_compression(request.headers());
    let inflate = coding.is_some();
    match coding {
        Some(coding) => {
            let headers = request.headers_mut();
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
            let limit = shared.max_body();
            request = request.map(|body| Body::new(Limited::new(body, limit)));
        }
        None => {
            request.headers_mut().remove(header::CONTENT_ENCODING);
        }
    }
    let response = if compress {
        compressed(request, next, inflate).await
    } else if inflate {
        inflated(request, next).await
    } else {
        next.run(request).await
    };
    response
}

async fn compressed(request: Request, next: Next, inflate: bool) -> Response {
    let inner = service_fn(move |request: Request| {
        let next = next.clone();
        async move {
            Ok::<_, std::convert::Infallible>(if inflate {
                inflated(request, next).await
            } else {
                next.run(request).await
            })
        }
    });
    // Of gRPC the messages are compressed, not the body.
    let predicate = SizeAbove::new(WORTH_COMPRESSING).and(NotForContentType::GRPC);
    let mut compression = Compression::new(inner)
        .quality(CompressionLevel::Fastest)
        .compress_when(predicate);
    match compression.call(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

async fn inflated(request: Request, next: Next) -> Response {
    let inner = service_fn(move |request: Request<_>| {
        let next = next.clone();
        async move { Ok::<_, std::convert::Infallible>(next.run(request.map(Body::new)).await) }
    });
    match RequestDecompression::new(inner).call(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

/// The encoding of a body; `None` when it is plain.
///
/// # Errors
/// The name of one that is not understood.
fn coding(headers: &HeaderMap) -> Result<Option<&'static str>, String> {
    let mut named = headers.get_all(header::CONTENT_ENCODING).into_iter();
    let Some(value) = named.next() else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("?").trim();
    match text.to_ascii_lowercase().as_str() {
        _ if named.next().is_some() => Err(format!("{text}, …")),
        "" | "identity" => Ok(None),
        "gzip" | "x-gzip" => Ok(Some("gzip")),
        "deflate" => Ok(Some("deflate")),
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
        assert_eq!(of(&["GZip"]), Ok(Some("gzip")));
        assert_eq!(of(&["x-gzip"]), Ok(Some("gzip")));
        assert_eq!(of(&["deflate"]), Ok(Some("deflate")));
        for refused in [&["br"][..], &["gzip, gzip"], &["gzip", "gzip"]] {
            assert!(of(refused).is_err(), "{refused:?}");
        }
    }
}
