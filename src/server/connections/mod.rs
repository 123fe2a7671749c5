//! What one connection may do: be there at all, be slow, be idle. Around the acceptor, so that it sees the bytes of the
//! connection and its requests.
//!
//! ```text
//! accept ─► place free?  ─► first byte of a head … whole head   within header_timeout
//!                          request in work                     (its body and its answer: body_timeout between two pieces)
//!                          nothing                             within idle_timeout, or until its place is needed
//! ```

mod aged;
mod answers;
mod counted;
mod places;
mod watched;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum_server::accept::Accept;
use futures_util::task::AtomicWaker;
use tokio::net::TcpStream;
use tokio::time::Instant;

use self::answers::Answers;
use self::counted::Counted;
pub(crate) use self::places::Most;
use self::places::{Place, Places};
use self::watched::Watched;
use super::listen::Arrived;
use crate::middleware::ClientAddress;
use crate::telemetry::Metrics;

/// How slow a client may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// From the first byte of a request's head to the last.
    pub(crate) header: Duration,
    /// Between two pieces of an answer that the client takes.
    pub(crate) body: Duration,
    /// Between two requests.
    pub(crate) idle: Duration,
    /// Age at which a connection is closed gracefully; `None` is never.
    pub(crate) age: Option<Duration>,
}

/// The connections of all listeners of a kind; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    places: Arc<Places>,
    timeouts: Timeouts,
}

impl Connections {
    /// At most `most` at a time.
    pub(crate) fn new(most: Most, timeouts: Timeouts, metrics: Arc<Metrics>) -> Self {
        let places = Places::new(most, metrics);
        Self { places, timeouts }
    }

    /// Connections that another acceptor accepts, within the limits.
    pub(crate) fn guard<A>(&self, acceptor: A) -> Guarded<A> {
        Guarded {
            acceptor,
            connections: self.clone(),
        }
    }
}

/// See [`Connections::guard`].
#[derive(Debug, Clone)]
pub(crate) struct Guarded<A> {
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
        let Arrived { stream, slot } = arrived;
        let Connections { places, timeouts } = self.connections.clone();
        let address = stream.peer_addr().ok().map(ClientAddress);
        let activity = Arc::new(Activity::new(timeouts.age));
        let Some(place) = places.take(address.map(ClientAddress::network), &activity, slot) else {
            // Closed at once: whoever waits to be accepted learns less.
            return Box::pin(async {
                Err(io::Error::other("as many connections as there may be"))
            });
        };
        let accepted = self.acceptor.accept(stream, service);
        Box::pin(async move {
            let (stream, service) = accepted.await?;
            let watched = Watched::new(stream, &activity, (timeouts, place));
            Ok((watched, Counted::new(service, activity, address)))
        })
    }
}

/// What the requests of a connection tell its stream.
#[derive(Debug)]
struct Activity {
    since: Instant,
    /// When it is closed gracefully.
    until: Option<Instant>,
    in_work: AtomicUsize,
    /// Those of them that are public streams.
    watching: AtomicUsize,
    begun: AtomicU64,
    /// Whether its client has proved who it is.
    is_known: AtomicBool,
    is_evicted: AtomicBool,
    /// The task of the connection, to be told of that.
    reader: AtomicWaker,
    /// Answers that are not sent yet; of HTTP/2.
    answers: Answers,
    /// When something last happened that a client wanted, in milliseconds after `since`.
    last: AtomicU64,
}

impl Activity {
    fn new(age: Option<Duration>) -> Self {
        Self {
            since: Instant::now(),
            until: age.and_then(aged::end),
            in_work: AtomicUsize::new(0),
            watching: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            is_known: AtomicBool::new(false),
            is_evicted: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            answers: Answers::default(),
            last: AtomicU64::new(0),
        }
    }

    /// Whether its client should open another one.
    fn is_old(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    /// A request begins; one that `watches` is a public stream.
    fn begin(&self, watches: bool) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.in_work.fetch_add(1, Ordering::Relaxed);
        self.watching
            .fetch_add(usize::from(watches), Ordering::Relaxed);
    }

    fn end(&self, watches: bool) {
        self.beat();
        self.in_work.fetch_sub(1, Ordering::Relaxed);
        self.watching
            .fetch_sub(usize::from(watches), Ordering::Relaxed);
    }

    /// Its client has proved who it is.
    fn known(&self) {
        self.is_known.store(true, Ordering::Relaxed);
    }

    /// Since when nothing happens on it but public streams; `None` while something does, or when its client is known.
    fn idle_since(&self) -> Option<Instant> {
        let works = self.in_work.load(Ordering::Relaxed) > self.watching.load(Ordering::Relaxed);
        let stays = works || self.is_known.load(Ordering::Relaxed);
        (!stays).then(|| self.last())
    }

    /// Ends the connection: its place is needed.
    fn evict(&self) {
        self.is_evicted.store(true, Ordering::Release);
        self.reader.wake();
    }

    fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Acquire)
    }

    fn beat(&self) {
        self.last.fetch_max(self.now(), Ordering::Relaxed);
    }

    /// Milliseconds since the connection began.
    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn last(&self) -> Instant {
        self.since + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}
