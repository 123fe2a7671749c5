//! Records on their way to the writer: bounded by their bytes, and whoever brings one never waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::record::Record;

/// How long the writer lets records gather, so that it does not build a batch of rows for each of them.
const GATHER: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    news: Condvar,
    limit: usize,
    /// Whether the spool is full: nothing is taken then.
    is_blocked: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    records: VecDeque<Record>,
    bytes: usize,
    is_closed: bool,
}

/// What the writer got.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) records: Vec<Record>,
    /// Whether nothing more will come.
    pub(super) is_last: bool,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            state: Mutex::default(),
            news: Condvar::new(),
            limit,
            is_blocked: AtomicBool::new(false),
        }
    }

    /// Takes a record; whether there was room for it.
    #[must_use]
    pub(super) fn push(&self, record: Record) -> bool {
        if self.is_blocked.load(Ordering::Relaxed) {
            return false;
        }
        let size = record.size();
        let mut state = self.state.lock();
        if state.is_closed || state.bytes.saturating_add(size) > self.limit {
            return false;
        }
        state.bytes += size;
        state.records.push_back(record);
        // The writer that gathers has been woken by the first one.
        let is_first = state.records.len() == 1;
        let is_half_full = state.bytes >= self.limit / 2;
        drop(state);
        if is_first || is_half_full {
            self.news.notify_one();
        }
        true
    }

    /// Waits for records, but no longer than `patience`, and takes those that have gathered.
    pub(super) fn take(&self, patience: Duration) -> Taken {
        let mut state = self.state.lock();
        if state.records.is_empty() && !state.is_closed {
            self.news.wait_for(&mut state, patience);
        }
        if !state.records.is_empty() && !state.is_closed && state.bytes < self.limit / 2 {
            self.news.wait_for(&mut state, GATHER.min(patience));
        }
        state.bytes = 0;
        Taken {
            records: std::mem::take(&mut state.records).into(),
            is_last: state.is_closed,
        }
    }

    /// Whether to take nothing.
    pub(super) fn block(&self, is_blocked: bool) {
        self.is_blocked.store(is_blocked, Ordering::Relaxed);
    }

    /// Takes nothing more; the writer gets what is there.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.news.notify_one();
    }
}
