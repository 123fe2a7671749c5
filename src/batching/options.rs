//! What bounds a batcher, what a request asks of it, and who looks on.

use std::time::Duration;

use tokio::time::Instant;

/// How a batcher is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatcherConfig {
    /// Requests that may wait; one more is refused.
    pub max_queue_size: usize,
    /// Sessions, and so concurrent runs, of this model.
    pub instances: usize,
    /// Whether requests may run together at all.
    pub groups: bool,
    /// The most rows of one call of the engine: more requests wait for the next one, and larger requests are run in
    /// parts where rows are independent. `None` learns what pays, and leaves requests whole.
    pub max_rows: Option<usize>,
    /// The longest wait for more rows.
    pub max_delay: Duration,
    /// A run that is expected to be shorter happens where the request is; zero is never.
    pub in_place: Duration,
}

/// What a request asks of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunOptions {
    /// Nobody waits for it any longer than this.
    pub deadline: Option<Instant>,
    /// Whether it goes before those that are not.
    pub urgent: bool,
}

impl From<Option<Instant>> for RunOptions {
    fn from(deadline: Option<Instant>) -> Self {
        Self {
            deadline,
            ..Self::default()
        }
    }
}

/// Sees what happens to requests. Called on runner threads: must be quick and must not block.
pub trait BatchObserver: Send + Sync {
    /// A request left the queue for the engine after this long.
    fn queued(&self, waited: Duration);
    /// The engine ran a batch of this many rows for this long.
    fn ran(&self, rows: usize, took: Duration);
    /// This many requests wait now.
    fn depth(&self, waiting: usize);
    /// One run may have this many rows from here on.
    fn limit(&self, rows: usize);
    /// A run did not end when told to, and was given up with its thread.
    fn left(&self) {}
}
