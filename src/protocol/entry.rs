//! What comes before any route: the path must be well formed, and bodies are inflated and answers compressed where the
//! client asks for it.
//!
//! Around the router and not a layer on it: axum boxes a layer for each route and copies the box for each request. A
//! plain request passes with two look-ups of headers.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use futures_util::future::Either;
use tower::Service;

use super::body::{self, Encodings};
use super::{Shared, Surface, access, path};

/// A router with what comes before its routes; cheap to clone.
#[derive(Debug, Clone)]
pub struct Entry {
    router: Router,
    shared: Shared,
    base_path: Arc<str>,
}

/// Puts what comes before any route in front of `router`.
pub fn entry(shared: &Shared, router: Router) -> Entry {
    Entry {
        router,
        shared: shared.clone(),
        base_path: shared.0.options.base_path.as_str().into(),
    }
}

type Answer = Result<Response, Infallible>;
type Encoded = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl Service<Request> for Entry {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<RouteFuture<Infallible>, Either<Ready<Answer>, Encoded>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let at = request.uri().path();
        if !path::is_well_formed(at) {
            let surface = Surface::below(&self.base_path, at);
            let refusal = surface.plain_error(StatusCode::NOT_FOUND, "Not Found");
            return Either::Right(Either::Left(ready(Ok(refusal))));
        }
        let below = at.strip_prefix(&*self.base_path).unwrap_or(at);
        match Encodings::of(below, request.headers()) {
            Ok(encodings) if encodings.are_plain() => Either::Left(self.router.call(request)),
            Ok(encodings) => {
                // A small body may be a large one: nothing of a stranger is inflated.
                if let Err(refusal) = access::may_send(&self.shared, &request) {
                    return Either::Right(Either::Left(ready(Ok(*refusal))));
                }
                let (router, shared) = (self.router.clone(), self.shared.clone());
                let answer = async move { Ok(encodings.answer(request, router, &shared).await) };
                Either::Right(Either::Right(Box::pin(answer)))
            }
            Err(reason) => {
                let surface = Surface::below(&self.base_path, at);
                Either::Right(Either::Left(ready(Ok(body::unsupported(surface, &reason)))))
            }
        }
    }
}
