//! One load as a task: it reports each step to the manager, which may cancel it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::mpsc;

use super::context::{LoadContext, LoadEnd, LoadEvent, LoadUpdate};
use super::error::LoadError;
use super::loader::Loader;
use super::request::LoadRequest;
use crate::engine::CancelToken;
use crate::error::panic_text;
use crate::telemetry::Tracer;

/// One version that is being loaded.
pub(crate) struct Job {
    /// Tells events of this job from those of an earlier one.
    pub(crate) ticket: u64,
    pub(crate) request: LoadRequest,
    pub(crate) cancel: CancelToken,
}

impl Job {
    /// Runs to its end and reports it.
    pub(crate) async fn run(
        self,
        loader: Arc<dyn Loader>,
        events: mpsc::Sender<LoadEvent>,
        tracer: Tracer,
    ) {
        let Self {
            ticket,
            request,
            cancel,
        } = self;
        let id = request.id.clone();
        let context = LoadContext::new((id.clone(), ticket), events, cancel.clone());
        let trace = tracer.begin("swap");
        let result = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(LoadError::Cancelled),
            // A runtime that gets no thread panics; the version is tried again.
            result = AssertUnwindSafe(loader.load(request, &context)).catch_unwind() => {
                result.unwrap_or_else(|panic| Err(LoadError::Panicked(panic_text(&*panic).to_owned())))
            }
        };
        if let Some(trace) = &trace {
            context.clock().report(trace);
            trace.set("onstage.model.name", id.name.to_string());
            trace.set("onstage.model.version", id.version.to_string());
            match &result {
                Ok(loaded) => trace.set("onstage.engine", loaded.engine()),
                Err(error) => trace.fail(error.label()),
            }
            trace.end();
        }
        let phases = context.clock().phases();
        let end = LoadEnd {
            trace: trace.filter(|_| result.is_ok()),
            result,
            phases,
        };
        let _ = context.send(LoadUpdate::Ended(end)).await;
    }
}
