//! The requests that wait for one model.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::BatchError;
use super::options::RunOptions;
use super::policy::LastRun;
use super::run::Run;
use crate::engine::Outputs;
use crate::model::Batch;
use crate::telemetry::Trace;

/// A request that waits.
pub(super) struct Entry {
    pub(super) batch: Batch,
    /// Of its inputs.
    pub(super) bytes: usize,
    pub(super) enqueued: Instant,
    pub(super) terms: RunOptions,
    pub(super) reply: oneshot::Sender<Result<Outputs, BatchError>>,
    /// Where it is, for a client that goes away meanwhile.
    pub(super) place: Arc<Mutex<Place>>,
    /// The request's trace, when it is sampled.
    pub(super) trace: Option<Trace>,
}

/// Where a request is.
pub(super) enum Place {
    /// In the queue.
    Waiting,
    /// In a run.
    Running(Arc<Run>),
    /// Nobody waits for it any more.
    Gone,
}

impl Entry {
    /// The entry, unless its client has gone or its deadline has passed; then the client is told so.
    pub(super) fn still_wanted(self, now: Instant) -> Option<Self> {
        if self.is_late(now) {
            let _ = self.reply.send(Err(BatchError::Expired));
            return None;
        }
        (!self.reply.is_closed()).then_some(self)
    }

    fn is_wanted(&self, now: Instant) -> bool {
        !self.is_late(now) && !self.reply.is_closed()
    }

    fn is_late(&self, now: Instant) -> bool {
        self.terms.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Notes the run that it is in; false when its client has gone, which the run is told.
    pub(super) fn begin(&self, run: &Arc<Run>) -> bool {
        let mut place = self.place.lock();
        if matches!(*place, Place::Gone) {
            run.abandon();
            return false;
        }
        *place = Place::Running(Arc::clone(run));
        true
    }
}

fn lane(urgent: bool) -> usize {
    usize::from(!urgent)
}

/// Those with priority first, then the oldest first.
#[derive(Default)]
pub(super) struct Queue {
    urgent: VecDeque<Entry>,
    normal: VecDeque<Entry>,
    /// Rows of those that wait, urgent and normal.
    rows: [usize; 2],
    /// Bytes of their inputs.
    bytes: usize,
    /// Requests that ever came.
    pub(super) arrived: u64,
    /// Turns that are scheduled on the pool or running.
    pub(super) turns: usize,
    /// Whether someone will look again after a wait for more rows.
    pub(super) parked: bool,
    /// The last run that ended.
    pub(super) last: Option<LastRun>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.urgent.len() + self.normal.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing waits and no runner comes for anything.
    pub(super) fn is_idle(&self) -> bool {
        self.is_empty() && self.turns == 0
    }

    /// Bytes of the inputs of those that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.rows[lane(entry.terms.urgent)] += entry.batch.rows();
        self.bytes += entry.bytes;
        self.arrived += 1;
        if entry.terms.urgent {
            self.urgent.push_back(entry);
        } else {
            self.normal.push_back(entry);
        }
    }

    /// Rows that would run before those of a request that came now.
    pub(super) fn rows_before(&self, urgent: bool) -> usize {
        let [before_all, others] = self.rows;
        if urgent {
            before_all
        } else {
            before_all + others
        }
    }

    /// Drops those that nobody waits for any more.
    pub(super) fn purge(&mut self, now: Instant) {
        let queues = [&mut self.urgent, &mut self.normal];
        for (queue, rows) in queues.into_iter().zip(&mut self.rows) {
            let entries = std::mem::take(queue).into_iter();
            queue.extend(entries.filter_map(|entry| entry.still_wanted(now)));
            *rows = queue.iter().map(|entry| entry.batch.rows()).sum();
        }
        self.bytes = self.iter().map(|entry| entry.bytes).sum();
    }

    /// Drops those in front that nobody waits for any more: they must not decide what is run now.
    pub(super) fn purge_front(&mut self, now: Instant) {
        let queues = [&mut self.urgent, &mut self.normal];
        for (queue, rows) in queues.into_iter().zip(&mut self.rows) {
            while queue.front().is_some_and(|entry| !entry.is_wanted(now)) {
                let gone = queue.pop_front();
                *rows -= gone.as_ref().map_or(0, |entry| entry.batch.rows());
                self.bytes -= gone.as_ref().map_or(0, |entry| entry.bytes);
                drop(gone.and_then(|entry| entry.still_wanted(now)));
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.urgent.iter().chain(&self.normal)
    }

    /// Since when the oldest waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let fronts = [self.urgent.front(), self.normal.front()];
        fronts
            .into_iter()
            .flatten()
            .map(|entry| entry.enqueued)
            .min()
    }

    /// Rows of the next request and those that may join it and are still wanted; counted up to `limit`.
    pub(super) fn rows(&self, limit: usize, now: Instant) -> usize {
        let Some(first) = self.iter().next() else {
            return 0;
        };
        let mut rows = first.batch.rows();
        for entry in self.iter().skip(1) {
            if rows >= limit {
                break;
            }
            if entry.is_wanted(now) && first.batch.may_join(&entry.batch) {
                rows += entry.batch.rows();
            }
        }
        rows.max(1)
    }

    /// Takes the next request, and with it those that may join it while all together have at most `limit` rows.
    pub(super) fn take(&mut self, limit: usize, now: Instant) -> Vec<Entry> {
        let mut taken: Vec<Entry> = Vec::new();
        let mut rows = 0;
        let queues = [&mut self.urgent, &mut self.normal];
        for (queue, waiting) in queues.into_iter().zip(&mut self.rows) {
            let mut index = 0;
            while index < queue.len() && (taken.is_empty() || rows < limit) {
                let joins = match taken.first() {
                    None => true,
                    Some(first) => {
                        let batch = &queue[index].batch;
                        rows + batch.rows() <= limit && first.batch.may_join(batch)
                    }
                };
                if !joins {
                    index += 1;
                    continue;
                }
                let entry = queue.remove(index);
                *waiting -= entry.as_ref().map_or(0, |entry| entry.batch.rows());
                self.bytes -= entry.as_ref().map_or(0, |entry| entry.bytes);
                if let Some(entry) = entry.and_then(|entry| entry.still_wanted(now)) {
                    rows += entry.batch.rows();
                    taken.push(entry);
                }
            }
        }
        taken
    }
}
