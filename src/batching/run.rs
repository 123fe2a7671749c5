//! One call of an engine that its clients may give up on.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::pool::{Check, Seat};
use super::queue::Entry;
use crate::engine::{CancelToken, Interrupt};
use crate::telemetry::Trace;

/// A run that nobody waits for and that does not stop when told to is left after so long, with its thread. Longer than a
/// worker is given, which can be killed.
pub(super) const GRACE: Duration = Duration::from_millis(1500);

/// Whose run it is.
pub(super) trait Owner: Send + Sync {
    /// The run was given up: its session and its thread are lost, and another thread has taken the place of that one.
    fn left(self: Arc<Self>);
}

/// An engine call, cancelled once all its clients are gone.
pub(super) struct Run {
    cancel: CancelToken,
    /// `None` for one on the thread of a connection, which nobody can give up meanwhile.
    owner: Option<Weak<dyn Owner>>,
    /// The span of this call in each request that is traced: mostly none.
    spans: Vec<Trace>,
    state: Mutex<State>,
}

struct State {
    /// Clients that still wait.
    waiting: usize,
    /// Stops the session that runs it; gone when it has ended, as the session runs something else then.
    interrupt: Option<Arc<dyn Interrupt>>,
    /// The runner, while a session runs it.
    seat: Option<Arc<Seat>>,
    /// Whether it was given up.
    is_left: bool,
}

impl Run {
    /// A call for these requests.
    pub(super) fn for_entries(
        entries: &[Entry],
        now: Instant,
        owner: Weak<dyn Owner>,
    ) -> Arc<Self> {
        let traced = entries.iter().filter_map(|entry| entry.trace.as_ref());
        let span = |trace: &Trace| {
            let span = trace.child("batch", now);
            span.set("onstage.batch.requests", entries.len());
            span
        };
        Self::new(entries.len(), traced.map(span).collect(), Some(owner))
    }

    pub(super) fn new(
        waiting: usize,
        spans: Vec<Trace>,
        owner: Option<Weak<dyn Owner>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            cancel: CancelToken::new(),
            owner,
            spans,
            state: Mutex::new(State {
                waiting,
                interrupt: None,
                seat: None,
                is_left: false,
            }),
        })
    }

    /// For engines that look at it.
    pub(super) fn cancel(&self) -> &CancelToken {
        &self.cancel
    }

    /// A session begins with it.
    pub(super) fn begin(self: &Arc<Self>, interrupt: Option<Arc<dyn Interrupt>>) {
        let mut state = self.state.lock();
        state.interrupt = interrupt;
        state.seat = self.owner.as_ref().and_then(|_| Seat::current());
        if state.waiting == 0 {
            self.stop(&state);
        }
    }

    /// The session is done with it; false when it was given up before, and the session with it.
    pub(super) fn end(&self) -> bool {
        let mut state = self.state.lock();
        state.interrupt = None;
        state.seat = None;
        !state.is_left
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
    pub(super) fn abandon(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.waiting = state.waiting.saturating_sub(1);
        if state.waiting == 0 {
            self.cancel.cancel();
            self.stop(&state);
        }
    }

    /// Stops the session, and sees to it that nobody waits for it if it does not.
    fn stop(self: &Arc<Self>, state: &State) {
        if let Some(interrupt) = &state.interrupt {
            interrupt.interrupt();
        }
        if let Some(seat) = &state.seat {
            let check: Weak<Self> = Arc::downgrade(self);
            seat.look_after(GRACE, check);
        }
    }
}

impl Check for Run {
    fn due(self: Arc<Self>) {
        let mut state = self.state.lock();
        // Ended in time, or ended and begun again, in parts.
        let Some(seat) = state.seat.take() else {
            return;
        };
        state.is_left = true;
        // Before anybody else may see that the run has ended.
        seat.leave();
        drop(state);
        seat.replace();
        if let Some(owner) = self.owner.as_ref().and_then(Weak::upgrade) {
            owner.left();
        }
    }
}
