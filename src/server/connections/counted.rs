//! The requests of a connection: how many are in work, and where they come from.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};
use axum::response::Response;
use tower::Service;

use super::Activity;
use super::answers::until_sent;
use crate::middleware::{ClientAddress, IsKnown};

/// The stream that is open to everybody.
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// A service whose requests are counted, and know where they come from.
#[derive(Debug, Clone)]
pub(crate) struct Counted<S> {
    service: S,
    activity: Arc<Activity>,
    address: Option<ClientAddress>,
}

impl<S> Counted<S> {
    pub(super) fn new(service: S, activity: Arc<Activity>, address: Option<ClientAddress>) -> Self {
        Self {
            service,
            activity,
            address,
        }
    }
}

impl<S, B> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response>,
    S::Future: Unpin,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(address) = self.address {
            request.extensions_mut().insert(address);
        }
        let is_http2 = request.version() == Version::HTTP_2;
        let watches = is_http2 && request.uri().path() == WATCH;
        let work = InWork::begin(&self.activity, watches);
        Answer {
            answer: self.service.call(request),
            work: Some(work),
            is_http2,
        }
    }
}

/// A request that is in work for as long as this lives.
#[derive(Debug)]
pub(super) struct InWork {
    activity: Arc<Activity>,
    watches: bool,
}

impl InWork {
    pub(super) fn begin(activity: &Arc<Activity>, watches: bool) -> Self {
        activity.begin(watches);
        let activity = Arc::clone(activity);
        Self { activity, watches }
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.activity.end(self.watches);
    }
}

/// The answer to a request that is in work.
#[derive(Debug)]
pub(crate) struct Answer<F> {
    answer: F,
    work: Option<InWork>,
    is_http2: bool,
}

impl<F, E> Future for Answer<F>
where
    F: Future<Output = Result<Response, E>> + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        let work = self.work.take();
        if let (Ok(response), Some(work)) = (&answer, &work)
            && response.extensions().get::<IsKnown>().is_some()
        {
            work.activity().known();
        }
        Poll::Ready(match (answer, work) {
            // Of HTTP/1 each write is seen; on HTTP/2 a stream may wait for long, and its connection with it.
            (Ok(response), Some(work)) if self.is_http2 => Ok(sent(response, work)),
            (Ok(response), Some(work)) if work.activity().is_old() => Ok(last(response)),
            (answer, _) => answer,
        })
    }
}

/// Says with an answer of HTTP/1 that it is the last one on its connection.
fn last(mut response: Response) -> Response {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

/// Keeps a request in work until its answer has been sent, or taken back.
fn sent(mut response: Response, work: InWork) -> Response {
    let length = response.body().size_hint().exact();
    if let Some(length) = length.filter(|length| *length > 0) {
        let headers = response.headers_mut();
        headers
            .entry(header::CONTENT_LENGTH)
            .or_insert_with(|| length.into());
    }
    response.map(|body| until_sent(body, work))
}
