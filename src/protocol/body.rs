//! Bodies on their way in and out: content encodings, and the limit of the size.
//!
//! Every protocol over HTTP has them; a handler sees plain bytes.

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower::{Service, ServiceExt};
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

/// What a handler takes of a request that brings a body.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) headers: HeaderMap,
    /// The whole body, inflated.
    pub(super) body: Result<Bytes, BodyError>,
}

impl FromRequest<Shared> for Received {
    type Rejection = Infallible;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Infallible> {
        let (parts, body) = request.into_parts();
        let limit = shared.max_body();
        let body = match Limited::new(body, limit).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if is_limit(&*error) => Err(BodyError::TooLarge(limit)),
            Err(error) => Err(BodyError::Unreadable(error.to_string())),
        };
        let headers = parts.headers;
        Ok(Self { headers, body })
    }
}

/// Whether a limit stopped the bytes, before or after they were inflated.
fn is_limit(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| cause.is::<LengthLimitError>())
}

/// How the bodies of one request and its answer are encoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encodings {
    /// Of the request; `None` when it is plain.
    coding: Option<&'static str>,
    /// Whether the client takes a compressed answer.
    compress: bool,
    /// Whether the request names an encoding that is none.
    names_none: bool,
}

impl Encodings {
    /// # Errors
    /// The answer to an encoding that is not understood.
    pub(super) fn of(request: &Request) -> Result<Self, Box<Response>> {
        let headers = request.headers();
        let coding = coding(headers);
        let coding =
            coding.map_err(|coding| Box::new(unsupported(request.uri().path(), &coding)))?;
        let names_none = coding.is_none() && headers.contains_key(header::CONTENT_ENCODING);
        Ok(Self {
            coding,
            compress: wants_compression(headers),
            names_none,
        })
    }

    /// Whether there is nothing to do.
    pub(super) fn are_plain(self) -> bool {
        self.coding.is_none() && !self.compress && !self.names_none
    }

    /// Inflates the body while it is read and no further than the limit, and compresses the answer.
    pub(super) async fn answer(
        self,
        mut request: Request,
        router: Router,
        max_body: usize,
    ) -> Response {
        match self.coding {
            Some(coding) => {
                let headers = request.headers_mut();
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
                request = request.map(|body| Body::new(Limited::new(body, max_body)));
            }
            None => {
                request.headers_mut().remove(header::CONTENT_ENCODING);
            }
        }
        match (self.compress, self.coding) {
            (true, Some(_)) => compressed(RequestDecompression::new(router), request).await,
            (true, None) => compressed(router, request).await,
            (false, _) => plain(RequestDecompression::new(router).oneshot(request).await),
        }
    }
}

async fn compressed<S, B>(inner: S, request: Request) -> Response
where
    S: Service<Request, Response = axum::http::Response<B>, Error = Infallible>,
    B: axum::body::HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError> + Send,
{
    // Of gRPC the messages are compressed, not the body.
    let predicate = SizeAbove::new(WORTH_COMPRESSING).and(NotForContentType::GRPC);
    let compression = Compression::new(inner)
        .quality(CompressionLevel::Fastest)
        .compress_when(predicate);
    plain(compression.oneshot(request).await)
}

fn plain<B>(answer: Result<axum::http::Response<B>, Infallible>) -> Response
where
    B: axum::body::HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    match answer {
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
