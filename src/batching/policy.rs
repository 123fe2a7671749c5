//! When to run what waits: a pure decision.

use tokio::time::Instant;

/// What a policy may know of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueView {
    /// How many requests wait.
    pub waiting: usize,
    /// Since when the oldest waits.
    pub oldest: Option<Instant>,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Run this many of the oldest requests as one batch.
    Dispatch(usize),
    /// Look again at this time, or when a request arrives.
    WaitUntil(Instant),
    /// Nothing waits.
    Idle,
}

/// Decides how requests are grouped.
pub trait BatchPolicy: Send + Sync {
    /// The decision for a free runner. Pure: the same view and time give the same decision.
    fn decide(&self, view: &QueueView, now: Instant) -> Decision;
}

/// Runs each request alone, as soon as a runner is free.
#[derive(Debug, Clone, Copy, Default)]
pub struct OneByOne;

impl BatchPolicy for OneByOne {
    fn decide(&self, view: &QueueView, _now: Instant) -> Decision {
        if view.waiting > 0 {
            Decision::Dispatch(1)
        } else {
            Decision::Idle
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_by_one_never_waits() {
        let now = Instant::now();
        let view = |waiting| QueueView {
            waiting,
            oldest: Some(now),
        };
        assert_eq!(OneByOne.decide(&view(0), now), Decision::Idle);
        assert_eq!(OneByOne.decide(&view(7), now), Decision::Dispatch(1));
    }
}
