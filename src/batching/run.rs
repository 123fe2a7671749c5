//! One call of an engine that its clients may give up on.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::{CancelToken, Interrupt};

/// A call that is stopped when nobody waits for it any more.
pub(super) struct Run {
    cancel: CancelToken,
    state: Mutex<State>,
}

struct State {
    /// Clients that still wait.
    waiting: usize,
    /// Stops the session that runs it; gone when it has ended, as the session runs something else then.
    interrupt: Option<Arc<dyn Interrupt>>,
}

impl Run {
    pub(super) fn new(waiting: usize) -> Arc<Self> {
        Arc::new(Self {
            cancel: CancelToken::new(),
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
