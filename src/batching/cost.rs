//! What a run costs at each number of rows, learned from the runs themselves, and the largest batch that still pays.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Sizes are told apart by powers of two: 1, 2–3, 4–7, … The last one is for everything larger.
const SIZES: usize = 8;

/// A larger batch must be cheaper for each row by at least one part in this many.
const WORTH_IT: f64 = 32.0;

/// How many sizes that are no better are passed over: to find out costs one long run.
const MOST_PASSED: usize = 2;

/// After this many runs the next larger size is tried again: load and machine may have changed.
const TRY_AGAIN: u32 = 512;

/// How much one run weighs against all before it.
const WEIGHT: f64 = 0.25;

/// A run counts for at most so many times what was known: one that lost its CPU for a while says nothing of the model,
/// and several slow ones in a row are believed.
const MOST_GROWTH: f64 = 2.0;

/// The costs of one model. Reading never waits.
#[derive(Debug)]
pub(super) struct Costs {
    learned: Mutex<Learned>,
    /// The most rows that pay, by what is known.
    limit: AtomicUsize,
    /// Nanoseconds of a run of one row; 0 while unknown.
    single: AtomicU64,
    /// What the engine says of a run of one row: a slow start, or an instrumented process, says nothing of the model.
    stated: Option<Duration>,
    /// Nanoseconds for each row at the best size; 0 while unknown.
    per_row: AtomicU64,
}

#[derive(Debug, Default)]
struct Learned {
    /// Seconds for each row at each size; `None` while unknown.
    per_row: [Option<f64>; SIZES],
    runs: u32,
}

impl Costs {
    pub(super) fn new(stated: Option<Duration>) -> Self {
        let learned = Learned::default();
        Self {
            limit: AtomicUsize::new(learned.limit()),
            learned: Mutex::new(learned),
            single: AtomicU64::new(0),
            stated,
            per_row: AtomicU64::new(0),
        }
    }

    /// Learns from a run.
    pub(super) fn learn(&self, rows: usize, took: Duration) {
        if rows > 0 {
            let mut learned = self.learned.lock();
            learned.add(rows, took);
            self.publish(&learned);
        }
    }

    /// Takes a careful measurement for the truth, whatever was learned of this size before.
    pub(super) fn settle(&self, rows: usize, took: Duration) {
        if rows > 0 {
            let mut learned = self.learned.lock();
            learned.per_row[size_of(rows)] = Some(per_row(rows, took));
            self.publish(&learned);
        }
    }

    fn publish(&self, learned: &Learned) {
        self.limit.store(learned.limit(), Ordering::Relaxed);
        let store = |to: &AtomicU64, seconds: Option<f64>| {
            if let Some(seconds) = seconds {
                let nanoseconds = Duration::from_secs_f64(seconds).as_nanos();
                let nanoseconds = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
                to.store(nanoseconds.max(1), Ordering::Relaxed);
            }
        };
        store(&self.single, learned.per_row[0]);
        store(&self.per_row, learned.per_row[learned.best()]);
    }

    /// The most rows that a batch should have.
    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// How long a run of one row takes, once that is known.
    pub(super) fn single(&self) -> Option<Duration> {
        known(&self.single)
    }

    /// How long a run of one row should take: as measured, or as the engine says where that is less.
    pub(super) fn expected(&self) -> Option<Duration> {
        match (self.single(), self.stated) {
            (Some(single), Some(stated)) => Some(single.min(stated)),
            (single, stated) => single.or(stated),
        }
    }

    /// How long a row takes at the best size, once that is known.
    pub(super) fn per_row(&self) -> Option<Duration> {
        known(&self.per_row)
    }
}

fn known(nanoseconds: &AtomicU64) -> Option<Duration> {
    let nanoseconds = nanoseconds.load(Ordering::Relaxed);
    (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
}

#[expect(clippy::cast_precision_loss, reason = "rows of a request")]
fn per_row(rows: usize, took: Duration) -> f64 {
    took.as_secs_f64() / rows as f64
}

impl Learned {
    fn add(&mut self, rows: usize, took: Duration) {
        let cost = per_row(rows, took);
        let known = &mut self.per_row[size_of(rows)];
        // The first run of a size pays for what is made once; it is soon forgotten.
        *known = Some(known.map_or(cost, |known| {
            known + (cost.min(known * MOST_GROWTH) - known) * WEIGHT
        }));
        self.runs += 1;
        if self.runs >= TRY_AGAIN {
            self.runs = 0;
            let beyond = self.best() + 1;
            if let Some(cost) = self.per_row.get_mut(beyond) {
                *cost = None;
            }
        }
    }

    /// The size with the least cost, of those that are known without a gap.
    fn best(&self) -> usize {
        let mut best = 0;
        let Some(mut least) = self.per_row[0] else {
            return 0;
        };
        for (size, cost) in self.per_row.iter().enumerate().skip(1) {
            match cost {
                Some(cost) if *cost < least - least / WORTH_IT => {
                    least = *cost;
                    best = size;
                }
                // A size that is not worth it may have one behind it that is.
                Some(_) => {}
                None => break,
            }
        }
        best
    }

    /// All rows up to the best size, or up to the first unknown one beyond it: sizes that are no better and no worse are
    /// passed over, as what they lack a larger one may have.
    fn limit(&self) -> usize {
        let best = self.best();
        let mut size = best;
        if let Some(least) = self.per_row[best] {
            let beyond = &self.per_row[best + 1..];
            let is_no_worse = |cost: &Option<f64>| cost.is_some_and(|cost| cost <= least);
            let passed = beyond.iter().take_while(|cost| is_no_worse(cost)).count();
            if passed <= MOST_PASSED && beyond.get(passed).is_some_and(Option::is_none) {
                size = best + 1 + passed;
            }
        }
        (2 << size) - 1
    }
}

fn size_of(rows: usize) -> usize {
    let size = usize::BITS - 1 - rows.leading_zeros();
    (size as usize).min(SIZES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs batches as large as they may be until nothing changes any more.
    fn settle(cost: impl Fn(usize) -> f64) -> usize {
        let costs = Costs::new(None);
        for _ in 0..40 {
            let rows = costs.limit();
            costs.learn(rows, Duration::from_secs_f64(cost(rows)));
        }
        costs.limit()
    }

    #[test]
    fn one_run_that_lost_its_cpu_says_little_and_many_slow_ones_are_believed() {
        let costs = Costs::new(None);
        costs.settle(1, Duration::from_micros(5));
        costs.learn(1, Duration::from_millis(30));
        assert!(costs.single().unwrap() < Duration::from_micros(10));
        (0..40).for_each(|_| costs.learn(1, Duration::from_millis(30)));
        assert!(costs.single().unwrap() > Duration::from_millis(20));
    }

    #[test]
    fn what_the_engine_says_counts_where_a_measurement_is_longer() {
        let costs = Costs::new(Some(Duration::from_micros(1)));
        assert_eq!(costs.expected(), Some(Duration::from_micros(1)));
        costs.settle(1, Duration::from_millis(3));
        assert_eq!(costs.expected(), Some(Duration::from_micros(1)));
        assert_eq!(costs.single(), Some(Duration::from_millis(3)));
        let measured = Costs::new(None);
        assert_eq!(measured.expected(), None);
        measured.settle(1, Duration::from_millis(3));
        assert_eq!(measured.expected(), Some(Duration::from_millis(3)));
    }

    #[test]
    fn a_model_that_gains_from_batches_gets_large_ones() {
        assert_eq!(settle(|rows| 1e-3 + 1e-5 * rows as f64), 255);
    }

    #[test]
    fn a_model_that_loses_gets_none() {
        assert_eq!(settle(|rows| 1e-3 * (rows as f64).powf(1.2)), 1);
        assert_eq!(settle(|rows| 1e-3 * rows as f64), 1, "nothing is gained");
    }

    #[test]
    fn a_model_whose_cache_is_full_at_some_size_gets_batches_below_it() {
        let cost = |rows: usize| {
            let thrash = if rows > 16 { 3.0 } else { 1.0 };
            (1e-4 + 1e-5 * rows as f64) * thrash
        };
        assert_eq!(settle(cost), 15);
    }

    #[test]
    fn a_model_that_gains_only_from_larger_batches_gets_them_if_smaller_ones_do_no_harm() {
        let cost = |rows: usize| 1e-3 * rows as f64 * if rows >= 4 { 0.9 } else { 0.99 };
        assert_eq!(settle(cost), 7);
        let long = |rows: usize| 1e-3 * rows as f64 * if rows >= 64 { 0.5 } else { 1.0 };
        assert_eq!(settle(long), 1, "that far nobody looks");
    }

    #[test]
    fn what_was_not_worth_it_is_tried_again_after_a_while() {
        let costs = Costs::new(None);
        let run = |rows: usize, per_row: f64| {
            costs.learn(rows, Duration::from_secs_f64(per_row * rows as f64));
        };
        run(1, 1e-3);
        run(3, 2e-3);
        assert_eq!(costs.limit(), 1);
        for _ in 0..TRY_AGAIN {
            run(1, 1e-3);
        }
        assert_eq!(costs.limit(), 3, "one step beyond");
        run(3, 1e-4);
        assert_eq!(costs.limit(), 7);
    }

    #[test]
    fn a_careful_measurement_replaces_what_a_slow_first_run_taught() {
        let costs = Costs::new(None);
        costs.learn(1, Duration::from_secs(1));
        costs.settle(1, Duration::from_micros(20));
        costs.settle(2, Duration::from_micros(30));
        assert_eq!(costs.single(), Some(Duration::from_micros(20)));
        assert_eq!(costs.per_row(), Some(Duration::from_micros(15)));
        assert_eq!(costs.limit(), 7, "one size beyond what pays");
    }

    #[test]
    fn nothing_is_known_at_first() {
        let costs = Costs::new(None);
        assert_eq!((costs.limit(), costs.single()), (1, None));
        costs.learn(1, Duration::from_micros(20));
        assert_eq!(costs.single(), Some(Duration::from_micros(20)));
        let known = (costs.limit(), costs.single());
        costs.learn(0, Duration::from_secs(1));
        assert_eq!(
            (costs.limit(), costs.single()),
            known,
            "no rows tell nothing"
        );
    }
}
