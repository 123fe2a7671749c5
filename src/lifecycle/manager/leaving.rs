//! Versions that leave: each drains, reports when its last handle is gone, and is freed by a thread of its own.

use tokio::time::Instant;

use super::Manager;
use crate::model::{ModelName, Version};
use crate::runtime::{machine, threads};
use crate::serving::Released;

impl Manager {
    /// The last handle of a version that leaves is gone.
    pub(super) fn released(&mut self, released: Released) {
        let Released { id, number } = released;
        if let Some(record) = self.records.get_mut(&id.name) {
            record.release(id.version, number);
            self.dirty.insert(id.name);
        }
    }

    /// Begins to unload a version, when it is loaded.
    pub(super) fn drain(&mut self, name: &ModelName, version: Version, now: Instant) {
        if let Some(record) = self.records.get_mut(name)
            && record.drain(version, &self.leases, now)
        {
            tracing::debug!(model = %name, %version, "draining");
            self.dirty.insert(name.clone());
        }
    }

    /// Frees versions that have drained.
    pub(super) fn reap(&mut self, name: &ModelName, now: Instant) {
        let Some(record) = self.records.get_mut(name) else {
            return;
        };
        let (rolled_back, drained) = record.take_left(self.parts.drain_timeout, now);
        for (version, leaving) in drained {
            let drained = now - leaving.since;
            self.parts.metrics.swap_phase("drain", drained);
            tracing::info!(model = %name, %version, ?drained, "unloaded");
            free(leaving);
        }
        rolled_back.into_iter().for_each(free);
        record.remove_old_series(now);
    }
}

/// Drops a value on a thread of its own: freeing a large model takes longer than a request may.
pub(super) fn free<T: Send + 'static>(stage: T) {
    // Without a thread it is freed here.
    let _ = threads::spawn("unload", move || {
        machine::Priority::Background.take();
        drop(stage);
    });
}
