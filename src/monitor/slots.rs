//! Threads count side by side, each in a place of its own.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Places; more threads share them.
pub(super) const SLOTS: usize = 16;

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SLOTS;
}

/// The place of this thread.
pub(super) fn slot() -> usize {
    OWN.with(|own| *own)
}
