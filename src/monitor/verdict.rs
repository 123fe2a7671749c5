//! What is to be said of a feature in a window.

use super::divergence::{chance, jensen_shannon, shares, stability_index};
use super::panes::Counts;
use super::watched::Watched;

/// From here on a feature has drifted.
const DRIFTED: f64 = 0.2;

/// From here on it is worth a look.
const WARNING: f64 = 0.1;

/// Fewer rows, or as many rows of fewer requests, say nothing.
const FEWEST_ROWS: f64 = 500.0;
const FEWEST_REQUESTS: u64 = 50;

/// Evaluations in a row that must say the same.
const IN_A_ROW: u32 = 2;

/// What is to be said of a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it was.
    Stable,
    /// It is worth a look.
    Warning,
    /// It is something else than it was.
    Drifted,
}

impl Verdict {
    /// In one word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Warning => "warning",
            Self::Drifted => "drifted",
        }
    }
}

/// One feature in one window.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The population stability index.
    pub psi: f64,
    /// The Jensen–Shannon distance.
    pub distance: f64,
    /// What the index stays below by chance.
    pub bound: f64,
    /// The shares of the baseline.
    pub reference: Vec<f64>,
    /// Those of the window.
    pub current: Vec<f64>,
    /// Rows of the baseline.
    pub m: f64,
}

impl Comparison {
    /// Compares one feature of a window with its reference.
    pub fn new(watched: &Watched, feature: usize, counts: &Counts) -> Self {
        let reference = &watched.features[feature];
        let bins = watched.part(feature, &counts.bins);
        let (base, current) = (reference.shares(), shares(bins));
        let filled = |place: &usize| {
            let is_in_window = bins.get(*place).is_some_and(|count| *count > 0.0);
            is_in_window || reference.counts[*place] > 0.0
        };
        let filled = (0..base.len()).filter(filled).count();
        let m = reference.rows();
        let n = counts.weight.effective();
        let bound = match n > 0.0 {
            true => chance(filled, watched.features.len(), (n, m)),
            false => 0.0,
        };
        let is_empty = current.iter().sum::<f64>() <= 0.0;
        Self {
            psi: if is_empty {
                0.0
            } else {
                stability_index(&base, &current)
            },
            distance: if is_empty {
                0.0
            } else {
                jensen_shannon(&reference.counts, bins)
            },
            bound,
            reference: base,
            current,
            m,
        }
    }

    /// Whether the index is larger than this and than chance.
    fn exceeds(&self, least: f64) -> bool {
        self.psi > least && self.psi > self.bound
    }
}

/// Whether a window holds enough to say anything.
pub(super) fn is_enough(counts: &Counts) -> bool {
    counts.weight.effective() >= FEWEST_ROWS && counts.weight.requests >= FEWEST_REQUESTS
}

/// The evaluations in a row that found each feature of a window to have drifted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Streaks(Vec<u32>);

impl Streaks {
    /// Evaluates all features of a window.
    pub fn evaluate(&mut self, watched: &Watched, counts: &Counts) {
        self.0.resize(watched.features.len(), 0);
        let is_enough = is_enough(counts);
        for (feature, streak) in self.0.iter_mut().enumerate() {
            let has_drifted =
                is_enough && Comparison::new(watched, feature, counts).exceeds(DRIFTED);
            *streak = if has_drifted { *streak + 1 } else { 0 };
        }
    }

    /// What is to be said of a feature.
    pub fn verdict(&self, feature: usize, (comparison, counts): (&Comparison, &Counts)) -> Verdict {
        if self.has_drifted(feature) {
            return Verdict::Drifted;
        }
        if is_enough(counts) && comparison.exceeds(WARNING) {
            return Verdict::Warning;
        }
        Verdict::Stable
    }

    fn has_drifted(&self, feature: usize) -> bool {
        self.0
            .get(feature)
            .is_some_and(|streak| *streak >= IN_A_ROW)
    }

    /// How many features have drifted.
    pub fn drifted(&self) -> usize {
        (0..self.0.len())
            .filter(|feature| self.has_drifted(*feature))
            .count()
    }
}
