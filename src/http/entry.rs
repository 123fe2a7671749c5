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

use super::body::{self, BodyLimits, Encodings};
use super::{Surface, path};
use crate::middleware::auth::{Caller, Guard};

/// A router with what comes before its routes; cheap to clone.
#[derive(Debug, Clone)]
pub struct Entry {
    router: Router,
    limits: BodyLimits,
    guard: Option<Guard>,
    base_path: Arc<str>,
}

impl Entry {
    /// Puts what comes before any route in front of `router`, whose paths are below `base_path`.
    pub(crate) fn new(
        router: Router,
        limits: BodyLimits,
        guard: Option<Guard>,
        base_path: &str,
    ) -> Self {
        Self {
            router,
            limits,
            guard,
            base_path: base_path.into(),
        }
    }

    /// Whether a body may be looked at before the route is known: not that of a stranger.
    fn may_send(&self, request: &Request) -> Result<(), Box<Response>> {
        let Some(guard) = &self.guard else {
            return Ok(());
        };
        let path = request.uri().path();
        let known = guard.know(request.extensions().get::<Caller>(), path);
        known
            .map(drop)
            .map_err(|refusal| Box::new(Surface::from_path(path).refused(refusal)))
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
        match Encodings::from_headers(below, request.headers()) {
            Ok(encodings) if encodings.are_plain() => Either::Left(self.router.call(request)),
            Ok(encodings) => {
                // A small body may be a large one: nothing of a stranger is inflated.
                if let Err(refusal) = self.may_send(&request) {
                    return Either::Right(Either::Left(ready(Ok(*refusal))));
                }
                let (router, limits) = (self.router.clone(), self.limits.clone());
                let answer = async move { Ok(encodings.answer(request, router, &limits).await) };
                Either::Right(Either::Right(Box::pin(answer)))
            }
            Err(error) => {
                let surface = Surface::below(&self.base_path, at);
                Either::Right(Either::Left(ready(Ok(body::unsupported(surface, &error)))))
            }
        }
    }
}
