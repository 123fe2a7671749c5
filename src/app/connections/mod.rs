//! What one connection may do: be there at all, be slow, be idle. Around the acceptor, so that it sees the bytes of the
//! connection and its requests.
//!
//! ```text
//! accept ─► place free? ─► first byte of a head … whole head   within header_timeout
//!                          request in work                     (its body and its answer: body_timeout between two pieces)
//!                          nothing                             within idle_timeout
//! ```

mod counted;
mod watched;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use self::counted::Counted;
use self::watched::Watched;
use super::listen::{Arrived, Seat};
use crate::middleware::ClientAddress;
use crate::telemetry::Metrics;

/// How slow a client may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From the first byte of a request's head to the last.
    pub(super) header: Duration,
    /// Between two pieces of an answer that the client takes.
    pub(super) body: Duration,
    /// Between two requests.
    pub(super) idle: Duration,
}

/// The connections of all listeners of a kind; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    places: Arc<Semaphore>,
    patience: Patience,
    metrics: Arc<Metrics>,
}

impl Connections {
    /// At most `most` at a time.
    pub(super) fn new(most: usize, patience: Patience, metrics: Arc<Metrics>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            patience,
            metrics,
        }
    }

    /// Connections that another acceptor accepts, within the limits.
    pub(super) fn guard<A>(&self, acceptor: A) -> Guarded<A> {
        Guarded {
            acceptor,
            connections: self.clone(),
        }
    }
}

/// See [`Connections::guard`].
#[derive(Debug, Clone)]
pub(super) struct Guarded<A> {
    acceptor: A,
    connections: Connections,
}

type Accepted<T, S> = Pin<Box<dyn Future<Output = io::Result<(Watched<T>, Counted<S>)>> + Send>>;

impl<A, S> Accept<Arrived, S> for Guarded<A>
where
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
    A::Stream: Send + 'static,
    A::Service: Send + 'static,
{
    type Stream = Watched<A::Stream>;
    type Service = Counted<A::Service>;
    type Future = Accepted<A::Stream, A::Service>;

    fn accept(&self, arrived: Arrived, service: S) -> Self::Future {
        let Arrived { stream, seat } = arrived;
        let Connections {
            places,
            patience,
            metrics,
        } = self.connections.clone();
        let Ok(place) = places.try_acquire_owned() else {
            metrics.connection_refused();
            // Closed at once: whoever waits to be accepted learns less.
            return Box::pin(async {
                Err(io::Error::other("as many connections as there may be"))
            });
        };
        let address = stream.peer_addr().ok().map(ClientAddress);
        let accepted = self.acceptor.accept(stream, service);
        Box::pin(async move {
            let place = Place::taken(place, seat, metrics);
            let (stream, service) = accepted.await?;
            let pulse = Arc::new(Pulse::default());
            let watched = Watched::new(stream, &pulse, (patience, place));
            Ok((watched, Counted::new(service, pulse, address)))
        })
    }
}

/// A place among the connections, counted for as long as it is taken.
#[derive(Debug)]
struct Place {
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
    _seat: Option<Seat>,
}

impl Place {
    fn taken(permit: OwnedSemaphorePermit, seat: Option<Seat>, metrics: Arc<Metrics>) -> Self {
        metrics.connections(1);
        Self {
            metrics,
            _permit: permit,
            _seat: seat,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.connections(-1);
    }
}

/// What the requests of a connection tell its stream.
#[derive(Debug)]
struct Pulse {
    since: Instant,
    in_work: AtomicUsize,
    begun: AtomicU64,
    /// When something last happened that a client wanted, in milliseconds after `since`.
    last: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            in_work: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            last: AtomicU64::new(0),
        }
    }
}

impl Pulse {
    fn beat(&self) {
        let after = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(after, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.since + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}
