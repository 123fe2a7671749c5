//! One call of an engine that its clients may give up on.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::queue::Entry;
use crate::engine::{CancelToken, Interrupt};
use crate::telemetry::Trace;

/// A call that is stopped when nobody waits for it any more.
pub(super) struct Run {
    cancel: CancelToken,
    /// The span of this call in each request that is traced: mostly none.
    spans: Vec<Trace>,
    state: Mutex<State>,
}

struct State {
    /// Clients that still wait.
    waiting: usize,
    /// Stops the session that runs it; gone when it has ended, as the session runs something else then.
    interrupt: Option<Arc<dyn Interrupt>>,
}

impl Run {
    /// A call for these requests.
    pub(super) fn of(entries: &[Entry], now: Instant) -> Arc<Self> {
        let traced = entries.iter().filter_map(|entry| entry.trace.as_ref());
        let span = |trace: &Trace| {
            let span = trace.child("batch", now);
            span.set("onstage.batch.requests", entries.len());
            span
        };
        Self::new(entries.len(), traced.map(span).collect())
    }

    pub(super) fn new(waiting: usize, spans: Vec<Trace>) -> Arc<Self> {
        Arc::new(Self {
            cancel: CancelToken::new(),
            spans,
            state: Mutex::new(State {
                waiting,
                interrupt: None,
            }),
        })
    }

    /// For engines that look at it.
    pub(super) fn cancel(&self) -> &CancelToken {
        &self.cancel
    }

    /// A session begins with it.
    pub(super) fn begin(&self, interrupt: Option<Arc<dyn Interrupt>>) {
        let mut state = self.state.lock();
        if state.waiting == 0
            && let Some(interrupt) = &interrupt
        {
            interrupt.interrupt();
        }
        state.interrupt = interrupt;
    }

    /// The session is done with it.
    pub(super) fn end(&self) {
        self.state.lock().interrupt = None;
    }

    /// The engine ran so many rows for it.
    pub(super) fn ran(&self, rows: usize, started: Instant, failed: bool) {
        if self.spans.is_empty() {
            return;
        }
        let ended = Instant::now();
        for span in &self.spans {
            let infer = span.child("infer", started);
            infer.set("onstage.batch.rows", rows);
            if failed {
                infer.fail("engine");
            }
            infer.end_at(ended);
        }
    }

    /// A client has gone.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        state.waiting = state.waiting.saturating_sub(1);
        if state.waiting == 0 {
            self.cancel.cancel();
            if let Some(interrupt) = &state.interrupt {
                interrupt.interrupt();
            }
        }
    }
}
