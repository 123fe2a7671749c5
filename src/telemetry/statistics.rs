//! What one version did since it was loaded, as plain sums: the statistics of the Open Inference Protocol.
//!
//! Counting is a few relaxed additions and never waits; the sums may be read while requests change them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Sizes of batches that are told apart; a version that sees more has the rest in its other sums only.
const SIZES: usize = 32;

/// How often something happened, and how long it took together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// How often.
    pub count: u64,
    /// Nanoseconds.
    pub ns: u64,
}

/// The sums of a version at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Requests that were answered.
    pub success: Sum,
    /// Requests that were not.
    pub fail: Sum,
    /// Waits of requests for a runner.
    pub queue: Sum,
    /// From the arrival of a request to its tensors.
    pub decode: Sum,
    /// Calls of the engine.
    pub run: Sum,
    /// From the outputs to the answer.
    pub encode: Sum,
    /// Rows run by the engine.
    pub rows: u64,
    /// Calls of the engine by their rows, ascending.
    pub batches: Vec<(u64, Sum)>,
}

#[derive(Debug, Default)]
struct Counter {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Counter {
    fn add(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ns.fetch_add(ns, Ordering::Relaxed);
    }

    fn read(&self) -> Sum {
        Sum {
            count: self.count.load(Ordering::Relaxed),
            ns: self.ns.load(Ordering::Relaxed),
        }
    }

    fn clear(&self) {
        self.count.store(0, Ordering::Relaxed);
        self.ns.store(0, Ordering::Relaxed);
    }
}

/// The calls of one number of rows; free while that is 0.
#[derive(Debug, Default)]
struct OfSize {
    rows: AtomicU64,
    runs: Counter,
}

/// The sums of a version while it serves.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    success: Counter,
    fail: Counter,
    queue: Counter,
    decode: Counter,
    run: Counter,
    encode: Counter,
    rows: AtomicU64,
    batches: [OfSize; SIZES],
}

impl Statistics {
    pub(super) fn answered(&self, success: bool, took: Duration) {
        let counter = if success { &self.success } else { &self.fail };
        counter.add(took);
    }

    pub(super) fn queued(&self, waited: Duration) {
        self.queue.add(waited);
    }

    pub(super) fn decoded(&self, took: Duration) {
        self.decode.add(took);
    }

    pub(super) fn encoded(&self, took: Duration) {
        self.encode.add(took);
    }

    pub(super) fn ran(&self, rows: usize, took: Duration) {
        let rows = rows as u64;
        self.run.add(took);
        self.rows.fetch_add(rows, Ordering::Relaxed);
        if let Some(of_size) = self.of_size(rows) {
            of_size.runs.add(took);
        }
    }

    /// The place of this number of rows, taken now when it has none yet; `None` when all are taken.
    fn of_size(&self, rows: u64) -> Option<&OfSize> {
        if rows == 0 {
            return None;
        }
        self.batches.iter().find(|place| {
            let (free, relaxed) = (0, Ordering::Relaxed);
            match place.rows.load(relaxed) {
                0 => match place.rows.compare_exchange(free, rows, relaxed, relaxed) {
                    Ok(_) => true,
                    Err(taken) => taken == rows,
                },
                taken => taken == rows,
            }
        })
    }

    pub(super) fn clear(&self) {
        let counters = [
            &self.success,
            &self.fail,
            &self.queue,
            &self.decode,
            &self.run,
            &self.encode,
        ];
        let of_sizes = self.batches.iter().map(|place| &place.runs);
        counters
            .into_iter()
            .chain(of_sizes)
            .for_each(Counter::clear);
        self.rows.store(0, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Totals {
        let places = self.batches.iter();
        let batches = places.map(|place| (place.rows.load(Ordering::Relaxed), place.runs.read()));
        let mut batches: Vec<_> = batches.filter(|(_, runs)| runs.count > 0).collect();
        batches.sort_unstable_by_key(|(rows, _)| *rows);
        Totals {
            success: self.success.read(),
            fail: self.fail.read(),
            queue: self.queue.read(),
            decode: self.decode.read(),
            run: self.run.read(),
            encode: self.encode.read(),
            rows: self.rows.load(Ordering::Relaxed),
            batches,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_nanos(10);

    #[test]
    fn batches_are_told_apart_by_their_rows() {
        let statistics = Statistics::default();
        for rows in [4, 1, 4, 2, 0] {
            statistics.ran(rows, TOOK);
        }
        let totals = statistics.read();
        let sum = |count| Sum {
            count,
            ns: 10 * count,
        };
        assert_eq!(totals.batches, [(1, sum(1)), (2, sum(1)), (4, sum(2))]);
        assert_eq!((totals.rows, totals.run), (11, sum(5)));
    }

    #[test]
    fn more_sizes_than_places_are_in_the_sums_all_the_same() {
        let statistics = Statistics::default();
        let most = SIZES + 5;
        (1..=most).for_each(|rows| statistics.ran(rows, TOOK));
        let totals = statistics.read();
        assert_eq!(totals.batches.len(), SIZES);
        assert_eq!(totals.run.count, most as u64);
    }

    #[test]
    fn what_was_before_is_forgotten_when_asked() {
        let statistics = Statistics::default();
        statistics.answered(true, TOOK);
        statistics.answered(false, TOOK);
        statistics.queued(TOOK);
        statistics.decoded(TOOK);
        statistics.ran(3, TOOK);
        statistics.encoded(TOOK);
        assert_eq!(statistics.read().success.count, 1);
        assert_eq!(statistics.read().fail.count, 1);
        statistics.clear();
        assert_eq!(statistics.read(), Totals::default());
    }
}
