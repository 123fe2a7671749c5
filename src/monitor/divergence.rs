//! How far the shares of a window are from those of the baseline, and whether that is more than chance.

use statrs::distribution::{ChiSquared, ContinuousCDF as _};

/// Shares below count as this one, so that an empty bin makes no infinity.
pub const FLOOR: f64 = 1e-4;

/// How often all features of a version together may seem to drift by chance in one evaluation.
const FALSE_ALARMS: f64 = 0.001;

/// Counts as shares; all zero when there are none.
pub fn shares(counts: &[f64]) -> Vec<f64> {
    let total: f64 = counts.iter().sum();
    let share = |count: &f64| if total > 0.0 { count / total } else { 0.0 };
    counts.iter().map(share).collect()
}

/// The population stability index of two lists of shares: Σ (q − p) ln(q / p), each share at least [`FLOOR`]. Shares that
/// were raised are not made to sum to one again.
pub fn stability_index(baseline: &[f64], current: &[f64]) -> f64 {
    let pairs = baseline.iter().zip(current);
    let terms = pairs.map(|(p, q)| {
        let (p, q) = (p.max(FLOOR), q.max(FLOOR));
        (q - p) * (q / p).ln()
    });
    terms.sum()
}

/// The Jensen–Shannon distance, base 2: from 0 for the same shares to 1 for those that have nothing in common.
pub fn jensen_shannon(baseline: &[f64], current: &[f64]) -> f64 {
    let (base, now) = (shares(baseline), shares(current));
    let entropy = |p: f64, middle: f64| if p > 0.0 { p * (p / middle).ln() } else { 0.0 };
    let terms = base.iter().zip(&now).map(|(p, q)| {
        let middle = f64::midpoint(*p, *q);
        entropy(*p, middle) + entropy(*q, middle)
    });
    let divergence: f64 = terms.sum::<f64>() / 2.0 / std::f64::consts::LN_2;
    divergence.max(0.0).sqrt()
}

/// What the index of two samples of the same distribution stays below, but for one in a thousand evaluations of all
/// `features`: the quantile of χ² with a degree of freedom less than `bins`, scaled by the sizes of the samples
/// (B. Yurdakul, Statistical Properties of Population Stability Index, 2018). Zero when there are not two bins.
#[expect(clippy::cast_precision_loss, reason = "a few bins and features")]
pub fn chance(bins: usize, features: usize, sizes: (f64, f64)) -> f64 {
    let Some(freedom) = bins.checked_sub(1).filter(|freedom| *freedom > 0) else {
        return 0.0;
    };
    let level = 1.0 - FALSE_ALARMS / features.max(1) as f64;
    let quantile = ChiSquared::new(freedom as f64).map_or(f64::INFINITY, |distribution| {
        distribution.inverse_cdf(level)
    });
    quantile * (1.0 / sizes.0 + 1.0 / sizes.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_shares_are_no_distance_apart() {
        let shares = [0.2, 0.3, 0.5, 0.0];
        assert_eq!(stability_index(&shares, &shares), 0.0);
        assert_eq!(jensen_shannon(&shares, &shares), 0.0);
    }

    #[test]
    fn what_has_nothing_in_common_is_one_apart() {
        let distance = jensen_shannon(&[1.0, 0.0], &[0.0, 1.0]);
        assert!((distance - 1.0).abs() < 1e-12, "{distance}");
        let index = stability_index(&[1.0, 0.0], &[0.0, 1.0]);
        let expected = 2.0 * (1.0 - FLOOR) * (1.0 / FLOOR).ln();
        assert!((index - expected).abs() < 1e-9, "{index}");
    }

    #[test]
    fn a_window_without_rows_has_no_shares() {
        assert_eq!(shares(&[0.0, 0.0]), [0.0, 0.0]);
    }

    #[test]
    fn one_bin_can_never_drift_by_its_bound_alone() {
        assert_eq!(chance(1, 10, (500.0, 500.0)), 0.0);
        assert!(chance(14, 10, (500.0, 500.0)) > 0.1);
    }
}
