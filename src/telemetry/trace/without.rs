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

/// Cannot exist.
#[derive(Debug, Clone)]
pub enum Trace {}

/// Nothing.
pub fn current() -> Option<Trace> {
    None
}

#[expect(missing_docs, reason = "as in `spans.rs`; nobody can call them")]
impl Trace {
    pub fn id(&self) -> String {
        match *self {}
    }

    pub async fn scope<F: Future>(self, _: F) -> F::Output {
        match self {}
    }

    pub fn set(&self, _: &'static str, _: impl Into<Attribute>) {
        match *self {}
    }

    pub fn rename(&self, _: String) {
        match *self {}
    }

    pub fn fail(&self, _: &'static str) {
        match *self {}
    }

    pub fn end(&self) {
        match *self {}
    }

    #[must_use]
    pub fn child(&self, _: &'static str, _: Instant) -> Self {
        match *self {}
    }

    pub fn end_at(&self, _: Instant) {
        match *self {}
    }
}
