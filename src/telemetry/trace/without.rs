//! What stands in for traces in a build without the feature `otel`: none can exist.

use std::time::Duration;

use axum::http::HeaderMap;
use tokio::time::Instant;

use super::{Attribute, TraceError, TraceOptions};

/// Makes no traces.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tracer;

impl Tracer {
    /// Refuses.
    ///
    /// # Errors
    /// [`TraceError::Feature`].
    pub fn start(_: &TraceOptions) -> Result<Self, TraceError> {
        Err(TraceError::Feature)
    }

    /// Never.
    pub fn is_on(&self) -> bool {
        false
    }

    /// Nothing.
    pub fn serve(&self, _: String, _: &HeaderMap) -> Option<Trace> {
        None
    }

    /// Nothing.
    pub fn begin(&self, _: &'static str) -> Option<Trace> {
        None
    }

    /// Has nothing to send.
    pub async fn stop(&self, _: Duration) {}
}

/// Nobody makes one.
#[derive(Debug, Clone)]
pub struct Trace(());

/// Nothing.
pub fn current() -> Option<Trace> {
    None
}

impl Trace {
    /// Not called.
    pub fn id(&self) -> String {
        String::new()
    }

    /// Runs `work`.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        work.await
    }

    /// Not called.
    pub fn set(&self, _: &'static str, _: impl Into<Attribute>) {}

    /// Not called.
    pub fn rename(&self, _: String) {}

    /// Not called.
    pub fn fail(&self, _: &'static str) {}

    /// Not called.
    pub fn end(&self) {}

    /// Itself.
    #[must_use]
    pub fn child(&self, _: &'static str, _: Instant) -> Self {
        self.clone()
    }

    /// Not called.
    pub fn end_at(&self, _: Instant) {}
}
