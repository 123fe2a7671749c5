//! Fisher's exact test: whether one group fails more often than another by more than chance.

use libm::lgamma;

/// So many of so many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) hits: u64,
    pub(super) of: u64,
}

/// No server counts further in a step; sums of two stay exact.
const MOST: u64 = 1 << 40;

impl Share {
    pub(super) fn new(hits: u64, of: u64) -> Self {
        let of = of.min(MOST);
        // Counts of several sources may be a moment apart.
        Self {
            hits: hits.min(of),
            of,
        }
    }

    /// From 0 to 1; 0 of none is 0.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub(super) fn value(self) -> f64 {
        self.hits as f64 / self.of.max(1) as f64
    }
}

/// Terms of the tail that are smaller than this part of its sum no longer change it.
const NEGLIGIBLE: f64 = 1e-17;

/// How probable it is that `one` has its hits or more, if all hits fell on both groups by chance: the p-value of
/// `scipy.stats.fisher_exact` with `alternative="greater"`.
pub(super) fn greater(one: Share, other: Share) -> f64 {
    let urn = Urn {
        hits: one.hits + other.hits,
        of: one.of + other.of,
        drawn: one.of,
    };
    if one.hits <= urn.least() {
        return 1.0;
    }
    if one.hits > urn.mode() {
        return urn.upper(one.hits).min(1.0);
    }
    (1.0 - urn.lower(one.hits - 1)).clamp(0.0, 1.0)
}

/// An urn of `of` balls, `hits` of which are marked; so many are drawn.
#[derive(Debug, Clone, Copy)]
struct Urn {
    hits: u64,
    of: u64,
    drawn: u64,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts are far below 2^53, and a p-value is no count"
)]
impl Urn {
    /// The smallest number of marked balls that can be drawn.
    fn least(self) -> u64 {
        (self.hits + self.drawn).saturating_sub(self.of)
    }

    fn most(self) -> u64 {
        self.hits.min(self.drawn)
    }

    /// The most probable number of marked balls, at most one too small.
    fn mode(self) -> u64 {
        let expected =
            (self.drawn as f64 + 1.0) * (self.hits as f64 + 1.0) / (self.of as f64 + 2.0);
        (expected as u64).clamp(self.least(), self.most())
    }

    /// The probability of exactly so many marked balls.
    fn exactly(self, marked: u64) -> f64 {
        let unmarked = self.of - self.hits;
        let log = ln_choose(self.hits, marked) + ln_choose(unmarked, self.drawn - marked)
            - ln_choose(self.of, self.drawn);
        log.exp()
    }

    /// The probability of `marked` or more, above the mode, where the terms fall.
    fn upper(self, marked: u64) -> f64 {
        let mut term = self.exactly(marked);
        let mut sum = term;
        for x in marked..self.most() {
            term *= (self.hits - x) as f64 * (self.drawn - x) as f64;
            term /= (x + 1) as f64 * ((self.of - self.hits + x + 1) - self.drawn) as f64;
            sum += term;
            if term <= sum * NEGLIGIBLE {
                break;
            }
        }
        sum
    }

    /// The probability of `marked` or fewer, below the mode.
    fn lower(self, marked: u64) -> f64 {
        let mut term = self.exactly(marked);
        let mut sum = term;
        for x in (self.least() + 1..=marked).rev() {
            term *= x as f64 * ((self.of - self.hits + x) - self.drawn) as f64;
            term /= (self.hits - x + 1) as f64 * (self.drawn - x + 1) as f64;
            sum += term;
            if term <= sum * NEGLIGIBLE {
                break;
            }
        }
        sum
    }
}

#[expect(clippy::cast_precision_loss, reason = "a logarithm")]
fn ln_choose(of: u64, some: u64) -> f64 {
    let ln_factorial = |n: u64| lgamma(n as f64 + 1.0);
    ln_factorial(of) - ln_factorial(some) - ln_factorial(of - some)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// What `tests/rollout/fisher.py` wrote.
    #[derive(Deserialize)]
    struct Recorded {
        cases: Vec<(u64, u64, u64, u64, f64)>,
    }

    #[test]
    fn agrees_with_scipy() {
        let text = include_str!("../../../tests/rollout/fisher.json");
        let Recorded { cases } = serde_json::from_str(text).unwrap();
        assert!(cases.len() > 400);
        for (hits, of, other, other_of, expected) in cases {
            let p = greater(Share::new(hits, of), Share::new(other, other_of));
            let error = (p - expected).abs();
            assert!(
                error <= 1e-7 * expected.max(1e-300) || error < 1e-300,
                "{hits} of {of} against {other} of {other_of}: {p}, scipy says {expected}"
            );
        }
    }

    #[test]
    fn any_counts_give_a_probability() {
        let numbers = [0, 1, 2, 19, 20, 1000, MOST, u64::MAX];
        for (hits, of) in numbers.iter().flat_map(|a| numbers.map(|b| (*a, b))) {
            for (other, other_of) in [(0, 0), (0, u64::MAX), (u64::MAX, u64::MAX), (3, 7)] {
                let p = greater(Share::new(hits, of), Share::new(other, other_of));
                assert!(
                    (0.0..=1.0).contains(&p),
                    "{hits} of {of}, {other} of {other_of}: {p}"
                );
            }
        }
    }
}
