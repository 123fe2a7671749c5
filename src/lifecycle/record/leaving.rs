//! Versions that leave, and their series, which stay a little longer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Leaving, Record, Status};
use crate::model::Version;
use crate::serving::Leases;

/// A version's series stay this long after it is gone, so that the last values are scraped.
const SERIES_LINGER: Duration = Duration::from_secs(600);

/// How often the gauge of a model that is out of sync moves on.
const OUT_OF_SYNC_STEP: Duration = Duration::from_secs(1);

impl Record {
    /// Begins to unload a version; false when it is not loaded.
    pub(crate) fn drain(&mut self, version: Version, leases: &Leases, now: Instant) -> bool {
        let Some(slot) = self.slots.get_mut(&version) else {
            return false;
        };
        let (status, drains) = match std::mem::replace(&mut slot.status, Status::New) {
            Status::Ready(stage) => (Status::Draining(stage.leave(leases, now)), true),
            other => (other, false),
        };
        slot.status = status;
        drains
    }

    /// A version number may stand for other files than before: those are another version.
    pub(crate) fn forget_changed_packages(&mut self, leases: &Leases) {
        let Some(desired) = &self.desired else {
            return;
        };
        for (version, slot) in &mut self.slots {
            let changed = desired
                .versions
                .get(version)
                .is_some_and(|wanted| *wanted != slot.wanted);
            if !changed {
                continue;
            }
            slot.attempts = 0;
            slot.status = match std::mem::replace(&mut slot.status, Status::New) {
                Status::Failed { .. } | Status::Unsupported(_) | Status::New => Status::New,
                Status::Loading { cancel, .. } => {
                    cancel.cancel();
                    Status::New
                }
                Status::Ready(stage) => Status::Draining(stage.leave(leases, Instant::now())),
                draining @ Status::Draining(_) => draining,
            };
        }
    }

    /// The last handle of a version that leaves is gone.
    pub(crate) fn release(&mut self, version: Version, lease: u64) {
        if let Some(slot) = self.slots.get_mut(&version)
            && let Status::Draining(leaving) = &mut slot.status
        {
            leaving.release(lease);
        }
        for leaving in &mut self.rolled_back {
            leaving.release(lease);
        }
    }

    /// Takes out the versions that can be freed: those that were rolled back, and those that drained.
    pub(crate) fn take_left(
        &mut self,
        timeout: Duration,
        now: Instant,
    ) -> (Vec<Leaving>, Vec<(Version, Leaving)>) {
        let rolled_back = self
            .rolled_back
            .extract_if(.., |leaving| leaving.is_over(timeout, now));
        let rolled_back: Vec<Leaving> = rolled_back.collect();
        let is_over = |status: &Status| matches!(status, Status::Draining(leaving) if leaving.is_over(timeout, now));
        let drained = self.slots.extract_if(.., |_, slot| is_over(&slot.status));
        let drained = drained.filter_map(|(version, slot)| match slot.status {
            Status::Draining(leaving) => Some((version, leaving)),
            _ => None,
        });
        let drained: Vec<(Version, Leaving)> = drained.collect();
        let gone = rolled_back
            .iter()
            .chain(drained.iter().map(|(_, leaving)| leaving));
        let series = gone.map(|leaving| (now + SERIES_LINGER, Arc::clone(&leaving.metrics)));
        self.lingering_metrics.extend(series);
        (rolled_back, drained)
    }

    /// Takes away series that have stayed long enough.
    pub(crate) fn remove_old_series(&mut self, now: Instant) {
        self.lingering_metrics.retain(|(at, metrics)| {
            let stays = *at > now;
            if !stays {
                metrics.remove();
            }
            stays
        });
    }

    /// Whether nothing of it is left and it is not desired.
    pub(crate) fn is_gone(&self) -> bool {
        self.desired.is_none()
            && self.hold.is_none()
            && self.slots.is_empty()
            && self.rolled_back.is_empty()
    }

    /// When something is due although no event comes.
    pub(crate) fn next_look(&self, drain_timeout: Duration, now: Instant) -> Option<Instant> {
        let slots = self.slots.values().filter_map(|slot| match &slot.status {
            Status::Draining(leaving) => Some(leaving.since + drain_timeout),
            Status::Failed { retry_at, .. } => *retry_at,
            _ => None,
        });
        let rolled_back = self.rolled_back.iter();
        let rolled_back = rolled_back.map(|leaving| leaving.since + drain_timeout);
        let series = self.lingering_metrics.iter().map(|(at, _)| *at);
        let out_of_sync = self.out_of_sync_since.map(|_| now + OUT_OF_SYNC_STEP);
        slots
            .chain(rolled_back)
            .chain(series)
            .chain(out_of_sync)
            .min()
    }
}
