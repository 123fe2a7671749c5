//! What a failed load means for its version: tried again, or not before something changes.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{Record, Status};
use crate::jitter::jittered;
use crate::lifecycle::load::LoadError;
use crate::model::Version;
use crate::serving::FailureReason;

/// The wait before the second attempt; it doubles up to [`LONGEST_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// A fleet must not come back all at once.
const JITTER: f64 = 0.25;

impl Record {
    /// What a failure means for the slot.
    pub(crate) fn failed(&mut self, version: Version, error: &LoadError) -> Option<FailureReason> {
        let slot = self.slots.get_mut(&version)?;
        let backoff = FIRST_BACKOFF.saturating_mul(1 << slot.attempts.saturating_sub(1).min(6));
        let requested = match error {
            LoadError::Fetch(error) => error.retry_after(),
            _ => None,
        };
        let wait = requested
            .unwrap_or(Duration::ZERO)
            .max(jittered(backoff.min(LONGEST_BACKOFF), JITTER));
        // What did not fit may fit when the next request asks for it.
        let has_room_later =
            self.options.on_demand.evictable && matches!(error, LoadError::Memory(_));
        let retries = error.is_transient() || has_room_later;
        let reason = FailureReason {
            label: error.label(),
            message: error.for_clients(),
            detail: error.chain(),
            attempt: slot.attempts,
            retry_at: retries.then(|| SystemTime::now() + wait),
        };
        slot.status = if error.is_foreign() {
            Status::Unsupported(reason.clone())
        } else {
            Status::Failed {
                reason: reason.clone(),
                retry_at: retries.then(|| Instant::now() + wait),
            }
        };
        Some(reason)
    }
}
