//! Waits that differ from process to process and from time to time, so that many do not do the same at once.

use std::time::Duration;

/// `wait`, shorter or longer by up to this share of it.
pub(crate) fn jittered(wait: Duration, share: f64) -> Duration {
    let random = f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
    wait.mul_f64(1.0 + share * (2.0 * random - 1.0))
}
