//! How many rows are looked at: a share of all of them, so that the cost does not follow the traffic.

use std::hash::{DefaultHasher, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};

use super::slots::{SLOTS, slot};

/// Spreads the rows of one request.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A counter with a line of the cache to itself.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Came(AtomicU64);

/// Decides which rows are looked at.
#[derive(Debug)]
pub(super) struct Pace {
    /// Rows a second; `None` looks at all of them.
    most: Option<u32>,
    /// The second that `share` is for.
    second: AtomicU64,
    /// The share of this second as the bits of a double, set by the traffic of the one before.
    share: AtomicU64,
    /// Rows that came in this second, by thread: one counter would be fought for.
    came: [Came; SLOTS],
    /// Rows of this second that were taken, about.
    taken: AtomicU64,
}

impl Pace {
    /// At most so many rows a second; 0 is no bound.
    pub(super) fn new(most: u32) -> Self {
        Self {
            most: Some(most).filter(|most| *most > 0),
            second: AtomicU64::new(0),
            share: AtomicU64::new(1.0_f64.to_bits()),
            came: Default::default(),
            taken: AtomicU64::new(0),
        }
    }

    /// The share of the rows of a request that are looked at.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub(super) fn share(&self, second: u64, rows: u64) -> f64 {
        let Some(most) = self.most.map(f64::from) else {
            return 1.0;
        };
        let before = self.second.load(Ordering::Relaxed);
        if before != second {
            self.begin(before, second, most);
        }
        self.came[slot()].0.fetch_add(rows, Ordering::Relaxed);
        let share = f64::from_bits(self.share.load(Ordering::Relaxed));
        // A second that is busier than the one before takes half as much each time that it has taken enough, and no
        // request alone takes more than is enough.
        let times = (self.taken.load(Ordering::Relaxed) as f64 / most).floor();
        let share = share * 0.5_f64.powf(times.min(64.0));
        share.min(most / rows.max(1) as f64)
    }

    /// The first request of a second sets the share.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    fn begin(&self, before: u64, second: u64, most: f64) {
        let order = Ordering::Relaxed;
        if self
            .second
            .compare_exchange(before, second, order, order)
            .is_err()
        {
            return;
        }
        let came: u64 = self.came.iter().map(|came| came.0.swap(0, order)).sum();
        let came = came as f64;
        self.taken.store(0, order);
        let is_next = second == before + 1;
        let share = if is_next && came > most {
            most / came
        } else {
            1.0
        };
        self.share.store(share.to_bits(), order);
    }

    /// So many rows were taken.
    pub(super) fn took(&self, rows: u64) {
        if self.most.is_some() {
            self.taken.fetch_add(rows, Ordering::Relaxed);
        }
    }
}

/// Which rows of a request are looked at: the same ones whoever decides, in the same second. An id that a client sends with
/// every request must not decide alike each time, so that the second is in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lot {
    hash: u64,
    below: u64,
}

impl Lot {
    /// For a share of the rows of the request of this id.
    pub(super) fn new(id: &str, second: u64, share: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of all numbers"
        )]
        let below = (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        let hash = match below {
            u64::MAX => 0,
            _ => hash(id, second),
        };
        Self { hash, below }
    }

    /// Whether this row is.
    pub(super) fn falls_on(&self, row: usize) -> bool {
        if self.below == u64::MAX {
            return true;
        }
        let mut mixed = self.hash ^ (row as u64).wrapping_mul(GOLDEN);
        mixed = (mixed ^ (mixed >> 32)).wrapping_mul(GOLDEN);
        mixed ^= mixed >> 29;
        mixed.wrapping_mul(GOLDEN) < self.below
    }
}

/// Decides within this process alone, so that any hash will do.
fn hash(id: &str, second: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(id.as_bytes());
    hasher.write_u64(second);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows that are taken of so many requests a second, and what they weigh.
    fn second(pace: &Pace, number: u64, (requests, rows): (u64, usize)) -> (u64, f64) {
        let (mut taken, mut weight) = (0, 0.0);
        for request in 0..requests {
            let share = pace.share(number, rows as u64);
            let lot = Lot::new(&format!("r{request}"), number, share);
            let fell = (0..rows).filter(|row| lot.falls_on(*row)).count() as u64;
            pace.took(fell);
            taken += fell;
            weight += fell as f64 / share;
        }
        (taken, weight)
    }

    #[test]
    fn the_rows_a_second_stay_bounded_and_weigh_what_came() {
        let pace = Pace::new(200);
        let mut weights = Vec::new();
        for number in 1..30 {
            let (taken, weight) = second(&pace, number, (5000, 1));
            assert!(taken < 1500, "{number}: {taken}");
            weights.push(weight);
        }
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        assert!((mean - 5000.0).abs() < 500.0, "{mean}");
    }

    #[test]
    fn few_rows_are_all_taken_and_so_are_all_without_a_bound() {
        assert_eq!(second(&Pace::new(200), 1, (100, 1)), (100, 100.0));
        assert_eq!(second(&Pace::new(0), 1, (3, 100_000)), (300_000, 300_000.0));
    }

    #[test]
    fn one_large_request_gives_no_more_than_its_second() {
        let (taken, weight) = second(&Pace::new(200), 1, (1, 1_000_000));
        assert!((100..400).contains(&taken), "{taken}");
        assert!((weight - 1e6).abs() < 3e5, "{weight}");
    }

    #[test]
    fn an_id_that_never_changes_is_taken_as_often_as_others() {
        let taken = (0..2000_u64).filter(|second| Lot::new("1", *second, 0.25).falls_on(0));
        let taken = taken.count();
        assert!((400..600).contains(&taken), "{taken}");
    }
}
