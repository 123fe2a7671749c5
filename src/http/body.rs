//! Bodies on their way in and out: content encodings, the limit of the size, and the memory that they take.
//!
//! Every protocol over HTTP has them; a handler sees plain bytes.

use std::convert::Infallible;
use std::future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tower::{BoxError, ServiceExt};
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::compression::{Compression, CompressionLevel};

use super::Surface;
use super::headers::LENGTH_HEADER;
use super::inflate::{Bounds, Coding, InflateError, inflate_all};
use crate::budget::{Allowance, Budget, OverBudget};
use crate::serving::RequestContext;

/// The encodings that are understood, in requests and answers.
const ENCODINGS: &str = "gzip, deflate";

/// Encodings of one body, one upon the other: two are a mistake that clients make, more are work for nothing.
const MOST_CODINGS: usize = 4;

/// Answers shorter than this fit one packet as they are.
const WORTH_COMPRESSING: u64 = 1024;

/// Why a body was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is larger than the limit, as it came or when inflated.
    #[error("the body is larger than {0} bytes (`server.max_body`)")]
    TooLarge(usize),
    /// The connection broke, or the encoding is not what the header says.
    #[error("the body could not be read: {0}")]
    Unreadable(String),
    /// There is no memory for it.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

/// What a handler takes of a request that brings a body.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) headers: HeaderMap,
    /// The whole body, inflated.
    pub(crate) body: Result<Bytes, BodyError>,
    /// What the request may hold; the body is charged to it. See [`held`].
    pub(crate) allowance: Allowance,
}

/// What a request says of itself, and what it may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'r> {
    pub(crate) headers: &'r HeaderMap,
    pub(crate) allowance: &'r Allowance,
}

/// What the operator allows a body.
#[derive(Debug, Clone)]
pub(crate) struct BodyLimits {
    /// Bytes, as it came and inflated.
    pub(crate) max_bytes: usize,
    /// The longest pause that a client may make in it; `None` is any.
    pub(crate) pause: Option<Duration>,
    /// What all requests may hold together.
    pub(crate) budget: Budget,
}

impl BodyLimits {
    /// What one request may hold; nothing is charged yet.
    pub(crate) fn allowance(&self) -> Allowance {
        self.budget.of_request(self.max_bytes)
    }
}

impl<S: AsRef<BodyLimits> + Send + Sync> FromRequest<S> for Received {
    type Rejection = Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Infallible> {
        let limits = state.as_ref();
        let (mut parts, body) = request.into_parts();
        let limit = limits.max_bytes;
        let head = head(&parts.headers);
        let inflated: Option<Allowance> = parts.extensions.remove();
        // What was inflated was charged meanwhile.
        let charged = match &inflated {
            Some(_) => Allowance::unlimited(),
            None => limits.allowance(),
        };
        let body = Limited::new(body, limit);
        let pace = Pace {
            pause: limits.pause,
            allowance: charged.clone(),
        };
        let body = in_one_piece(body, head, &pace).await;
        if let Ok(body) = &body {
            RequestContext::note_body(body);
        }
        Ok(Self {
            headers: parts.headers,
            body: body.map_err(|error| reason(&*error, limit)),
            allowance: inflated.unwrap_or(charged),
        })
    }
}

/// Keeps what a request was charged until its answer was sent, or its client has gone.
pub(crate) fn held(response: Response, allowance: Allowance) -> Response {
    response.map(|body| Body::new(HeldBody { body, allowance }))
}

/// A body of an answer whose parts keep what its request was charged.
struct HeldBody {
    body: Body,
    allowance: Allowance,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(context));
        let held = |bytes| Charged::with(bytes, self.allowance.clone());
        Poll::Ready(polled.map(|frame| frame.map(|frame| frame.map_data(held))))
    }

    // Without these an answer would have no `Content-Length`.
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes of an answer, and what their requests were charged. They outlive the body that they were of: they wait in the
/// connection until the client takes them.
pub(crate) struct Charged<A> {
    bytes: Bytes,
    #[expect(dead_code, reason = "it is given back when this is dropped")]
    charges: A,
}

impl<A: Send + 'static> Charged<A> {
    /// The same bytes; when the last of them has gone, so have the charges.
    pub(crate) fn with(bytes: Bytes, charges: A) -> Bytes {
        Bytes::from_owner(Self { bytes, charges })
    }
}

impl<A> AsRef<[u8]> for Charged<A> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// How a body may come.
struct Pace {
    /// The longest pause that its client may make.
    pause: Option<Duration>,
    /// What it is charged to.
    allowance: Allowance,
}

/// What tensors begin at a multiple of, so that engines read them where they lie: as much as allocators give.
const ALIGNMENT: usize = 16;

/// How many bytes of a body come before tensors.
fn head(headers: &HeaderMap) -> usize {
    let described = headers.get(LENGTH_HEADER);
    let described = described.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    described.unwrap_or_default()
}

/// Copies each part of a body as it comes, while it is in the processor's caches, to where what follows the first
/// `head` bytes is aligned. A body of one part stays where it is.
async fn in_one_piece<B>(mut body: B, head: usize, pace: &Pace) -> Result<Bytes, BoxError>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    let pad = head.wrapping_neg() % ALIGNMENT;
    let (mut first, mut whole) = (Bytes::new(), Vec::new());
    while let Some(frame) = within(pace.pause, body.frame()).await? {
        // Trailers are of no use here.
        let Ok(part) = frame.map_err(Into::<BoxError>::into)?.into_data() else {
            continue;
        };
        if first.is_empty() && whole.is_empty() {
            pace.allowance.charge(part.len())?;
            first = part;
            continue;
        }
        let announced = body.size_hint().exact();
        if whole.is_empty() {
            whole.resize(pad, 0);
            append(&mut whole, &first, (announced, &pace.allowance))?;
            pace.allowance.release(first.len());
            first = Bytes::new();
        }
        append(&mut whole, &part, (announced, &pace.allowance))?;
    }
    if whole.is_empty() {
        return Ok(first);
    }
    Ok(Bytes::from(whole).slice(pad..))
}

/// The client sent nothing for too long.
#[derive(Debug, thiserror::Error)]
#[error("nothing came for {0:?} (`limits.body_timeout`)")]
struct Paused(Duration);

/// What comes within the pause that a client may make.
async fn within<T>(pause: Option<Duration>, next: impl Future<Output = T>) -> Result<T, Paused> {
    match pause {
        None => Ok(next.await),
        Some(pause) => timeout(pause, next).await.map_err(|_| Paused(pause)),
    }
}

/// Room is made by doubling, so that memory is bounded by what came, and for no more than what is announced.
fn append(
    whole: &mut Vec<u8>,
    part: &[u8],
    (announced, allowance): (Option<u64>, &Allowance),
) -> Result<(), OverBudget> {
    if whole.capacity() - whole.len() < part.len() {
        let announced = usize::try_from(announced.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let more = whole.len().max(part.len()).min(announced);
        let room = whole.len().saturating_add(part.len()).saturating_add(more);
        allowance.charge(room - whole.capacity())?;
        whole.reserve_exact(room - whole.len());
    }
    whole.extend_from_slice(part);
    Ok(())
}

fn reason(error: &(dyn std::error::Error + 'static), limit: usize) -> BodyError {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let known = causes.find_map(|cause| match cause.downcast_ref() {
        Some(InflateError::TooLarge) => Some(BodyError::TooLarge(limit)),
        Some(InflateError::Broken(reason)) => Some(BodyError::Unreadable(format!(
            "it is not compressed as it says: {reason}"
        ))),
        Some(InflateError::OverBudget(over)) => Some(BodyError::OverBudget(*over)),
        None if cause.is::<LengthLimitError>() => Some(BodyError::TooLarge(limit)),
        None => cause.downcast_ref().copied().map(BodyError::OverBudget),
    });
    known.unwrap_or_else(|| BodyError::Unreadable(error.to_string()))
}

/// Reads a body that is one JSON object.
///
/// # Errors
/// [`ObjectError`].
pub(crate) fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, ObjectError> {
    // Serde would also take a list, as the fields in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(ObjectError::NotAnObject);
    }
    Ok(serde_json::from_slice(body)?)
}

/// Why a body is not the JSON object that was expected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    #[error("it is no JSON object")]
    NotAnObject,
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Why a content encoding is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EncodingError {
    #[error("the content encoding `{0}` is not understood: expected `gzip`, `deflate` or none")]
    Unknown(String),
    #[error(
        "the body has more content encodings, one upon the other, than the {} that are undone: expected one",
        MOST_CODINGS
    )]
    TooMany,
}

/// How the bodies of one request and its answer are encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encodings {
    /// Of the request.
    codings: Codings,
    /// Whether the client takes a compressed answer.
    compress: bool,
}

impl Encodings {
    /// Of a request to `path`, below the base path.
    ///
    /// # Errors
    /// [`EncodingError`].
    pub(crate) fn from_headers(path: &str, headers: &HeaderMap) -> Result<Self, EncodingError> {
        Ok(Self {
            codings: Codings::from_headers(headers)?,
            compress: may_compress(path) && wants_compression(headers),
        })
    }

    /// Whether there is nothing to do.
    pub(crate) fn are_plain(self) -> bool {
        self.codings.are_none() && !self.compress
    }

    /// Inflates the body no further than the limit, and compresses the answer.
    pub(crate) async fn answer(
        self,
        mut request: Request,
        router: Router,
        limits: &BodyLimits,
    ) -> Response {
        if !self.codings.are_none() {
            request = inflated(request, self.codings, limits).await;
        }
        if self.compress {
            return compressed(request, router).await;
        }
        match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

async fn inflated(request: Request, codings: Codings, limits: &BodyLimits) -> Request {
    let (mut parts, body) = request.into_parts();
    let headers = &mut parts.headers;
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    let bounds = Bounds {
        limit: limits.max_bytes,
        pause: limits.pause,
        allowance: limits.allowance(),
    };
    parts.extensions.insert(bounds.allowance.clone());
    let body = match inflate_all(body, codings.last_first(), bounds).await {
        Ok(bytes) => Body::from(bytes),
        // For the handler, which answers in the form of its protocol.
        Err(error) => Body::from_stream(stream::once(future::ready(Err::<Bytes, _>(error)))),
    };
    Request::from_parts(parts, body)
}

async fn compressed(request: Request, router: Router) -> Response {
    // Of gRPC the messages are compressed, not the body.
    let predicate = SizeAbove::new(WORTH_COMPRESSING).and(NotForContentType::GRPC);
    let compression = Compression::new(router)
        .quality(CompressionLevel::Fastest)
        .compress_when(predicate);
    match compression.oneshot(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

/// The encodings of a body in the order in which they were made, one of the result of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Codings([Option<Coding>; MOST_CODINGS]);

impl Codings {
    /// # Errors
    /// [`EncodingError`].
    fn from_headers(headers: &HeaderMap) -> Result<Self, EncodingError> {
        let mut codings = Self::default();
        let mut places = codings.0.iter_mut();
        for value in headers.get_all(header::CONTENT_ENCODING) {
            // A list may be one header or several, and hold nothing between two commas.
            for name in value.to_str().unwrap_or("?").split(',') {
                let name = name.trim();
                let coding = match name.to_ascii_lowercase().as_str() {
                    "" | "identity" => continue,
                    "gzip" | "x-gzip" => Coding::Gzip,
                    "deflate" => Coding::Deflate,
                    _ => return Err(EncodingError::Unknown(name.to_owned())),
                };
                *places.next().ok_or(EncodingError::TooMany)? = Some(coding);
            }
        }
        Ok(codings)
    }

    fn are_none(self) -> bool {
        self == Self::default()
    }

    /// In the order in which they are undone.
    fn last_first(self) -> impl Iterator<Item = Coding> {
        self.0.into_iter().rev().flatten()
    }
}

/// Triton compresses inferences alone, and the asynchronous client of `tritonclient` inflates nothing else, although it
/// accepts it for every answer.
fn may_compress(path: &str) -> bool {
    !path.starts_with("/v2") || path.trim_end_matches('/').ends_with("/infer")
}

fn wants_compression(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT_ENCODING).into_iter();
    accepted.any(|value| {
        let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
        value.contains("gzip") || value.contains("deflate") || value.contains('*')
    })
}

/// The answer to an encoding that is not understood, and why.
pub(crate) fn unsupported(surface: Surface, error: &EncodingError) -> Response {
    let accept = [(header::ACCEPT_ENCODING, ENCODINGS)];
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    (accept, surface.plain_error(status, &error.to_string())).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    async fn collected(parts: &[&'static [u8]], head: usize) -> Bytes {
        let parts: Vec<_> = parts.iter().map(|part| Bytes::from_static(part)).collect();
        let parts = stream::iter(parts.into_iter().map(Ok::<_, Infallible>));
        let body = Body::from_stream(parts);
        let pace = Pace {
            pause: None,
            allowance: Allowance::unlimited(),
        };
        in_one_piece(body, head, &pace).await.unwrap()
    }

    #[tokio::test]
    async fn what_follows_the_json_of_a_body_in_parts_is_aligned() {
        for head in 0..40 {
            let body = collected(&[b"", &[1; 30], &[2; 1], &[3; 3000], &[4; 100_000]], head).await;
            let expected = [&[1; 30][..], &[2], &[3; 3000], &[4; 100_000]].concat();
            assert_eq!(body, expected);
            assert_eq!(body[head..].as_ptr() as usize % ALIGNMENT, 0, "{head}");
        }
        assert_eq!(collected(&[], 3).await, "");
        assert_eq!(collected(&[b"one"], usize::MAX).await, "one");
        assert_eq!(collected(&[b"o", b"ne"], usize::MAX).await, "one");
    }

    #[test]
    fn encodings_are_known_in_any_case_and_undone_from_the_last_to_the_first() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            Codings::from_headers(&headers).map(|codings| codings.last_first().collect::<Vec<_>>())
        };
        use Coding::{Deflate, Gzip};
        assert_eq!(of(&[]), Ok(vec![]));
        assert_eq!(of(&["identity"]), Ok(vec![]));
        assert_eq!(of(&["GZip"]), Ok(vec![Gzip]));
        assert_eq!(of(&["x-gzip"]), Ok(vec![Gzip]));
        assert_eq!(of(&["deflate"]), Ok(vec![Deflate]));
        assert_eq!(of(&["gzip,deflate"]), Ok(vec![Deflate, Gzip]));
        assert_eq!(of(&["gzip", "identity, deflate"]), Ok(vec![Deflate, Gzip]));
        assert_eq!(of(&["gzip, , gzip ,"]), Ok(vec![Gzip, Gzip]));
        assert_eq!(of(&["gzip, gzip", "gzip, gzip"]), Ok(vec![Gzip; 4]));
        let refused = of(&["gzip, br"]).unwrap_err().to_string();
        assert!(refused.contains("`br` is not understood"), "{refused}");
        let refused = of(&["gzip, gzip, gzip", "gzip, gzip"])
            .unwrap_err()
            .to_string();
        assert!(refused.contains("more content encodings"), "{refused}");
    }
}
