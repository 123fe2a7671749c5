//! How far one set of scores is from another.

use crate::monitor::divergence::{shares, stability_index};

/// Bins by quantiles of the first set.
const BINS: usize = 10;

/// The population stability index of two sets of numbers, in ten bins by the quantiles of the first.
pub(crate) fn psi(reference: &[f64], current: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = reference
        .iter()
        .copied()
        .filter(|value| !value.is_nan())
        .collect();
    sorted.sort_by(f64::total_cmp);
    let quantile = |bin: usize| sorted.get(bin * sorted.len() / BINS).copied();
    let mut edges: Vec<f64> = (1..BINS).filter_map(quantile).collect();
    edges.dedup();
    let counted = |values| shares(&counts(values, &edges));
    stability_index(&counted(reference), &counted(current))
}

fn counts(values: &[f64], edges: &[f64]) -> Vec<f64> {
    let mut counts = vec![0.0; edges.len() + 1];
    for value in values {
        counts[edges.partition_point(|edge| edge <= value)] += 1.0;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_have_no_distance_and_moved_ones_do() {
        let old: Vec<f64> = (0..1000).map(f64::from).collect();
        assert_eq!(psi(&old, &old), 0.0);
        let moved: Vec<f64> = old.iter().map(|value| value + 100.0).collect();
        // By numpy: bins of 100 each against [0, 0.1 × 8, 0.2].
        let wanted = (1e-4 - 0.1_f64) * (1e-4 / 0.1_f64).ln() + 0.1 * 2.0_f64.ln();
        assert!((psi(&old, &moved) - wanted).abs() < 1e-12);
    }
}
