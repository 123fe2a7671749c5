//! When to run what waits, and how much of it: a pure decision.

use std::time::Duration;

use tokio::time::Instant;

/// What a policy may know of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueView {
    /// Rows of the next request and of those behind it that may run with it, as far as they were counted.
    pub rows: usize,
    /// The most rows that one call of the engine should have.
    pub limit: usize,
    /// Since when the oldest request waits; `None` when none does.
    pub oldest: Option<Instant>,
    /// The run before; `None` when there is none, or nothing can be gained by waiting after it.
    pub last: Option<LastRun>,
}

/// A run that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRun {
    /// The rows that it had.
    pub rows: usize,
    /// Until when those who got its answers may be expected to ask again.
    pub regroup_until: Instant,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Run the next request, and with it those that may join it up to this many rows in all.
    Dispatch(usize),
    /// Look again at this time, or when a request arrives.
    WaitUntil(Instant),
    /// Nothing waits.
    Idle,
}

/// How requests are grouped: an idle runner takes work immediately. Right after a run it gives those whose answers just went out a moment to ask again:
/// else the first of them would run alone, at the full price of a run, and all others behind it. Only when asked to does
/// it wait longer.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkConserving {
    /// The longest wait for more rows.
    pub max_delay: Duration,
}

impl WorkConserving {
    /// The decision for an idle runner. Pure: the same view and time give the same decision.
    pub fn decide(&self, view: &QueueView, now: Instant) -> Decision {
        let Some(oldest) = view.oldest else {
            return Decision::Idle;
        };
        let regroup_until = view.last.filter(|last| view.rows < last.rows);
        let until = oldest + self.max_delay;
        let until = regroup_until.map_or(until, |last| until.max(last.regroup_until));
        if view.rows >= view.limit || now >= until {
            Decision::Dispatch(view.limit)
        } else {
            Decision::WaitUntil(until)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn never_idles_with_work_never_waits_past_the_delay_and_never_waits_when_full(
            rows in 0usize..100,
            limit in 1usize..64,
            delay in 0u64..50,
            waited in 0u64..100,
            last in proptest::option::of((1usize..64, 0u64..200)),
        ) {
            let now = Instant::now() + Duration::from_secs(1);
            let max_delay = Duration::from_millis(delay);
            let policy = WorkConserving { max_delay };
            let oldest = (rows > 0).then(|| now - Duration::from_millis(waited));
            let start = now - Duration::from_millis(100);
            let last = last.map(|(rows, regroup_until)| LastRun { rows, regroup_until: start + Duration::from_millis(regroup_until) });
            let view = QueueView { rows, limit, oldest, last };
            let regroup_until = last.filter(|last| rows < last.rows).map(|last| last.regroup_until);
            match policy.decide(&view, now) {
                Decision::Idle => prop_assert_eq!(rows, 0),
                Decision::Dispatch(most) => {
                    prop_assert!(rows > 0);
                    prop_assert_eq!(most, limit);
                    let waits = waited < delay || regroup_until.is_some_and(|regroup_until| now < regroup_until);
                    prop_assert!(rows >= limit || !waits);
                }
                Decision::WaitUntil(until) => {
                    prop_assert!(rows > 0 && rows < limit && until > now);
                    prop_assert_eq!(Some(until), oldest.map(|oldest| oldest + max_delay).max(regroup_until));
                }
            }
        }

        #[test]
        fn without_a_delay_it_waits_for_nobody_but_those_of_the_run_before(rows in 1usize..100, limit in 1usize..64, before in 0usize..64) {
            let now = Instant::now();
            let regroup_until = now + Duration::from_millis(1);
            let last = (before <= rows).then_some(LastRun { rows: before, regroup_until });
            let view = QueueView { rows, limit, oldest: Some(now), last };
            let decision = WorkConserving::default().decide(&view, now);
            prop_assert_eq!(decision, Decision::Dispatch(limit));
        }
    }
}
