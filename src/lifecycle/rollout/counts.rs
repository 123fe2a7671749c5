//! What is counted of both versions since a step began.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fisher::Share;

/// Both versions, as one replica or a fleet saw them since a step began.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Counts {
    /// The version that serves.
    pub stable: VersionCounts,
    /// The version that may take its place.
    pub challenger: VersionCounts,
    /// Rows that the shadow ran on both.
    pub compared: Compared,
}

/// One version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VersionCounts {
    /// Requests that it answered, failures included.
    pub answers: u64,
    /// Of these, server errors and failures of the engine, without those that the other version fails too.
    pub failed: u64,
    /// Of these, answers that hold NaN or infinity.
    pub nonfinite: u64,
    /// How long its engine ran.
    pub times: RunTimes,
}

/// Rows that both versions answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compared {
    /// All of them.
    pub rows: u64,
    /// Those outside the tolerances.
    pub differing: u64,
}

/// How far the challenger's scores are from those of the stable version. Sums of bins are the monitor's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreShift {
    /// Population stability index.
    pub psi: f64,
    /// What chance alone reaches with so many rows.
    pub bound: f64,
}

impl Counts {
    /// Adds what another replica, or a later time, counted.
    pub fn add(&mut self, other: &Self) {
        self.stable.add(&other.stable);
        self.challenger.add(&other.challenger);
        self.compared.rows = self.compared.rows.saturating_add(other.compared.rows);
        let differing = &mut self.compared.differing;
        *differing = differing.saturating_add(other.compared.differing);
    }
}

/// Failed answers of one version in an interval, some of which were replayed on the other version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures {
    /// All of them.
    pub failed: u64,
    /// Those that were replayed.
    pub replayed: u64,
    /// Of these, those that failed on the other version, too.
    pub on_both: u64,
}

impl VersionCounts {
    /// Counts answers of an interval. What fails on both versions leaves the counts of both, as answer and as failure; what
    /// could not be replayed counts by the share of what was.
    pub fn count(&mut self, answers: u64, failures: Failures) {
        let Failures {
            failed,
            replayed,
            on_both,
        } = failures;
        let failed = failed.min(answers);
        let share = |part: u64| u128::from(failed) * u128::from(part) / u128::from(replayed.max(1));
        let excused = u64::try_from(share(on_both.min(replayed))).unwrap_or(failed);
        self.answers = self.answers.saturating_add(answers - excused);
        self.failed = self.failed.saturating_add(failed - excused);
    }

    /// Adds what another replica, or a later time, counted.
    pub fn add(&mut self, other: &Self) {
        self.answers = self.answers.saturating_add(other.answers);
        self.failed = self.failed.saturating_add(other.failed);
        self.nonfinite = self.nonfinite.saturating_add(other.nonfinite);
        self.times.add(&other.times);
    }

    pub(super) fn failures(&self) -> Share {
        Share::new(self.failed, self.answers)
    }

    pub(super) fn nonfinite(&self) -> Share {
        Share::new(self.nonfinite, self.answers)
    }
}

/// The times of an engine's runs, by the number of rows in powers of two.
///
/// Serialized as `{"ROWS": [[SECONDS, RUNS], …]}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenTimes", into = "WrittenTimes")]
pub struct RunTimes {
    /// By the exponent; most models have few sizes.
    sizes: Vec<(u32, Histogram)>,
}

/// Larger runs are of one size.
const MOST_ROWS: u64 = 1 << 32;

type WrittenTimes = BTreeMap<u64, Vec<(f64, u64)>>;

/// Why these are no times.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TimesError {
    /// A run of no rows.
    #[error("`times` has runs of 0 rows, expected at least 1")]
    NoRows,
    /// No time.
    #[error("`times` has a run of {0} seconds, expected a positive number")]
    Seconds(f64),
}

impl RunTimes {
    /// Counts `runs` of so many rows that took so long.
    pub fn record(&mut self, rows: u64, seconds: f64, runs: u64) {
        let bucket = Histogram::bucket(seconds);
        self.size(rows).add_to(bucket, runs);
    }

    /// The times of runs of so many rows; for many runs of one size.
    pub fn size(&mut self, rows: u64) -> &mut Histogram {
        // 5 to 8 rows are one size.
        let exponent = rows
            .clamp(1, MOST_ROWS)
            .next_power_of_two()
            .trailing_zeros();
        let place = self
            .sizes
            .binary_search_by_key(&exponent, |(size, _)| *size);
        let place = place.unwrap_or_else(|place| {
            self.sizes.insert(place, (exponent, Histogram::default()));
            place
        });
        &mut self.sizes[place].1
    }

    /// Adds what another replica counted.
    pub fn add(&mut self, other: &Self) {
        for (exponent, histogram) in &other.sizes {
            self.size(1 << exponent).add(histogram);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sizes.iter().all(|(_, histogram)| histogram.runs == 0)
    }

    /// The histograms of the sizes that both have.
    pub(super) fn common<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (&'a Histogram, &'a Histogram)> {
        self.sizes.iter().filter_map(|(exponent, mine)| {
            let (_, theirs) = other.sizes.iter().find(|(size, _)| size == exponent)?;
            Some((mine, theirs))
        })
    }
}

impl TryFrom<WrittenTimes> for RunTimes {
    type Error = TimesError;

    fn try_from(written: WrittenTimes) -> Result<Self, TimesError> {
        let mut times = Self::default();
        for (rows, runs) in written {
            if rows == 0 {
                return Err(TimesError::NoRows);
            }
            for (seconds, count) in runs {
                if !(seconds > 0.0 && seconds.is_finite()) {
                    return Err(TimesError::Seconds(seconds));
                }
                times.record(rows, seconds, count);
            }
        }
        Ok(times)
    }
}

impl From<RunTimes> for WrittenTimes {
    fn from(times: RunTimes) -> Self {
        let filled = |histogram: &Histogram| {
            let buckets = histogram.buckets.iter().enumerate();
            let filled = buckets.filter(|(_, count)| **count > 0);
            // The middle of a bucket is read into the same one.
            filled
                .map(|(bucket, count)| (Histogram::middle(bucket), *count))
                .collect()
        };
        let sizes = times.sizes.iter();
        sizes
            .map(|(exponent, histogram)| (1 << exponent, filled(histogram)))
            .collect()
    }
}

/// Times in buckets whose edges grow so that eight of them make the factor of 1.5 that the gate asks for: 1.5 times an edge is
/// an edge again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    runs: u64,
    buckets: Vec<u64>,
}

/// The upper edge of the first bucket, in seconds.
const SHORTEST: f64 = 1e-6;

/// Buckets in a factor of 1.5.
const IN_FACTOR: f64 = 8.0;

/// The last bucket is open: it begins at 20 minutes.
const LAST: usize = 415;

impl Histogram {
    /// The bucket of a time.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of a float saturates, and NaN becomes 0"
    )]
    pub fn bucket(seconds: f64) -> usize {
        let edges = (seconds / SHORTEST).ln() / 1.5_f64.ln() * IN_FACTOR;
        (edges.ceil() as usize).min(LAST)
    }

    /// A time that is in a bucket for certain.
    #[expect(clippy::cast_precision_loss, reason = "a bucket's number is small")]
    pub fn middle(bucket: usize) -> f64 {
        SHORTEST * 1.5_f64.powf((bucket as f64 - 0.5) / IN_FACTOR)
    }

    /// Counts runs in a bucket.
    pub fn add_to(&mut self, bucket: usize, runs: u64) {
        let bucket = bucket.min(LAST);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] = self.buckets[bucket].saturating_add(runs);
        self.runs = self.runs.saturating_add(runs);
    }

    /// Adds what another replica counted.
    pub fn add(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (sum, runs) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum = sum.saturating_add(*runs);
        }
        self.runs = self.runs.saturating_add(other.runs);
    }

    /// The number of all runs.
    pub(super) fn runs(&self) -> u64 {
        self.runs
    }

    /// The bucket that 99 of 100 runs do not pass.
    pub(super) fn p99(&self) -> usize {
        // From above there are few runs to pass.
        let mut above = self.runs / 100;
        for (bucket, runs) in self.buckets.iter().enumerate().rev() {
            if *runs > above {
                return bucket;
            }
            above -= runs;
        }
        0
    }

    /// Runs that took more than 1.5 times the upper edge of a bucket.
    pub(super) fn slower(&self, bucket: usize) -> u64 {
        let above = self.buckets.iter().skip(bucket + 9);
        above.fold(0, |sum, runs| sum.saturating_add(*runs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_a_half_times_an_edge_is_an_edge() {
        let mut histogram = Histogram::default();
        for bucket in 0..=LAST {
            assert_eq!(Histogram::bucket(Histogram::middle(bucket)), bucket);
            histogram.add_to(bucket, 1);
        }
        let slower = |seconds: f64| Histogram::bucket(seconds * 1.5) - Histogram::bucket(seconds);
        for seconds in [1.3e-6, 0.000_25, 0.01, 0.7, 33.0] {
            assert_eq!(slower(seconds), 8, "{seconds}");
        }
        assert_eq!(histogram.slower(100), (LAST - 108) as u64);
        for seconds in [-1.0, 0.0, f64::NAN] {
            assert_eq!(Histogram::bucket(seconds), 0);
        }
        assert_eq!(Histogram::bucket(f64::INFINITY), LAST);
    }

    #[test]
    fn ninety_nine_of_a_hundred_runs_are_not_slower_than_the_percentile() {
        let p99 = |counts: &[(usize, u64)]| {
            let mut histogram = Histogram::default();
            for (bucket, runs) in counts {
                histogram.add_to(*bucket, *runs);
            }
            histogram.p99()
        };
        assert_eq!(p99(&[(10, 99), (50, 1)]), 10);
        assert_eq!(p99(&[(10, 98), (50, 2)]), 50);
        assert_eq!(p99(&[(10, 198), (40, 1), (50, 1)]), 10);
        assert_eq!(p99(&[(10, 197), (40, 2), (50, 1)]), 40);
        assert_eq!(p99(&[(10, 1)]), 10);
        assert_eq!(p99(&[]), 0);
    }

    #[test]
    fn runs_are_of_one_size_between_powers_of_two_and_survive_json() {
        let mut times = RunTimes::default();
        for (rows, seconds) in [
            (1, 0.001),
            (5, 0.002),
            (8, 0.002),
            (9, 0.004),
            (u64::MAX, 1.0),
        ] {
            times.record(rows, seconds, 3);
        }
        assert_eq!(
            times
                .sizes
                .iter()
                .map(|(size, _)| *size)
                .collect::<Vec<_>>(),
            [0, 3, 4, 32]
        );
        let text = serde_json::to_string(&times).unwrap();
        assert_eq!(serde_json::from_str::<RunTimes>(&text).unwrap(), times);
        let refused = |text| {
            serde_json::from_str::<RunTimes>(text)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(r#"{"0": []}"#).contains("runs of 0 rows"));
        assert!(refused(r#"{"1": [[-1, 1]]}"#).contains("a run of -1 seconds"));
    }

    #[test]
    fn sums_of_replicas_are_the_counts_of_all() {
        let mut one = Counts::default();
        one.stable.times.record(1, 0.001, 5);
        one.challenger.answers = 7;
        let mut other = Counts::default();
        other.stable.times.record(1, 0.5, 2);
        other.stable.times.record(4, 0.5, 1);
        other.challenger.answers = u64::MAX;
        other.compared = Compared {
            rows: 9,
            differing: 2,
        };
        let (mut there, mut back) = (one.clone(), other.clone());
        there.add(&other);
        back.add(&one);
        assert_eq!(there, back);
        assert_eq!(there.stable.times.size(1).runs(), 7);
        assert_eq!(there.challenger.answers, u64::MAX);
        assert_eq!(there.compared.differing, 2);
    }

    #[test]
    fn what_fails_on_both_leaves_the_counts_and_the_rest_counts_by_the_replayed_share() {
        let count = |answers, failed, replayed, on_both| {
            let mut counts = VersionCounts::default();
            counts.count(
                answers,
                Failures {
                    failed,
                    replayed,
                    on_both,
                },
            );
            (counts.answers, counts.failed)
        };
        assert_eq!(count(1000, 30, 30, 30), (970, 0));
        assert_eq!(count(1000, 30, 30, 10), (990, 20));
        assert_eq!(
            count(1000, 300, 100, 50),
            (850, 150),
            "half of what was replayed"
        );
        assert_eq!(count(1000, 300, 0, 0), (1000, 300), "nothing was replayed");
        assert_eq!(count(10, u64::MAX, 1, 9), (0, 0), "nonsense does no harm");
    }
}
