//! What a manager holds, for tests.

use std::sync::Arc;

use super::Manager;
use crate::lifecycle::record::Record;
use crate::lifecycle::tests::Work;

/// How much there is of everything that must be gone in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::lifecycle) struct Totals {
    pub(in crate::lifecycle) records: usize,
    /// Bytes that are taken or reserved.
    pub(in crate::lifecycle) memory: u64,
    pub(in crate::lifecycle) memory_requests: usize,
    pub(in crate::lifecycle) pending_swaps: usize,
    pub(in crate::lifecycle) timers: usize,
    pub(in crate::lifecycle) on_probation: usize,
}

impl Manager {
    pub(in crate::lifecycle) fn work(&self) -> Arc<Work> {
        Arc::clone(&self.work)
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            records: self.records.len(),
            memory: self.records.values().map(Record::memory).sum(),
            memory_requests: self.memory_requests.len(),
            pending_swaps: self.pending_swaps.len(),
            timers: self.timers.len(),
            on_probation: self.on_probation.len(),
        }
    }
}
